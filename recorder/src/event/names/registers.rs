//! General registers, in the order of the kernel's structures.

use recorder_ebpf::abi::{Arch, REGISTERS_MAX};

/// `struct pt_regs` of x86-64.
const X86_64: [&str; 21] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss",
];

/// `struct user_pt_regs` of aarch64.
const AARCH64: [&str; 34] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
    "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27",
    "x28", "x29", "x30", "sp", "pc", "pstate",
];

const _: () = assert!(X86_64.len() <= REGISTERS_MAX && AARCH64.len() <= REGISTERS_MAX);

/// Returns the names for an [`Arch`] as number; none for one of a newer probe.
pub(crate) fn registers(arch: u32) -> &'static [&'static str] {
    if arch == Arch::X86_64 as u32 {
        &X86_64
    } else if arch == Arch::Aarch64 as u32 {
        &AARCH64
    } else {
        &[]
    }
}
