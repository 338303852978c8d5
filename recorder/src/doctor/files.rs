//! The directories: whether the agent can use them, and nobody else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::Check;
use crate::config::Paths;
use crate::units::bytes;

/// Write permission of the group and of others.
const WRITABLE: u32 = 0o022;
/// Any permission of others.
const OTHERS: u32 = 0o007;

pub(super) fn checks(paths: &Paths) -> Vec<Check> {
    vec![
        directory("directory of dumps", &paths.dumps(), OTHERS),
        directory("run directory", &paths.run_dir, WRITABLE),
        socket(&paths.control_socket()),
        settings_of_root(Path::new("/etc/recorder")),
    ]
}

/// Whether a directory can be written, or made, and whether it is closed to those who must stay out.
fn directory(check: &str, path: &Path, forbidden: u32) -> Check {
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & forbidden != 0 => {
            return Check::warn(
                check,
                format!(
                    "{} has mode {:o}: others can {}",
                    path.display(),
                    metadata.mode() & 0o777,
                    if forbidden == OTHERS {
                        "use it"
                    } else {
                        "write to it"
                    }
                ),
                format!(
                    "chmod {} {}",
                    if forbidden == OTHERS { "700" } else { "go-w" },
                    path.display()
                ),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Check::unseen(
                check,
                format!("{}: not for this user to see", path.display()),
            );
        }
        Ok(_) | Err(_) => {}
    }
    // The first that exists of the directory and those above it decides.
    let Some(existing) = path.ancestors().find(|path| path.exists()) else {
        return Check::pass(check, format!("{} will be made", path.display()));
    };
    if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Check::warn(
            check,
            format!("{} cannot be written by this user", existing.display()),
            "run the recorder as root or as its service, or choose --state-dir and --run-dir",
        );
    }
    let free = statvfs(existing).map_or(0, |stats| stats.f_bavail.saturating_mul(stats.f_frsize));
    Check::pass(check, format!("{}, {} free", path.display(), bytes(free)))
}

/// Whether strangers can speak to the agent: it makes dumps for whom it listens to.
fn socket(path: &Path) -> Check {
    const NAME: &str = "control socket";
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.mode() & OTHERS != 0 => Check::warn(
            NAME,
            format!(
                "{} has mode {:o}: anybody can use it",
                path.display(),
                metadata.mode() & 0o777
            ),
            format!("chmod o= {}", path.display()),
        ),
        Ok(metadata) => Check::pass(
            NAME,
            format!("{}, mode {:o}", path.display(), metadata.mode() & 0o777),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::pass(NAME, format!("none at {}", path.display()))
        }
        Err(_) => Check::unseen(
            NAME,
            format!("{}: not for this user to see", path.display()),
        ),
    }
}

/// Whether others than root decide what the agent runs: collectors are commands.
fn settings_of_root(directory: &Path) -> Check {
    const NAME: &str = "configuration files";
    let mut files = vec![directory.to_owned(), directory.join("recorder.toml")];
    let drop_ins = directory.join("recorder.toml.d");
    let entries = fs::read_dir(&drop_ins).into_iter().flatten().flatten();
    files.extend(entries.map(|entry| entry.path()));
    files.push(drop_ins);
    let open = files.iter().find(|path| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.mode() & WRITABLE != 0 || metadata.uid() != 0)
    });
    match open {
        Some(path) => Check::warn(
            NAME,
            format!("{} can be written by others than root", path.display()),
            format!(
                "chown root: {0} && chmod go-w {0}: it names programs to run",
                path.display()
            ),
        ),
        None => Check::pass(NAME, "only root can write them"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::State;
    use super::*;

    #[test]
    fn what_is_open_to_others_is_told_with_the_command_that_closes_it() {
        let root = tempfile::tempdir().expect("there is room for tests");
        let open = root.path().join("dumps");
        fs::create_dir(&open).expect("ours");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("ours");
        let check = directory("d", &open, OTHERS);
        assert_eq!(check.state, State::Warn);
        assert!(
            check
                .remedy
                .is_some_and(|remedy| remedy.starts_with("chmod 700"))
        );
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).expect("ours");
        assert_eq!(directory("d", &open, OTHERS).state, State::Pass);
        let later = directory("d", &root.path().join("a/b"), OTHERS);
        assert_eq!(later.state, State::Pass);
    }
}
