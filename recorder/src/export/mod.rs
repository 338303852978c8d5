//! What a dump becomes for other programs.
//!
//! Formats of events take them one by one and write to a buffer of the caller: none holds a dump in memory.

mod core;
mod jsonl;

pub use core::{CoreError, core};
pub use jsonl::{Envelope, JsonLines};
