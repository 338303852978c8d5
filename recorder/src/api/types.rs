//! What the control socket takes and gives, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::budget::BudgetStatus;
use crate::dump::{Filtered, Probe, Throttled};
use crate::health::{Reason, Word};
use crate::reserve;
use crate::rules::RuleStats;

/// Whether the agent does what it is there for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub state: Word,
    /// Why it is not "recording".
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<Reason>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: Word::Recording,
            reasons: Vec::new(),
        }
    }
}

/// What the agent does, holds and counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whether it does what it is there for.
    #[serde(flatten)]
    pub health: Health,
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When recording began, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Where its dumps go.
    pub dumps_dir: String,
    /// What a dump holds before an incident, in nanoseconds.
    pub before_ns: u64,
    /// What a dump holds after an incident, in nanoseconds.
    pub after_ns: u64,
    /// How every event is recorded.
    pub probes: Vec<Probe>,
    /// How often the kernel ran none of a probe because the same CPU was already inside it.
    pub skipped: BTreeMap<String, u64>,
    /// The flight ring and the losses before it.
    pub lanes: Vec<LaneStatus>,
    /// Records taken into the flight ring, by type of event.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
    /// Cgroups of which records are left out, because they write too many, and the last of which records were.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub throttled: Vec<Throttled>,
    /// What recording costs and may cost.
    #[serde(default)]
    pub budget: BudgetStatus,
    /// What is left out to keep to the budget, and the last of what was.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub filtered: Vec<Filtered>,
    /// What became of everything that could have been an incident.
    pub incidents: IncidentStatus,
    /// What each rule has seen.
    #[serde(default)]
    pub rules: Vec<RuleStats>,
    /// How often the condition of a rule could not be decided.
    #[serde(default)]
    pub rule_errors: u64,
    /// The samples of the host and the kernel's log.
    #[serde(default)]
    pub samples: SampleStatus,
    /// What became of the dumps.
    pub dumps: DumpStatus,
    /// Who is told of incidents.
    #[serde(default)]
    pub notify: Vec<NotifyStatus>,
    /// Who reads events live.
    #[serde(default)]
    pub live: LiveStatus,
    /// What the agent itself uses.
    #[serde(default)]
    pub usage: Usage,
    /// The copy of the ring on disk, if one is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub twin: Option<TwinStatus>,
}

/// The copy of the ring on disk, by which its window outlives the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinStatus {
    /// Its file.
    pub path: String,
    /// Time from one flush to the next, in nanoseconds.
    pub interval_ns: u64,
    /// When the last flush that came to its end had begun: what was recorded by then is on the disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flushed_unix_ns: Option<u64>,
    /// How long the last flush took, in nanoseconds.
    pub took_ns: u64,
    /// Flushes that came to their end.
    pub flushes: u64,
    /// Bytes of records that they copied.
    pub bytes: u64,
    /// Flushes that failed.
    pub failures: u64,
    /// Why the last failed; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

/// A lane of the flight ring: `pushed = records + evicted + dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// "failure", "lifecycle", "sample".
    pub lane: String,
    /// Bytes of records that it has room for.
    pub capacity_bytes: u64,
    /// Bytes of records in it.
    pub used_bytes: u64,
    /// Bytes that windows keep from being overwritten.
    pub pinned_bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Records ever handed to it.
    pub pushed: u64,
    /// Records overwritten, by design.
    pub evicted: u64,
    /// Records it had no room for.
    pub dropped: u64,
    /// How far back it reaches, in nanoseconds; absent if it is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span_ns: Option<u64>,
    /// The kernel's side of it; empty for the sample lane, which the agent writes itself.
    pub cpus: Vec<CpuStatus>,
}

/// What the probes did for one lane on one CPU: `attempted = committed + lost + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStatus {
    /// The CPU.
    pub cpu: u16,
    /// Records begun.
    pub attempted: u64,
    /// Records taken from the kernel ring.
    pub committed: u64,
    /// Records for which the kernel ring had no room.
    pub lost: u64,
    /// The same, by type of event.
    pub lost_by_kind: BTreeMap<String, u64>,
    /// Records that were not begun, because their cgroup wrote too many, by type of event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub throttled_by_kind: BTreeMap<String, u64>,
    /// Records that were not begun, to keep to the budget, by type of event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub filtered_by_kind: BTreeMap<String, u64>,
    /// Records on their way.
    pub in_flight: u64,
}

/// What became of everything that could have been an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentStatus {
    /// Open now.
    pub open: u64,
    /// Opened ever: each makes a dump.
    pub opened: u64,
    /// Joined one that was open.
    pub joined: u64,
    /// The same failure again inside its cooldown.
    pub suppressed: u64,
    /// Too many were open.
    pub overflow: u64,
    /// No dump, because of `limits.dumps_per_hour` or `limits.bytes_per_day`.
    #[serde(default)]
    pub limited: u64,
    /// News of incidents that nobody took in time.
    #[serde(default)]
    pub news_dropped: u64,
    /// Opened, by rule.
    #[serde(default)]
    pub opened_by_rule: BTreeMap<String, u64>,
}

/// The samples of the host and the kernel's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleStatus {
    /// Time from one sample to the next, in nanoseconds; 0 if none are taken.
    pub interval_ns: u64,
    /// Samples of the host taken.
    pub taken: u64,
    /// Samples of its processes taken.
    pub processes: u64,
    /// Not taken: the one before took too long, or the recorder did not run.
    pub missed: u64,
    /// Taken, and no room for them.
    pub dropped: u64,
    /// CPU time that they took, in nanoseconds.
    pub cpu_ns: u64,
    /// Lines of the kernel's log.
    pub log_lines: u64,
    /// Lines that a pattern of `--kernel-log-ignore` left out.
    pub log_filtered: u64,
    /// Lines that the kernel overwrote before they were read.
    pub log_lost: u64,
    /// Lines left out because there were too many in too short a time.
    pub log_left_out: u64,
}

/// What became of the dumps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpStatus {
    /// Written.
    pub written: u64,
    /// Not written.
    pub failed: u64,
    /// Path of the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<String>,
    /// Why the last that failed did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    /// Kept whatever the budgets say.
    #[serde(default)]
    pub pinned: u64,
    /// Bytes that these take.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Made way for others since recording began.
    #[serde(default)]
    pub evicted: u64,
    /// What somebody should do something about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
    /// Of a last dump that is not where dumps belong: where it is, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elsewhere: Option<String>,
    /// Not written since the last that was.
    #[serde(default)]
    pub failed_in_a_row: u64,
    /// When the last was durable, in nanoseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_unix_ns: Option<u64>,
    /// Windows that wait to be written.
    #[serde(default)]
    pub waiting: u64,
    /// How long writing took.
    #[serde(default)]
    pub durations: Durations,
    /// What their directory holds and may hold; absent if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub space: Option<SpaceStatus>,
    /// Memory that is set aside for writing them.
    #[serde(default)]
    pub reserve: reserve::Usage,
}

/// Upper bounds of [`Durations::counts`], in milliseconds.
pub const DURATION_BOUNDS_MS: [u64; 8] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000];

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// All together, in nanoseconds.
    pub sum_ns: u64,
    /// How many took no longer than each of [`DURATION_BOUNDS_MS`], and longer than the one before; the rest comes last.
    pub counts: [u64; DURATION_BOUNDS_MS.len() + 1],
}

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns = self.sum_ns.saturating_add(ns);
        let bucket = DURATION_BOUNDS_MS.partition_point(|bound| bound * 1_000_000 < ns);
        self.counts[bucket] += 1;
    }
}

/// What the directory of dumps holds and may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Dumps in it.
    pub dumps: u64,
    /// Most dumps.
    pub max_dumps: u64,
    /// Bytes of them.
    pub used_bytes: u64,
    /// Most bytes of them.
    pub max_bytes: u64,
    /// Free on their file system.
    pub free_bytes: u64,
    /// To stay free there.
    pub keep_free_bytes: u64,
}

/// What became of the notifications to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyStatus {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Waiting, also for another attempt.
    pub waiting: u64,
    /// Delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts that failed since the last that did not.
    pub failures_in_a_row: u32,
    /// Refused for good.
    pub refused: u64,
    /// Not taken into its queue: it was full.
    pub dropped: u64,
    /// Given up after too long a time.
    pub expired: u64,
    /// Why the last attempt that failed did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

/// What became of live events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// Readers now.
    pub readers: u64,
    /// Events given to readers.
    pub delivered: u64,
    /// Events for which a reader was too slow.
    pub lost: u64,
    /// Records that no reader could be given: the host was too busy.
    pub missed: u64,
}

/// What the agent itself uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory, in bytes; the flight ring is in it.
    pub resident_bytes: u64,
}

/// What a probe costs while it is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramUse {
    /// The program.
    pub program: String,
    /// Runs during the measurement.
    pub runs: u64,
    /// Time of these, in nanoseconds.
    pub run_ns: u64,
    /// Runs in all measurements since the start.
    pub runs_total: u64,
    /// Time of these, in nanoseconds.
    pub run_ns_total: u64,
}

/// What the probes cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// How long was measured, in nanoseconds.
    pub measured_ns: u64,
    /// Every program.
    pub programs: Vec<ProgramUse>,
}

/// Asks for a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerRequest {
    /// Why; it stands in the dump.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// A process that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
}

/// The incident that a request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerReply {
    /// Its id.
    pub incident: Uuid,
    /// Whether an earlier request had opened it.
    pub joined: bool,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// Rules in force.
    pub rules: u64,
    /// Rules that there are, with those that are off or can never match.
    #[serde(default)]
    pub configured: u64,
    /// Settings that have changed and that only a restart takes.
    pub needs_restart: Vec<String>,
}

/// Asks what rules would have done with what the ring holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearseRequest {
    /// Rules as TOML, beside the built-in ones; absent for those in the agent's configuration files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rules: Option<String>,
}

/// Why a request was not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence.
    pub error: String,
}
