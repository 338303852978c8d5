//! The desk: sees to it that a frozen window becomes a dump, wherever that can be.
//!
//! Each directory that dumps may be written to has a thread of its own, so that a file system which does not answer costs that
//! thread and nothing else: after a while the window is given to the next directory. What has come back by then from the first is a
//! second copy, which the first takes over. A window that nobody could write stays frozen and is tried again, as long as there are
//! not too many of them: what they hold is part of the flight ring's budget.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use uuid::Uuid;

use super::news::notice;
use super::writer::{Done, Job};
use crate::api::DumpStatus;
use crate::dump::{Host, Refusal, Written};
use crate::harmless::escape;
use crate::incident::Incident;
use crate::ingest::{Command, Commands, FrozenIncident, now_pair};
use crate::notify::{DumpOf, Notice, Notifier, Occasion};
use crate::reserve;

/// How long a write may take, beside waiting for evidence, before the next directory is tried.
const PATIENCE: Duration = Duration::from_secs(10);
/// Windows that are kept though nobody could write them.
const PENDING_MAX: usize = 2;
/// When such a window is tried again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often it is looked for late writes when nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// A directory of dumps, and the thread that writes to it.
pub(super) struct Target {
    pub(super) directory: PathBuf,
    pub(super) jobs: Sender<Job>,
    /// Whether its thread has not come back from a write.
    pub(super) is_busy: bool,
}

/// A window that nobody could write.
struct Pending {
    job: Job,
    again: Instant,
    pause: Duration,
}

/// Who tells what has become of dumps.
pub(super) struct Teller {
    pub(super) status: Arc<Mutex<DumpStatus>>,
    pub(super) commands: Commands,
    pub(super) notifier: Notifier,
    pub(super) host: Host,
    /// Who looks at dumps once they are durable.
    pub(super) tagger: Sender<PathBuf>,
}

impl Teller {
    pub(super) fn status(&self) -> MutexGuard<'_, DumpStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who is to know of it what became of a dump.
    pub(super) fn notify(&self, incident: &Incident, outcome: &Result<Written>) {
        let (occasion, dump, error) = match outcome {
            Ok(written) => {
                let dump = DumpOf {
                    path: written.path.display().to_string(),
                    bytes: written.bytes,
                    sha256: written.sha256.clone(),
                    events: written.events,
                };
                (Occasion::Dump, Some(dump), None)
            }
            Err(error) => (Occasion::DumpFailed, None, Some(format!("{error:#}"))),
        };
        self.notifier.tell(Notice {
            dump,
            error,
            ..notice(occasion, incident, &self.host)
        });
    }

    /// Says what has become of a dump.
    pub(super) fn tell(&self, summary: &str, outcome: &Result<Written>, took: Duration) {
        let summary = escape(summary);
        let mut status = self.status();
        match outcome {
            Ok(written) => {
                self.commands.send(Command::Written(written.bytes));
                let path = written.path.display().to_string();
                super::say(&format!("dump {path} {summary}"));
                // One that is not looked at has no tags proposed.
                let _ = self.tagger.try_send(written.path.clone());
                status.written += 1;
                status.failed_in_a_row = 0;
                status.durations.add(took);
                status.last_unix_ns = Some(now_pair().unix_ns);
                status.last = Some(path);
            }
            Err(error) => {
                let text = format!("no dump of {summary}: {error:#}");
                super::warn(&text);
                status.failed += 1;
                status.failed_in_a_row += 1;
                status.last_error = Some(text);
            }
        }
    }
}

/// Gives windows to those who write them.
pub(super) struct Desk {
    /// In the order in which they are tried: the first is where dumps belong.
    targets: Vec<Target>,
    done: Receiver<Done>,
    teller: Arc<Teller>,
    patience: Duration,
    pending: VecDeque<Pending>,
}

impl Desk {
    /// `evidence` is how long a dump may wait for that.
    pub(super) fn new(
        targets: Vec<Target>,
        done: Receiver<Done>,
        teller: Arc<Teller>,
        evidence: Duration,
    ) -> Self {
        Self {
            targets,
            done,
            teller,
            patience: PATIENCE + evidence,
            pending: VecDeque::new(),
        }
    }

    /// Sees to what comes until nothing more can come.
    pub(super) fn run(mut self, incidents: &Receiver<FrozenIncident>) {
        let _here = reserve::here();
        loop {
            self.teller.status().waiting = self.pending.len() as u64;
            let due = self.pending.front().map(|one| one.again);
            let wait = due.map_or(LOOK_INTERVAL, |due| {
                due.saturating_duration_since(Instant::now())
            });
            match incidents.recv_timeout(wait) {
                Ok(frozen) => {
                    let job = Job {
                        frozen: Arc::new(frozen),
                        evidence: Arc::default(),
                        refused: Vec::new(),
                        missed: None,
                    };
                    if let Err(job) = self.deliver(job, true) {
                        self.keep(job, RETRY.0);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.retry(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.hear();
        }
        for one in std::mem::take(&mut self.pending) {
            // What fails now was said before; the ring has it still.
            let _ = self.deliver(one.job, false);
        }
    }

    /// Lets one target after the other write it; gives it back if none can.
    fn deliver(&mut self, mut job: Job, is_first_time: bool) -> Result<(), Job> {
        let incident = job.frozen.incident.clone();
        job.refused.clear();
        for index in 0..self.targets.len() {
            let error = match self.write(index, &job) {
                Some(Done {
                    outcome: Ok(written),
                    took,
                    ..
                }) => {
                    let outcome = Ok(written);
                    self.teller.notify(&incident, &outcome);
                    self.teller.tell(&incident.summary, &outcome, took);
                    self.place(index, &job.refused);
                    return Ok(());
                }
                Some(Done {
                    outcome: Err(error),
                    ..
                }) => format!("{error:#}"),
                None => format!(
                    "a write has not come back within {} s",
                    self.patience.as_secs()
                ),
            };
            let directory = self.targets[index].directory.display().to_string();
            if self.targets.len() > 1 {
                super::warn(&format!("no dump in {directory}: {error}"));
            }
            job.refused.push(Refusal { directory, error });
        }
        if is_first_time {
            let why: Vec<_> = job.refused.iter().map(|one| one.error.clone()).collect();
            let why = why.join("; ");
            let outcome = Err(anyhow::anyhow!("{why}"));
            self.teller.notify(&incident, &outcome);
            self.teller
                .tell(&incident.summary, &outcome, Duration::ZERO);
            if let Some(first) = self.targets.first().filter(|first| !first.is_busy) {
                let mut missed = job.clone();
                missed.missed = Some(why);
                // Its thread is there as long as this one.
                let _ = first.jobs.send(missed);
            }
        }
        Err(job)
    }

    /// Lets a target write it; `None` if it does not come back.
    fn write(&mut self, index: usize, job: &Job) -> Option<Done> {
        self.hear();
        let target = self.targets.get_mut(index)?;
        if target.is_busy || target.jobs.send(job.clone()).is_err() {
            return None;
        }
        target.is_busy = true;
        let deadline = Instant::now() + self.patience;
        while let Ok(done) = self.done.recv_deadline(deadline) {
            let is_it = done.writer == index && done.id == job.frozen.incident.id;
            self.came_back(&done);
            if is_it {
                return Some(done);
            }
        }
        None
    }

    /// Takes note of writes that came back late.
    fn hear(&mut self) {
        loop {
            match self.done.try_recv() {
                Ok(done) => self.came_back(&done),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn came_back(&mut self, done: &Done) {
        if let Some(target) = self.targets.get_mut(done.writer) {
            target.is_busy = false;
        }
        let is_it = |one: &Pending| one.job.frozen.incident.id == done.id;
        if done.outcome.is_ok()
            && let Some(index) = self.pending.iter().position(is_it)
            && let Some(one) = self.pending.remove(index)
        {
            // Nobody has said so: the write was given up.
            let incident = &one.job.frozen.incident;
            self.teller.notify(incident, &done.outcome);
            self.teller
                .tell(&incident.summary, &done.outcome, done.took);
        }
    }

    /// Takes note of where the last dump is.
    fn place(&self, index: usize, refused: &[Refusal]) {
        let first = refused.first();
        self.teller.status().elsewhere = first.map(|first| {
            format!(
                "the last dump is in {}, and is moved when that is possible: {}: {}",
                self.targets[index].directory.display(),
                first.directory,
                first.error
            )
        });
    }

    /// Keeps a window that nobody could write, and gives one up if there are too many.
    fn keep(&mut self, job: Job, pause: Duration) {
        self.pending.push_back(Pending {
            job,
            again: Instant::now() + pause,
            pause,
        });
        if self.pending.len() <= PENDING_MAX {
            return;
        }
        let incidents = self.pending.iter().map(|one| &one.job.frozen.incident);
        let incidents: Vec<&Incident> = incidents.collect();
        let least = least(&incidents);
        if let Some(given_up) = least.and_then(|index| self.pending.remove(index)) {
            let id: Uuid = given_up.job.frozen.incident.id;
            super::warn(&format!(
                "the window of incident {id} is given up: others wait, too"
            ));
        }
    }

    /// Tries the window again whose time has come.
    fn retry(&mut self) {
        let now = Instant::now();
        if let Some(one) = self.pending.pop_front_if(|one| one.again <= now) {
            let pause = (one.pause * 2).min(RETRY.1);
            if let Err(job) = self.deliver(one.job, false) {
                self.keep(job, pause);
            }
        }
    }
}

/// Returns which incident is missed least: one of a rule that an older one is of, too, else the least grave, and of those the newest. A
/// disk that fails makes incidents of its own, behind the one that is wanted.
fn least(incidents: &[&Incident]) -> Option<usize> {
    let at = |incident: &Incident| incident.trigger.boot_ns;
    let worth = |index: &usize| {
        let incident = incidents[*index];
        let is_first = !incidents
            .iter()
            .any(|other| other.rule == incident.rule && at(other) < at(incident));
        (is_first, incident.severity, Reverse(at(incident)))
    };
    (0..incidents.len()).min_by_key(worth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::{Severity, Trigger};

    #[test]
    fn what_a_failing_disk_makes_does_not_push_out_what_came_first() {
        let incident = |rule: &str, severity, boot_ns| Incident {
            rule: rule.to_owned(),
            severity,
            trigger: Trigger {
                boot_ns,
                ..Trigger::default()
            },
            ..Incident::default()
        };
        let crash = incident("fatal-signal", Severity::High, 1);
        let failed = incident("io-error", Severity::High, 2);
        let lost = incident("writeback-error", Severity::Critical, 3);
        let lost_again = incident("writeback-error", Severity::Critical, 4);
        assert_eq!(least(&[&crash, &failed, &lost]), Some(1));
        assert_eq!(least(&[&lost, &crash, &lost_again]), Some(2));
        assert_eq!(least(&[&failed, &crash]), Some(0));
        assert_eq!(least(&[]), None);
    }
}
