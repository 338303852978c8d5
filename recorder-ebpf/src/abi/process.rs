//! Process lifecycle.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// Flag of [`Exec`]: the argument block was longer than what was captured.
pub const EXEC_ARGV_TRUNCATED: u8 = 1;
/// Flag of [`Exec`]: the path was longer than what was captured.
pub const EXEC_FILENAME_TRUNCATED: u8 = 2;

/// A process executed a program.
///
/// # Shape
///
/// Followed by `filename_len` bytes of path (no NUL), then `argv_len` bytes of arguments, each ended by a NUL but perhaps
/// the last.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exec {
    /// The header; `flags` holds the `EXEC_*` flags.
    pub header: Header,
    /// The kernel's tgid of the parent.
    pub parent_tgid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Bytes of path that follow.
    pub filename_len: u16,
    /// Bytes of arguments that follow the path.
    pub argv_len: u16,
}

const _: () = assert!(size_of::<Exec>() == size_of::<Header>() + 16);

/// A process ended: its last thread died.
///
/// Written once per process, with the accounting of all its threads, at most 8 + 64 bytes beyond the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exit {
    /// The header; `comm` is that of the last thread.
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
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Exit>() == size_of::<Header>() + 64);

/// A task was not scheduled for longer than the kernel's hung-task limit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TaskHung {
    /// The header; the process is the hung one.
    pub header: Header,
}
