//! Installs, upgrades, breaks and purges the package under a real systemd, in an emulated machine.
//!
//! The machine is a small Debian with its own kernel, made once and kept. What is done in it is `prove.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::exec::exec;
use crate::packages::{Need, Present, provide};
use crate::paths;
use crate::vm::arch::Arch;
use crate::vm::emulator::Emulator;
use crate::vm::machine::Machine;

/// What is run in the machine, and the unit that runs it.
const SCRIPT: &str = include_str!("prove.sh");
const UNIT: &str = "[Unit]\nDescription=proof of the package\nAfter=multi-user.target\n\
    [Service]\nType=oneshot\nExecStart=/bin/sh /prove/prove.sh\nTimeoutStartSec=infinity\n\
    [Install]\nWantedBy=graphical.target\n";
/// The last line of a proof.
const END: &str = "proved";
/// Memory of the machine in MiB.
const MEMORY: u32 = 1024;
/// How long the proof may take: everything in it is emulated.
const PATIENCE: Duration = Duration::from_secs(900);

/// What making a Debian needs.
const NEEDS: [Need; 2] = [
    Need {
        present: Present::Program("mmdebstrap"),
        package: "mmdebstrap",
        reason: "it makes the Debian that the package is installed in",
    },
    Need {
        present: Present::Program("mke2fs"),
        package: "e2fsprogs",
        reason: "it makes the disk of that Debian",
    },
];

/// Proves the package, and that `next` takes its place.
pub fn run(package: &Path, next: &Path) -> Result<()> {
    provide(&NEEDS)?;
    let root = debian()?;
    place(&root, package, next)?;
    let directory = paths::vm().join("dist");
    fs::create_dir_all(&directory)?;
    let disk = directory.join("disk.img");
    disk_of(&root, &disk)?;
    let emulator = Emulator::provide(Arch::Amd64, false)?;
    let machine = Machine {
        emulator: &emulator,
        image: &boot_file(&root, "vmlinuz-")?,
        initramfs: &boot_file(&root, "initrd.img-")?,
        words: "quiet root=/dev/vda rw systemd.unit=graphical.target",
        memory: MEMORY,
        devices: &[
            "-drive".to_owned(),
            format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()),
        ],
        directory: &directory,
        patience: PATIENCE,
        reboots: false,
    };
    let stopped = machine.run()?;
    print!("{}", stopped.report);
    let report = directory.join("report.log");
    let failed = stopped
        .report
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .count();
    ensure!(
        failed == 0,
        "{failed} steps failed: see {}",
        report.display()
    );
    ensure!(
        stopped.report.lines().any(|line| line == END),
        "the machine did not come to the end: see {} and {}",
        report.display(),
        stopped.console.display()
    );
    eprintln!("proved in {:.0} s", stopped.took.as_secs_f64());
    Ok(())
}

/// Returns the root directory of a small Debian; makes it if there is none.
fn debian() -> Result<PathBuf> {
    let root = paths::vm().join("debian");
    if root.join("etc/debian_version").exists() {
        return Ok(root);
    }
    fs::create_dir_all(paths::vm())?;
    exec(
        Command::new("mmdebstrap")
            .args(["--variant=minbase", "--mode=root", "--format=directory"])
            .arg("--include=systemd,systemd-sysv,udev,procps,linux-image-cloud-amd64")
            .arg("bookworm")
            .arg(&root),
    )?;
    Ok(root)
}

/// Puts the packages and the script into it.
fn place(root: &Path, package: &Path, next: &Path) -> Result<()> {
    let prove = root.join("prove");
    fs::create_dir_all(&prove)?;
    fs::copy(package, prove.join("first.deb"))?;
    fs::copy(next, prove.join("next.deb"))?;
    fs::write(prove.join("prove.sh"), SCRIPT)?;
    fs::write(root.join("etc/systemd/system/prove.service"), UNIT)?;
    let wants = root.join("etc/systemd/system/graphical.target.wants");
    fs::create_dir_all(&wants)?;
    let link = wants.join("prove.service");
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink("/etc/systemd/system/prove.service", link)?;
    }
    Ok(())
}

fn disk_of(root: &Path, disk: &Path) -> Result<()> {
    if disk.exists() {
        fs::remove_file(disk)?;
    }
    exec(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(root)
            .arg(disk)
            .arg("1500M"),
    )
}

/// Finds the newest kernel or initramfs of the Debian.
fn boot_file(root: &Path, prefix: &str) -> Result<PathBuf> {
    let boot = root.join("boot");
    let mut files = Vec::new();
    for entry in fs::read_dir(&boot)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            files.push(entry.path());
        }
    }
    files.sort();
    files
        .pop()
        .with_context(|| format!("no {prefix} in {}", boot.display()))
}
