//! What tests make of a machine that they have for themselves: its disks, modules and devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::system;
use crate::output;

/// Where `cargo xtask vm` puts modules that no guest has loaded by itself.
const MODULES: &str = "/modules";

/// Returns whether this is such a machine.
pub fn is_one() -> bool {
    std::env::var_os("RECORDER_VM").is_some()
}

/// How much longer than on a host everything may take in a machine that is emulated, and shares a processor with others.
const SLOWNESS: u32 = 3;

/// Returns how long something may take here that takes no longer than `time` on a host.
pub fn patience(time: Duration) -> Duration {
    if is_one() { time * SLOWNESS } else { time }
}

/// Returns whether a module can be loaded.
pub(crate) fn has_module(name: &str) -> bool {
    module(name).exists()
}

fn module(name: &str) -> PathBuf {
    Path::new(MODULES).join(name).with_extension("ko")
}

/// Loads a module, unless it is loaded.
#[track_caller]
pub fn load(name: &str, parameters: &[&str]) {
    if !Path::new("/sys/module").join(name).exists() {
        let mut insmod = Command::new("insmod");
        output(insmod.arg(module(name)).args(parameters)).expect_code(0);
    }
}

/// Returns whether the kernel has a tracepoint.
pub fn has_tracepoint(name: &str) -> bool {
    Path::new("/sys/kernel/tracing/events").join(name).exists()
}

/// Waits for the first disk whose name starts with `prefix` and whose vendor, if any is asked for, is this one.
#[track_caller]
pub fn disk(prefix: &str, vendor: Option<&str>) -> String {
    for _ in 0..100 {
        let disks = fs::read_dir("/sys/block").expect("/sys is mounted");
        let names = disks
            .flatten()
            .filter_map(|disk| disk.file_name().into_string().ok());
        for name in names.filter(|name| name.starts_with(prefix)) {
            let path = format!("/sys/block/{name}/device/vendor");
            let found = fs::read_to_string(path).unwrap_or_default();
            let is_it = vendor.is_none_or(|vendor| found.trim() == vendor);
            if is_it && Path::new("/dev").join(&name).exists() {
                return name;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no disk {prefix}* of {vendor:?}");
}

/// Returns the numbers of a disk as "major:minor".
#[track_caller]
pub fn number(disk: &str) -> String {
    let path = format!("/sys/block/{disk}/dev");
    let number = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    number.trim().to_owned()
}

/// A device-mapper device; removed when dropped.
#[derive(Debug)]
pub struct Mapped {
    name: &'static str,
    disk: String,
}

impl Mapped {
    /// Makes one of this name over `table`.
    #[track_caller]
    pub fn new(name: &'static str, table: &str) -> Self {
        dmsetup(&["create", "--noudevsync", name, "--table", table]);
        let number =
            output(system("dmsetup").args(["info", "-c", "--noheadings", "-o", "minor", name]));
        let disk = format!("dm-{}", number.expect_code(0).text().trim());
        Self { name, disk }
    }

    /// Returns its name as a disk.
    pub fn disk(&self) -> &str {
        &self.disk
    }

    /// Puts another table in its place; what waits at a suspended device goes by the new one.
    #[track_caller]
    pub fn swap(&self, table: &str) {
        self.suspend();
        dmsetup(&["load", self.name, "--table", table]);
        self.resume();
    }

    /// Lets nothing through, until it is resumed.
    #[track_caller]
    pub fn suspend(&self) {
        dmsetup(&[
            "suspend",
            "--noudevsync",
            "--nolockfs",
            "--noflush",
            self.name,
        ]);
    }

    /// Lets everything through again.
    #[track_caller]
    pub fn resume(&self) {
        dmsetup(&["resume", "--noudevsync", self.name]);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Whoever waits for it must be let go first.
        let _ = system("dmsetup")
            .args(["resume", "--noudevsync", self.name])
            .status();
        let _ = system("dmsetup")
            .args(["remove", "--noudevsync", "--retry", self.name])
            .status();
    }
}

#[track_caller]
fn dmsetup(arguments: &[&str]) {
    output(system("dmsetup").args(arguments)).expect_code(0);
}

/// A disk in memory with sectors that cannot be used; removed when dropped.
#[derive(Debug)]
pub struct BadBlocks {
    directory: PathBuf,
    disk: String,
}

impl BadBlocks {
    /// First of its bad sectors.
    pub const FIRST: u64 = 128;

    /// Makes one.
    #[track_caller]
    pub fn new() -> Self {
        let directory = PathBuf::from("/sys/kernel/config/nullb/bad");
        fs::create_dir(&directory).expect("configfs is mounted, and null_blk is loaded");
        let last = Self::FIRST + 7;
        for (name, value) in [
            ("size", "8".to_owned()),
            ("memory_backed", "1".to_owned()),
            ("badblocks", format!("+{}-{last}", Self::FIRST)),
            ("power", "1".to_owned()),
        ] {
            let path = directory.join(name);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let index = fs::read_to_string(directory.join("index")).expect("it has one");
        // Its own name is the disk's since 5.18.
        let names = ["bad".to_owned(), format!("nullb{}", index.trim())];
        let disk = names
            .into_iter()
            .find(|name| Path::new("/sys/block").join(name).exists());
        Self {
            directory,
            disk: disk.expect("it is powered"),
        }
    }

    /// Returns its name as a disk.
    pub fn disk(&self) -> &str {
        &self.disk
    }
}

impl Default for BadBlocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BadBlocks {
    fn drop(&mut self) {
        // The machine ends soon, too.
        let _ = fs::write(self.directory.join("power"), "0");
        let _ = fs::remove_dir(&self.directory);
    }
}
