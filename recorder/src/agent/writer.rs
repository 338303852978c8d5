//! The threads that write dumps, one for each directory: see [`desk`](super::desk).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use uuid::Uuid;

use super::crash::{Namer, Names};
use super::desk::Teller;
use super::previous::{self, Found, Previous};
use super::pstore;
use crate::dump::{
    self, Clocks, DumpInput, DumpWriter, Evidence, Grow, Host, Limits, Probe, Refusal, Skipped,
    WriteError, Written,
};
use crate::event::ClockPair;
use crate::identity::{Directory, Naming};
use crate::incident::Incident;
use crate::ingest::{Commands, FrozenIncident, now_boot_ns, wall_clock_error};
use crate::kernel::Counters;
use crate::reserve;
use crate::ring::Abandoned;
use crate::sandbox::Starter;
use crate::store::{Store, StoreError, Unwritten};

/// How often dumps that have become too old are looked for.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// How often a dump is tried again, smaller, after the file system ran full under it.
const RETRIES: u32 = 2;

/// What every dump says of the agent.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) limits: Limits,
    pub(super) host: Host,
    pub(super) start: ClockPair,
    pub(super) config: Arc<Mutex<serde_json::Value>>,
    pub(super) probes: Vec<Probe>,
    pub(super) counters: Arc<Counters>,
    /// How long a dump waits for its evidence.
    pub(super) evidence_patience: Duration,
    pub(super) commands: Commands,
    pub(super) teller: Arc<Teller>,
    /// Its place among the writers.
    pub(super) number: usize,
    /// Whether it writes where dumps do not belong.
    pub(super) is_fallback: bool,
    /// Directories of dumps that belong here.
    pub(super) fallbacks: Vec<PathBuf>,
    /// Of the last dump.
    pub(super) directory: Directory,
    pub(super) namer: Namer,
    pub(super) starter: Starter,
    /// What the agents before this one left, and when this one began to record.
    pub(super) previous: Vec<(Previous, ClockPair)>,
}

/// A window to be written.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) frozen: Arc<FrozenIncident>,
    /// What was collected, once somebody has asked for it.
    pub(super) evidence: Arc<Mutex<Option<Arc<Evidence>>>>,
    /// Where it was to be written first.
    pub(super) refused: Vec<Refusal>,
    /// It will be written nowhere for now: the catalog is to know of it.
    pub(super) missed: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// Which writer says so.
    pub(super) writer: usize,
    /// Id of the incident.
    pub(super) id: Uuid,
    pub(super) outcome: Result<Written>,
    pub(super) took: Duration,
}

impl Writer {
    /// Writes what comes until nothing more can come.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, done: &Sender<Done>) {
        let mut dumps = DumpWriter::default();
        if !self.is_fallback {
            if let Err(error) = dumps.prepare() {
                super::warn(&format!("the next dump has to start a thread: {error}"));
            }
            self.tidy();
        }
        for (old, recording) in std::mem::take(&mut self.previous) {
            self.keep_previous(&mut dumps, old, recording);
        }
        self.fetch();
        loop {
            let job = match jobs.recv_timeout(TIDY_INTERVAL) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    if !self.is_fallback {
                        self.tidy();
                    }
                    self.fetch();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(why) = &job.missed {
                self.missed(&job.frozen.incident, job.frozen.clock, why);
                continue;
            }
            let begun = Instant::now();
            let outcome = {
                let _here = reserve::here();
                self.write(&mut dumps, &job)
            };
            if self.is_fallback {
                // What is set aside is enough for one writer.
                dumps = DumpWriter::default();
                self.directory = Directory::default();
            }
            let is_written = outcome.is_ok();
            // Who waits for it may be gone: then the agent ends.
            let _ = done.send(Done {
                writer: self.number,
                id: job.frozen.incident.id,
                outcome,
                took: begun.elapsed(),
            });
            if is_written {
                self.look(self.store.added());
                self.fetch();
            }
        }
    }

    /// Takes over what had to be written elsewhere.
    fn fetch(&self) {
        let mut fetched = 0;
        for directory in &self.fallbacks {
            match self.store.fetch(directory) {
                Ok(some) => fetched += some,
                Err(error) => super::warn(&format!(
                    "the dumps in {} stay there for now: {:#}",
                    directory.display(),
                    Error::from(error)
                )),
            }
        }
        if fetched > 0 {
            super::log(&format!(
                "{fetched} dumps that had been written elsewhere are in {} now",
                self.store.directory().display()
            ));
            self.look(self.store.added());
        }
    }

    /// Writes what the agent before this one left in its ring.
    fn keep_previous(
        &mut self,
        dumps: &mut DumpWriter,
        mut previous: Previous,
        recording: ClockPair,
    ) {
        let begun = Instant::now();
        let (summary, outcome) = match previous.read() {
            Ok(old) => {
                let found = Found::new(previous.path(), &old, recording);
                // Only what was lost is wanted of a copy on disk.
                let incident = found.incident(&old);
                let Some(incident) = incident.filter(|_| !(old.is_twin && old.was_stopped()))
                else {
                    previous.forget();
                    return;
                };
                // A start that was cut short may have come as far as that.
                let outcome = match dump::find_written(self.store.directory(), &incident) {
                    Some(written) => Ok(written),
                    None => self.write_previous(dumps, &old, &incident, &found),
                };
                self.teller.notify(&incident, &outcome);
                if let Err(error) = &outcome {
                    self.missed(&incident, recording, &format!("{error:#}"));
                }
                (incident.summary, outcome)
            }
            Err(error) => ("the recorder's last window".to_owned(), Err(error.into())),
        };
        self.teller.tell(&summary, &outcome, begun.elapsed());
        self.look(self.store.added());
        if outcome.is_ok() {
            previous.forget();
        }
    }

    fn write_previous(
        &mut self,
        dumps: &mut DumpWriter,
        old: &Abandoned,
        incident: &Incident,
        found: &Found,
    ) -> Result<Written> {
        self.commands.fill(&mut self.directory);
        previous::identify(old, &mut self.directory);
        let names = Names::by(&self.namer);
        let config = self
            .config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let host = previous::host_then(old, &self.host);
        let evidence = match previous::is_unclean(old) {
            true => {
                let since = old.made.map_or(0, |made| made.unix_ns);
                pstore::collect(&self.starter, Uuid::from_bytes(old.boot_id), since)
            }
            false => Evidence::default(),
        };
        let input = DumpInput {
            incident,
            frozen: old,
            host: &host,
            clocks: found.clocks(old, incident),
            directory: &self.directory,
            config: &config,
            probes: &self.probes,
            // They went with the kernel side of it.
            kernel: &[],
            throttled: &[],
            skipped: &[],
            filtered: &[],
            evidence: &evidence,
            recovery: Some(&found.recovery),
            refused: &[],
            may_grow: &self.may_grow(),
            enrich: &|body| names.enrich(body),
        };
        self.write_dump(dumps, &input)
    }

    /// Removes the dumps that have become too old.
    fn tidy(&self) {
        self.look(self.store.tidy());
    }

    /// Keeps what is known of an incident whose dump could not be written.
    fn missed(&self, incident: &Incident, clock: ClockPair, why: &str) {
        let unix_ns = clock.unix_ns_at(incident.trigger.boot_ns);
        self.look(self.store.add_unwritten(&Unwritten {
            incident: &serde_json::to_value(incident).unwrap_or_default(),
            unix_ns: i64::try_from(unix_ns).unwrap_or(i64::MAX),
            host: &self.host.hostname,
            environment: self.host.environment.as_deref(),
            why,
        }));
    }

    /// Says what the store has to say, and takes note of what the dumps take.
    fn look(&self, done: Result<(), StoreError>) {
        if let Err(error) = done {
            super::warn(&format!(
                "the catalog is not complete: {:#}",
                Error::from(error)
            ));
        }
        for sentence in self.store.take_said() {
            super::warn(&sentence);
        }
        if self.is_fallback {
            return;
        }
        let usage = self.store.usage();
        let mut status = self.teller.status();
        status.pinned = usage.pinned;
        status.pinned_bytes = usage.pinned_bytes;
        status.evicted = usage.evicted;
        status.warning = usage.warning;
    }

    fn write(&mut self, dumps: &mut DumpWriter, job: &Job) -> Result<Written> {
        let frozen = &*job.frozen;
        self.commands.fill(&mut self.directory);
        let evidence = self.evidence(job);
        let names = Names::by(&self.namer);
        let error = wall_clock_error();
        let config = self
            .config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut incident = frozen.incident.clone();
        let fired = incident.trigger.boot_ns;
        Naming::new(&self.directory).name_subject(&mut incident.subject, fired);
        let input = DumpInput {
            incident: &incident,
            frozen: &frozen.window,
            host: &self.host,
            clocks: Clocks {
                start: self.start,
                freeze: frozen.clock,
                synchronised: error.map(|(is_synchronised, _)| is_synchronised),
                error_ns: error.map(|(_, ns)| ns),
            },
            directory: &self.directory,
            config: &config,
            probes: &self.probes,
            kernel: &frozen.counters,
            throttled: &frozen.throttled,
            skipped: &self.skipped(&incident),
            filtered: &frozen.filtered,
            evidence: &evidence,
            recovery: None,
            refused: &job.refused,
            may_grow: &self.may_grow(),
            enrich: &|body| names.enrich(body),
        };
        self.write_dump(dumps, &input)
    }

    /// Returns what the kernel may have skipped inside the window of an incident.
    fn skipped(&self, incident: &Incident) -> Vec<Skipped> {
        let counters = &self.counters;
        let (since_boot_ns, skipped) =
            counters.skipped_since(incident.window_start_boot_ns, now_boot_ns());
        let skipped = skipped.into_iter().map(|(program, times)| Skipped {
            program,
            since_boot_ns,
            times,
        });
        skipped.collect()
    }

    /// Returns what tells whether a dump may go on growing.
    fn may_grow(&self) -> Grow {
        let store = Arc::clone(&self.store);
        Arc::new(move || store.may_grow())
    }

    /// Returns what was collected. Only the first to write waits for it; should that not come back, the others go without.
    fn evidence(&self, job: &Job) -> Arc<Evidence> {
        let taken = || job.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(evidence) = &*taken() {
            return Arc::clone(evidence);
        }
        let evidence = match &job.frozen.evidence {
            Some(collection) if job.refused.is_empty() => {
                Arc::new(collection.finish(self.evidence_patience))
            }
            Some(_) | None => return Arc::default(),
        };
        *taken() = Some(Arc::clone(&evidence));
        evidence
    }

    /// Makes room and writes; again and smaller, if somebody else fills the file system meanwhile.
    fn write_dump(&self, dumps: &mut DumpWriter, input: &DumpInput<'_>) -> Result<Written> {
        let mut wanted = self.limits.max_dump_bytes;
        let mut retries = RETRIES;
        loop {
            let limits = Limits {
                max_dump_bytes: self.store.make_room(wanted)?.dump_bytes,
            };
            let mut link = self.store.link();
            let directory = self.store.directory();
            match dumps.write(directory, input, &limits, Some(&mut link)) {
                // Whoever fills it goes on: what is free now will not be.
                Err(WriteError::LowSpace(_) | WriteError::StorageFull { .. }) if retries > 0 => {
                    retries -= 1;
                    wanted = limits.max_dump_bytes / 4;
                }
                done => return Ok(done?),
            }
        }
    }
}
