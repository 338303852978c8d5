//! Block devices that fail on demand: loop devices over files on a file system of a size of our choice.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::FileSystem;

/// `<linux/loop.h>`: sets up a device in one call.
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
/// `<linux/loop.h>`: returns the number of an unused device.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// `<linux/loop.h>`: the device goes away with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// How often to ask for another unused device when a stranger took the one we were told.
const ATTEMPTS_MAX: usize = 16;

/// `struct loop_config` of `<linux/loop.h>`, with what we leave zero as bytes.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_bytes: u32,
    // struct loop_info64: 52 bytes before its flags, 176 after them.
    before_flags: [u8; 52],
    flags: u32,
    after_flags: [u8; 176],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 4 + 4 + 232 + 8 * 8);

/// A block device whose bytes are in a file of our own.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    // The last user: the device goes with it.
    device: File,
    backing: File,
}

impl LoopDevice {
    /// Sets up a device of `bytes` over a sparse file on `file_system`.
    ///
    /// # Panics
    ///
    /// Unless this is root and the kernel has loop devices.
    #[track_caller]
    pub fn over(file_system: &FileSystem, bytes: u64) -> Self {
        let backing = file_system.new_file("backing");
        backing.set_len(bytes).expect("a sparse file takes no room");
        let config = LoopConfig {
            descriptor: backing.as_raw_fd().unsigned_abs(),
            block_bytes: 0,
            before_flags: [0; 52],
            flags: LO_FLAGS_AUTOCLEAR,
            after_flags: [0; 176],
            reserved: [0; 8],
        };
        let control = File::open("/dev/loop-control").expect("the test needs Need::Loop");
        for _ in 0..ATTEMPTS_MAX {
            // SAFETY: the request takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            assert!(number >= 0, "{}", std::io::Error::last_os_error());
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(true).open(&path);
            let device = device.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // SAFETY: `config` is a whole loop_config that outlives the call, and its descriptor is open.
            let done =
                unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
            if done == 0 {
                return Self {
                    path,
                    device,
                    backing,
                };
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::EBUSY),
                "configure: {error}"
            );
        }
        panic!("others take every loop device before this test can");
    }

    /// Returns its path in `/dev`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its name: "loop0".
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(std::ffi::OsStr::to_str);
        name.expect("the path is /dev/loopN")
    }

    /// Returns its number: "7:0".
    pub fn number(&self) -> String {
        let metadata = self.device.metadata().expect("the device is open");
        assert!(metadata.file_type().is_block_device());
        let number = metadata.rdev();
        format!("{}:{}", libc::major(number), libc::minor(number))
    }

    /// Writes `bytes` to its start, and through to the file behind it.
    pub fn write_at_start(&self, bytes: &[u8]) {
        self.device
            .write_all_at(bytes, 0)
            .and_then(|()| self.device.sync_all())
            .expect("there is room");
    }

    /// Cuts the file behind it to `bytes`: what lay there can no longer be read.
    pub fn truncate_backing(&self, bytes: u64) {
        self.backing.set_len(bytes).expect("the file is ours");
    }
}
