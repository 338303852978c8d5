//! One reading of a dump.

use std::collections::{HashMap, VecDeque};
use std::io;

use jiff::Timestamp;

use super::accounting::{Busy, Ended, Ledger};
use super::class::{Case, Flag, Signs};
use super::host::Samples;
use super::sift::Sift;
use super::{Recording, Report, Subject, Words};
use crate::death::{DeathsOf, words::named};
use crate::dump::{
    CLOCKS, Clocks, EVIDENCE, EvidenceReport, HOST, Host, LOSS, LossLedger, Verdict,
};
use crate::event::{Body, proto};
use crate::incident::{self, Incident};
use crate::read::{Damages, Dump, Entry};

/// Executions that are remembered to find the parents of the subject.
const STARTED_MAX: usize = 1 << 14;
/// Generations looked back.
const PARENTS_MAX: usize = 8;
/// Busiest living processes that are listed.
const TOP_MAX: usize = 10;
/// Broken places that are named.
const PLACES_MAX: usize = 16;

/// Makes the report of a dump. Returns beside it what of the file is broken, and how many events are of unknown types.
///
/// # Errors
///
/// Only what the file system reports: of a damaged dump there is a report of what is left.
pub fn gather(dump: &Dump, words: Words) -> io::Result<(Report, Damages, u64)> {
    let mut gathering = Gathering::new(dump, words);
    let mut events = dump.events();
    for entry in events.by_ref() {
        gathering.take(&entry?);
    }
    let damages = events.damages().clone();
    let unknown = events.unknown();
    Ok((gathering.finish(dump, &damages, unknown), damages, unknown))
}

/// Returns what stands out in a dump.
///
/// # Errors
///
/// Only what the file system reports.
pub fn flags(dump: &Dump) -> io::Result<Vec<Flag>> {
    let loss: Option<LossLedger> = dump.metadata(LOSS);
    let is_lossy = loss.is_some_and(|loss| loss.verdict == Verdict::Lossy);
    let words = Words {
        describe: |_| String::new(),
        coverage: Vec::new(),
        missing: is_lossy.then(|| "records of its window were lost".to_owned()),
    };
    Ok(gather(dump, words)?.0.flags)
}

/// What a reading has gathered so far.
struct Gathering {
    words: Words,
    incident: Option<Incident>,
    clocks: Option<Clocks>,
    trigger_unix_ns: Option<u64>,
    /// What offsets count from.
    origin_unix_ns: Option<u64>,
    events: u64,
    sift: Sift,
    deaths: DeathsOf,
    signs: Signs,
    samples: Samples,
    ledger: Ledger,
    top: Vec<Busy>,
    top_offset_ns: i64,
    started: Started,
    subject: Subject,
    parent: Option<u32>,
    first_unix_ns: u64,
    last_unix_ns: u64,
}

impl Gathering {
    fn new(dump: &Dump, words: Words) -> Self {
        let incident = dump.incident();
        let clocks: Option<Clocks> = dump.metadata(CLOCKS);
        let trigger_unix_ns = incident
            .as_ref()
            .zip(clocks)
            .map(|(incident, clocks)| clocks.freeze.unix_ns_at(incident.trigger.boot_ns));
        let subject = incident
            .as_ref()
            .map(|incident| incident.subject.clone())
            .unwrap_or_default();
        Self {
            sift: Sift::new(words.describe, &subject),
            deaths: DeathsOf::new(&subject, trigger_unix_ns.unwrap_or(u64::MAX)),
            words,
            incident,
            clocks,
            trigger_unix_ns,
            origin_unix_ns: trigger_unix_ns,
            events: 0,
            signs: Signs::default(),
            samples: Samples::default(),
            ledger: Ledger::default(),
            top: Vec::new(),
            top_offset_ns: 0,
            started: Started::default(),
            subject: Subject::default(),
            parent: None,
            first_unix_ns: u64::MAX,
            last_unix_ns: 0,
        }
    }

    fn take(&mut self, entry: &Entry) {
        self.events += 1;
        self.first_unix_ns = self.first_unix_ns.min(entry.unix_ns);
        self.last_unix_ns = self.last_unix_ns.max(entry.unix_ns);
        let origin = *self.origin_unix_ns.get_or_insert(entry.unix_ns);
        let offset = i128::from(entry.unix_ns) - i128::from(origin);
        let offset_ns =
            i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        let trigger = self.incident.as_ref().map(|incident| &incident.trigger);
        let is_trigger = trigger
            .zip(self.trigger_unix_ns)
            .is_some_and(|(trigger, unix_ns)| entry.is(trigger, unix_ns));
        let verdict = self.deaths.take(entry.order, entry.unix_ns, &entry.body);
        self.signs.take(&entry.body, verdict);
        self.sift.take(entry, offset_ns, is_trigger);
        match &entry.body {
            Body::ProcessExit(exit) => self.ledger.take(exit, entry.unix_ns, offset_ns <= 0),
            Body::ProcessExec(exec) => self.started.take(exec),
            Body::SampleSystem(sample) => self.samples.take(offset_ns, sample),
            Body::SampleProcess(sample) if offset_ns <= 0 || self.top.is_empty() => {
                self.top = sample.top.iter().take(TOP_MAX).map(Busy::of).collect();
                self.top_offset_ns = offset_ns;
            }
            _ => {}
        }
        let about = self.incident.as_ref().map(|incident| &incident.subject);
        if about.is_some_and(|subject| is_about(&entry.body, subject)) {
            self.subject(entry, offset_ns <= 0);
        }
        if is_trigger && self.subject.name.is_none() {
            self.subject.name = device(&entry.body);
        }
    }

    /// Takes in an event about the subject.
    fn subject(&mut self, entry: &Entry, before: bool) {
        let Some(process) = entry.body.process() else {
            return;
        };
        let subject = &mut self.subject;
        subject.name = Some(named(process.comm.as_deref(), process.pid));
        let fresh = serde_json::to_value(process).unwrap_or_default();
        merge(&mut subject.process, fresh, before);
        if let (None, Some(parent)) = (self.parent, process.ppid) {
            self.parent = Some(parent);
        }
        match &entry.body {
            Body::ProcessExec(exec) if before || subject.command.is_empty() => {
                subject.command = std::iter::once(exec.filename().to_owned())
                    .chain(exec.argv.iter().skip(1).cloned())
                    .collect();
            }
            Body::ProcessExit(exit) => subject.usage = Some(Ended::of(exit, entry.unix_ns)),
            _ => {}
        }
        if let (Some(clocks), Some(start)) = (&self.clocks, process.start_boot_ns) {
            subject.started = time(clocks.freeze.unix_ns_at(start));
        }
    }

    fn finish(self, dump: &Dump, damages: &Damages, unknown: u64) -> Report {
        let deaths = self.deaths.finish();
        let series = self.samples.finish();
        let host: Option<Host> = dump.metadata(HOST);
        let loss: Option<LossLedger> = dump.metadata(LOSS);
        let incident = self.incident.as_ref();
        let of_subject = incident.and_then(|incident| {
            let pid = incident.subject.pid?;
            let mut all = deaths.certificates.iter();
            all.find(|death| {
                death.process.pid == Some(pid)
                    && death.process.start_boot_ns == incident.subject.start_boot_ns
            })
        });
        let is_complete = loss
            .as_ref()
            .is_some_and(|loss| loss.verdict == Verdict::Complete);
        let missing = self.words.missing.as_deref().filter(|_| !is_complete);
        let case = Case {
            incident,
            death: of_subject,
            signs: &self.signs,
            series: &series,
            clocks: self.clocks.as_ref(),
            cpus: host.as_ref().map_or(0, |host| host.cpus),
            window_ns: self.last_unix_ns.saturating_sub(self.first_unix_ns),
            missing,
        };
        let (cause, flags) = (case.cause(), case.flags());
        let summary = match (incident, of_subject) {
            (None, _) => "The dump no longer says what it is about.".to_owned(),
            (Some(_), Some(death)) => format!("{}: {}", death.name(), death.text),
            (Some(incident), None) => incident.summary.clone(),
        };
        let timeline = self.sift.finish();
        let told: u64 = timeline.iter().map(|moment| 1 + moment.repeated).sum();
        let at = |boot_ns: u64| {
            let clocks = self.clocks.as_ref()?;
            time(clocks.freeze.unix_ns_at(boot_ns))
        };
        let recording = Recording {
            file: file_name(dump),
            events: self.events,
            unknown,
            from: incident.and_then(|incident| at(incident.window_start_boot_ns)),
            to: incident.and_then(|incident| at(incident.window_end_boot_ns)),
            verdict: loss.as_ref().map(|loss| loss.verdict),
            coverage: self.words.coverage.clone(),
            missing: self.words.missing.clone(),
            damage: damages
                .places
                .iter()
                .take(PLACES_MAX)
                .map(ToString::to_string)
                .collect(),
            loss,
        };
        let subject = Subject {
            parents: self
                .parent
                .map(|pid| self.started.line(pid))
                .unwrap_or_default(),
            ..self.subject
        };
        Report {
            summary,
            time: self.trigger_unix_ns.and_then(time),
            origin_unix_ns: self.origin_unix_ns.unwrap_or(0),
            host,
            subject,
            cause,
            flags,
            timeline,
            timeline_left_out: self.events.saturating_sub(told),
            deaths,
            series,
            top: self.top,
            top_offset_ns: self.top_offset_ns,
            accounting: self.ledger.finish(),
            evidence: dump
                .metadata::<EvidenceReport>(EVIDENCE)
                .unwrap_or_default()
                .collectors,
            recording,
            incident: self.incident,
        }
    }
}

fn is_about(body: &Body, subject: &incident::Subject) -> bool {
    body.process().is_some_and(|process| {
        subject.pid.is_some()
            && process.pid == subject.pid
            && process.start_boot_ns == subject.start_boot_ns
    })
}

/// Returns the device that an event is about.
fn device(body: &Body) -> Option<String> {
    let (name, number) = match body {
        Body::IoError(error) => (&error.disk, &error.device),
        Body::WritebackError(error) => (&error.name, &error.device),
        _ => return None,
    };
    match (name, number) {
        (Some(name), Some(number)) => Some(format!("{name} ({number})")),
        (name, number) => name.clone().or_else(|| number.clone()),
    }
}

/// What an execution makes another.
const OF_PROGRAM: [&str; 2] = ["exe", "exe_build_id"];
/// What a move to another cgroup makes another.
const OF_PLACE: [&str; 5] = ["cgroup", "unit", "container_id", "runtime", "pod_uid"];

/// Adds what another event says: up to the trigger what is newer counts, after it only what is not known yet.
fn merge(known: &mut Option<serde_json::Value>, fresh: serde_json::Value, before: bool) {
    match (known, fresh) {
        (Some(serde_json::Value::Object(known)), serde_json::Value::Object(mut fresh)) => {
            if before {
                if fresh.contains_key("exe") {
                    known.retain(|name, _| !OF_PROGRAM.contains(&name.as_str()));
                }
                // The top of the unified hierarchy is no place where controllers have hierarchies of their own.
                let place = fresh.get("cgroup").and_then(|path| path.as_str());
                if place.is_some_and(|path| path != "/") {
                    known.retain(|name, _| !OF_PLACE.contains(&name.as_str()));
                } else if known.contains_key("cgroup") {
                    fresh.remove("cgroup");
                }
            }
            for (name, value) in fresh {
                if before || !known.contains_key(&name) {
                    known.insert(name, value);
                }
            }
        }
        (known @ None, fresh) => *known = Some(fresh),
        _ => {}
    }
}

fn time(unix_ns: u64) -> Option<String> {
    let time = Timestamp::from_nanosecond(unix_ns.into()).ok()?;
    Some(format!("{time:.3}"))
}

fn file_name(dump: &Dump) -> String {
    let name = dump.path().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Which processes were started by an execution in the dump, and by whom.
#[derive(Default)]
struct Started {
    by_pid: HashMap<u32, (String, Option<u32>)>,
    pids: VecDeque<u32>,
}

impl Started {
    fn take(&mut self, exec: &proto::ProcessExec) {
        let Some(process) = exec.process.as_ref() else {
            return;
        };
        let Some(pid) = process.pid else { return };
        let name = named(process.comm.as_deref(), process.pid);
        if self.by_pid.insert(pid, (name, process.ppid)).is_none() {
            if self.pids.len() == STARTED_MAX
                && let Some(first) = self.pids.pop_front()
            {
                self.by_pid.remove(&first);
            }
            self.pids.push_back(pid);
        }
    }

    /// Returns a process, its parent, and so on; the last may be a mere number.
    fn line(&self, mut pid: u32) -> Vec<String> {
        let mut line = Vec::new();
        while line.len() < PARENTS_MAX {
            match self.by_pid.get(&pid) {
                Some((name, parent)) => {
                    line.push(name.clone());
                    match parent {
                        Some(parent) if *parent != 0 => pid = *parent,
                        _ => break,
                    }
                }
                None => {
                    line.push(named(None, Some(pid)));
                    break;
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge;

    #[test]
    fn the_subject_is_what_it_was_when_it_happened() {
        let mut known = None;
        let first = json!({"comm": "sh", "exe": "/bin/sh", "exe_build_id": "aa", "unit": "a.service", "cgroup": "/a", "ppid": 1});
        merge(&mut known, first, true);
        // The build ID of the second program is not known, nor a unit of the second place.
        merge(
            &mut known,
            json!({"comm": "app", "exe": "/bin/app", "cgroup": "/b"}),
            true,
        );
        merge(&mut known, json!({"comm": "app", "cgroup": "/"}), true);
        merge(
            &mut known,
            json!({"comm": "late", "exe": "/bin/late", "uid": 7}),
            false,
        );
        let expected =
            json!({"comm": "app", "exe": "/bin/app", "cgroup": "/b", "ppid": 1, "uid": 7});
        assert_eq!(known, Some(expected));
    }
}
