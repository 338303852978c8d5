//! Incidents: which record starts one, which joins one, which is only counted.
//!
//! | rule | fires on | the same failure again (its fingerprint) |
//! |---|---|---|
//! | `fatal-signal` | `signal.fatal` with a signal that dumps core by default | program, signal, and where it was: see below |
//! | `oom-kill` | `oom.kill` | memory cgroup, victim |
//! | `io-error` | `io.error` | device, operation, status or errno |
//! | `writeback-error` | `fs.writeback_error` | device, errno |
//! | `task-hung` | `task.hung` | program |
//! | `watched-exit` | `process.exit` of a watched name, by a signal or with a code other than 0 | program, code or signal |
//! | `manual` | a person's request | every request |
//!
//! A program is known by the name of its thread with each run of digits taken as one, so that `worker-7` and `worker-12`
//! are the same. Where a fault was is the build ID and file offset of the innermost frame, which do not depend on where the
//! program was loaded; without a build ID, the address within its page. A signal from another process tells nothing about
//! where it hit: then it is the sender's name. SIGQUIT and SIGXCPU come at any time, so there it is nothing.
//!
//! ```text
//!  trigger ─► same failure or same process as an open incident? ─► joins it: a follower
//!     └─► same failure as one that made a dump less than a cooldown ago? ─► suppressed; the next dump says how many
//!           └─► as many open, or as many dumps made, as may be? ─► an incident without a dump, told once and then counted
//!                 └─► opens an incident
//! ```
//!
//! What was only counted is told as a [`Storm`] when it is over: how many, the first, the last.
//!
//! Every trigger ends at exactly one of these arrows and is counted there: see [`EngineStats`]. There is no clock here:
//! time is an argument, or a record's own.

mod config;
mod cooldown;
mod engine;
mod fingerprint;
mod limits;
mod outcome;
mod rule;
mod storm;
mod summary;
#[cfg(test)]
mod tests;
mod types;

pub use config::{EngineConfig, Limits, Span};
pub use cooldown::{FINGERPRINTS_MAX, UNDUMPED_MAX};
pub use engine::{Engine, Manual, OPEN_MAX, PROCESSES_MAX};
pub use outcome::{EngineStats, Outcome};
pub use rule::Rule;
pub use storm::{NoDump, Storm};
pub use types::{Incident, Severity, Subject, Trigger};
