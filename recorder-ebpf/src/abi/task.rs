//! Processes as they are, not what happened to them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::COMM_LEN;

/// Flag of [`LiveProcess`]: a thread of the kernel's own.
pub const LIVE_KERNEL_THREAD: u32 = 1;
/// Flag of [`LiveProcess`]: it has executed nothing since it was forked: its program is its parent's.
pub const LIVE_FORKED: u32 = 2;
/// Flag of [`LiveProcess`]: it has more threads than were added up.
pub const LIVE_THREADS_CUT: u32 = 4;

/// A living process, as the task iterator saw it.
///
/// It has no header: it comes through an iterator's descriptor, not through a ring.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, PartialEq, Eq)]
#[repr(C)]
pub struct LiveProcess {
    /// When it started, in nanoseconds since boot. With `tgid` it names a process uniquely.
    pub start_boot_ns: u64,
    /// CPU time of all its threads in user mode, in nanoseconds, those that are gone included.
    pub user_ns: u64,
    /// CPU time of all its threads in kernel mode, in nanoseconds.
    pub system_ns: u64,
    /// Bytes fetched from storage by all its threads.
    pub read_bytes: u64,
    /// Bytes sent to storage by all its threads.
    pub write_bytes: u64,
    /// Resident memory in pages; 0 if it has no memory of its own.
    pub rss_pages: u64,
    /// Id of its cgroup in the unified hierarchy.
    pub cgroup_id: u64,
    /// Id of its cgroup in the hierarchy of the memory controller, 0 if there is none.
    pub memory_cgroup_id: u64,
    /// Inode of its executable, 0 if it has none.
    pub exe_inode: u64,
    /// `dev_t` of the executable's file system, as the kernel packs it (20 bits of minor).
    pub exe_device: u32,
    /// The kernel's tgid: the process.
    pub tgid: u32,
    /// The kernel's tgid of the parent.
    pub parent_tgid: u32,
    /// Its tgid inside its own pid namespace, 0 if unknown.
    pub ns_tgid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Real group id, in the initial user namespace.
    pub gid: u32,
    /// Id of its audit session, which is also the login manager's; `u32::MAX` if it has none.
    pub session: u32,
    /// User who logged in, whatever became of the uid; `u32::MAX` if nobody did.
    pub login_uid: u32,
    /// Threads it has.
    pub threads: u32,
    /// The `LIVE_*` flags.
    pub flags: u32,
    /// Name of its first thread, NUL padded; any bytes.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<LiveProcess>() == 9 * 8 + 10 * 4 + COMM_LEN);
