//! Names of the kernel's numbers. A number without a name stays a number.

mod block;
mod codes;
mod errno;
mod hardware;
mod registers;
mod signal;

pub(super) use block::{block_operation, block_status};
pub(super) use errno::errno;
pub(super) use hardware::{machine_check_part, memory_failure_result};
pub(super) use registers::registers;
pub use signal::signal_name;
pub(crate) use signal::standard_signal_name;
pub(super) use signal::{has_address, signal, signal_code};
