//! The thread that writes dumps.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::crash::Names;
use super::news::notice;
use super::previous::{self, Found, Previous};
use crate::api::DumpStatus;
use crate::dump::{self, Clocks, DumpInput, Evidence, Host, Limits, Probe, WriteError, Written};
use crate::event::ClockPair;
use crate::harmless::escape;
use crate::identity::{Directory, Naming};
use crate::incident::Incident;
use crate::ingest::{Command, Commands, FrozenIncident, now_pair, wall_clock_error};
use crate::notify::{DumpOf, Notice, Notifier, Occasion};
use crate::ring::Abandoned;
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
    /// How long a dump waits for its evidence.
    pub(super) evidence_patience: Duration,
    pub(super) status: Arc<Mutex<DumpStatus>>,
    pub(super) commands: Commands,
    pub(super) notifier: Notifier,
    /// Who looks at dumps once they are durable.
    pub(super) tagger: Sender<PathBuf>,
    /// Of the last dump.
    pub(super) directory: Directory,
    /// What the agents before this one left, and when this one began to record.
    pub(super) previous: Vec<(Previous, ClockPair)>,
    /// Where that was.
    pub(super) ring: PathBuf,
}

impl Writer {
    /// Writes what comes until nothing more can come.
    pub(super) fn run(mut self, incidents: &Receiver<FrozenIncident>) {
        self.tidy();
        for (old, recording) in std::mem::take(&mut self.previous) {
            self.keep_previous(old, recording);
        }
        loop {
            let frozen = match incidents.recv_timeout(TIDY_INTERVAL) {
                Ok(frozen) => frozen,
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let begun = Instant::now();
            let outcome = self.write(&frozen);
            self.notify(&frozen.incident, &outcome);
            self.tell(&frozen.incident.summary, &outcome, begun.elapsed());
            if let Err(error) = &outcome {
                self.missed(&frozen.incident, frozen.clock, error);
            }
            self.look(self.store.added());
        }
    }

    /// Tells who is to know of it what became of a dump.
    fn notify(&self, incident: &Incident, outcome: &Result<Written>) {
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
    fn tell(&self, summary: &str, outcome: &Result<Written>, took: Duration) {
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

    /// Writes what the agent before this one left in its ring.
    fn keep_previous(&mut self, mut previous: Previous, recording: ClockPair) {
        let begun = Instant::now();
        let (summary, outcome) = match previous.read() {
            Ok(old) => {
                let found = Found::new(&self.ring, &old, recording);
                let Some(incident) = found.incident(&old) else {
                    previous.forget();
                    return;
                };
                let outcome = self.write_previous(&old, &incident, &found);
                self.notify(&incident, &outcome);
                if let Err(error) = &outcome {
                    self.missed(&incident, recording, error);
                }
                (incident.summary, outcome)
            }
            Err(error) => ("the recorder's last window".to_owned(), Err(error.into())),
        };
        self.tell(&summary, &outcome, begun.elapsed());
        self.look(self.store.added());
        if outcome.is_ok() {
            previous.forget();
        }
    }

    fn write_previous(
        &mut self,
        old: &Abandoned,
        incident: &Incident,
        found: &Found,
    ) -> Result<Written> {
        self.commands.fill(&mut self.directory);
        previous::identify(old, &mut self.directory);
        let names = Names::new();
        let config = self
            .config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let host = previous::host_then(old, &self.host);
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
            filtered: &[],
            evidence: &Evidence::default(),
            recovery: Some(&found.recovery),
            may_grow: &|| self.store.may_grow(),
            enrich: &|body| names.enrich(body),
        };
        self.write_dump(&input)
    }

    /// Removes the dumps that have become too old.
    fn tidy(&self) {
        self.look(self.store.tidy());
    }

    /// Keeps what is known of an incident whose dump could not be written.
    fn missed(&self, incident: &Incident, clock: ClockPair, error: &Error) {
        let unix_ns = clock.unix_ns_at(incident.trigger.boot_ns);
        self.look(self.store.add_unwritten(&Unwritten {
            incident: &serde_json::to_value(incident).unwrap_or_default(),
            unix_ns: i64::try_from(unix_ns).unwrap_or(i64::MAX),
            host: &self.host.hostname,
            environment: self.host.environment.as_deref(),
            why: &format!("{error:#}"),
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
        let usage = self.store.usage();
        let mut status = self.status();
        status.pinned = usage.pinned;
        status.pinned_bytes = usage.pinned_bytes;
        status.evicted = usage.evicted;
        status.warning = usage.warning;
    }

    fn status(&self) -> MutexGuard<'_, DumpStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&mut self, frozen: &FrozenIncident) -> Result<Written> {
        self.commands.fill(&mut self.directory);
        let evidence = match &frozen.evidence {
            Some(collection) => collection.finish(self.evidence_patience),
            None => Evidence::default(),
        };
        let names = Names::new();
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
            filtered: &frozen.filtered,
            evidence: &evidence,
            recovery: None,
            may_grow: &|| self.store.may_grow(),
            enrich: &|body| names.enrich(body),
        };
        self.write_dump(&input)
    }

    /// Makes room and writes; again and smaller, if somebody else fills the file system meanwhile.
    fn write_dump(&self, input: &DumpInput<'_>) -> Result<Written> {
        let mut wanted = self.limits.max_dump_bytes;
        let mut retries = RETRIES;
        loop {
            let limits = Limits {
                max_dump_bytes: self.store.make_room(wanted)?.dump_bytes,
            };
            match dump::write(self.store.directory(), input, &limits) {
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
