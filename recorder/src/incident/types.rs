//! What an incident is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One detected failure, and the window around it.
///
/// Serialised, it is the `incident` object of the sidecar and of the dump's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// UUIDv7: sorts by time.
    pub id: Uuid,
    /// Name of the rule that fired.
    pub rule: String,
    /// One sentence for people: "nginx[812] died of SIGSEGV at 0x0".
    pub summary: String,
    /// The record that fired it.
    pub trigger: Trigger,
    /// What it happened to.
    pub subject: Subject,
    /// Equal for incidents that are the same failure again.
    pub fingerprint: String,
    /// Why a person triggered it, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Start of the window asked for, in nanoseconds since boot.
    pub window_start_boot_ns: u64,
    /// End of the window asked for, in nanoseconds since boot.
    pub window_end_boot_ns: u64,
    /// Further triggers inside the window that joined this incident.
    pub followers: u64,
    /// Triggers with this fingerprint that made no dump since its last one, because of the cooldown.
    pub suppressed_before: u64,
}

/// The record that fired an incident: lane, CPU and sequence number name it in the dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Type of the event: "signal.fatal".
    #[serde(rename = "type")]
    pub event_type: String,
    /// When, in nanoseconds since boot.
    pub boot_ns: u64,
    /// CPU that recorded it.
    pub cpu: u16,
    /// Its sequence number on that CPU and lane.
    pub sequence: u64,
}

/// What an incident happened to. Fields that do not apply are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Start of the process, in nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_boot_ns: Option<u64>,
    /// Name of the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comm: Option<String>,
    /// Cgroup id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup_id: Option<u64>,
    /// Id of the memory cgroup that ran out, in the hierarchy of the memory controller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_cgroup_id: Option<u64>,
    /// Block device or file system, "major:minor".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
}
