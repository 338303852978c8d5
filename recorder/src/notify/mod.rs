//! Notifications: who is told of incidents, and how.
//!
//! ```text
//! an incident opened ─┐                      ┌─► thread of a target ─► queue, 256 ─► exec, webhook, journal, syslog
//! its dump is durable ├─► Notifier::tell ────┤      (one each)          │  ▲ backoff
//! no dump of it       ┘   never waits        └─► …                      └──┘
//! ```
//!
//! A target that hangs or is away costs its own thread and nothing else. What its queue has no room for, and what it did
//! not take in [`Target::retry_for`], is given up, counted, and told with the next that it takes. The queue and its
//! schedule are in [`queue`], which knows no clock.

mod exec;
mod journal;
mod message;
mod queue;
mod run;
mod syslog;
mod target;
mod tls;
mod webhook;

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use crate::dump::Host;
use crate::incident::{Incident, Severity, Subject};

pub use message::Shape;
pub use run::{Notifier, Threads, test};
pub use target::{Kind, Occasion, SyslogFormat, Target};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// What happened.
    pub event: Occasion,
    /// The incident's id.
    pub incident: Uuid,
    /// The rule that fired.
    pub rule: String,
    /// How grave it is.
    pub severity: Severity,
    /// One sentence for people.
    pub summary: String,
    /// When it happened, by the wall clock: RFC 3339, UTC.
    pub time: String,
    /// What it happened to.
    pub subject: Subject,
    /// Equal for incidents that are the same failure again; absent before the window has ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// What the rule says it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Name of the host.
    pub host: String,
    /// Label of the host's environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The dump, once it is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump: Option<DumpOf>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who is told; whoever wants to hear of all, if nobody is named.
    #[serde(skip)]
    pub targets: Option<Vec<String>>,
}

/// A durable dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpOf {
    /// Its path on the host.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Events in it.
    pub events: u64,
}

impl Notice {
    /// Returns what there is to tell of an incident that happened at this time of the wall clock.
    pub fn of(event: Occasion, incident: &Incident, unix_ns: u64, host: &Host) -> Self {
        Self {
            event,
            incident: incident.id,
            rule: incident.rule.clone(),
            severity: incident.severity,
            summary: incident.summary.clone(),
            time: message::rfc3339(unix_ns),
            subject: incident.subject.clone(),
            fingerprint: incident.fingerprint.clone(),
            tags: incident.tags.clone(),
            host: host.hostname.clone(),
            environment: host.environment.clone(),
            dump: None,
            error: None,
            targets: incident.notify.clone(),
        }
    }

    /// Returns what a target is tried with.
    pub fn of_test(
        id: Uuid,
        unix_ns: u64,
        host: &str,
        environment: Option<&str>,
        subject: Subject,
    ) -> Self {
        Self {
            event: Occasion::Test,
            incident: id,
            rule: "test".to_owned(),
            severity: Severity::Low,
            summary: format!("a test of the notifications of {host}: nothing has happened"),
            time: message::rfc3339(unix_ns),
            subject,
            fingerprint: String::new(),
            tags: Vec::new(),
            host: host.to_owned(),
            environment: environment.map(str::to_owned),
            dump: None,
            error: None,
            targets: None,
        }
    }
}

/// Why a notification was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One sentence.
    why: String,
    /// Whether another attempt may do, and not before when.
    again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// After the usual time.
    Yes,
    /// After the time that the target wants.
    After(Duration),
    /// The target will never take it.
    No,
}

impl Failure {
    fn again(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            again: Again::Yes,
        }
    }
}

#[cfg(test)]
mod tests;
