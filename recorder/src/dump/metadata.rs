//! What a dump says of itself, in its metadata records and in the sidecar.
//!
//! Each metadata record has one key, `json`, whose value is one of these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{death::Deaths, event::ClockPair, incident::Incident};

/// Name of the metadata record that holds the [`Incident`].
pub const INCIDENT: &str = "recorder.incident";
/// Name of the metadata record that holds the [`Host`].
pub const HOST: &str = "recorder.host";
/// Name of the metadata record that holds the [`Clocks`].
pub const CLOCKS: &str = "recorder.clocks";
/// Name of the metadata record that holds the configuration, and under the key `sha256` the hash of that text.
pub const CONFIG: &str = "recorder.config";
/// Name of the metadata record that holds the [`Probe`]s.
pub const PROBES: &str = "recorder.probes";
/// Name of the metadata record that holds the [`Coverage`].
pub const COVERAGE: &str = "recorder.coverage";
/// Name of the metadata record that holds the [`LossLedger`].
pub const LOSS: &str = "recorder.loss";

/// Name of the metadata record that holds the [`Recovery`]; only a dump of a ring that was found has it.
pub const RECOVERY: &str = "recorder.recovery";

/// Name of the metadata record that holds the [`Refusal`]s; only a dump that could not be written where it belongs has it.
pub const DELIVERY: &str = "recorder.delivery";

/// A directory that a dump was to be written to first, and why it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The directory.
    pub directory: String,
    /// Why not.
    pub error: String,
}

/// The ring that a dump was made of by somebody else than the agent that wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Where it was.
    pub ring: String,
    /// Process id of the agent that wrote it.
    pub pid: u32,
    /// Boot that it was written in.
    pub boot_id: String,
    /// Whether that agent was still writing to it.
    pub in_use: bool,
    /// What was wrong with it, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub flaws: Vec<String>,
    /// How many more flaws there were.
    #[serde(default)]
    pub further_flaws: u64,
}

/// The host that recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub hostname: String,
    /// What operators call the place it stands in: "paris-1".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub environment: Option<String>,
    /// `/etc/machine-id`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub machine_id: Option<String>,
    /// Id of the boot.
    pub boot_id: String,
    /// Release of the kernel: "6.18.44-amd64".
    pub kernel_release: String,
    /// Architecture as the kernel names it: "x86_64".
    pub architecture: String,
    /// CPUs that may come online.
    pub cpus: u32,
    /// Version of the recorder.
    pub recorder_version: String,
}

/// Moments on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// When recording began.
    pub start: ClockPair,
    /// When the window was frozen. Every log time in the file is by this pair.
    pub freeze: ClockPair,
    /// Whether the kernel took the wall clock for synchronised when the dump was written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub synchronised: Option<bool>,
    /// The kernel's bound on how far the wall clock was wrong then: `maxerror` of `adjtimex`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_ns: Option<u64>,
}

/// A probe, and whether it records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Type of the events it records: "process.exit".
    pub event: String,
    /// The kernel point it is attached to.
    pub hook: String,
    /// Whether it records.
    pub state: ProbeState,
    /// Why it does not, or not as well as it might.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// Whether a probe records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// It does.
    Attached,
    /// It does, at a hook that says less.
    Fallback,
    /// It does not.
    Unavailable,
}

/// What span the dump covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Start of the window asked for, in nanoseconds since boot.
    pub window_start_boot_ns: u64,
    /// End of the window asked for, in nanoseconds since boot.
    pub window_end_boot_ns: u64,
    /// Every lane, in the order of its number.
    pub lanes: Vec<LaneCoverage>,
}

/// What of the window the dump has from one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCoverage {
    /// "failure", "lifecycle", "sample".
    pub lane: String,
    /// Records in the dump.
    pub records: u64,
    /// Whether every record of the window is here.
    pub complete: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub shortfalls: Vec<Shortfall>,
    /// Every CPU of which records are here.
    pub cpus: Vec<CpuCoverage>,
}

/// Why records of the window are not in the dump, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Shortfall {
    /// Recording began inside the window.
    NotRecording {
        /// When, in nanoseconds since boot.
        until_boot_ns: u64,
    },
    /// Newer records had taken the place of those up to this time.
    Evicted {
        /// In nanoseconds since boot.
        until_boot_ns: u64,
    },
    /// The window would have held more of the flight ring than it may.
    WindowBudget {
        /// Time up to which records are left out, in nanoseconds since boot.
        until_boot_ns: u64,
    },
    /// The dump would have been larger than it may.
    DumpSize {
        /// Records left out: the oldest.
        records: u64,
        /// Time of the first that is here, in nanoseconds since boot.
        until_boot_ns: u64,
    },
    /// Cgroups wrote too many records, of which these were left out, inside the window or around it: the loss ledger says
    /// whose.
    Throttled {
        /// How many.
        records: u64,
    },
    /// Something was left out to keep to the budget, inside the window or around it.
    Filtered(Filtered),
    /// Sequence numbers are missing: see the loss ledger.
    Lost {
        /// How many.
        records: u64,
    },
}

/// What was left out for a while so that recording costs no more than it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// "argv", "samples", "exec", "exit_detail".
    pub what: String,
    /// "lifecycle" or "sample".
    pub lane: String,
    /// Since when, in nanoseconds since boot.
    pub since_boot_ns: u64,
    /// Until when; absent if it still is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_boot_ns: Option<u64>,
    /// Records that are not there, or, of "argv" and "exit_detail", that are there without what was left out.
    pub records: u64,
}

impl Shortfall {
    /// Returns whether it is records that the flight ring gave up for newer ones.
    pub fn is_eviction(&self) -> bool {
        matches!(self, Self::Evicted { .. } | Self::WindowBudget { .. })
    }
}

/// What the dump has from one lane of one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCoverage {
    /// The CPU.
    pub cpu: u16,
    /// Records in the dump.
    pub records: u64,
    /// Time of the first, in nanoseconds since boot.
    pub first_boot_ns: u64,
    /// Time of the last, in nanoseconds since boot.
    pub last_boot_ns: u64,
    /// Lowest sequence number; the file's messages hold the low 32 bits of theirs.
    pub first_sequence: u64,
    /// Highest sequence number.
    pub last_sequence: u64,
    /// Sequence numbers between the two without a record.
    pub missing: u64,
}

/// What was lost, since recording began and inside the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossLedger {
    /// All of it in one word.
    pub verdict: Verdict,
    /// Every lane, in the order of its number.
    pub lanes: Vec<LaneLoss>,
    /// Cgroups of which records were left out, because they wrote too many, inside the window or around it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub throttled: Vec<Throttled>,
    /// What the kernel may have skipped inside the window.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub skipped: Vec<Skipped>,
}

/// How often the kernel did not run a probe because the same CPU was already inside it: what it would have recorded is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Name of its program: "process_exit".
    pub program: String,
    /// How often since then: when it was last looked at before the window, in nanoseconds since boot.
    pub since_boot_ns: u64,
    /// How often, until the dump was written.
    pub times: u64,
}

/// What was left out of one cgroup that wrote too many records to one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// "failure" or "lifecycle".
    pub lane: String,
    /// Path of the cgroup.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// Its id.
    pub cgroup_id: u64,
    /// Number of its hierarchy; 0 is the unified one.
    pub hierarchy: u32,
    /// Records that were left out.
    pub records: u64,
    /// Time of the first of them, in nanoseconds since boot.
    pub since_boot_ns: u64,
    /// Time of the last of them so far.
    pub until_boot_ns: u64,
}

/// Whether the dump has every record that was made inside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has.
    Complete,
    /// It has not: the coverage says what is missing.
    Lossy,
    /// Records were lost, perhaps inside the window; or the kernel's counters could not be read.
    Unknown,
}

/// What one lane lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneLoss {
    /// "failure", "lifecycle", "sample".
    pub lane: String,
    /// Records that the flight ring has refused since recording began.
    pub dropped: u64,
    /// Time of the newest record that the flight ring has overwritten, in nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evicted_until_boot_ns: Option<u64>,
    /// Every CPU that attempted a record.
    pub cpus: Vec<CpuLoss>,
}

/// What one lane lost on one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLoss {
    /// The CPU.
    pub cpu: u16,
    /// Records begun since recording began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempted: Option<u64>,
    /// Records for which the kernel ring had no room, since recording began, by type of event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub lost: BTreeMap<String, u64>,
    /// Records that were not begun since recording began, because their cgroup wrote too many, by type of event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub throttled: BTreeMap<String, u64>,
    /// Records that were not begun since recording began, to keep to the budget, by type of event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub filtered: BTreeMap<String, u64>,
    /// Records missing inside the window: between its first and its last, or after it up to the freeze.
    pub missing: u64,
    /// Records missing next to the window: perhaps inside it.
    pub missing_beside: u64,
}

/// The file beside a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Name of the dump's file, in the same directory.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Messages in it.
    pub events: u64,
    /// When the incident was triggered, by the wall clock: RFC 3339, UTC.
    pub time: String,
    /// The ledger's verdict.
    pub verdict: Verdict,
    /// The incident.
    pub incident: Incident,
    /// Who died in the window, and of what.
    #[serde(default)]
    pub deaths: Deaths,
    /// The host.
    pub host: Host,
    /// The clocks.
    pub clocks: Clocks,
    /// The coverage.
    pub coverage: Coverage,
    /// The loss ledger.
    pub loss: LossLedger,
    /// Of a copy: what it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub derived_from: Option<Derived>,
    /// Its place among the dumps of its directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<Chain>,
}

/// The place of a dump among those of its directory: each names the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Which chain: one for each directory.
    pub id: Uuid,
    /// The dump's number in it, from 1.
    pub number: u64,
    /// SHA-256 of the sidecar of the dump with the number before, in hex; `None` for the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<String>,
    /// Numbers of dumps that budgets or people have removed, first and last of each run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<(u64, u64)>,
}

/// Links the dumps of a directory, and signs what vouches for them.
pub trait Link {
    /// Returns the place of the next dump.
    fn next(&mut self) -> Chain;

    /// Signs the bytes of a sidecar; `None` without a key.
    fn sign(&self, sidecar: &[u8]) -> Option<Vec<u8>>;

    /// The dump with this sidecar is durable.
    fn linked(&mut self, sidecar: &[u8]);
}

/// What a copy of a dump was made of, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// Name of the file it was made of.
    pub file: String,
    /// SHA-256 of that file, in hex.
    pub sha256: String,
    /// What made it: "recorder 0.1.0 symbolize".
    pub by: String,
    /// Whether a sidecar vouched for that file.
    pub vouched_for: bool,
}
