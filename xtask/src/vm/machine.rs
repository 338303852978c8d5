//! A virtual machine, emulated: works wherever QEMU does, and takes seconds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::emulator::Emulator;
use crate::packages::{Need, Present};

/// What making a guest needs of the host.
pub const NEEDS: [Need; 3] = [
    Need {
        present: Present::Program("readelf"),
        package: "binutils",
        reason: "it tells which libraries a program of another architecture needs",
    },
    Need {
        present: Present::Program("dmsetup"),
        package: "dmsetup",
        reason: "guests make failing devices with it",
    },
    Need {
        present: Present::Program("xz"),
        package: "xz-utils",
        reason: "it unpacks the modules of kernels",
    },
];

/// How often an emulator is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A machine to boot.
pub struct Machine<'a> {
    /// What runs it.
    pub emulator: &'a Emulator,
    /// The kernel.
    pub image: &'a Path,
    /// What the kernel unpacks as its first root directory.
    pub initramfs: &'a Path,
    /// Words of the kernel's command line beside the usual ones.
    pub words: &'a str,
    /// Memory in MiB.
    pub memory: u32,
    /// Further arguments of QEMU: devices.
    pub devices: &'a [String],
    /// Where its console and its report go.
    pub directory: &'a Path,
    /// How long it may take.
    pub patience: Duration,
    /// Whether it boots again when its kernel asks for it or dies; else it stops then.
    pub reboots: bool,
}

/// What a machine left behind.
pub struct Stopped {
    /// What the guest sent through its port.
    pub report: String,
    /// Where the kernel's messages are.
    pub console: PathBuf,
    /// From power on to power off.
    pub took: Duration,
    /// It did not stop by itself.
    pub was_killed: bool,
}

impl Machine<'_> {
    /// Boots it and waits until it has stopped. The emulator's exit code says nothing: a guest that panics stops as well.
    pub fn run(&self) -> Result<Stopped> {
        self.run_until(|_| false)
    }

    /// Boots it, and takes its power as soon as `is_enough` holds of what it has reported.
    pub fn run_until(&self, is_enough: impl Fn(&str) -> bool) -> Result<Stopped> {
        fs::create_dir_all(self.directory)?;
        let console = self.directory.join("console.log");
        let report = self.directory.join("report.log");
        // That of an earlier machine must not be taken for this one's.
        let _ = fs::remove_file(&report);
        let mut qemu = self.emulator.command();
        let facts = self.emulator.arch.facts();
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "1"])
            .args(facts.machine)
            .arg("-m")
            .arg(format!("{}M", self.memory))
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args((!self.reboots).then_some("-no-reboot"))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("{} panic=-1 audit=0 {}", facts.words, self.words))
            .args(["-device", "virtio-serial-pci"])
            .arg("-chardev")
            .arg(format!("file,id=report,path={}", report.display()))
            .args(["-device", "virtserialport,chardev=report,name=report"])
            .args(self.devices)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.directory.join("qemu.log"))?);
        let start = Instant::now();
        let child = qemu.spawn().context("cannot run QEMU")?;
        let read = || String::from_utf8_lossy(&fs::read(&report).unwrap_or_default()).into_owned();
        let was_killed = !Running(child).wait(self.patience, || is_enough(&read()))?;
        Ok(Stopped {
            report: read(),
            console,
            took: start.elapsed(),
            was_killed,
        })
    }
}

/// An emulator that does not outlive this.
struct Running(Child);

impl Running {
    /// Returns whether it ended by itself, before its time and before it `is_enough`.
    fn wait(&mut self, patience: Duration, is_enough: impl Fn() -> bool) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < patience && !is_enough() {
            if self.0.try_wait()?.is_some() {
                return Ok(true);
            }
            sleep(TICK);
        }
        Ok(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
