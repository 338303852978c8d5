//! Reading the configuration again, and trying rules on what the ring holds.
//!
//! All or nothing: rules are read, checked and made ready beside the data plane, which then puts them in force between two
//! records. Whatever is wrong leaves everything as it was.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use recorder_ebpf::abi::{Header, Lane, decode};
use tokio::sync::oneshot;

use crate::api::ReloadReply;
use crate::budget;
use crate::config::{ConfigError, RecordConfig, SETTINGS};
use crate::event;
use crate::harmless::escape;
use crate::identity::{Directory, Naming};
use crate::incident::Limits;
use crate::ingest::{Command, Commands};
use crate::notify::Notifier;
use crate::rules::{self, Rehearsal, Rehearsing, RuleSet};

/// Reads the configuration: the files of today below the flags of the start.
pub type Load = Box<dyn Fn() -> Result<RecordConfig, ConfigError> + Send + Sync>;

/// Settings that a reload takes, by the beginning of their keys. The other limits are in the probes, which are loaded once.
const LIVE: [&str; 5] = [
    "window.",
    "incident.",
    "limits.dumps_per_hour",
    "limits.bytes_per_day",
    "budget.",
];
/// What a record takes in the ring for each byte that it takes in a dump, about.
const COMPRESSION: u64 = 9;
/// Bytes of a dump without any event, about.
const DUMP_BYTES: u64 = 64 << 10;

/// What is needed to read the configuration again.
pub(super) struct Reloader {
    pub(super) load: Load,
    /// The configuration that is in force.
    pub(super) running: Mutex<RecordConfig>,
    /// The same, as dumps describe it.
    pub(super) described: Arc<Mutex<serde_json::Value>>,
    pub(super) commands: Commands,
    pub(super) notifier: Notifier,
    /// What recording may cost.
    pub(super) contract: Arc<budget::Shared>,
}

/// Makes the rules of a configuration ready.
pub(super) fn compile(config: &RecordConfig) -> Result<RuleSet, ConfigError> {
    RuleSet::compile(&config.rules, &config.rule_settings())
        .map_err(|faults| ConfigError::Rules { faults })
}

/// Returns the limits of a configuration.
pub(super) fn limits(config: &RecordConfig) -> Limits {
    Limits {
        dumps_per_hour: config.limit_dumps_per_hour,
        bytes_per_day: config.limit_bytes_per_day.0,
    }
}

impl Reloader {
    /// Reads the configuration again and puts its rules in force; says how it went.
    pub(super) fn reload(&self) -> Result<ReloadReply, String> {
        super::service::reloading();
        let done = self.try_reload();
        super::service::reloaded();
        match &done {
            Ok(reply) => {
                let rules = rules::counted(reply.configured, reply.rules);
                super::say(&format!("reloaded: {rules}"));
                if !reply.needs_restart.is_empty() {
                    let settings = reply.needs_restart.join(", ");
                    super::warn(&format!(
                        "these have changed and need a restart: {settings}"
                    ));
                }
            }
            Err(error) => {
                let error = error.lines().map(escape).collect::<Vec<_>>().join("; ");
                super::warn(&format!(
                    "not reloaded, the old rules stay in force: {error}"
                ));
            }
        }
        done
    }

    fn try_reload(&self) -> Result<ReloadReply, String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let new = (self.load)().map_err(|error| error.to_string())?;
        let rules = compile(&new).map_err(|error| error.to_string())?;
        let reply = ReloadReply {
            rules: rules.len() as u64,
            configured: new.rules.len() as u64,
            needs_restart: needs_restart(&running, &new),
        };
        let mut next = running.clone();
        for setting in SETTINGS {
            if LIVE
                .iter()
                .any(|beginning| setting.key.starts_with(beginning))
            {
                setting.copy(&mut next, &new);
            }
        }
        next.rules.clone_from(&new.rules);
        next.notify.clone_from(&new.notify);
        let targets = self.notifier.prepare(&new.notify);
        let targets =
            targets.map_err(|error| format!("cannot start a thread to notify: {error}"))?;
        let described = super::described(&next).map_err(|error| error.to_string())?;
        let (taken, when_taken) = oneshot::channel();
        let command = Command::Rules(Box::new(rules), limits(&next), taken);
        if !self.commands.send(command) || when_taken.blocking_recv().is_err() {
            return Err("the agent is stopping, or does not keep up".to_owned());
        }
        self.notifier.put(targets);
        self.contract.set_contract(next.contract());
        *self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = described;
        *running = next;
        Ok(reply)
    }

    /// Shows what the ring holds to rules: to those of a text, or of the configuration files as they are now.
    pub(super) fn rehearse(&self, text: Option<&str>) -> Result<Rehearsal, String> {
        let mut config = match text {
            Some(_) => self
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            None => (self.load)().map_err(|error| error.to_string())?,
        };
        if let Some(text) = text {
            config.rules = rules::builtin();
            let own = rules::read_text(Some(Path::new("rules")), text);
            for rule in own.map_err(|fault| fault.to_string())? {
                rules::add(&mut config.rules, rule);
            }
        }
        let rules = compile(&config).map_err(|error| error.to_string())?;
        let (reply, answer) = oneshot::channel();
        if !self.commands.send(Command::Everything(reply)) {
            return Err("the agent is stopping, or does not keep up".to_owned());
        }
        let (window, clocks) = answer
            .blocking_recv()
            .map_err(|_| "the agent is stopping".to_owned())?;
        let mut directory = Directory::default();
        self.commands.fill(&mut directory);
        let mut records: Vec<(u64, Lane, &[u8])> = Vec::new();
        for lane in Lane::ALL {
            let timed = |record| Some((decode::<Header>(record)?.boot_ns, lane, record));
            records.extend(window.records(lane).filter_map(timed));
        }
        records.sort_by_key(|(boot_ns, ..)| *boot_ns);
        let bytes: u64 = records.iter().map(|(.., record)| record.len() as u64).sum();
        let mut naming = Naming::new(&directory);
        let mut rehearsing = Rehearsing::new(rules, limits(&config), clocks);
        for (boot_ns, lane, record) in records {
            if rehearsing.wants(record) {
                let mut event = event::decode(lane, record);
                naming.name(record, &mut event);
                rehearsing.show(&event);
            } else {
                naming.pass(record);
                rehearsing.pass(boot_ns);
            }
        }
        Ok(rehearsing.finish(bytes / COMPRESSION + DUMP_BYTES))
    }
}

fn needs_restart(running: &RecordConfig, new: &RecordConfig) -> Vec<String> {
    let is_live = |key: &str| LIVE.iter().any(|beginning| key.starts_with(beginning));
    let changed = SETTINGS
        .iter()
        .filter(|setting| !is_live(setting.key) && setting.get(running) != setting.get(new))
        .map(|setting| setting.key.to_owned());
    let collectors = (running.collectors != new.collectors).then(|| "collector".to_owned());
    changed.chain(collectors).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn what_the_probes_were_loaded_with_needs_a_restart() {
        let command = RecordConfig::augment_args(clap::Command::new("recorder"));
        let matches = command.get_matches_from(["recorder"]);
        let running = RecordConfig::from_arg_matches(&matches).expect("every flag has a default");
        let mut new = running.clone();
        new.limit_dumps_per_hour += 1;
        assert!(needs_restart(&running, &new).is_empty());
        new.limit_processes_per_second += 1;
        assert_eq!(
            needs_restart(&running, &new),
            ["limits.processes_per_second"]
        );
    }
}
