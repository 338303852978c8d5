//! Debian packages: installed only when what they are for is really missing.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::exec::{answer, as_root, exec, find};

/// Something a build or a test needs, and the package that brings it.
pub struct Need {
    pub present: Present,
    pub package: &'static str,
    pub reason: &'static str,
}

/// How one sees that a need is met: by the thing itself, never by the package manager's list.
pub enum Present {
    /// The program is on the path.
    Program(&'static str),
    /// The Python module can be imported.
    PythonModule(&'static str),
    /// The file is there.
    File(&'static str),
}

impl Present {
    fn holds(&self) -> bool {
        match self {
            Self::Program(name) => find(name).is_some(),
            Self::PythonModule(name) => python_with(name).is_some(),
            Self::File(path) => Path::new(path).exists(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Program(name) | Self::PythonModule(name) | Self::File(name) => name,
        }
    }
}

/// The first of the path's Python and the system's that can import `module`.
pub fn python_with(module: &str) -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        answer(Command::new(python).args(["-c", &format!("import {module}")])).is_some()
    })
}

/// Meets `needs`: says what is missing and why it is wanted, installs that, and looks again.
pub fn provide(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.present.holds()).collect();
    for Need {
        present,
        package,
        reason,
    } in &missing
    {
        eprintln!(
            "{} is missing: {reason} (package {package})",
            present.name()
        );
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    install(&packages)?;
    match missing.iter().find(|need| !need.present.holds()) {
        None => Ok(()),
        Some(need) => bail!(
            "package {} is installed, but {} is still missing",
            need.package,
            need.present.name()
        ),
    }
}

/// Whether the package manager offers `package`, after its list was brought up to date.
pub fn offers(package: &str) -> bool {
    find("apt-get").is_some() && {
        refresh();
        // `policy` and not `show`: a package that others only refer to is shown as well, but has no candidate.
        answer(Command::new("apt-cache").args(["policy", package])).is_some_and(|policy| {
            policy.contains("Candidate: ") && !policy.contains("Candidate: (none)")
        })
    }
}

/// Installs `packages` together. Removes nothing: a package in the way is for a person to judge.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "no apt-get here: install what Debian calls {} and try again",
            packages.join(", ")
        );
    }
    refresh();
    exec(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args(packages),
    )
}

/// Brings the package list up to date, once. One source out of reach is no failure: the installation decides.
fn refresh() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        if let Err(error) = exec(apt_get().arg("update")) {
            eprintln!("note: {error:#}; going on with the package list as it is");
        }
    });
}

fn apt_get() -> Command {
    // Through `env`, as sudo passes no environment; the lock, because a fresh machine may be updating itself.
    let mut command = as_root("env");
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--quiet",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_nothing_when_nothing_is_missing() {
        let needs = [Need {
            present: Present::Program("sh"),
            package: "none-such",
            reason: "a test",
        }];
        provide(&needs).expect("a shell is present");
    }
}
