//! Functions whose first instruction is the one that fails, so that their address is the instruction pointer to expect.
//!
//! The second argument only sits in a register, to be found there.

/// What the second argument register holds at the fault: "RECORDER".
pub(crate) const MARK: usize = 0x5245_434f_5244_4552;

#[cfg(target_arch = "x86_64")]
mod instructions {
    use std::arch::naked_asm;

    /// Writes one byte to `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn write(_address: usize, _mark: usize) {
        naked_asm!("mov byte ptr [rdi], 1", "ret");
    }

    /// Reads one byte from `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn read(_address: usize, _mark: usize) {
        naked_asm!("mov al, byte ptr [rdi]", "ret");
    }

    /// Goes on at `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn jump(_address: usize, _mark: usize) {
        naked_asm!("jmp rdi");
    }

    /// Divides by `_divisor`, the low half of it.
    #[unsafe(naked)]
    pub(crate) extern "C" fn divide(_a: usize, _mark: usize, _high: usize, _divisor: usize) {
        naked_asm!("idiv ecx", "ret");
    }

    /// Executes what is no instruction.
    #[unsafe(naked)]
    pub(crate) extern "C" fn undefined(_a: usize, _mark: usize) {
        naked_asm!("ud2", "ret");
    }

    /// Length of what a function with a frame pointer begins with.
    pub(crate) const PROLOGUE_BYTES: usize = 4;
    /// Where [`outer`] and [`middle`] go on after their call, which is five bytes long.
    pub(crate) const RETURN_OFFSET: usize = PROLOGUE_BYTES + 5;

    /// Calls [`middle`].
    #[unsafe(naked)]
    pub(crate) extern "C" fn outer(_address: usize, _mark: usize) {
        naked_asm!("push rbp", "mov rbp, rsp", "call {}", "pop rbp", "ret", sym middle);
    }

    /// Calls [`inner`].
    #[unsafe(naked)]
    pub(crate) extern "C" fn middle(_address: usize, _mark: usize) {
        naked_asm!("push rbp", "mov rbp, rsp", "call {}", "pop rbp", "ret", sym inner);
    }

    /// Writes one byte to `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn inner(_address: usize, _mark: usize) {
        naked_asm!(
            "push rbp",
            "mov rbp, rsp",
            "mov byte ptr [rdi], 1",
            "pop rbp",
            "ret"
        );
    }
}

#[cfg(target_arch = "aarch64")]
mod instructions {
    use std::arch::naked_asm;

    /// Writes one byte to `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn write(_address: usize, _mark: usize) {
        naked_asm!("strb w1, [x0]", "ret");
    }

    /// Reads one byte from `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn read(_address: usize, _mark: usize) {
        naked_asm!("ldrb w2, [x0]", "ret");
    }

    /// Goes on at `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn jump(_address: usize, _mark: usize) {
        naked_asm!("br x0");
    }

    /// Divides by `_divisor`, which gives 0 here and no fault; then fails by a breakpoint.
    #[unsafe(naked)]
    pub(crate) extern "C" fn divide(_a: usize, _mark: usize, _high: usize, _divisor: usize) {
        naked_asm!("brk 1", "ret");
    }

    /// Executes what is no instruction.
    #[unsafe(naked)]
    pub(crate) extern "C" fn undefined(_a: usize, _mark: usize) {
        naked_asm!("udf 0", "ret");
    }

    /// Length of what a function with a frame pointer begins with.
    pub(crate) const PROLOGUE_BYTES: usize = 8;
    /// Where [`outer`] and [`middle`] go on after their call, which is four bytes long.
    pub(crate) const RETURN_OFFSET: usize = PROLOGUE_BYTES + 4;

    /// Calls [`middle`].
    #[unsafe(naked)]
    pub(crate) extern "C" fn outer(_address: usize, _mark: usize) {
        naked_asm!("stp x29, x30, [sp, -16]!", "mov x29, sp", "bl {}", "ldp x29, x30, [sp], 16", "ret", sym middle);
    }

    /// Calls [`inner`].
    #[unsafe(naked)]
    pub(crate) extern "C" fn middle(_address: usize, _mark: usize) {
        naked_asm!("stp x29, x30, [sp, -16]!", "mov x29, sp", "bl {}", "ldp x29, x30, [sp], 16", "ret", sym inner);
    }

    /// Writes one byte to `_address`.
    #[unsafe(naked)]
    pub(crate) extern "C" fn inner(_address: usize, _mark: usize) {
        naked_asm!(
            "stp x29, x30, [sp, -16]!",
            "mov x29, sp",
            "strb w1, [x0]",
            "ldp x29, x30, [sp], 16",
            "ret"
        );
    }
}

pub(crate) use instructions::{
    PROLOGUE_BYTES, RETURN_OFFSET, divide, inner, jump, middle, outer, read, undefined, write,
};
