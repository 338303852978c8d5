//! The probes, one module for each family of events.

mod block;
mod cgroup;
mod filesystem;
mod oom;
mod process;
mod signal;
mod task;
mod threads;
