//! The probes, one module for each family of events.

mod block;
mod cgroup;
mod filesystem;
mod hardware;
mod oom;
#[cfg(feature = "untyped")]
mod oom_by_pid;
mod process;
mod signal;
mod task;
mod threads;
