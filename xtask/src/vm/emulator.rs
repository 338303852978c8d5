//! QEMU, from its packages: the machine's own is neither needed nor touched.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::arch::Arch;
use super::archive::Set;

/// Where its libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// What loads them: that of the host may be older than they are.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where its firmware is.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// An emulator in the cache.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// What it emulates.
    pub arch: Arch,
    root: PathBuf,
}

impl Emulator {
    /// Returns the emulator, with all that it loads, from the cache if it is there; `update` asks the archive for a newer one.
    pub fn provide(arch: Arch, update: bool) -> Result<Self> {
        let facts = arch.facts();
        let packages = Set {
            name: &format!("{}emulator", facts.prefix),
            suites: &["trixie"],
            architecture: Arch::Amd64.facts().name,
            packages: &|apt| apt.closure(&[facts.package]),
        };
        let root = packages.provide(update)?;
        Ok(Self { arch, root })
    }

    /// Returns a command that runs it.
    pub fn command(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join(LOADER));
        command
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr/bin").join(self.arch.facts().program));
        for firmware in FIRMWARE {
            command.arg("-L").arg(self.root.join(firmware));
        }
        command
    }
}
