//! File systems without a mount point.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    fspick, move_mount, unmount,
};

/// `FIFREEZE` and `FITHAW` of `<linux/fs.h>`.
const FREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const THAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

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

    /// Gives it a place, for programs that want to know the real names of their files.
    ///
    /// # Panics
    ///
    /// Unless this is root.
    #[track_caller]
    pub fn mount(self, place: &Path) -> Mounted {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&self.root, "", rustix::fs::CWD, place, flags).expect("the place is ours");
        Mounted {
            file_system: self,
            place: place.to_owned(),
        }
    }

    /// Lets nobody write any more, as a kernel does that found a file system broken; `false` gives it back.
    pub fn set_read_only(&self, is_read_only: bool) {
        let flag = if is_read_only { "ro" } else { "rw" };
        let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
        let done = fspick(&self.root, "", flags).and_then(|context| {
            fsconfig_set_flag(&context, flag)?;
            fsconfig_reconfigure(&context)
        });
        done.expect("nobody has a file open for writing");
    }

    /// Makes ext4 find itself broken: it lets nobody write any more, and never will.
    pub fn abort(&self) {
        let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
        let done = fspick(&self.root, "", flags).and_then(|context| {
            fsconfig_set_flag(&context, "abort")?;
            fsconfig_reconfigure(&context)
        });
        // Older kernels, 5.10 among them, answer with what they have just done.
        assert!(matches!(done, Ok(()) | Err(Errno::ROFS)), "{done:?}");
    }

    /// Makes ext4 refuse everything with EIO, as if its device were gone.
    pub fn shut_down(&self) {
        // `EXT4_IOC_SHUTDOWN` of `<linux/ext4.h>`, without writing the journal.
        const SHUTDOWN: libc::Ioctl = 0x8004_587d;
        const WITHOUT_LOG: u32 = 2;
        let how = WITHOUT_LOG;
        self.control(SHUTDOWN, &raw const how);
    }

    /// Lets every write to it wait, until the guard is dropped.
    pub fn freeze(&self) -> Frozen {
        self.control(FREEZE, std::ptr::null());
        let root = self.root.try_clone().expect("one more descriptor");
        Frozen {
            file_system: Self { root },
        }
    }

    #[track_caller]
    fn control(&self, request: libc::Ioctl, argument: *const u32) {
        // The root of a mount as `fsmount` gives it has no operations.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&self.root, ".", flags, Mode::empty()).expect("it is mounted");
        // SAFETY: the requests take no argument, or read one number that outlives the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), request, argument) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Returns the bytes that are free in it.
    pub fn free_bytes(&self) -> u64 {
        let stats = rustix::fs::fstatvfs(&self.root).expect("it is mounted");
        stats.f_bavail * stats.f_frsize
    }

    /// Returns a path to a file in it, good for every process as long as this value lives.
    pub fn path(&self, name: &str) -> PathBuf {
        let process = std::process::id();
        let root = self.root.as_raw_fd();
        PathBuf::from(format!("/proc/{process}/fd/{root}")).join(name)
    }
}

/// A file system that has a place until this is dropped.
#[derive(Debug)]
pub struct Mounted {
    file_system: FileSystem,
    place: PathBuf,
}

impl std::ops::Deref for Mounted {
    type Target = FileSystem;

    fn deref(&self) -> &FileSystem {
        &self.file_system
    }
}

/// A file system that lets writes wait.
#[derive(Debug)]
pub struct Frozen {
    file_system: FileSystem,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.file_system.control(THAW, std::ptr::null());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still uses it keeps it, without its place.
        let _ = unmount(&self.place, UnmountFlags::DETACH);
    }
}
