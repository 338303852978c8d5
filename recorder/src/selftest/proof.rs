//! Finds the dumps that tell of the failures, and judges them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use super::failing::{Failing, Outcome};
use super::{Failure, State, Step, fail};
use crate::event::Body;
use crate::harmless::escape_short;
use crate::incident::Incident;
use crate::read::{self, Dump};
use crate::store::{self, Access, Catalog, Entry};
use crate::units::duration;

/// How much the clock of a file system may be behind.
const CLOCK_SLACK: Duration = Duration::from_secs(2);
/// What kept dumps are tagged with.
const TAG: &str = "selftest";
/// Longest summary that is repeated.
const SUMMARY_MAX: usize = 80;

/// The search for the dump of one failure.
pub(super) struct Search {
    pub(super) failing: Failing,
    pub(super) found: Option<Found>,
    seen: HashSet<PathBuf>,
    /// Why no further dump will come.
    refused: Option<String>,
}

/// A dump that tells of a failure.
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// What the dump is about.
    incident: Option<Incident>,
    /// Whether the failure itself made the dump, or the test asked for it.
    ours: bool,
    /// Whether it made it.
    by_itself: bool,
    events: u64,
    report: Result<read::Report, String>,
    took: Duration,
}

impl Search {
    pub(super) fn new(failing: Failing) -> Self {
        Self {
            failing,
            found: None,
            seen: HashSet::new(),
            refused: None,
        }
    }

    /// Returns whether a dump of its own may still come.
    pub(super) fn is_open(&self) -> bool {
        let provoked = matches!(self.failing.outcome, Outcome::Provoked { .. });
        let settled = self.found.as_ref().is_some_and(|found| found.ours);
        provoked && !settled && self.refused.is_none()
    }

    /// Returns whether no dump at all tells of it so far.
    pub(super) fn is_lost(&self) -> bool {
        self.is_open() && self.found.is_none()
    }

    /// Looks no further.
    pub(super) fn give_up(&mut self, why: &str) {
        self.refused = Some(why.to_owned());
    }

    /// Says how the step ended.
    pub(super) fn judge(&self) -> Step {
        let step = self.failing.failure.name();
        let what = match &self.failing.outcome {
            Outcome::Provoked { what, .. } => what,
            Outcome::Skipped(why) => return Step::new(step, State::Skip, why.clone()),
            Outcome::Broken(why) => return Step::new(step, State::Fail, why.clone()),
        };
        let Some(found) = &self.found else {
            let why = self
                .refused
                .as_deref()
                .unwrap_or("`recorder doctor` may say why");
            let text = format!("{what}, and no dump tells of it: {why}");
            return Step::new(step, State::Fail, text);
        };
        let mut judged = judge_dump(step, what, found);
        judged.dump = Some(found.path.clone());
        judged.took_ns = u64::try_from(found.took.as_nanos()).ok();
        judged
    }
}

/// Removes the dumps that the test made.
pub(super) fn remove(directory: &Path, name: &str, searches: &[Search]) -> io::Result<()> {
    made(directory, name, searches)?
        .iter()
        .try_for_each(Entry::remove)
}

/// Gives the dumps that the test made a tag, so that nobody takes them for what they look like.
pub(super) fn tag(directory: &Path, name: &str, searches: &[Search]) -> Result<()> {
    let state = directory.parent().unwrap_or(directory);
    let mut catalog = Catalog::open(state, Access::Write)?;
    for entry in made(directory, name, searches)? {
        if let Some(incident) = Dump::open(&entry.path)?.incident() {
            catalog.annotate(&incident.id.to_string(), &|said, _| said.tag(TAG))?;
        }
    }
    Ok(())
}

/// Returns the dumps that the test made: those of its failures, and the one that it asked for.
fn made(directory: &Path, name: &str, searches: &[Search]) -> io::Result<Vec<Entry>> {
    let mut made = Vec::new();
    for entry in store::dumps(directory)? {
        let of_failure = searches
            .iter()
            .filter_map(|search| search.found.as_ref())
            .any(|found| found.ours && found.path == entry.path);
        let asked_for = || {
            let incident = Dump::open(&entry.path).ok()?.incident()?;
            Some(incident.reason.as_deref() == Some(name))
        };
        if of_failure || asked_for() == Some(true) {
            made.push(entry);
        }
    }
    Ok(made)
}

/// Looks at the dumps that have come since.
pub(super) fn look(directory: &Path, name: &str, searches: &mut [Search]) -> io::Result<()> {
    let entries = store::dumps(directory)?;
    for search in searches.iter_mut().filter(|search| search.is_open()) {
        let Outcome::Provoked { at, since, .. } = &search.failing.outcome else {
            continue;
        };
        for entry in &entries {
            let new = entry.modified + CLOCK_SLACK >= *since;
            if !new || !search.seen.insert(entry.path.clone()) {
                continue;
            }
            // One that vanishes meanwhile, or is broken, is none.
            let Ok(dump) = Dump::open(&entry.path) else {
                continue;
            };
            if !tells(&dump, &search.failing, name, *since) {
                continue;
            }
            let found = examine(&dump, &search.failing, name, *at);
            if found.ours || search.found.is_none() {
                search.found = Some(found);
            }
        }
    }
    Ok(())
}

fn examine(dump: &Dump, failing: &Failing, name: &str, at: Instant) -> Found {
    let incident = dump.incident();
    let by_itself = incident
        .as_ref()
        .is_some_and(|incident| is_about(incident, failing, name));
    let asked_for = incident
        .as_ref()
        .is_some_and(|incident| incident.reason.as_deref() == Some(name));
    let report = read::verify(dump.path(), &mut |_| {});
    Found {
        path: dump.path().to_owned(),
        incident,
        ours: by_itself || asked_for,
        by_itself,
        events: report.as_ref().map_or(0, |report| report.events),
        report: report.map_err(|error| error.to_string()),
        took: at.elapsed(),
    }
}

/// Tells whether an incident is this failure.
fn is_about(incident: &Incident, failing: &Failing, name: &str) -> bool {
    if incident.trigger.event_type != failing.failure.event() {
        return false;
    }
    match failing.failure {
        Failure::Crash | Failure::Memory => incident.subject.comm.as_deref() == Some(name),
        Failure::Disk => incident.subject.device == failing.device,
    }
}

/// Tells whether a dump holds the record of this failure, with what is known of it.
fn tells(dump: &Dump, failing: &Failing, name: &str, since: SystemTime) -> bool {
    let since = since.checked_sub(CLOCK_SLACK).unwrap_or(since);
    let since = since.duration_since(SystemTime::UNIX_EPOCH);
    let since_ns = since.map_or(0, |since| since.as_nanos());
    let mut events = dump.events().map_while(Result::ok);
    events
        .any(|entry| u128::from(entry.unix_ns) >= since_ns && is_record(&entry.body, failing, name))
}

fn is_record(body: &Body, failing: &Failing, name: &str) -> bool {
    let is_named = |process: &Option<crate::event::proto::Process>| {
        let process = process.as_ref();
        process.and_then(|process| process.comm.as_deref()) == Some(name)
    };
    match (failing.failure, body) {
        (Failure::Crash, Body::SignalFatal(fatal)) => {
            let signal = fatal.signal.as_ref().and_then(|signal| signal.number);
            is_named(&fatal.process)
                && signal == Some(libc::SIGSEGV as u32)
                && fatal.fault_address == Some(fail::FAULT_ADDRESS)
        }
        (Failure::Memory, Body::OomKill(kill)) => is_named(&kill.process),
        (Failure::Disk, Body::IoError(error)) => {
            failing.device.is_some() && error.device == failing.device
        }
        _ => false,
    }
}

fn judge_dump(step: &'static str, what: &str, found: &Found) -> Step {
    let file = found.path.file_name().unwrap_or_default().to_string_lossy();
    let report = match &found.report {
        Ok(report) if report.state == read::State::Complete => report,
        Ok(report) => {
            let text = format!(
                "{what}, and {file} is {:?}: `recorder verify` it",
                report.state
            );
            return Step::new(step, State::Fail, text.to_lowercase());
        }
        Err(error) => return Step::new(step, State::Fail, format!("{what}, but {error}")),
    };
    let summary = match &found.incident {
        Some(incident) => escape_short(&incident.summary, SUMMARY_MAX),
        None => "?".to_owned(),
    };
    let how = match (found.by_itself, found.ours) {
        (true, _) => format!("{summary:?}"),
        (false, true) => "it made no dump by itself (no rule, a cooldown or a limit); recorded, as the dump that was asked for shows".to_owned(),
        (false, false) => format!("it has no dump of its own, but is in that of {summary:?}"),
    };
    let took = duration(u64::try_from(found.took.as_nanos()).unwrap_or(u64::MAX));
    let text = format!(
        "{what}: {how}; {file} has {} events, verified, {took} after it",
        report.events.max(found.events)
    );
    Step::new(step, State::Pass, text)
}
