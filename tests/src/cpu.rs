//! What the processor calls its registers.

/// Where it is.
pub const IP: &str = if IS_X86_64 { "rip" } else { "pc" };
/// Where the stack is.
pub const SP: &str = if IS_X86_64 { "rsp" } else { "sp" };
/// The first argument of a function.
pub const FIRST: &str = if IS_X86_64 { "rdi" } else { "x0" };
/// The second argument of a function.
pub const SECOND: &str = if IS_X86_64 { "rsi" } else { "x1" };
/// The number of a system call.
pub const CALL: &str = if IS_X86_64 { "orig_rax" } else { "x8" };

/// Whether this is x86-64; else it is aarch64.
pub const IS_X86_64: bool = cfg!(target_arch = "x86_64");
