//! The thread that writes dumps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::Receiver;

use super::crash::Names;
use super::previous;
use crate::api::DumpStatus;
use crate::dump::{self, Clocks, DumpInput, Evidence, Host, Limits, Probe, Written};
use crate::event::ClockPair;
use crate::harmless::escape;
use crate::identity::Directory;
use crate::incident::Incident;
use crate::ingest::{Command, Commands, FrozenIncident, wall_clock_error};
use crate::ring::{Abandoned, OldArena};
use crate::store::Store;

/// What every dump says of the agent.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) limits: Limits,
    pub(super) host: Host,
    pub(super) start: ClockPair,
    pub(super) config: serde_json::Value,
    pub(super) probes: Vec<Probe>,
    /// How long a dump waits for its evidence.
    pub(super) evidence_patience: Duration,
    pub(super) status: Arc<Mutex<DumpStatus>>,
    pub(super) commands: Commands,
    /// Of the last dump.
    pub(super) directory: Directory,
    /// What the agent before this one left, and when this one began to record.
    pub(super) previous: Option<(OldArena, ClockPair)>,
}

impl Writer {
    /// Writes what comes until nothing more can come.
    pub(super) fn run(mut self, incidents: &Receiver<FrozenIncident>) {
        if let Some((old, recording)) = self.previous.take() {
            self.keep_previous(&old, recording);
        }
        for frozen in incidents {
            let outcome = self.write(&frozen);
            self.tell(&frozen.incident.summary, outcome);
        }
    }

    /// Says what became of a dump.
    fn tell(&self, summary: &str, outcome: Result<Written>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(written) => {
                self.commands.send(Command::Written(written.bytes));
                let path = written.path.display().to_string();
                super::say(&format!("dump {path} {}", escape(summary)));
                status.written += 1;
                status.last = Some(path);
            }
            Err(error) => {
                let text = format!("no dump of {}: {error:#}", escape(summary));
                super::warn(&text);
                status.failed += 1;
                status.last_error = Some(text);
            }
        }
    }

    /// Writes what the agent before this one left in its ring.
    fn keep_previous(&mut self, old: &OldArena, recording: ClockPair) {
        let (summary, outcome) = match old.read() {
            Ok(old) => match previous::incident(&old, recording) {
                Some(incident) => {
                    let outcome = self.write_previous(&old, &incident, recording);
                    (incident.summary, outcome)
                }
                None => return,
            },
            Err(error) => ("the recorder's last window".to_owned(), Err(error.into())),
        };
        self.tell(&summary, outcome);
    }

    fn write_previous(
        &mut self,
        old: &Abandoned,
        incident: &Incident,
        recording: ClockPair,
    ) -> Result<Written> {
        self.commands.fill(&mut self.directory);
        previous::identify(old, &mut self.directory);
        let room = self.store.make_room(self.limits.max_dump_bytes)?;
        let limits = Limits {
            max_dump_bytes: room.dump_bytes,
        };
        let names = Names::new();
        let began = ClockPair {
            boot_ns: incident.window_start_boot_ns,
            unix_ns: recording.unix_ns_at(incident.window_start_boot_ns),
        };
        let input = DumpInput {
            incident,
            frozen: old,
            host: &self.host,
            clocks: Clocks {
                start: began,
                freeze: recording,
                // How far it was wrong then nobody knows now.
                synchronised: None,
                error_ns: None,
            },
            directory: &self.directory,
            config: &self.config,
            probes: &self.probes,
            // They went with the kernel side of it.
            kernel: &[],
            evidence: &Evidence::default(),
            enrich: &|body| names.enrich(body),
        };
        Ok(dump::write(self.store.directory(), &input, &limits)?)
    }

    fn write(&mut self, frozen: &FrozenIncident) -> Result<Written> {
        self.commands.fill(&mut self.directory);
        let evidence = match &frozen.evidence {
            Some(collection) => collection.finish(self.evidence_patience),
            None => Evidence::default(),
        };
        let room = self.store.make_room(self.limits.max_dump_bytes)?;
        let limits = Limits {
            max_dump_bytes: room.dump_bytes,
        };
        let names = Names::new();
        let error = wall_clock_error();
        let input = DumpInput {
            incident: &frozen.incident,
            frozen: &frozen.window,
            host: &self.host,
            clocks: Clocks {
                start: self.start,
                freeze: frozen.clock,
                synchronised: error.map(|(is_synchronised, _)| is_synchronised),
                error_ns: error.map(|(_, ns)| ns),
            },
            directory: &self.directory,
            config: &self.config,
            probes: &self.probes,
            kernel: &frozen.counters,
            evidence: &evidence,
            enrich: &|body| names.enrich(body),
        };
        Ok(dump::write(self.store.directory(), &input, &limits)?)
    }
}
