//! Rules: which events make an incident.
//!
//! ```text
//!  recorder.toml ─► [RuleSpec]: as written ─► checked against the schema ─► [RuleSet]: by type of event
//!                                                                               │
//!  record ─► a rule for its type? ─► can it be true, by what the record itself says? ─► decode, name ─► when ─► count ─► fires
//! ```
//!
//! Most records end at the first arrow, and most of the others at the second: they cost a look at a byte or a few numbers.
//! A condition cannot run for long and cannot fail unseen: one that errs on an event does not match, and is counted.
//!
//! The rules of a set are tried in the order in which they are written, the built-in ones last. The first that fires on an
//! event decides what becomes of it; the others are named in the incident.

mod check;
mod count;
mod eval;
mod node;
mod raw;
mod rehearse;
mod set;
mod spec;
#[cfg(test)]
mod tests;

pub use check::{TEXT_MAX, is_late};
pub use count::GROUPS_MAX;
pub use rehearse::{Rehearsal, RehearsedIncident, RehearsedRule, Rehearsing};
pub use set::{Fired, RuleSet, RuleStats, Settings, TOPICS_MAX};
pub use spec::{Fault, Place, RuleSpec, TABLE, Time, add, builtin, read, read_text};

/// Returns how many rules there are, and how many of them can fire, in words.
pub fn counted(rules: u64, in_force: u64) -> String {
    match rules {
        1 => format!("1 rule, {in_force} in force"),
        _ => format!("{rules} rules, {in_force} in force"),
    }
}
