//! Incidents: which record starts one, which joins one, which is only counted.
//!
//! A rule fires on an event: see [`rules`](crate::rules). The same failure again, by its fingerprint, is that of the same
//! rule with
//!
//! | event | the same |
//! |---|---|
//! | any, and the rule groups | values that it groups by |
//! | `signal.fatal` | program, signal, and where it was: see below |
//! | `oom.kill` | memory cgroup, victim |
//! | `io.error` | device, operation, status |
//! | `fs.writeback_error` | device, errno |
//! | `hw.memory_failure` | what became of the page |
//! | `hw.machine_check` | CPU, bank, part |
//! | `process.exit` | program, code or signal |
//! | `process.exec`, `signal.sent`, `task.hung` | program |
//! | another | nothing more |
//! | a person's request | nothing more |
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
mod storm;
mod summary;
#[cfg(test)]
mod tests;
mod types;

/// Name of the rule that a person's request is.
pub const MANUAL: &str = "manual";

pub use config::{Limits, Span};
pub use cooldown::{FINGERPRINTS_MAX, UNDUMPED_MAX};
pub use engine::{Engine, Manual, OPEN_MAX, PROCESSES_MAX};
pub use outcome::{EngineStats, Outcome};
pub use storm::{NoDump, Storm};
pub(crate) use summary::{machine_check, memory_failure};
pub use types::{Incident, NamedSubject, Severity, Subject, Trigger};
