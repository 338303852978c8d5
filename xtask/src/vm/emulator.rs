//! QEMU and the shell of guests, from their packages: the machine's own are neither needed nor touched.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::archive::Set;

/// QEMU with all that it loads, and a shell that needs nothing.
const PACKAGES: Set = Set {
    name: "emulator",
    suite: "trixie",
    packages: |apt| apt.closure(&["qemu-system-x86", "busybox-static"]),
};

/// Where its libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// What loads them: that of the host may be older than they are.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where its firmware is.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// An emulator in the cache.
#[derive(Clone, Debug)]
pub struct Emulator {
    root: PathBuf,
}

impl Emulator {
    /// Returns the emulator, from the cache if it is there; `update` asks the archive for a newer one.
    pub fn provide(update: bool) -> Result<Self> {
        let root = PACKAGES.provide(update)?;
        Ok(Self { root })
    }

    /// Returns a command that runs it.
    pub fn command(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let mut command = Command::new(libraries.join(LOADER));
        command
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for firmware in FIRMWARE {
            command.arg("-L").arg(self.root.join(firmware));
        }
        command
    }

    /// Returns the shell.
    pub fn shell(&self) -> PathBuf {
        self.root.join("usr/bin/busybox")
    }
}
