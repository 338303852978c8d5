//! A notice as the JSON that its targets want.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Notice, Occasion};
use crate::incident::Severity;

/// How the body of a webhook is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The notice itself.
    #[default]
    Json,
    /// An event of PagerDuty's Events API v2. The dump joins the alert of its incident.
    Pagerduty,
    /// A CloudEvent 1.0 in structured mode.
    Cloudevents,
}

impl Shape {
    /// Returns the media type of the body.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Pagerduty => "application/json",
            Self::Cloudevents => "application/cloudevents+json",
        }
    }

    /// Returns the body.
    pub(super) fn body(self, notice: &Notice, lost_before: u64, secret: Option<&str>) -> Value {
        match self {
            Self::Json => plain(notice, lost_before),
            Self::Pagerduty => pagerduty(notice, lost_before, secret.unwrap_or_default()),
            Self::Cloudevents => cloudevent(notice, lost_before),
        }
    }
}

/// Returns the notice itself, and how many before it were given up.
pub(super) fn plain(notice: &Notice, lost_before: u64) -> Value {
    let mut value = json!(notice);
    if lost_before > 0 {
        value["lost_before"] = json!(lost_before);
    }
    value
}

fn pagerduty(notice: &Notice, lost_before: u64, routing_key: &str) -> Value {
    let severity = match notice.severity {
        Severity::Low => "info",
        Severity::Medium => "warning",
        Severity::High => "error",
        Severity::Critical => "critical",
    };
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        // Both notices of an incident are one alert.
        "dedup_key": notice.incident,
        "client": "recorder",
        "payload": {
            // At most 1024 characters are taken.
            "summary": sentence(notice).chars().take(1024).collect::<String>(),
            "source": notice.host,
            "severity": severity,
            "timestamp": notice.time,
            "component": notice.subject.comm,
            "group": notice.environment,
            "class": notice.rule,
            "custom_details": plain(notice, lost_before),
        },
    })
}

fn cloudevent(notice: &Notice, lost_before: u64) -> Value {
    json!({
        "specversion": "1.0",
        // With the source, unique: an incident is told of once on each occasion.
        "id": format!("{}-{}", notice.incident, notice.event.name()),
        "source": format!("/recorder/{}", uri_safe(&notice.host)),
        "type": format!("recorder.{}", notice.event.name()),
        "subject": notice.incident,
        "time": notice.time,
        "datacontenttype": "application/json",
        "data": plain(notice, lost_before),
    })
}

/// Replaces what a URI reference cannot have.
fn uri_safe(text: &str) -> String {
    let safe = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => character,
        _ => '_',
    };
    text.chars().map(safe).collect()
}

/// Returns the sentence for people, with what the occasion adds.
pub(super) fn sentence(notice: &Notice) -> String {
    match (notice.event, &notice.dump, &notice.error) {
        (Occasion::Dump, Some(dump), _) => format!("{}: dump {}", notice.summary, dump.path),
        (Occasion::DumpFailed, _, Some(error)) => format!("{}: no dump: {error}", notice.summary),
        _ => notice.summary.clone(),
    }
}

/// Writes a time of the wall clock.
pub(super) fn rfc3339(unix_ns: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix_ns));
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
