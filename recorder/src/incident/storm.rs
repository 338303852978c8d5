//! What is known of failures that make no dump.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Severity;

/// A storm: one failure again and again, of which the first opened an incident and the others were only counted.
///
/// Told once, when it is over: when the cooldown ends, when the failure makes its next dump, or when the recording ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// The incident that the first one opened.
    pub incident: Uuid,
    /// Name of its rule.
    pub rule: String,
    /// How grave it is.
    pub severity: Severity,
    /// Its sentence.
    pub summary: String,
    /// Equal for the same failure.
    pub fingerprint: String,
    /// Failures that were only counted; those inside the window of the incident are its followers instead.
    pub count: u64,
    /// The first of these, in nanoseconds since boot.
    pub first_boot_ns: u64,
    /// The last of these, in nanoseconds since boot.
    pub last_boot_ns: u64,
    /// The first of these, in nanoseconds since the Unix epoch.
    pub first_unix_ns: u64,
    /// The last of these, in nanoseconds since the Unix epoch.
    pub last_unix_ns: u64,
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.last_boot_ns.saturating_sub(self.first_boot_ns) as f64 / 1e9;
        write!(
            f,
            "{} more in {seconds:.1} s: {} ({})",
            self.count, self.summary, self.incident
        )
    }
}

/// Why an incident makes no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoDump {
    /// As many incidents are open as may be.
    TooManyOpen,
    /// As many dumps as the limit allows were made in the last hour.
    DumpsPerHour,
    /// Dumps have taken as many bytes as the limit allows in the last day.
    BytesPerDay,
}

impl NoDump {
    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::TooManyOpen => "as many incidents are open as may be",
            Self::DumpsPerHour => "limits.dumps_per_hour is reached",
            Self::BytesPerDay => "limits.bytes_per_day is reached",
        }
    }
}
