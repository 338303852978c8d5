//! The two clocks: time since boot, which records carry, and the wall clock, which people read.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::event::ClockPair;

/// Returns the nanoseconds since boot, suspend included.
pub fn now_boot_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// Returns one moment on both clocks.
pub fn now_pair() -> ClockPair {
    // The wall clock between two looks at the other: an interruption moves their middle by half of itself at most.
    let before = now_boot_ns();
    let unix_ns = nanoseconds(clock_gettime(ClockId::Realtime));
    let after = now_boot_ns();
    ClockPair {
        boot_ns: before + (after - before) / 2,
        unix_ns,
    }
}

/// Returns whether the kernel takes the wall clock for synchronised, and its bound on how far it is wrong.
pub fn wall_clock_error() -> Option<(bool, u64)> {
    // SAFETY: all zeros is a valid timex: numbers only. No mode is set, so nothing is changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole, writable value that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    let micros = u64::try_from(timex.maxerror).unwrap_or(0);
    let is_synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    (state >= 0).then_some((is_synchronised, micros * 1_000))
}

fn nanoseconds(time: Timespec) -> u64 {
    // Neither clock is before its epoch on a host that runs.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + rest
}
