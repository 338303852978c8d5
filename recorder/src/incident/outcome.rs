//! What becomes of triggers.

use uuid::Uuid;

use super::{Rule, Subject, Trigger};

/// What became of all triggers: `triggers = opened + joined + suppressed + overflow`, always.
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
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It opened an incident.
    Opened(Opened),
    /// It joined the open incident with this id.
    Joined(Uuid),
    /// It happened inside the cooldown of its failure.
    Suppressed,
    /// As many incidents as may be are open.
    Overflow,
}

/// An incident that has just opened: what is to be frozen, and said, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: Uuid,
    /// The rule that fired.
    pub rule: Rule,
    /// One sentence for people.
    pub summary: String,
    /// The record that fired it.
    pub trigger: Trigger,
    /// What it happened to.
    pub subject: Subject,
    /// Start of its window, in nanoseconds since boot.
    pub window_start_boot_ns: u64,
    /// End of its window, in nanoseconds since boot.
    pub window_end_boot_ns: u64,
}
