//! What an incident is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How grave an incident is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth to know.
    Low,
    /// Something does not work as it should.
    #[default]
    Medium,
    /// Something has failed.
    High,
    /// Data is lost, or the host is about to fail.
    Critical,
}

impl Severity {
    /// Every severity, the least first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Returns its name: "high".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// One detected failure, and the window around it.
///
/// Serialised, it is the `incident` object of the sidecar and of the dump's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// UUIDv7: sorts by time.
    pub id: Uuid,
    /// Name of the rule that fired.
    pub rule: String,
    /// How grave it is.
    #[serde(default)]
    pub severity: Severity,
    /// What its rule says it is about.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// Other rules that fired on the same record.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<String>,
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
    /// Collectors that run for it; all that are for its rule, if its rule names none. Not kept.
    #[serde(skip)]
    pub collectors: Option<Vec<String>>,
    /// Who is told of it; whoever is told of all, if its rule names none. Not kept.
    #[serde(skip)]
    pub notify: Option<Vec<String>>,
}

/// The record that fired an incident: lane, CPU and sequence number name it in the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Who it was, beyond what the record that fired says.
    #[serde(flatten)]
    pub named: Box<NamedSubject>,
}

/// What is looked up about a subject when its dump is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSubject {
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    /// GNU build ID of the executable, in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe_build_id: Option<String>,
    /// Path of the cgroup; of the one that ran out of memory, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// systemd unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Container id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_id: Option<String>,
    /// What runs the container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runtime: Option<String>,
    /// Kubernetes pod uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod_uid: Option<String>,
}
