//! Fatal signals and the faults and senders behind them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, Header, INSTRUCTION_BYTES, REGISTERS_MAX, STACK_FRAMES_MAX};

/// Length of a GNU build ID as the kernel reports it.
pub const BUILD_ID_LEN: usize = 20;

/// Flag of [`SignalFatal`]: `registers` hold the user registers.
pub const SIGNAL_HAS_REGISTERS: u8 = 1;
/// Flag of [`SignalFatal`]: `sender` says who sent the signal.
pub const SIGNAL_HAS_SENDER: u8 = 2;
/// Flag of [`SignalFatal`]: a handler took the fault and raised it again; fault, registers and code are the first one's.
pub const SIGNAL_RERAISED: u8 = 4;

/// Flag of [`Sender`]: the kernel sent the signal on its own account; the process is the one it ran in.
pub const SENDER_KERNEL: u32 = 1;

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
    /// The kernel's tgid of the sender.
    pub tgid: u32,
    /// Real user id of the sender.
    pub uid: u32,
    /// Signal number.
    pub signal: u32,
    /// `si_code`: 0 and below from a process, above from the kernel.
    pub code: i32,
    /// `SENDER_*` flags.
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

/// A signal with default action ended a process.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SignalFatal {
    /// The header; `flags` holds the `SIGNAL_*` flags.
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
    /// Zero.
    pub reserved: u32,
    /// The sender, if `flags` say so.
    pub sender: Sender,
    /// User registers, in the kernel's order.
    pub registers: [u64; REGISTERS_MAX],
    /// Code at `ip`.
    pub instruction: [u8; INSTRUCTION_BYTES],
    /// Return addresses, innermost first; the first is `ip`.
    pub addresses: [u64; STACK_FRAMES_MAX],
    /// The same frames as build ID and file offset.
    pub frames: [Frame; STACK_FRAMES_MAX],
}

const _: () = {
    assert!(size_of::<Frame>() == 32);
    assert!(size_of::<Sender>() == 8 + 6 * 4 + COMM_LEN);
    assert!(size_of::<SignalFatal>().is_multiple_of(8));
};
