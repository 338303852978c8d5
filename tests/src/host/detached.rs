//! File systems without a mount point.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

/// A mounted file system that only this value reaches.
#[derive(Debug)]
pub struct FileSystem {
    root: OwnedFd,
}

impl FileSystem {
    /// Makes a file system in memory that holds `bytes`.
    ///
    /// # Panics
    ///
    /// Unless this is root.
    #[track_caller]
    pub fn in_memory(bytes: u64) -> Self {
        Self::create("tmpfs", &[("size", &bytes.to_string())])
    }

    /// Mounts the ext4 file system of a device.
    ///
    /// # Panics
    ///
    /// Unless this is root, and the device has one.
    #[track_caller]
    pub fn ext4(device: &Path) -> Self {
        let device = device.to_str().expect("devices have plain names");
        Self::create("ext4", &[("source", device)])
    }

    #[track_caller]
    fn create(kind: &str, options: &[(&str, &str)]) -> Self {
        let mount = || {
            let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
            for (name, value) in options {
                fsconfig_set_string(&context, *name, *value)?;
            }
            fsconfig_create(&context)?;
            fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )
        };
        match mount() {
            Ok(root) => Self { root },
            Err(error) => panic!("mount {kind} with {options:?}: {error}"),
        }
    }

    /// Opens a new file for reading and writing.
    pub fn new_file(&self, name: &str) -> File {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&self.root, name, flags, Mode::RUSR | Mode::WUSR);
        File::from(file.expect("the file system is writable"))
    }

    /// Fills it to the last byte; nothing that is sparse in it gets any more room.
    pub fn fill(&self) {
        let filler = self.new_file("filler");
        let chunk = vec![0xff; 64 * 1024];
        loop {
            match rustix::io::write(&filler, &chunk) {
                Ok(_) => {}
                Err(Errno::NOSPC) => return,
                Err(error) => panic!("fill a file system: {error}"),
            }
        }
    }

    /// Returns a path to a file in it, good for every process as long as this value lives.
    pub fn path(&self, name: &str) -> PathBuf {
        let process = std::process::id();
        let root = self.root.as_raw_fd();
        PathBuf::from(format!("/proc/{process}/fd/{root}")).join(name)
    }
}
