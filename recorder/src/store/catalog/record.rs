//! An incident as the catalog tells it.

use std::path::{Path, PathBuf};

use rusqlite::Row;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::annotations::Note;

/// Whether an incident has its dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is there.
    Kept,
    /// It made way for others.
    Evicted,
    /// Somebody else removed it.
    Deleted,
    /// There never was one.
    Unwritten,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Kept, Self::Evicted, Self::Deleted, Self::Unwritten];

    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Evicted => "evicted",
            Self::Deleted => "deleted",
            Self::Unwritten => "unwritten",
        }
    }
}

/// An incident: with its dump, or with what is known of it without one. What is not known is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Its row.
    #[serde(skip)]
    pub(super) key: i64,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether its dump is there.
    pub state: State,
    /// Why its dump is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when its dump is not there: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
    /// When it was triggered: RFC 3339, UTC.
    pub time: String,
    /// The same, in nanoseconds since 1970.
    #[serde(skip)]
    pub unix_ns: i64,
    /// The dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Bytes that it takes or took, with what is beside it.
    pub bytes: u64,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What operators call the place it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Events in the dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Whether the dump has every record of its window: "complete", "lossy", "unknown".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// "low", "medium", "high", "critical".
    pub severity: String,
    /// What it happened to, in one word: a unit, a command, a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The systemd unit that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Name of its rule.
    #[serde(skip)]
    pub rule: Option<String>,
    /// One sentence for people.
    #[serde(skip)]
    pub summary: Option<String>,
    /// Equal for the same failure.
    #[serde(skip)]
    pub fingerprint: Option<String>,
    /// Further triggers that it stands for: those that joined it, and those that were only counted.
    pub repeats: u64,
    /// Whether it stays whatever the budgets say.
    pub pinned: bool,
    /// Its tags: those of its rule and those that people gave it.
    pub tags: Vec<String>,
    /// What people wrote about it.
    pub notes: Vec<Note>,
    /// The incident as the dump has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Value>,
}

/// An incident that has no dump and never had one.
#[derive(Clone, Copy, Debug)]
pub struct Unwritten<'a> {
    /// The incident, as a dump would have it.
    pub incident: &'a Value,
    /// When it was triggered, in nanoseconds since 1970.
    pub unix_ns: i64,
    /// The host.
    pub host: &'a str,
    /// What operators call the place it stands in.
    pub environment: Option<&'a str>,
    /// Why it has no dump.
    pub why: &'a str,
}

/// Triggers that made no incident of their own.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Name of the rule.
    pub rule: &'a str,
    /// Equal for the same failure.
    pub fingerprint: &'a str,
    /// Id of the incident that stands for them; empty if none does.
    pub incident: &'a str,
    /// One sentence for people.
    pub summary: &'a str,
    /// The first, in nanoseconds since 1970.
    pub first_unix_ns: i64,
    /// The last, in nanoseconds since 1970.
    pub last_unix_ns: i64,
    /// How many.
    pub count: u64,
}

/// The columns that a record is made from.
pub(super) const COLUMNS: &str = "id, state, why, gone_ns, time_ns, file, bytes, host, environment, events, verdict, \
     severity, subject, unit, rule, summary, fingerprint, pinned, tags, notes, incident, followers, \
     (SELECT total(count) FROM counted WHERE counted.incident = incident.id), suppressed, key";

impl Record {
    /// Makes a record of a row with [`COLUMNS`].
    pub(super) fn of(row: &Row<'_>, directory: &Path) -> rusqlite::Result<Self> {
        let state: String = row.get(1)?;
        let gone_ns: Option<i64> = row.get(3)?;
        let unix_ns = row.get(4)?;
        let file: Option<String> = row.get(5)?;
        let incident: Option<String> = row.get(20)?;
        let followers = unsigned(row.get(21)?);
        // More than a number of triggers can be is not counted.
        let counted = row.get::<_, f64>(22)? as u64;
        Ok(Self {
            key: row.get(24)?,
            id: row.get(0)?,
            state: State::ALL
                .into_iter()
                .find(|known| known.name() == state)
                .unwrap_or(State::Unwritten),
            why: row.get(2)?,
            gone: gone_ns.map(time),
            time: time(unix_ns),
            unix_ns,
            path: file.map(|file| directory.join(file)),
            bytes: unsigned(row.get(6)?),
            host: row.get(7)?,
            environment: row.get(8)?,
            events: row.get::<_, Option<i64>>(9)?.map(unsigned),
            verdict: row.get(10)?,
            severity: row.get(11)?,
            subject: row.get(12)?,
            unit: row.get(13)?,
            rule: row.get(14)?,
            summary: row.get(15)?,
            fingerprint: row.get(16)?,
            repeats: followers.saturating_add(counted.max(unsigned(row.get(23)?))),
            pinned: row.get(17)?,
            tags: parsed(&row.get::<_, String>(18)?),
            notes: parsed(&row.get::<_, String>(19)?),
            incident: incident.and_then(|text| serde_json::from_str(&text).ok()),
        })
    }

    /// Returns the last eight digits of its id, as lists show it.
    pub fn short_id(&self) -> Option<&str> {
        let id = self.id.as_deref()?;
        id.get(id.len().checked_sub(8)?..)
    }
}

fn parsed<T: serde::de::DeserializeOwned + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_default()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Returns a time as RFC 3339, in UTC.
pub(super) fn time(unix_ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(unix_ns.into());
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}
