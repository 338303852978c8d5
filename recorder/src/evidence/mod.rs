//! Evidence: what is collected beside the events, once, when an incident opens.
//!
//! Nothing here can delay recording, and nothing can break a dump: each collector runs in a process of its own, below a
//! supervisor that ends it and all that it started; the dump waits for it until a deadline and no longer; and what became of
//! it, whatever that is, stands in the dump's metadata record `recorder.evidence`.
//!
//! | part | does |
//! |---|---|
//! | [`collector`] | what the configuration says of collectors |
//! | [`collect`] | the agent's side: threads, budgets, deadlines |
//! | [`supervise`] | the process around a collector |
//! | [`builtin`] | the collectors that are built in |
//!
//! What collectors do shows in the recording like all else; that one of them crashes is no incident: the probes mark the
//! descendants of the agent.

pub mod builtin;
pub mod collect;
pub mod collector;
mod environment;
pub mod job;
pub mod supervise;

pub use builtin::Builtin;
pub use collect::{Collection, Collectors};
pub use collector::{Collector, EvidenceConfig};
