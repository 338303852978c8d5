//! What a dump becomes for other programs.
//!
//! Formats take events one by one and write to a buffer of the caller: no format holds a dump in memory.

mod jsonl;

pub use jsonl::{Envelope, JsonLines};
