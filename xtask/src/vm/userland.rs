//! Where the programs and libraries of a guest come from: the host, or for another architecture, packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::arch::Arch;
use super::archive::Set;
use crate::exec::{answer, find};

/// The suite whose C library tests for another architecture are linked with.
pub const SUITE: &str = "bookworm";

/// What a guest of another architecture gets, with all that it loads.
const PACKAGES: [&str; 9] = [
    "busybox-static",
    "binutils",
    "bsdutils",
    "coreutils",
    "dmsetup",
    "e2fsprogs",
    "openssl",
    "procps",
    "util-linux",
];

/// Programs that tests run, if they are there.
const PROGRAMS: [&str; 13] = [
    "dmsetup",
    "mkfs.ext4",
    "mkswap",
    "objcopy",
    "openssl",
    "prlimit",
    "ps",
    "readelf",
    "script",
    "strip",
    "taskset",
    "timeout",
    "unshare",
];

/// Files of a guest: its path there, and where its content is.
pub type Files = BTreeMap<String, PathBuf>;

/// Programs and libraries for guests.
#[derive(Debug)]
pub struct Userland {
    arch: Arch,
    /// What the packages were unpacked in: all that is not the host's.
    root: PathBuf,
}

impl Userland {
    /// Returns it, from the cache if it is there; `update` asks the archive for newer packages.
    pub fn provide(arch: Arch, update: bool) -> Result<Self> {
        let packages: &[&str] = match arch {
            // A shell that needs nothing; all else the host has.
            Arch::Amd64 => &PACKAGES[..1],
            Arch::Arm64 => &PACKAGES,
        };
        let set = Set {
            name: &format!("{}userland", arch.facts().prefix),
            suites: &[SUITE],
            architecture: arch.facts().name,
            packages: &|apt| apt.closure(packages),
        };
        let root = set.provide(update)?;
        Ok(Self { arch, root })
    }

    /// Returns the shell.
    pub fn shell(&self) -> Result<PathBuf> {
        self.file("busybox", &["bin", "usr/bin"])
            .context("no busybox in its package")
    }

    /// Adds the programs that tests run, with the libraries they load.
    pub fn programs(&self, files: &mut Files) -> Result<()> {
        for name in PROGRAMS {
            let found = match self.arch {
                Arch::Amd64 => find(name),
                Arch::Arm64 => self.file(name, &["bin", "sbin", "usr/bin", "usr/sbin"]),
            };
            if let Some(path) = found {
                self.libraries(&path, files)?;
                files.insert(format!("/usr/sbin/{name}"), path);
            }
        }
        Ok(())
    }

    /// Adds the libraries that a program loads.
    pub fn libraries(&self, program: &Path, files: &mut Files) -> Result<()> {
        match self.arch {
            Arch::Amd64 => {
                let list = answer(Command::new("ldd").arg(program))
                    .with_context(|| format!("ldd {}", program.display()))?;
                let paths = list.lines().filter_map(loaded);
                files.extend(paths.map(|path| (path.to_owned(), PathBuf::from(path))));
                Ok(())
            }
            Arch::Arm64 => self.unpacked_libraries(program, files),
        }
    }

    /// Follows what the files themselves say: nothing here can load them.
    fn unpacked_libraries(&self, program: &Path, files: &mut Files) -> Result<()> {
        let said = answer(
            Command::new("readelf")
                .args(["--wide", "--dynamic", "--program-headers"])
                .arg(program),
        )
        .with_context(|| format!("readelf {}", program.display()))?;
        for name in said.lines().filter_map(needed) {
            let (name, directory) = match name.rsplit_once('/') {
                Some((directory, name)) => (name, directory),
                None => (name, LIBRARIES),
            };
            let path = format!("{directory}/{name}");
            let from = self
                .file(
                    name,
                    &[LIBRARIES, &format!("usr{LIBRARIES}")]
                        .map(|path| path.trim_start_matches('/')),
                )
                .with_context(|| format!("{} needs {name}", program.display()))?;
            if files.insert(path, from.clone()).is_none() {
                self.unpacked_libraries(&from, files)?;
            }
        }
        Ok(())
    }

    /// Finds a file of the packages.
    fn file(&self, name: &str, directories: &[&str]) -> Option<PathBuf> {
        let mut paths = directories
            .iter()
            .map(|directory| self.root.join(directory).join(name));
        paths.find(|path| path.exists())
    }
}

/// Where the libraries of its packages are.
const LIBRARIES: &str = "/lib/aarch64-linux-gnu";

/// Reads a library's path off a line of `ldd`.
fn loaded(line: &str) -> Option<&str> {
    let line = line.split_once("=> ").map_or(line, |(_, path)| path);
    let path = line.split_whitespace().next()?;
    path.starts_with('/').then_some(path)
}

/// Reads a library's name, or the path of what loads them, off a line of `readelf`.
fn needed(line: &str) -> Option<&str> {
    let (_, rest) = line
        .split_once("Shared library: [")
        .or_else(|| line.split_once("Requesting program interpreter: "))?;
    rest.trim_end().strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_off_both_programs() {
        assert_eq!(
            loaded("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"),
            Some("/lib/libc.so.6")
        );
        assert_eq!(loaded("\t/lib64/ld.so.2 (0x7f)"), Some("/lib64/ld.so.2"));
        assert_eq!(loaded("\tstatically linked"), None);
        assert_eq!(
            needed(" 0x01 (NEEDED)  Shared library: [libc.so.6]"),
            Some("libc.so.6")
        );
        assert_eq!(
            needed("      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]"),
            Some("/lib/ld-linux-aarch64.so.1")
        );
        assert_eq!(needed(" 0x0c (INIT)  0x1000"), None);
    }
}
