//! What rules would have done.

use std::collections::BTreeMap;

use recorder_ebpf::abi::EventKind;
use serde::{Deserialize, Serialize};

use super::{RuleSet, RuleStats};
use crate::event::{ClockPair, Event};
use crate::incident::{Engine, Incident, Limits, Outcome};

/// Most incidents of which each is told.
const TOLD_MAX: usize = 100;

/// What rules would have done with some events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Events that were looked at.
    pub events: u64,
    /// Time from the first to the last, in nanoseconds.
    pub span_ns: u64,
    /// What each rule would have done.
    pub rules: Vec<RehearsedRule>,
    /// The incidents that would have opened, the first hundred.
    pub incidents: Vec<RehearsedIncident>,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RehearsedRule {
    /// What it would have seen.
    #[serde(flatten)]
    pub stats: RuleStats,
    /// Dumps that it would have made.
    pub dumps: u64,
    /// Times that would have joined one.
    pub joined: u64,
    /// Times that would only have been counted, inside a cooldown or over a limit.
    pub counted: u64,
    /// Bytes that its dumps would have taken, about.
    pub bytes: u64,
}

/// An incident that would have opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsedIncident {
    /// When, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// Its rule.
    pub rule: String,
    /// Its sentence.
    pub summary: String,
}

/// Shows events to rules, in the order of time, and writes no dump.
pub struct Rehearsing {
    engine: Engine,
    rehearsal: Rehearsal,
    by_rule: BTreeMap<String, RehearsedRule>,
    windows: Vec<(String, u64, u64)>,
    first_boot_ns: Option<u64>,
    last_boot_ns: u64,
    clocks: ClockPair,
}

impl Rehearsing {
    /// Begins with rules; `clocks` date what would have happened.
    pub fn new(rules: RuleSet, limits: Limits, clocks: ClockPair) -> Self {
        Self {
            engine: Engine::new(limits, rules),
            rehearsal: Rehearsal::default(),
            by_rule: BTreeMap::new(),
            windows: Vec::new(),
            first_boot_ns: None,
            last_boot_ns: 0,
            clocks,
        }
    }

    /// Returns whether a rule may match a record.
    pub fn wants(&self, record: &[u8]) -> bool {
        self.engine.wants(record)
    }

    /// Passes an event that no rule may match.
    pub fn pass(&mut self, boot_ns: u64) {
        self.rehearsal.events += 1;
        self.first_boot_ns.get_or_insert(boot_ns);
        self.last_boot_ns = self.last_boot_ns.max(boot_ns);
    }

    /// Shows the next event.
    pub fn show(&mut self, event: &Event) {
        self.pass(event.boot_ns);
        while self.engine.poll(event.boot_ns).is_some() {}
        let topic = event.body.topic();
        let Some(kind) = EventKind::ALL.into_iter().find(|kind| kind.name() == topic) else {
            return;
        };
        let before = self.fired();
        let Some(outcome) = self.engine.on_event(kind, event, self.clocks) else {
            return;
        };
        let after = self.fired();
        let fired = after.into_iter().zip(before);
        let first = fired
            .into_iter()
            .find(|((_, after), (_, before))| after > before);
        let name = first.map_or_else(String::new, |((name, _), _)| name);
        let rule = self.by_rule.entry(name).or_default();
        match outcome {
            Outcome::Opened(incident) => {
                rule.dumps += 1;
                self.opened(&incident);
            }
            Outcome::Joined(_) => rule.joined += 1,
            Outcome::Suppressed | Outcome::Undumped(..) | Outcome::Counted(_) => rule.counted += 1,
        }
    }

    fn fired(&self) -> Vec<(String, u64)> {
        let stats = self.engine.rule_stats().into_iter();
        stats.map(|stats| (stats.name, stats.fired)).collect()
    }

    fn opened(&mut self, incident: &Incident) {
        let (start, end) = (incident.window_start_boot_ns, incident.window_end_boot_ns);
        self.windows.push((incident.rule.clone(), start, end));
        if self.rehearsal.incidents.len() < TOLD_MAX {
            self.rehearsal.incidents.push(RehearsedIncident {
                unix_ns: self.clocks.unix_ns_at(incident.trigger.boot_ns),
                rule: incident.rule.clone(),
                summary: incident.summary.clone(),
            });
        }
    }

    /// Says what would have happened; `bytes` is what all these events take in a dump.
    pub fn finish(mut self, bytes: u64) -> Rehearsal {
        let first = self.first_boot_ns.unwrap_or(0);
        let span_ns = self.last_boot_ns.saturating_sub(first);
        for (rule, start, end) in &self.windows {
            let inside = (*end)
                .min(self.last_boot_ns)
                .saturating_sub((*start).max(first));
            let share = inside as f64 / span_ns.max(1) as f64;
            if let Some(rule) = self.by_rule.get_mut(rule) {
                rule.bytes += (bytes as f64 * share.min(1.0)) as u64;
            }
        }
        let of = |stats: RuleStats| RehearsedRule {
            stats: stats.clone(),
            ..self.by_rule.get(&stats.name).cloned().unwrap_or_default()
        };
        self.rehearsal.rules = self.engine.rule_stats().into_iter().map(of).collect();
        self.rehearsal.span_ns = span_ns;
        self.rehearsal
    }
}
