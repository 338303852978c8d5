//! What becomes of triggers.

use uuid::Uuid;

use super::{Incident, NoDump};

/// What became of all triggers: `triggers = opened + joined + suppressed + overflow + limited`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Incidents open now.
    pub open: u64,
    /// Times a rule fired.
    pub triggers_total: u64,
    /// Triggers that opened an incident.
    pub opened_total: u64,
    /// Triggers that joined an open incident.
    pub joined_total: u64,
    /// Triggers inside the cooldown of their failure.
    pub suppressed_total: u64,
    /// Triggers that found [`OPEN_MAX`](super::OPEN_MAX) incidents open.
    pub overflow_total: u64,
    /// Triggers that made no dump because of a [`Limits`](super::Limits).
    pub limited_total: u64,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It opened an incident, which makes a dump.
    Opened(Box<Incident>),
    /// It is an incident that makes no dump, and the first of its kind that does not.
    Undumped(Box<Incident>, NoDump),
    /// It joined the open incident with this id.
    Joined(Uuid),
    /// It happened inside the cooldown of its failure.
    Suppressed,
    /// It is an incident that makes no dump, and was only counted.
    Counted(NoDump),
}
