//! Fatal signals and the faults and senders behind them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    AUXILIARY_WORDS, COMM_LEN, Header, INSTRUCTION_BYTES, Lineage, MAPPING_PATH_BYTES_MAX,
    REGISTERS_MAX, STACK_FRAMES_MAX,
};

/// Length of a GNU build ID as the kernel reports it.
pub const BUILD_ID_LEN: usize = 20;

/// Flag of [`SignalFatal`]: `registers` hold the user registers.
pub const SIGNAL_HAS_REGISTERS: u8 = 1;
/// Flag of [`SignalFatal`]: `sender` says who sent the signal.
pub const SIGNAL_HAS_SENDER: u8 = 2;
/// Flag of [`SignalFatal`]: a handler took the fault and raised it again; fault, registers and code are the first one's.
pub const SIGNAL_RERAISED: u8 = 4;
/// Flag of [`SignalFatal`]: `fs_base` and `gs_base` are known.
pub const SIGNAL_HAS_BASES: u8 = 8;

/// Flag of [`SignalFatal`]: `asked` says who asked the process to end before.
pub const SIGNAL_WAS_ASKED: u8 = 16;

/// Flag of [`Sender`]: the kernel sent the signal on its own account; the process is the one it ran in.
pub const SENDER_KERNEL: u32 = 1;
/// Flag of [`Sender`]: the sender was on its way out: it did not choose to send, its end did.
pub const SENDER_EXITING: u32 = 2;
/// Flag of [`Sender`]: the sender is the init of its pid namespace, and on its way out: the namespace ends with it.
pub const SENDER_INIT: u32 = 4;
/// Flag of [`Sender`]: the target has a handler for the signal.
pub const RECEIVED_HANDLED: u32 = 8;
/// Flag of [`Sender`]: the target ignores the signal.
pub const RECEIVED_IGNORED: u32 = 16;
/// Flag of [`Sender`]: the target has the signal blocked, for now or to fetch it when it likes.
pub const RECEIVED_BLOCKED: u32 = 32;

/// Flag of [`Mapping`]: it can be read.
pub const MAPPING_READ: u32 = 1;
/// Flag of [`Mapping`]: it can be written.
pub const MAPPING_WRITE: u32 = 2;
/// Flag of [`Mapping`]: it can be executed.
pub const MAPPING_EXECUTE: u32 = 4;
/// Flag of [`Mapping`]: writes to it are seen by others who map the file.
pub const MAPPING_SHARED: u32 = 8;
/// Flag of [`Mapping`]: a file is mapped; without it, memory.
pub const MAPPING_FILE: u32 = 1 << 30;
/// Flag of [`Mapping`]: the path was longer than what was captured.
pub const MAPPING_PATH_TRUNCATED: u32 = 1 << 31;

/// What `registers` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Arch {
    /// `struct pt_regs` of x86-64: r15 first, ss last.
    X86_64 = 1,
    /// `struct user_pt_regs` of aarch64: x0 to x30, sp, pc, pstate.
    Aarch64 = 2,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sender {
    /// When it was sent, in nanoseconds since boot.
    pub boot_ns: u64,
    /// Id of the sender's cgroup in the unified hierarchy.
    pub cgroup_id: u64,
    /// The kernel's tgid of the sender.
    pub tgid: u32,
    /// Real user id of the sender.
    pub uid: u32,
    /// Signal number.
    pub signal: u32,
    /// `si_code`: 0 and below from a process, above from the kernel.
    pub code: i32,
    /// `SENDER_*` and `RECEIVED_*` flags.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Name of the sending thread.
    pub comm: [u8; COMM_LEN],
}

/// One user stack frame as `bpf_get_stack` gives it with `BPF_F_USER_BUILD_ID` (`struct bpf_stack_build_id`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Frame {
    /// 0 empty, 1 `build_id` and a file offset, 2 an address only.
    pub status: i32,
    /// GNU build ID of the mapped file.
    pub build_id: [u8; BUILD_ID_LEN],
    /// Offset in the file if `status` is 1, else the address.
    pub offset_or_ip: u64,
}

/// A part of a process's address space.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// Inode of the file.
    pub inode: u64,
    /// Device of the file's filesystem, as the kernel packs it.
    pub device: u32,
    /// `MAPPING_*` flags.
    pub flags: u32,
    /// Bytes in `path`.
    pub path_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Path of the file from the root of its filesystem: its names, the file's own first, each ended by a NUL.
    pub path: [u8; MAPPING_PATH_BYTES_MAX],
}

/// A signal with default action ended a process.
///
/// # Shape
///
/// Followed by `stack_memory_len` bytes of stack, a multiple of eight, then `mappings_len` times a [`Mapping`]. Only signals
/// that dump core have either.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalFatal {
    /// The header; `flags` holds the `SIGNAL_*` and `PROCESS_*` flags.
    pub header: Header,
    /// Signal number.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault.
    pub fault_address: u64,
    /// Instruction pointer in user mode.
    pub ip: u64,
    /// Stack pointer in user mode.
    pub sp: u64,
    /// The hardware's error code of the last fault (x86-64).
    pub error_code: u64,
    /// The hardware's trap number of the last fault (x86-64).
    pub trap_number: u64,
    /// An [`Arch`] as number, 0 if unknown.
    pub arch: u32,
    /// Frames in `addresses` and `frames`.
    pub stack_len: u32,
    /// Bytes in `instruction`.
    pub instruction_len: u32,
    /// Mappings that follow: of the stack, the code, and what the frames and the stack memory refer to.
    pub mappings_len: u32,
    /// Bytes of stack memory that follow, a multiple of eight.
    pub stack_memory_len: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the first byte of stack memory: `sp`, or the next that can be read.
    pub stack_memory_address: u64,
    /// Base of the segment `fs`, which finds the thread's own variables (x86-64).
    pub fs_base: u64,
    /// Base of the segment `gs` (x86-64).
    pub gs_base: u64,
    /// Where the process belongs.
    pub lineage: Lineage,
    /// The sender, if `flags` say so.
    pub sender: Sender,
    /// Who last asked the process to end by another signal, if `flags` say so.
    pub asked: Sender,
    /// User registers, in the kernel's order.
    pub registers: [u64; REGISTERS_MAX],
    /// The auxiliary vector that the kernel gave the program: a key and a value each, up to a key of 0. Zeros if the signal
    /// dumps no core.
    pub auxiliary: [u64; AUXILIARY_WORDS],
    /// Code at `ip`.
    pub instruction: [u8; INSTRUCTION_BYTES],
    /// Return addresses, innermost first; the first is `ip`.
    pub addresses: [u64; STACK_FRAMES_MAX],
    /// The same frames as build ID and file offset.
    pub frames: [Frame; STACK_FRAMES_MAX],
}

/// A process was sent HUP, INT, QUIT or TERM that does not end it by itself: it has a handler, ignores or blocks it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalSent {
    /// The header; the process is the target.
    pub header: Header,
    /// The sender.
    pub sender: Sender,
}

const _: () = {
    assert!(size_of::<Frame>() == 32);
    assert!(size_of::<Sender>() == 2 * 8 + 6 * 4 + COMM_LEN);
    assert!(size_of::<SignalFatal>().is_multiple_of(8));
    assert!(size_of::<Mapping>() == 8 * 4 + 4 * 4 + MAPPING_PATH_BYTES_MAX);
    assert!(size_of::<Mapping>().is_multiple_of(8));
};
