//! What a dump says of itself, as the catalog keeps it.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::dump::{CLOCKS, Clocks, HOST, Host, INCIDENT, LOSS, LossLedger, Verdict};
use crate::incident::Severity;
use crate::read::Dump;
use crate::store::annotations::Annotations;
use crate::store::directory::{Entry, read_plain};

/// Longest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;

/// Names of the severities, the least first.
pub const SEVERITIES: [&str; 4] = [
    Severity::Low.name(),
    Severity::Medium.name(),
    Severity::High.name(),
    Severity::Critical.name(),
];

/// What is known of a dump or of an incident without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    pub(super) time_ns: i64,
    pub(super) host: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) events: Option<u64>,
    pub(super) verdict: Option<&'static str>,
    pub(super) incident: Option<Value>,
    pub(super) unit: Option<String>,
    pub(super) annotations: Annotations,
}

/// The part of a sidecar that the catalog keeps.
#[derive(Deserialize)]
struct Sidecar {
    time: String,
    events: u64,
    verdict: Verdict,
    incident: Value,
    host: HostName,
    #[serde(default)]
    deaths: Value,
}

#[derive(Deserialize)]
struct HostName {
    hostname: String,
    environment: Option<String>,
}

impl Details {
    /// Reads what is beside the dump, or without that the dump's own metadata.
    pub(super) fn of_dump(entry: &Entry) -> Self {
        let sidecar = read_plain(&entry.sidecar_path(), SIDECAR_BYTES_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Sidecar>(&bytes).ok());
        let mut details = match sidecar {
            Some(sidecar) => Self::of_sidecar(sidecar),
            None => Self::of_metadata(entry),
        };
        // Whoever made it unreadable may have pinned it: better a dump too many than one too few.
        details.annotations = Annotations::read(&entry.annotations_path())
            .unwrap_or_else(|_| Annotations::unreadable());
        details
    }

    fn of_sidecar(sidecar: Sidecar) -> Self {
        let unit = unit(&sidecar.incident, &sidecar.deaths);
        let time: Result<Timestamp, _> = sidecar.time.parse();
        Self {
            time_ns: saturating(time.map_or(0, Timestamp::as_nanosecond)),
            host: Some(sidecar.host.hostname),
            environment: sidecar.host.environment,
            events: Some(sidecar.events),
            verdict: Some(verdict_name(sidecar.verdict)),
            incident: Some(sidecar.incident),
            unit,
            annotations: Annotations::default(),
        }
    }

    fn of_metadata(entry: &Entry) -> Self {
        let age = entry.modified.duration_since(SystemTime::UNIX_EPOCH);
        let mut details = Self {
            time_ns: i64::try_from(age.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX),
            ..Self::default()
        };
        let Ok(dump) = Dump::open(&entry.path) else {
            return details;
        };
        if let Some(host) = dump.metadata::<Host>(HOST) {
            details.host = Some(host.hostname);
            details.environment = host.environment;
        }
        details.events = dump.stated_events();
        let loss = dump.metadata::<LossLedger>(LOSS);
        details.verdict = loss.map(|loss| verdict_name(loss.verdict));
        details.incident = dump.metadata(INCIDENT);
        let boot_ns = details.number("/trigger/boot_ns");
        if let Some((clocks, boot_ns)) = dump.metadata::<Clocks>(CLOCKS).zip(boot_ns) {
            details.time_ns = saturating(clocks.freeze.unix_ns_at(boot_ns).into());
        }
        details.unit = details
            .incident
            .as_ref()
            .and_then(|incident| unit(incident, &Value::Null));
        details
    }

    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.incident.as_ref()?.pointer(pointer)?.as_str()
    }

    pub(super) fn number(&self, pointer: &str) -> Option<u64> {
        self.incident.as_ref()?.pointer(pointer)?.as_u64()
    }

    pub(super) fn id(&self) -> Option<String> {
        let id: Uuid = self.text("/id")?.parse().ok()?;
        Some(id.to_string())
    }

    pub(super) fn severity(&self) -> &str {
        self.text("/severity").unwrap_or(Severity::default().name())
    }

    /// Returns what it happened to, in one word: its unit, else its command, else its device.
    pub(super) fn subject(&self) -> Option<String> {
        let cgroup = || Some(format!("cgroup {}", self.number("/subject/cgroup_id")?));
        self.unit
            .clone()
            .or_else(|| self.text("/subject/comm").map(str::to_owned))
            .or_else(|| self.text("/subject/device").map(str::to_owned))
            .or_else(cgroup)
    }

    /// Returns the tags that came with the incident.
    pub(super) fn tags(&self) -> Vec<String> {
        tags_of(self.incident.as_ref())
    }
}

/// Returns the tags that came with an incident.
pub(super) fn tags_of(incident: Option<&Value>) -> Vec<String> {
    let tags = incident.and_then(|incident| incident.get("tags")?.as_array());
    tags.into_iter()
        .flatten()
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect()
}

/// Returns the place of a severity; one that a newer version knows is in the middle.
pub(super) fn rank(severity: &str) -> i64 {
    let mut all = (0..).zip(SEVERITIES);
    let found = all.find(|(_, name)| *name == severity);
    found.map_or(1, |(rank, _)| rank)
}

/// Returns the unit of the subject: of itself, else of its death certificate.
fn unit(incident: &Value, deaths: &Value) -> Option<String> {
    let subject = incident.get("subject")?;
    if let Some(unit) = subject.get("unit").and_then(Value::as_str) {
        return Some(unit.to_owned());
    }
    let pid = subject.get("pid")?.as_u64()?;
    let start = subject.get("start_boot_ns").and_then(Value::as_u64);
    let certificates = deaths.get("certificates")?.as_array()?;
    let is_subject = |process: &&Value| {
        process.get("pid").and_then(Value::as_u64) == Some(pid)
            && process.get("start_boot_ns").and_then(Value::as_u64) == start
    };
    let mut dead = certificates
        .iter()
        .filter_map(|certificate| certificate.get("process"));
    let unit = dead.find(is_subject)?.get("unit")?.as_str()?;
    Some(unit.to_owned())
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Complete => "complete",
        Verdict::Lossy => "lossy",
        Verdict::Unknown => "unknown",
    }
}

fn saturating(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_unit_is_that_of_the_process_and_of_no_namesake() {
        let incident = json!({"subject": {"pid": 7, "start_boot_ns": 5, "comm": "x"}});
        let dead = |start: u64| json!({"certificates": [{"process": {"pid": 7, "start_boot_ns": start, "unit": "a.service"}}]});
        assert_eq!(unit(&incident, &dead(5)).as_deref(), Some("a.service"));
        assert_eq!(unit(&incident, &dead(4)), None);
        let own = json!({"subject": {"unit": "b.service"}});
        assert_eq!(unit(&own, &Value::Null).as_deref(), Some("b.service"));
    }

    #[test]
    fn severities_have_an_order_and_strangers_a_place_in_it() {
        let ranks: Vec<i64> = SEVERITIES.into_iter().map(rank).collect();
        assert_eq!(ranks, [0, 1, 2, 3]);
        assert_eq!(rank("apocalyptic"), rank(Details::default().severity()));
    }
}
