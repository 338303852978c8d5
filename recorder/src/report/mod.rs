//! The post-mortem of a dump: what happened, to whom, why, and what the host was like, as a person would tell it.
//!
//! [`gather`] makes a [`Report`] in one reading of a dump, in bounded memory whatever the dump holds; [`markdown`] writes it
//! for people to complete, [`html`] as a page to look at. Serialised, the report is what `recorder report --json` prints. Strings in it are as the dump has them:
//! whoever shows them escapes them for where they are shown.

mod accounting;
mod class;
mod gather;
mod host;
mod html;
mod markdown;
mod sift;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::death::Deaths;
use crate::dump::{CollectorReport, Host, LossLedger, Verdict};
use crate::event::Body;
use crate::incident::Incident;

pub use accounting::{Accounting, Busy, Ended, Usage};
pub use class::{Cause, CauseClass, Flag};
pub use gather::{flags, gather};
pub use host::{MEASURES, Measure, Series};
pub use html::{STYLE, html, plain, policy};
pub use markdown::markdown;

/// How a report says what others know better: one event in one line, and what a dump covers and lacks.
pub struct Words {
    /// Says an event in one line.
    pub describe: fn(&Body) -> String,
    /// What of the window the dump has, a line for each lane that lacks something.
    pub coverage: Vec<String>,
    /// What is missing.
    pub missing: Option<String>,
}

/// A post-mortem. What is not known is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What happened, in one sentence.
    pub summary: String,
    /// When, by the wall clock: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What offsets count from, in nanoseconds since 1970: the trigger, or without one the first event.
    #[serde(skip)]
    pub origin_unix_ns: u64,
    /// The incident, as the dump has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// The host that recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// What it happened to.
    pub subject: Subject,
    /// What kind of problem it was, and why it seems so.
    pub cause: Cause,
    /// What else stands out: proposals, each with its reason.
    pub flags: Vec<Flag>,
    /// What matters, in the order of time.
    pub timeline: Vec<Moment>,
    /// Events of the dump that the timeline leaves out.
    pub timeline_left_out: u64,
    /// Who died, and of what.
    pub deaths: Deaths,
    /// What the host was like: before, at and after the trigger.
    pub series: Vec<Series>,
    /// The busiest processes at the last look before the trigger, as the sample has them.
    pub top: Vec<Busy>,
    /// When that look was, in nanoseconds from the trigger.
    pub top_offset_ns: i64,
    /// What processes that ended in the window had used, by user and by command.
    pub accounting: Accounting,
    /// What the collectors brought.
    pub evidence: Vec<CollectorReport>,
    /// What the dump covers and lacks.
    pub recording: Recording,
}

/// What an incident happened to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subject {
    /// "nginx\[812\]", "sda (8:0)".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The process, as events have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<serde_json::Value>,
    /// What it was running: path and arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its parent and the parents of that, as far as their start is in the dump: "bash\[77\]".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// When it started: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// What it used, if it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Ended>,
}

/// One line of the timeline: an event, or several of one kind in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Time from the trigger, in nanoseconds; negative before it. Without a trigger, from the first event.
    pub offset_ns: i64,
    /// Order of the event in the dump.
    pub order: u64,
    /// Type of the event.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// What happened.
    pub text: String,
    /// Order of the event behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    /// Whether it fired the incident.
    pub is_trigger: bool,
    /// Further events like it right after it.
    pub repeated: u64,
}

/// What a dump covers and lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recording {
    /// The file.
    pub file: String,
    /// Events in it that could be read.
    pub events: u64,
    /// Events of types that this version does not know.
    pub unknown: u64,
    /// Start of the window: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// End of the window: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The ledger's verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What of the window the dump has, in words.
    pub coverage: Vec<String>,
    /// What is missing, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Places where the file is damaged.
    pub damage: Vec<String>,
    /// The loss ledger, as the dump has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossLedger>,
}
