//! Process lifecycle.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// Flag of [`Exec`]: the argument block was longer than what was captured.
pub const EXEC_ARGV_TRUNCATED: u8 = 1;
/// Flag of [`Exec`]: the path was longer than what was captured.
pub const EXEC_FILENAME_TRUNCATED: u8 = 2;
/// Flag of [`Exec`], set by the agent: values in the arguments are replaced by `*`, length for length.
pub const EXEC_REDACTED: u8 = 4;

/// Flag of [`Exec`] and [`Exit`]: to keep to the budget, the arguments of the one and what the other used are left out.
pub const PROCESS_REDUCED: u8 = 8;

/// Flag of every record about a process that carries its parent: it has executed nothing since it was forked, so that its
/// program is its parent's.
pub const PROCESS_FORKED: u8 = 0x40;
/// Flag beside [`PROCESS_FORKED`]: the parent is one that takes in orphans, and so perhaps not the one that forked it.
pub const PROCESS_ADOPTED: u8 = 0x80;

/// Where a process belongs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, PartialEq, Eq)]
#[repr(C)]
pub struct Lineage {
    /// The kernel's tgid of the parent.
    pub parent_tgid: u32,
    /// Its tgid inside its own pid namespace, 0 if unknown.
    pub ns_tgid: u32,
    /// Id of its audit session, which is also the login manager's; `u32::MAX` if it has none.
    pub session: u32,
    /// User who logged in, whatever became of the uid; `u32::MAX` if nobody did.
    pub login_uid: u32,
}

/// A process executed a program.
///
/// # Shape
///
/// Followed by `exe_len` bytes of the executable's path, `filename_len` bytes of the path as it was given (no NUL), and
/// `argv_len` bytes of arguments, each ended by a NUL but perhaps the last. The executable's path is a list of names, the
/// innermost first, each ended by a NUL.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exec {
    /// The header; `flags` holds the `EXEC_*` flags and [`PROCESS_REDUCED`].
    pub header: Header,
    /// Id of its cgroup in the hierarchy of the memory controller, 0 if there is none.
    pub memory_cgroup_id: u64,
    /// Inode of the executable. With `device` and the time of its last change it names the file's content.
    pub inode: u64,
    /// When the executable's inode last changed: seconds since 1970.
    pub changed_s: u64,
    /// Nanoseconds to be added to `changed_s`; the highest bit is the kernel's own. Both are 0 if unknown.
    pub changed_ns: u32,
    /// Device of the executable's filesystem, as the kernel packs it.
    pub device: u32,
    /// Where it belongs.
    pub lineage: Lineage,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Bytes of the executable's path that follow; 0 if it is too long.
    pub exe_len: u16,
    /// Bytes of the given path that follow.
    pub filename_len: u16,
    /// Bytes of arguments that follow.
    pub argv_len: u16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Exec>() == size_of::<Header>() + 8 + 24 + 16 + 16);

/// A process ended: its last thread died.
///
/// Written once per process, with the accounting of all its threads, at most 8 + 64 bytes beyond the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exit {
    /// The header; `comm` is that of the last thread, `flags` holds the `PROCESS_*` flags.
    pub header: Header,
    /// CPU time in user mode, in nanoseconds, as the scheduler's accounting has it.
    pub user_ns: u64,
    /// CPU time in kernel mode, in nanoseconds.
    pub system_ns: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// Highest resident memory, in KiB.
    pub max_rss_kib: u32,
    /// The kernel's wait status: exit code << 8, or signal | 0x80 if it dumped core.
    pub status: u32,
    /// The kernel's tgid of the parent.
    pub parent_tgid: u32,
    /// Page faults served without I/O.
    pub minor_faults: u32,
    /// Page faults that needed I/O.
    pub major_faults: u32,
    /// Times a thread gave up the CPU.
    pub voluntary_switches: u32,
    /// Times a thread was taken off the CPU.
    pub involuntary_switches: u32,
    /// Id of its audit session; `u32::MAX` if it has none.
    pub session: u32,
}

const _: () = assert!(size_of::<Exit>() == size_of::<Header>() + 64);

/// A task was not scheduled for longer than the kernel's hung-task limit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TaskHung {
    /// The header; the process is the hung one.
    pub header: Header,
}
