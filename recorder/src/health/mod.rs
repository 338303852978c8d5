//! Whether the recorder does what it is there for, in one word, and why not.
//!
//! | word | means |
//! |---|---|
//! | recording | what fails is recorded, and a dump of it will be kept |
//! | degraded | it records, but something of that does not hold, or did not lately: [`LATELY_NS`] |
//! | not recording | nothing is recorded |
//!
//! There is no clock here: time is an argument.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::api::Status;
use crate::dump::ProbeState;
use crate::units::{bytes, duration};

/// How long a loss counts, in nanoseconds.
pub const LATELY_NS: u64 = 5 * 60 * 1_000_000_000;
/// How long a flush of the ring's copy on disk may take beyond its interval.
const FLUSH_LATE_NS: u64 = 20 * 1_000_000_000;
/// Windows that may wait for the writer of dumps.
const WAITING_MAX: u64 = 4;
/// Smallest dump worth having, in bytes.
const DUMP_BYTES_MIN: u64 = 1 << 20;
/// Attempts in a row after which a target of notifications counts as broken.
const ATTEMPTS_MAX: u32 = 3;
/// Rules that are named.
const RULES_MAX: usize = 3;
/// The wall clock is at least here: nanoseconds from 1970 to 2025. What says less was never set.
const UNIX_NS_MIN: u64 = 1_735_689_600_000_000_000;

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// All is well.
    #[serde(rename = "recording")]
    Recording,
    /// Something is not.
    #[serde(rename = "degraded")]
    Degraded,
    /// Nothing is.
    #[serde(rename = "not recording")]
    NotRecording,
}

impl Word {
    /// Every word.
    pub const ALL: [Self; 3] = [Self::Recording, Self::Degraded, Self::NotRecording];

    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Degraded => "degraded",
            Self::NotRecording => "not recording",
        }
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What, for programs: "lost-events".
    pub code: String,
    /// What, and what to do, for people.
    pub text: String,
}

impl Reason {
    fn new(code: &str, text: String) -> Self {
        Self {
            code: code.to_owned(),
            text,
        }
    }
}

/// Remembers when counters last rose.
#[derive(Debug, Default)]
pub struct Watch {
    lost: Rising,
    dropped: Rising,
    skipped: Rising,
    overflow: Rising,
    notices: Rising,
    rule_errors: Rising,
}

/// A counter, and when it last rose.
#[derive(Clone, Copy, Debug, Default)]
struct Rising {
    count: u64,
    boot_ns: Option<u64>,
    /// What it was before it rose lately.
    base: u64,
}

impl Rising {
    /// Returns by how much it rose lately.
    fn take(&mut self, count: u64, now_boot_ns: u64) -> u64 {
        if count > self.count {
            self.boot_ns = Some(now_boot_ns);
        }
        self.count = count;
        match self.boot_ns {
            Some(rose) if now_boot_ns.saturating_sub(rose) < LATELY_NS => {
                count.saturating_sub(self.base)
            }
            _ => {
                self.base = count;
                self.boot_ns = None;
                0
            }
        }
    }
}

impl Watch {
    /// Returns what is wrong with an agent that records.
    pub fn judge(&mut self, status: &Status, now_boot_ns: u64, now_unix_ns: u64) -> Vec<Reason> {
        let mut reasons = Vec::new();
        self.losses(status, now_boot_ns, &mut reasons);
        probes(status, &mut reasons);
        lanes(status, &mut reasons);
        budget(status, now_unix_ns, &mut reasons);
        memory(status, &mut reasons);
        dumps(status, &mut reasons);
        twin(status, now_unix_ns, &mut reasons);
        self.notices(status, now_boot_ns, &mut reasons);
        let errors = self.rule_errors.take(status.rule_errors, now_boot_ns);
        if errors > 0 {
            let erring = status.rules.iter().filter(|rule| rule.errors > 0);
            let erring: Vec<String> = erring
                .take(RULES_MAX)
                .map(|rule| {
                    let why = rule.last_error.as_deref().unwrap_or("no reason given");
                    format!("{} on a {} ({why})", rule.name, rule.event)
                })
                .collect();
            let text = format!(
                "conditions of rules could not be decided {errors} times lately, and did not match: {}",
                erring.join(", ")
            );
            reasons.push(Reason::new("rule-errors", text));
        }
        if now_unix_ns < UNIX_NS_MIN {
            let text = "the wall clock was never set: times in dumps are wrong".to_owned();
            reasons.push(Reason::new("clock", text));
        }
        reasons
    }

    fn losses(&mut self, status: &Status, now_boot_ns: u64, reasons: &mut Vec<Reason>) {
        let cpus = status.lanes.iter().flat_map(|lane| &lane.cpus);
        let lost = self.lost.take(cpus.map(|cpu| cpu.lost).sum(), now_boot_ns);
        if lost > 0 {
            let text = format!(
                "{lost} events lost lately: the kernel rings were full; each has its place in the dumps"
            );
            reasons.push(Reason::new("lost-events", text));
        }
        let dropped = status.lanes.iter().map(|lane| lane.dropped).sum();
        let dropped = self.dropped.take(dropped, now_boot_ns);
        if dropped > 0 {
            let text = format!("{dropped} records dropped lately: the flight ring had no room");
            reasons.push(Reason::new("dropped-records", text));
        }
        let skipped = self
            .skipped
            .take(status.skipped.values().sum(), now_boot_ns);
        if skipped > 0 {
            let text = format!(
                "{skipped} events not seen lately: the CPU was inside the same probe already"
            );
            reasons.push(Reason::new("skipped-events", text));
        }
        let overflow = self.overflow.take(status.incidents.overflow, now_boot_ns);
        if overflow > 0 {
            let text = format!("{overflow} incidents made no dump lately: too many were open");
            reasons.push(Reason::new("incidents-overflow", text));
        }
    }

    fn notices(&mut self, status: &Status, now_boot_ns: u64, reasons: &mut Vec<Reason>) {
        let lost = status
            .notify
            .iter()
            .map(|target| target.dropped + target.expired);
        let lost = self.notices.take(lost.sum(), now_boot_ns);
        if lost > 0 {
            let text =
                format!("{lost} notifications given up lately: their targets did not take them");
            reasons.push(Reason::new("notifications-lost", text));
        }
        for target in &status.notify {
            if target.failures_in_a_row >= ATTEMPTS_MAX {
                let text = format!(
                    "notifications to {:?} fail, {} wait: {}",
                    target.name,
                    target.waiting,
                    target.last_error.as_deref().unwrap_or("no reason given")
                );
                reasons.push(Reason::new("notifications-fail", text));
            }
        }
    }
}

fn probes(status: &Status, reasons: &mut Vec<Reason>) {
    for probe in &status.probes {
        if probe.state == ProbeState::Unavailable {
            let detail = probe
                .detail
                .as_deref()
                .unwrap_or("its probe is not attached");
            let text = format!("{} is not recorded: {detail}", probe.event);
            reasons.push(Reason::new("probe-missing", text));
        }
    }
}

/// A cgroup that the kernel may soon kill in.
fn memory(status: &Status, reasons: &mut Vec<Reason>) {
    if let Some(cgroup) = status.budget.cgroup.as_ref().filter(|it| it.is_short) {
        reasons.push(Reason::new("memory-short", cgroup.sentence()));
    }
}

/// What is left out to keep to the budget.
fn budget(status: &Status, now_unix_ns: u64, reasons: &mut Vec<Reason>) {
    let budget = &status.budget;
    if budget.left_out.is_empty() {
        return;
    }
    let since_ns = budget.since_unix_ns.unwrap_or(now_unix_ns);
    let lasting = duration(now_unix_ns.saturating_sub(since_ns));
    let left_out = budget.left_out.join(", ");
    let mut text =
        format!("to keep to the budget these are left out, the first since {lasting}: {left_out}");
    if let Some((resource, limit)) = budget
        .reason
        .and_then(|resource| Some((resource, budget.limits.get(resource)?)))
    {
        let now = match budget.measured.get(resource) {
            Some(amount) => format!(", and takes {} now", resource.words(amount)),
            None => String::new(),
        };
        text.push_str(&format!(
            "; {} may take {}{now}",
            resource.name(),
            resource.words(limit)
        ));
    }
    if budget.exceeded {
        text.push_str(", more than it may even so");
    }
    reasons.push(Reason::new("over-budget", text));
}

/// A copy of the ring on disk that is older than it should be.
fn twin(status: &Status, now_unix_ns: u64, reasons: &mut Vec<Reason>) {
    let Some(twin) = &status.twin else {
        return;
    };
    let since = twin.flushed_unix_ns.unwrap_or(status.started_unix_ns);
    let age = now_unix_ns.saturating_sub(since);
    let late = age > FLUSH_LATE_NS.saturating_add(twin.interval_ns.saturating_mul(2));
    if late || twin.last_error.is_some() {
        let why = twin
            .last_error
            .as_deref()
            .unwrap_or("the disk does not answer");
        let text = format!(
            "a crash of the kernel would lose the last {}, for the ring is not copied to {}: {why}",
            duration(age),
            twin.path
        );
        reasons.push(Reason::new("ring-not-on-disk", text));
    }
}

/// A lane that has overwritten what the window wants, because it is full.
fn lanes(status: &Status, reasons: &mut Vec<Reason>) {
    for lane in &status.lanes {
        let Some(span_ns) = lane.span_ns else {
            continue;
        };
        let is_full = lane.used_bytes >= lane.capacity_bytes / 4 * 3;
        // While an incident is open, a window holds half of a lane.
        if lane.evicted > 0 && is_full && span_ns / 2 < status.before_ns {
            let text = format!(
                "the {name} lane holds the last {held}, too little for the {wanted} before an incident: \
                 raise --{name}-bytes or lower --before",
                name = lane.lane,
                held = duration(span_ns),
                wanted = duration(status.before_ns),
            );
            reasons.push(Reason::new("window-too-long", text));
        }
    }
}

fn dumps(status: &Status, reasons: &mut Vec<Reason>) {
    let dumps = &status.dumps;
    if dumps.failed_in_a_row > 0 {
        let why = dumps.last_error.as_deref().unwrap_or("no reason given");
        reasons.push(Reason::new(
            "dump-failed",
            format!("the last dump failed: {why}"),
        ));
    }
    if let Some(elsewhere) = &dumps.elsewhere {
        reasons.push(Reason::new("dump-elsewhere", elsewhere.clone()));
    }
    match &dumps.space {
        Some(space) => {
            let room = (space.free_bytes + space.used_bytes).saturating_sub(space.keep_free_bytes);
            if room < DUMP_BYTES_MIN {
                let text = format!(
                    "no dump can be kept: {} has {} free, of which {} are to stay free",
                    status.dumps_dir,
                    bytes(space.free_bytes),
                    bytes(space.keep_free_bytes)
                );
                reasons.push(Reason::new("disk-full", text));
            }
        }
        None => {
            let text = format!("no dump can be kept: {} cannot be read", status.dumps_dir);
            reasons.push(Reason::new("dumps-unreadable", text));
        }
    }
    if dumps.waiting > WAITING_MAX {
        let text = format!("{} windows wait to be written as dumps", dumps.waiting);
        reasons.push(Reason::new("dumps-behind", text));
    }
}

#[cfg(test)]
mod tests;
