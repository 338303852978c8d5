//! The thread that writes dumps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::Receiver;

use super::crash::Names;
use crate::api::DumpStatus;
use crate::dump::{self, Clocks, DumpInput, Evidence, Host, Limits, Probe, Written};
use crate::event::ClockPair;
use crate::harmless::escape;
use crate::identity::Directory;
use crate::ingest::{Command, Commands, FrozenIncident};
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
}

impl Writer {
    /// Writes what comes until nothing more can come.
    pub(super) fn run(mut self, incidents: &Receiver<FrozenIncident>) {
        for frozen in incidents {
            let outcome = self.write(&frozen);
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(written) => {
                    self.commands.send(Command::Written(written.bytes));
                    let path = written.path.display().to_string();
                    super::say(&format!("dump {path} {}", escape(&frozen.incident.summary)));
                    status.written += 1;
                    status.last = Some(path);
                }
                Err(error) => {
                    let text =
                        format!("no dump of {}: {error:#}", escape(&frozen.incident.summary));
                    super::warn(&text);
                    status.failed += 1;
                    status.last_error = Some(text);
                }
            }
        }
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
        let input = DumpInput {
            incident: &frozen.incident,
            frozen: &frozen.window,
            host: &self.host,
            clocks: Clocks {
                start: self.start,
                freeze: frozen.clock,
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
