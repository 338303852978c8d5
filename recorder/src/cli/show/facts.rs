//! What a dump says of itself beside its events, in words.

use crate::cli::text::{bytes, duration, escape, escape_short, plural};
use crate::dump::{
    CLOCKS, COVERAGE, Clocks, CollectorReport, Coverage, EVIDENCE, EvidenceReport, Filtered, HOST,
    Host, LOSS, LossLedger, Shortfall, Verdict,
};
use crate::export::redacted::{REDACTION, Redaction};
use crate::incident::Incident;
use crate::read::Dump;

/// What is known beside the events. What is gone from a broken dump is absent.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What the dump is about.
    pub incident: Option<Incident>,
    /// The host that recorded it.
    pub host: Option<Host>,
    /// When its trigger was, by the wall clock, in nanoseconds since 1970.
    pub trigger_unix_ns: Option<u64>,
    /// What of the window the dump has, a line for each lane that lacks something.
    pub coverage: Vec<String>,
    /// What is missing.
    pub loss: Option<Loss>,
    /// What was removed, of a redacted copy.
    pub redaction: Option<String>,
    /// What became of each collector, a line for each.
    pub evidence: Vec<String>,
}

/// What a loss ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whether the window is known to be complete.
    pub is_none: bool,
    /// In words.
    pub words: String,
}

impl Facts {
    /// Takes them out of a dump.
    pub fn of(dump: &Dump) -> Self {
        let incident = dump.incident();
        let trigger_boot_ns = incident.as_ref().map(|incident| incident.trigger.boot_ns);
        let clocks: Option<Clocks> = dump.metadata(CLOCKS);
        let coverage: Option<Coverage> = dump.metadata(COVERAGE);
        let ledger: Option<LossLedger> = dump.metadata(LOSS);
        Self {
            host: dump.metadata(HOST),
            trigger_unix_ns: clocks
                .zip(trigger_boot_ns)
                .map(|(clocks, boot_ns)| clocks.freeze.unix_ns_at(boot_ns)),
            coverage: coverage
                .zip(trigger_boot_ns)
                .map(|(coverage, trigger)| covered(&coverage, trigger))
                .unwrap_or_default(),
            loss: ledger.as_ref().map(missing),
            redaction: dump.metadata(REDACTION).as_ref().map(removed),
            evidence: collected(&dump.metadata(EVIDENCE).unwrap_or_default()),
            incident,
        }
    }
}

/// Says what a redacted copy lacks.
fn removed(redaction: &Redaction) -> String {
    let policies: Vec<_> = redaction.policies.iter().map(|one| escape(one)).collect();
    let attachments = match redaction.attachments_removed {
        0 => String::new(),
        removed => format!(", without {}", plural(removed, "attachment")),
    };
    let original: String = redaction.original_sha256.chars().take(12).collect();
    format!(
        "a copy by the policies {}{attachments}; the original has SHA-256 {}…",
        policies.join(", "),
        escape(&original)
    )
}

fn collected(report: &EvidenceReport) -> Vec<String> {
    let collectors = &report.collectors;
    let names = collectors
        .iter()
        .map(|one| escape(&one.name).chars().count());
    let width = names.max().unwrap_or(0);
    let line = |one: &CollectorReport| format!("{:width$}  {}", escape(&one.name), outcome(one));
    collectors.iter().map(line).collect()
}

/// Says what became of a collector.
fn outcome(collector: &CollectorReport) -> String {
    let mut words = vec![collector.state.name().to_owned()];
    if let Some(code) = collector.exit_code.filter(|code| *code != 0) {
        words.push(format!("exit code {code}"));
    }
    if let Some(signal) = collector.signal {
        words.push(format!("signal {signal}"));
    }
    if let Some(duration_ns) = collector.duration_ns {
        words.push(format!("in {}", duration(duration_ns)));
    }
    if collector.attachment.is_some() {
        let cut = if collector.truncated { ", cut" } else { "" };
        words.push(format!("{}{cut}", bytes(collector.bytes)));
    }
    if collector.killed > 0 {
        words.push(match collector.killed {
            1 => "1 process that it left was killed".to_owned(),
            killed => format!("{killed} processes that it left were killed"),
        });
    }
    words.extend(
        collector
            .detail
            .as_deref()
            .map(|detail| escape(detail).into_owned()),
    );
    if collector.detail.is_none()
        && let Some(stderr) = &collector.stderr
    {
        let first = stderr.lines().next().unwrap_or_default();
        words.push(escape_short(first, 80));
    }
    words.join(", ")
}

fn covered(coverage: &Coverage, trigger_boot_ns: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut complete = Vec::new();
    for lane in &coverage.lanes {
        if lane.complete {
            complete.push(escape(&lane.lane));
            continue;
        }
        let reasons: Vec<String> = lane
            .shortfalls
            .iter()
            .map(|shortfall| lacks(shortfall, trigger_boot_ns))
            .collect();
        lines.push(format!("{}: {}", escape(&lane.lane), reasons.join("; ")));
    }
    if !complete.is_empty() {
        lines.insert(0, format!("{}: the whole window", complete.join(", ")));
    }
    lines
}

fn lacks(shortfall: &Shortfall, trigger_boot_ns: u64) -> String {
    let since = |boot_ns: u64| match trigger_boot_ns.checked_sub(boot_ns) {
        Some(before) => format!("from {} before the trigger", duration(before)),
        None => format!(
            "from {} after the trigger",
            duration(boot_ns - trigger_boot_ns)
        ),
    };
    match shortfall {
        Shortfall::NotRecording { until_boot_ns } => {
            format!("{}, when recording began", since(*until_boot_ns))
        }
        Shortfall::Evicted { until_boot_ns } => format!(
            "{}; older records had been overwritten (a larger budget of this lane keeps them)",
            since(*until_boot_ns)
        ),
        Shortfall::WindowBudget { until_boot_ns } => format!(
            "{}; the window may hold no more of the flight ring (a larger budget of this lane keeps them)",
            since(*until_boot_ns)
        ),
        Shortfall::DumpSize {
            records,
            until_boot_ns,
        } => format!(
            "{}; {} left out, for the size of the dump is limited",
            since(*until_boot_ns),
            plural(*records, "older record")
        ),
        Shortfall::Throttled { records } => format!(
            "{} left out, of cgroups that wrote too many",
            plural(*records, "record")
        ),
        Shortfall::Filtered(filtered) => left_out(filtered, trigger_boot_ns),
        Shortfall::Lost { records } => format!("{} missing", plural(*records, "record")),
    }
}

fn left_out(filtered: &Filtered, trigger_boot_ns: u64) -> String {
    let at = |boot_ns: u64| match trigger_boot_ns.checked_sub(boot_ns) {
        Some(before) => format!("{} before the trigger", duration(before)),
        None => format!("{} after the trigger", duration(boot_ns - trigger_boot_ns)),
    };
    let until = match filtered.until_boot_ns {
        Some(until_boot_ns) => format!("to {}", at(until_boot_ns)),
        None => "on".to_owned(),
    };
    let records = plural(filtered.records, "record");
    let lacking = match filtered.what.as_str() {
        "argv" => format!("{records} without the arguments of programs"),
        "exit_detail" => format!("{records} without what the process used"),
        what => format!("{records} left out ({})", escape(what)),
    };
    format!(
        "{lacking}, from {} {until}, to keep to the budget",
        at(filtered.since_boot_ns)
    )
}

fn missing(ledger: &LossLedger) -> Loss {
    let mut places = Vec::new();
    let mut total = 0;
    for lane in &ledger.lanes {
        for cpu in lane.cpus.iter().filter(|cpu| cpu.missing > 0) {
            total += cpu.missing;
            places.push(format!(
                "{} CPU {}: {}",
                escape(&lane.lane),
                cpu.cpu,
                cpu.missing
            ));
        }
    }
    places.truncate(8);
    let words = match (ledger.verdict, total) {
        (Verdict::Complete, _) => "nothing".to_owned(),
        (Verdict::Lossy, 0) => {
            "part of the window, as above; nothing inside what is covered".to_owned()
        }
        (Verdict::Lossy, _) => format!("{} ({})", plural(total, "record"), places.join(", ")),
        (Verdict::Unknown, _) if !ledger.skipped.is_empty() => {
            let skipped = ledger.skipped.iter();
            let skipped: Vec<String> = skipped
                .map(|one| format!("{} {}", escape(&one.program), plural(one.times, "time")))
                .collect();
            format!(
                "not known: the kernel skipped {}, perhaps inside the window, as the CPU was inside it already",
                skipped.join(", ")
            )
        }
        (Verdict::Unknown, _) => {
            "not known: records were lost, perhaps inside the window, or could not be counted"
                .to_owned()
        }
    };
    Loss {
        is_none: ledger.verdict == Verdict::Complete,
        words,
    }
}
