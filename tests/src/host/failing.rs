//! Disks and file systems that fail on purpose.

use std::path::{Path, PathBuf};

use super::{FileSystem, LoopDevice};
use crate::{Ended, Program, Workload, command, output};

const SECTOR_BYTES: u64 = 512;

/// A disk over a file on a file system without any room left: it can be written only where it was before, and what lies
/// behind the file's end can neither be read.
#[derive(Debug)]
pub struct FailingDisk {
    device: LoopDevice,
    _file_system: FileSystem,
}

impl FailingDisk {
    const BYTES: u64 = 4 << 20;
    /// Sector of 64 KiB that can be written.
    pub const GOOD_SECTOR: u64 = 0;
    /// First sector that can be read, as zeros, but not written: ENOSPC.
    pub const HOLE_SECTOR: u64 = (1 << 20) / SECTOR_BYTES;
    /// First sector that can neither be read: the file behind it was cut here, while the disk kept its size.
    pub const CUT_SECTOR: u64 = (3 << 20) / SECTOR_BYTES;

    /// Makes one.
    ///
    /// # Panics
    ///
    /// Unless this is root and the kernel has loop devices.
    #[track_caller]
    pub fn new() -> Self {
        let file_system = FileSystem::in_memory(2 << 20);
        let device = LoopDevice::over(&file_system, Self::BYTES);
        device.write_at_start(&[0; 64 * 1024]);
        file_system.fill();
        device.truncate_backing(Self::CUT_SECTOR * SECTOR_BYTES);
        Self {
            device,
            _file_system: file_system,
        }
    }

    /// Returns the device.
    pub fn device(&self) -> &LoopDevice {
        &self.device
    }

    /// Lets a workload `read` or `write` past the page cache.
    #[track_caller]
    pub fn io(&self, operation: &str, sector: u64, bytes: u64) -> Ended {
        let mut io = Program::workload().command(["io", operation]);
        io.arg(self.device.path())
            .args([sector, bytes].map(|number| number.to_string()));
        Workload::start(&mut io).wait()
    }
}

impl Default for FailingDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// An ext4 file system on a disk that has no room for the data of new files, though its own books say so.
#[derive(Debug)]
pub struct FailingExt4 {
    // In this order: the file system is unmounted before its device goes.
    mounted: FileSystem,
    device: LoopDevice,
    _memory: FileSystem,
}

/// Makes an ext4 file system whose data cannot be written back.
///
/// # Panics
///
/// Unless this is root and the kernel has loop devices and ext4.
#[track_caller]
pub fn failing_ext4() -> FailingExt4 {
    let memory = FileSystem::in_memory(4 << 20);
    let device = LoopDevice::over(&memory, 16 << 20);
    // No journal: it would fail first, and take the file system with it.
    let mut format = command::system("mkfs.ext4");
    format
        .args([
            "-q",
            "-O",
            "^has_journal",
            "-E",
            "nodiscard,lazy_itable_init=0",
        ])
        .arg(device.path());
    output(&mut format).expect_code(0);
    let mounted = FileSystem::ext4(device.path());
    memory.fill();
    FailingExt4 {
        mounted,
        device,
        _memory: memory,
    }
}

impl FailingExt4 {
    /// Bytes of the files that are lost.
    pub const FILE_BYTES: u64 = 64 * 1024;

    /// Returns the device.
    pub fn device(&self) -> &LoopDevice {
        &self.device
    }

    /// Returns a path to a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mounted.path(name)
    }

    /// Lets a workload write a new file that will be lost.
    #[track_caller]
    pub fn write_back(&self, name: &str) -> Ended {
        write_back(&self.path(name), Self::FILE_BYTES)
    }
}

/// Lets a workload write `bytes` at the start of a file through the page cache, and ask for them to be stored.
#[track_caller]
pub fn write_back(path: &Path, bytes: u64) -> Ended {
    let mut write = Program::workload().command(["writeback"]);
    write.arg(path).args(["0", &bytes.to_string()]);
    Workload::start(&mut write).wait()
}
