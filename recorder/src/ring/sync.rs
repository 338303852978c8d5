//! The atomics of the arena and of those who read it: all that orders one after the other comes from here.
//!
//! `tests/models` has another module in this place. There every order of the steps of two threads is tried, and each ordering
//! here and there is shown to be needed.

pub(super) use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
