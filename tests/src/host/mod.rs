//! What tests make of the host: devices, file systems and cgroups that go away with the value that stands for them.
//!
//! Loop devices and file systems here have no name and no mount point: the kernel removes them with the last descriptor,
//! even if the test is killed.

mod cgroup;
mod detached;
mod failing;
pub mod guest;
mod loop_device;
mod swap;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

pub use cgroup::{MemoryCgroup, NamedCgroup, PidsCgroup, unified_cgroup_id};
pub use detached::{FileSystem, Frozen, Mounted};
pub use failing::{FailingDisk, FailingExt4, failing_ext4, write_back};
pub use loop_device::LoopDevice;
pub use swap::Swap;

/// Returns the path that a file has inside its file system, wherever that is mounted.
///
/// # Panics
///
/// If nothing is mounted where it is.
#[track_caller]
pub fn path_in_file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let inside = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let rest = path.strip_prefix(point).ok()?;
        Some((point.len(), Path::new(root).join(rest)))
    };
    let found = mounts.lines().filter_map(inside);
    // Of two at the same place, the later one hides the other.
    let found = found.max_by_key(|(len, _)| *len);
    let (_, path) = found.expect("there is a root directory");
    path.to_str().expect("a plain path").to_owned()
}

/// Returns whether the kernel has this file system now.
pub(crate) fn has_file_system(name: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known
        .lines()
        .any(|line| line.split_whitespace().last() == Some(name))
}

/// Returns whether this is Linux `major.minor` or newer.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Tells whether the kernel can bind a process to directories: there is a version of the interface.
pub fn has_landlock() -> bool {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag it takes no attributes, and makes nothing.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) > 0 }
}

/// Makes a directory that any user may enter.
pub fn public_directory() -> TempDir {
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room for tests");
    allow_everyone(directory.path());
    directory
}

/// Lets everybody read and execute a file or enter a directory of the test's.
pub fn allow_everyone(path: &Path) {
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, everyone).expect("it is the test's own");
}
