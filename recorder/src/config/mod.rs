//! Where the agent keeps its files, and how it is to record.
//!
//! [`RecordConfig`] is the one configuration: complete and validated. The command line makes it, and [`file`] puts below the
//! flags what the configuration files say.

mod file;
mod references;
mod settings;
mod socket;
mod suggest;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args};
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::budget::{Contract, Share};
use crate::evidence::{Builtin, Collector};

use crate::incident::Span;
use crate::notify::Target;
use crate::rules::{self, RuleSpec};

pub use file::{ConfigError, ConfigFile, Loaded, Origin};
pub(crate) use file::{explained, line as line_of};
pub use references::Names;
pub use settings::{SETTINGS, Setting};
pub use socket::{SocketMode, group_id};
pub use suggest::{nearest, no_such};

use crate::sample::NOISE;

/// The two directories that the agent and its readers share.
#[derive(Args, Clone, Debug)]
pub struct Paths {
    /// Directory that keeps the dumps
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "RECORDER_STATE_DIR",
        default_value = "/var/lib/recorder"
    )]
    pub state_dir: PathBuf,
    /// Directory of the control socket and the flight ring
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "RECORDER_RUN_DIR",
        default_value = "/run/recorder"
    )]
    pub run_dir: PathBuf,
}

impl Paths {
    /// Returns the directory of the dumps.
    pub fn dumps(&self) -> PathBuf {
        self.state_dir.join("dumps")
    }

    /// Returns the socket that the agent answers on.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// Returns the file of the flight ring.
    pub fn ring(&self) -> PathBuf {
        self.run_dir.join("ring")
    }

    /// Returns the file of its copy on disk.
    pub fn twin(&self) -> PathBuf {
        self.state_dir.join("ring")
    }
}

/// How to record.
#[derive(Args, Clone, Debug, Serialize)]
pub struct RecordConfig {
    /// How much before an incident a dump holds
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    #[serde(rename = "before_ns", serialize_with = "nanoseconds")]
    pub before: Duration,
    /// How much after an incident a dump holds
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    #[serde(rename = "after_ns", serialize_with = "nanoseconds")]
    pub after: Duration,
    /// Other window of one rule: "oom-kill=5m/10s" for 5 min before and 10 s after (may be given more than once)
    #[arg(long, value_name = "RULE=BEFORE/AFTER")]
    pub rule_window: Vec<RuleWindow>,
    /// How long the same failure makes no further dump; it is counted
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    #[serde(rename = "cooldown_ns", serialize_with = "nanoseconds")]
    pub cooldown: Duration,
    /// Most dumps in an hour; 0 for any number. Incidents beyond it are reported without a dump
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub limit_dumps_per_hour: u64,
    /// Bytes of dumps in a day after which no further one begins; 0 for any number
    #[arg(long, value_name = "SIZE", default_value = "8GiB")]
    pub limit_bytes_per_day: Bytes,
    /// Records of failures a second from one cgroup, beyond the first ones of a flood; 0 for any number. What is left out is
    /// counted
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit_failures_per_second: u64,
    /// Records of processes a second from one cgroup, while they come faster than they are taken; 0 for any number. What is
    /// left out is counted
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit_processes_per_second: u64,
    /// Name of a process whose abnormal exit is an incident too (may be given more than once)
    #[arg(long, value_name = "NAME")]
    pub watch: Vec<String>,
    /// Memory for records of failures
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub failure_bytes: Bytes,
    /// Memory for records of processes that start and end
    #[arg(long, value_name = "SIZE", default_value = "48MiB")]
    pub lifecycle_bytes: Bytes,
    /// Memory for samples of the host and the recorder's own notes
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub sample_bytes: Bytes,
    /// Oldest record that the ring keeps, however much room there is
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(rename = "max_age_ns", serialize_with = "optional_nanoseconds")]
    pub max_age: Option<Duration>,
    /// Time from one copy of what is new in the ring to disk to the next, so that the last minutes outlive a crash of the kernel;
    /// 0s for none
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    #[serde(rename = "ring_sync_ns", serialize_with = "nanoseconds")]
    pub ring_sync: Duration,
    /// Most CPU time that recording takes, as a share of one core: the probes, and the threads that record; 0% for any. What
    /// would take more makes the recorder leave out, one after the other, the arguments of programs, samples, programs that
    /// are executed, and what processes used; never failures
    #[arg(long, value_name = "PERCENT", default_value = "25%")]
    pub budget_cpu: Share,
    /// Most time in nanoseconds that a run of the probe of programs that are executed, or of that of processes that end, takes
    /// on average; 0 for any
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub budget_probe_ns: u64,
    /// Most memory that the recorder takes beside its ring; 0 for any
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub budget_memory: Bytes,
    /// Time from one sample of the host to the next; 0s for none
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    #[serde(rename = "sample_interval_ns", serialize_with = "nanoseconds")]
    pub sample_interval: Duration,
    /// Pattern of kernel log lines that are noise: "*" stands for any text (may be given more than once, instead of the
    /// default ones). Lines of level err and graver ones are always kept
    #[arg(long, value_name = "PATTERN", default_values = NOISE)]
    pub kernel_log_ignore: Vec<String>,
    /// Largest dump; what is too much is cut at its oldest end, and said so
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub max_dump_bytes: Bytes,
    /// Most that all dumps take; the oldest go first, the newest never
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub dumps_max_bytes: Bytes,
    /// Most dumps that are kept
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub dumps_max_count: u64,
    /// Oldest dump that is kept: "720h", "30d"
    #[arg(long, value_name = "TIME", value_parser = duration)]
    #[serde(rename = "dumps_max_age_ns", serialize_with = "optional_nanoseconds")]
    pub dumps_max_age: Option<Duration>,
    /// Free space that dumps leave on their file system
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub dumps_keep_free: Bytes,
    /// The same in percent of the file system; whichever is more counts
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    pub dumps_keep_free_percent: u64,
    /// Directory, as a state directory, that a dump is written to if it cannot be written where it belongs: "run" for the run
    /// directory, "none" for none (may be given more than once, in this order)
    #[arg(long, value_name = "DIR", default_value = "run")]
    pub dumps_fallback: Vec<String>,
    /// File with the Ed25519 key that signs what vouches for a dump; only its owner may read it. `recorder keygen` makes one
    #[arg(long, value_name = "FILE")]
    pub dumps_sign_key: Option<String>,
    /// Whether evidence is collected beside the events when an incident opens
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub evidence: bool,
    /// Built-in collectors that run; "none" for none
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_values_t = Builtin::ALL.map(|builtin| builtin.name().to_owned())
    )]
    pub evidence_builtin: Vec<String>,
    /// Most evidence for one incident; never more than half of a dump
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub evidence_max_bytes: Bytes,
    /// How long a dump waits for evidence after its window has ended
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    #[serde(rename = "evidence_grace_ns", serialize_with = "nanoseconds")]
    pub evidence_grace: Duration,
    /// Most collectors that run at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub evidence_parallel: u64,
    /// Collectors of one's own: only files define them.
    #[arg(skip)]
    pub collectors: Vec<Collector>,
    /// Rules: only files define them, beside the built-in ones.
    #[arg(skip = rules::builtin())]
    pub rules: Vec<RuleSpec>,
    /// Who is told of incidents: only files define them.
    #[arg(skip)]
    pub notify: Vec<Target>,
    /// What this place is called, in every dump: "paris-1"
    #[arg(long, value_name = "NAME", env = "RECORDER_ENVIRONMENT")]
    pub environment: Option<String>,
    /// Word in the name of an option or variable whose value is hidden in the arguments of programs, beside the built-in
    /// ones: password, token, secret, key and their like (may be given more than once)
    #[arg(long, value_name = "WORD")]
    pub redact_word: Vec<String>,
    /// Hide only what --redact-word says
    #[arg(long)]
    pub no_default_redaction: bool,
    /// Mode of the control socket [default: 0600, and 0660 with --socket-group]; never for others
    #[arg(long, value_name = "MODE")]
    pub socket_mode: Option<SocketMode>,
    /// Group that owns the control socket: name or number
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Address and port on which /metrics is answered to everybody, like 127.0.0.1:9464; nothing listens unless it is given
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Leave out what was on the stack of a crash: registers, frames and mappings stay, but what has no frame pointers
    /// cannot be unwound, and a core dump has no stack
    #[arg(long)]
    pub no_stack_memory: bool,
}

/// Two settings that contradict each other, or one that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Contradiction(String);

impl RecordConfig {
    /// Returns what holds for every rule that does not say otherwise.
    pub fn rule_settings(&self) -> rules::Settings {
        let span = |before, after| Span {
            before_ns: saturating_ns(before),
            after_ns: saturating_ns(after),
        };
        let of_rule =
            |window: &RuleWindow| (window.rule.clone(), span(window.before, window.after));
        rules::Settings {
            span: span(self.before, self.after),
            spans: self.rule_window.iter().map(of_rule).collect(),
            cooldown_ns: saturating_ns(self.cooldown),
            watch: self.watch.clone(),
        }
    }

    /// Returns what recording may cost.
    pub fn contract(&self) -> Contract {
        Contract {
            cpu: self.budget_cpu,
            probe_ns: self.budget_probe_ns,
            memory_bytes: self.budget_memory.0,
        }
    }

    /// Returns how far back the window of any rule reaches.
    pub fn longest_before(&self) -> Duration {
        let written = self.rules.iter().filter_map(|rule| Some(rule.before?.0));
        let of_rules = self
            .rule_window
            .iter()
            .map(|window| window.before)
            .chain(written);
        of_rules.fold(self.before, Duration::max)
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    ///
    /// The first that cannot be, with the flag to change.
    pub fn validate(&self) -> Result<(), Contradiction> {
        let fail = |text: String| Err(Contradiction(text));
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let of_rules = self
            .rule_window
            .iter()
            .flat_map(|window| [window.before, window.after].map(|span| ("--rule-window", span)));
        let spans = [("--before", self.before), ("--after", self.after)];
        for (flag, value) in spans.into_iter().chain(of_rules) {
            if value > DAY {
                return fail(format!("{flag} {}: at most one day", Seconds(value)));
            }
        }
        if let Some(max_age) = self.max_age
            && max_age < self.longest_before()
        {
            return fail(format!(
                "--max-age {}: less than the {} that a window reaches back",
                Seconds(max_age),
                Seconds(self.longest_before())
            ));
        }
        if !self.sample_interval.is_zero()
            && !(SAMPLE_INTERVAL_MIN..=SAMPLE_INTERVAL_MAX).contains(&self.sample_interval)
        {
            return fail(format!(
                "--sample-interval {}: must be 0 s, or between {} and {}",
                Seconds(self.sample_interval),
                Seconds(SAMPLE_INTERVAL_MIN),
                Seconds(SAMPLE_INTERVAL_MAX)
            ));
        }
        if !self.ring_sync.is_zero() && !(RING_SYNC_MIN..=RING_SYNC_MAX).contains(&self.ring_sync) {
            return fail(format!(
                "--ring-sync {}: must be 0 s, or between {} and {}",
                Seconds(self.ring_sync),
                Seconds(RING_SYNC_MIN),
                Seconds(RING_SYNC_MAX)
            ));
        }
        let lanes = [
            ("--failure-bytes", self.failure_bytes),
            ("--lifecycle-bytes", self.lifecycle_bytes),
            ("--sample-bytes", self.sample_bytes),
        ];
        for (flag, value) in lanes {
            if value < LANE_MIN || value > LANE_MAX {
                return fail(format!(
                    "{flag} {value}: must be between {LANE_MIN} and {LANE_MAX}"
                ));
            }
        }
        if (1..MEMORY_MIN.0).contains(&self.budget_memory.0) {
            return fail(format!(
                "--budget-memory {}: must be 0, or at least {MEMORY_MIN}",
                self.budget_memory
            ));
        }
        if (1..PROBE_NS_MIN).contains(&self.budget_probe_ns) {
            return fail(format!(
                "--budget-probe-ns {}: must be 0, or at least {PROBE_NS_MIN}, for measuring takes that",
                self.budget_probe_ns
            ));
        }
        if self.max_dump_bytes < DUMP_MIN {
            return fail(format!(
                "--max-dump-bytes {}: must be at least {DUMP_MIN}",
                self.max_dump_bytes
            ));
        }
        // The newest dump stays while the next is written.
        if self.dumps_max_bytes.0 / 2 < self.max_dump_bytes.0 {
            return fail(format!(
                "--dumps-max-bytes {} cannot hold two dumps of --max-dump-bytes {}: raise the first or lower the second",
                self.dumps_max_bytes, self.max_dump_bytes
            ));
        }
        if self.limit_bytes_per_day.0 > 0 && self.limit_bytes_per_day < self.max_dump_bytes {
            return fail(format!(
                "--limit-bytes-per-day {} is less than one dump of --max-dump-bytes {}: raise the first or lower the second",
                self.limit_bytes_per_day, self.max_dump_bytes
            ));
        }
        if self.dumps_keep_free_percent > PERCENT_MAX {
            return fail(format!(
                "--dumps-keep-free-percent {}: at most {PERCENT_MAX}",
                self.dumps_keep_free_percent
            ));
        }
        if let Some(age) = self.dumps_max_age
            && age < self.longest_before() + self.after
        {
            return fail(format!(
                "--dumps-max-age {}: dumps would be gone before they are written",
                Seconds(age)
            ));
        }
        if self.dumps_max_count == 0 {
            return fail("--dumps-max-count 0: at least one dump is kept".into());
        }
        self.validate_evidence().map_err(Contradiction)?;
        if self.notify.len() > TARGETS_MAX {
            return fail(format!("[[notify]]: at most {TARGETS_MAX} targets"));
        }
        if let Some(group) = &self.socket_group
            && let Err(error) = group_id(group)
        {
            return fail(format!("--socket-group {group}: {error}"));
        }
        for name in &self.watch {
            if name.is_empty() || name.len() > COMM_MAX {
                return fail(format!(
                    "--watch {name:?}: the kernel's process names have 1 to {COMM_MAX} bytes"
                ));
            }
        }
        Ok(())
    }
}

/// The window of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleWindow {
    /// The rule.
    pub rule: String,
    /// How much before an incident.
    #[serde(rename = "before_ns", serialize_with = "nanoseconds")]
    pub before: Duration,
    /// How much after an incident.
    #[serde(rename = "after_ns", serialize_with = "nanoseconds")]
    pub after: Duration,
}

impl FromStr for RuleWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('=')
            .and_then(|(rule, spans)| Some((rule, spans.split_once('/')?)));
        let Some((name, (before, after))) = parts else {
            return Err("write a rule and its window: \"oom-kill=5m/10s\"".into());
        };
        Ok(Self {
            rule: name.to_owned(),
            before: duration(before)?,
            after: duration(after)?,
        })
    }
}

impl fmt::Display for RuleWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before.as_secs_f64(), self.after.as_secs_f64());
        write!(f, "{}={before}s/{after}s", self.rule)
    }
}

impl RecordConfig {
    fn validate_evidence(&self) -> Result<(), String> {
        let names = Builtin::ALL.map(Builtin::name);
        let is_none = |name: &String| name == NO_COLLECTOR && self.evidence_builtin.len() == 1;
        for name in &self.evidence_builtin {
            if !is_none(name) && !names.contains(&name.as_str()) {
                let there = names.join(", ");
                return Err(format!("--evidence-builtin {name:?}: there are {there}"));
            }
        }
        if !(1..=PARALLEL_MAX).contains(&self.evidence_parallel) {
            return Err(format!(
                "--evidence-parallel {}: must be between 1 and {PARALLEL_MAX}",
                self.evidence_parallel
            ));
        }
        if self.evidence_grace > GRACE_MAX {
            return Err(format!(
                "--evidence-grace {}: at most {}, for other dumps wait as long",
                Seconds(self.evidence_grace),
                Seconds(GRACE_MAX)
            ));
        }
        for collector in &self.collectors {
            if collector.max_bytes > self.evidence_max_bytes {
                return Err(format!(
                    "collector {:?}: its max_bytes {} are more than --evidence-max-bytes {} for all",
                    collector.name, collector.max_bytes, self.evidence_max_bytes
                ));
            }
        }
        Ok(())
    }
}

/// Least memory that the recorder may be held to: no agent takes less.
const MEMORY_MIN: Bytes = Bytes(1 << 20);
/// Least time that a probe may be held to, in nanoseconds: one that does nothing takes about so long while it is measured.
const PROBE_NS_MIN: u64 = 50;
/// Most of a file system that can be kept free.
const PERCENT_MAX: u64 = 95;
/// Stands for no built-in collector at all.
const NO_COLLECTOR: &str = "none";
/// Most targets of notifications: each has a thread.
const TARGETS_MAX: usize = 16;
/// Most collectors at once.
const PARALLEL_MAX: u64 = 32;
/// Longest that a dump waits for evidence.
const GRACE_MAX: Duration = Duration::from_secs(60);
/// Longest name of a process that the kernel keeps.
const COMM_MAX: usize = recorder_ebpf::abi::COMM_LEN - 1;
/// Shortest time between two samples: at this pace they take one CPU's percent.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest time between two samples.
const SAMPLE_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Shortest time between two copies of the ring: each is a flush of the disk.
const RING_SYNC_MIN: Duration = Duration::from_millis(100);
/// Longest time between two copies of the ring.
const RING_SYNC_MAX: Duration = Duration::from_secs(10 * 60);
/// Smallest lane: room for a few segments.
const LANE_MIN: Bytes = Bytes(1 << 20);
/// Largest lane.
const LANE_MAX: Bytes = Bytes(4 << 30);
/// Smallest dump: its own description and some failures.
const DUMP_MIN: Bytes = Bytes(256 << 10);

/// A number of bytes, as people write it: "8MiB", "512KiB", "4096".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
            .unwrap_or((text, 0));
        number
            .trim()
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| "write a number of bytes, or one with KiB, MiB or GiB: \"48MiB\"".into())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "write a size: \"48MiB\"")]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            let one = 1_u64 << shift;
            if self.0 >= one && self.0.is_multiple_of(one) {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A duration, as people read it: "60 s", "0.5 s".
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// Reads a duration as flags and files have it: "60s".
///
/// # Errors
///
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text)
}

/// Writes a duration as flags and files have it, in the largest unit that is exact.
pub fn text_of_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let (one, unit) = units
        .into_iter()
        .find(|(one, _)| ns.is_multiple_of(*one))
        .unwrap_or((1, "ns"));
    format!("{}{unit}", ns / one)
}

fn duration(text: &str) -> Result<Duration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<i64>().ok());
    days.and_then(|days| days.checked_mul(24))
        .map(|hours| SignedDuration::try_from_hours(hours).ok_or(()))
        .unwrap_or_else(|| text.parse::<SignedDuration>().map_err(drop))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write a time with its unit: \"60s\", \"500ms\", \"5m\"".into())
}

fn nanoseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(saturating_ns(*duration))
}

fn optional_nanoseconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(saturating_ns).serialize(serializer)
}

/// Returns a duration in nanoseconds.
pub fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        config: RecordConfig,
    }

    fn config(flags: &[&str]) -> Result<RecordConfig, clap::Error> {
        let arguments = ["recorder"].iter().chain(flags);
        Command::try_parse_from(arguments).map(|command| command.config)
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = config(&[]).expect("no flag is needed");
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.lifecycle_bytes, Bytes(48 << 20));
        assert_eq!(config.before, Duration::from_secs(60));
    }

    #[test]
    fn sizes_and_times_read_as_they_are_written() {
        assert_eq!("8MiB".parse(), Ok(Bytes(8 << 20)));
        assert_eq!("8 MiB".parse(), Ok(Bytes(8 << 20)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert_eq!(Bytes(48 << 20).to_string(), "48 MiB");
        assert_eq!(Bytes(1500).to_string(), "1500 B");
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "8MB", "-1", "x", "99999999999GiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        let window: RuleWindow = "oom-kill=5m/1.5s".parse().expect("valid");
        assert_eq!(window.rule, "oom-kill");
        assert_eq!(window.before, Duration::from_secs(300));
        assert_eq!(window.to_string().parse(), Ok(window));
        for bad in ["", "oom-kill", "oom-kill=5m", "oom-kill=5/1"] {
            assert!(bad.parse::<RuleWindow>().is_err(), "{bad}");
        }
        for bad in ["", "60", "-5s", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictions_name_the_flag_to_change() {
        for (flags, named) in [
            (&["--before", "48h"][..], "--before"),
            (&["--lifecycle-bytes", "1KiB"], "--lifecycle-bytes"),
            (&["--dumps-max-bytes", "1MiB"], "--dumps-max-bytes"),
            (&["--dumps-max-count", "0"], "--dumps-max-count"),
            (&["--dumps-max-age", "10s"], "--dumps-max-age"),
            (
                &["--dumps-keep-free-percent", "96"],
                "--dumps-keep-free-percent",
            ),
            (&["--watch", "a-name-that-is-too-long"], "--watch"),
            (&["--rule-window", "oom-kill=48h/1s"], "--rule-window"),
            (&["--max-age", "59s"], "--max-age"),
            (&["--sample-interval", "50ms"], "--sample-interval"),
            (&["--sample-interval", "2h"], "--sample-interval"),
            (&["--ring-sync", "50ms"], "--ring-sync"),
            (&["--ring-sync", "1h"], "--ring-sync"),
        ] {
            let config = config(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
            let error = config.validate().expect_err("contradicts");
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }
}
