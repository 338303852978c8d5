//! The last lines that the process's unit logged.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::{About, Collected, Lack, process, read_text};

/// Lines that are asked for.
const LINES: &str = "200";

/// Asks the journal: for the unit of the process, or for the process alone if it has none or is gone.
pub(super) fn collect(about: &About, out: &mut dyn Write) -> Collected {
    let pid = about
        .pid
        .ok_or_else(|| Lack::Absent("the incident is about no process".into()))?;
    let cgroup = match process::living(about) {
        Ok(directory) => read_text(directory.join("cgroup")).unwrap_or_default(),
        Err(_) => String::new(),
    };
    let which = match unit(&cgroup) {
        Some(unit) => format!("--unit={unit}"),
        None => format!("_PID={pid}"),
    };
    out.flush()?;
    let mut command = Command::new("journalctl");
    command
        .args([
            "--no-pager",
            "--quiet",
            "--output=short-iso-precise",
            "--lines",
            LINES,
        ])
        .arg(&which)
        .stdin(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Lack::Absent(format!("journalctl {which}: {status}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Lack::Absent("there is no journalctl on this host".into()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the unit in a path of cgroups: the innermost service or scope.
fn unit(cgroup: &str) -> Option<&str> {
    let paths = cgroup.lines().filter_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        (id == "0" || controllers == "name=systemd").then_some(path)
    });
    paths
        .flat_map(|path| path.rsplit('/'))
        .find(|name| name.ends_with(".service") || name.ends_with(".scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_one() {
        let cgroup = "4:memory:/x.service\n0::/user.slice/user-1.slice/user@1.service/app.slice/web.service/worker\n";
        assert_eq!(unit(cgroup), Some("web.service"));
        assert_eq!(
            unit("1:name=systemd:/system.slice/docker-1.scope\n0::/\n"),
            Some("docker-1.scope")
        );
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(unit(""), None);
    }
}
