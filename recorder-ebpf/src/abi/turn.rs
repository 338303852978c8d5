//! Tracepoints at which a second program stands behind the first, where programs are preempted.

/// A tracepoint with two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Turns {
    /// `sched_process_exec`
    Exec = 0,
    /// `sched_process_exit`
    Exit = 1,
}

/// Number of such tracepoints.
pub const TURNS_MAX: usize = 2;
