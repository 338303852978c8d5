//! The engine: takes records and requests, gives incidents.

use std::collections::VecDeque;

use recorder_ebpf::abi::EventKind;
use uuid::{NoContext, Timestamp, Uuid};

use super::{
    EngineStats, Incident, Limits, MANUAL, NoDump, Outcome, Severity, Storm, Subject, Trigger,
    cooldown::Cooldowns,
    fingerprint::{self, Fingerprint},
    limits::Spent,
    summary,
};
use crate::event::{self, Body, ClockPair, Event};
use crate::rules::{Fired, RuleSet, RuleStats};

/// Most incidents that are open at once.
pub const OPEN_MAX: usize = 8;
/// Most processes of which the engine remembers how they died; the first is forgotten first.
pub const PROCESSES_MAX: usize = 256;

/// Decides which records are incidents.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    rules: RuleSet,
    open: Vec<Open>,
    cooldowns: Cooldowns,
    /// Processes that died and the failure each died of. A process dies once: whichever of its records comes first, the crash
    /// or the exit of a watched name, the other is the same failure.
    deaths: VecDeque<(Process, Fingerprint)>,
    spent: Spent,
    stats: EngineStats,
}

/// An incident whose window has not ended.
#[derive(Debug)]
struct Open {
    incident: Incident,
    fingerprint: Fingerprint,
    process: Option<Process>,
}

impl Open {
    /// Returns whether a trigger belongs to this incident: the same failure or the same process, inside its window.
    fn takes(&self, failure: &Failure) -> bool {
        let same_failure = self.fingerprint == failure.fingerprint;
        let same_process = self.process.is_some() && self.process == failure.process;
        (same_failure || same_process) && failure.boot_ns <= self.incident.window_end_boot_ns
    }
}

/// A process, never to be taken for another one: its id and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    tgid: u32,
    start_boot_ns: u64,
}

impl Process {
    fn of(body: &Body) -> Option<Self> {
        let process = body.process()?;
        let (tgid, start_boot_ns) = (process.pid?, process.start_boot_ns?);
        let known = tgid != 0 && start_boot_ns != 0;
        known.then_some(Self {
            tgid,
            start_boot_ns,
        })
    }
}

/// A person's request for a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manual {
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// What it is about; default if that is nothing in particular.
    pub subject: Subject,
    /// Sequence number of the agent's note about the request, on CPU 0 of the sample lane.
    pub sequence: u64,
}

/// A trigger as the decisions about it see it.
#[derive(Debug)]
struct Failure {
    rule: Fired,
    fingerprint: Fingerprint,
    /// The process that it happened to, if that tells failures apart.
    process: Option<Process>,
    /// Whether the process died of it.
    is_death: bool,
    boot_ns: u64,
}

impl Failure {
    fn is_manual(&self) -> bool {
        self.rule.name == MANUAL
    }
}

/// Where a trigger goes.
enum Verdict {
    Open { suppressed_before: u64 },
    Join(Uuid),
    Suppress,
    Refuse(NoDump),
}

/// How long a failure that made no dump is only counted when it happens again, at least.
const UNDUMPED_NS: u64 = 60 * 1_000_000_000;

/// A trigger as people see it.
struct Story {
    unix_ns: u64,
    summary: String,
    trigger: Trigger,
    subject: Subject,
    reason: Option<String>,
}

impl Engine {
    /// Returns an engine that has seen nothing.
    pub fn new(limits: Limits, rules: RuleSet) -> Self {
        Self {
            limits,
            rules,
            open: Vec::with_capacity(OPEN_MAX),
            cooldowns: Cooldowns::default(),
            deaths: VecDeque::with_capacity(PROCESSES_MAX),
            spent: Spent::default(),
            stats: EngineStats::default(),
        }
    }

    /// Looks at a record; returns what it did, if a rule fires on it.
    ///
    /// `name` is called for an event whose rules ask who its process is. `clocks` date the incident's id. A record that
    /// cannot be decoded is no trigger. One that no rule may match is not decoded.
    pub fn on_record(
        &mut self,
        record: &[u8],
        clocks: ClockPair,
        name: impl FnOnce(&mut Event),
    ) -> Option<Outcome> {
        let kind = self.rules.wants(record)?;
        let mut event = event::decode(kind.lane(), record);
        if self.rules.wants_names(kind) {
            name(&mut event);
        }
        self.on_event(kind, &event, clocks)
    }

    /// Returns whether a rule may match a record.
    pub fn wants(&self, record: &[u8]) -> bool {
        self.rules.wants(record).is_some()
    }

    /// Looks at an event; returns what it did, if a rule fires on it.
    pub fn on_event(
        &mut self,
        kind: EventKind,
        event: &Event,
        clocks: ClockPair,
    ) -> Option<Outcome> {
        let body = &event.body;
        if matches!(body, Body::Unknown(_)) {
            return None;
        }
        let fired = self.rules.look(kind, body, event.boot_ns)?;
        // What takes several events is about all of them.
        let is_one = fired.group.is_none() && fired.counted.is_none();
        let is_death = matches!(
            body,
            Body::SignalFatal(_) | Body::OomKill(_) | Body::ProcessExit(_)
        );
        let failure = Failure {
            fingerprint: fingerprint::of_event(&fired.name, fired.group.as_deref(), body),
            process: Process::of(body).filter(|_| is_one),
            is_death: is_death && is_one,
            boot_ns: event.boot_ns,
            rule: fired,
        };
        let counted = failure.rule.counted.clone();
        Some(self.take(failure, || {
            let mut summary = summary::sentence(body);
            if let Some(counted) = counted {
                summary += &format!(" ({counted})");
            }
            Story {
                unix_ns: clocks.unix_ns_at(event.boot_ns),
                summary,
                trigger: Trigger {
                    event_type: kind.name().into(),
                    boot_ns: event.boot_ns,
                    cpu: event.cpu,
                    sequence: event.sequence,
                },
                subject: summary::subject(body),
                reason: None,
            }
        }))
    }

    /// Puts other rules in force. Those that are the same go on counting where they were; open incidents are not touched.
    pub fn set_rules(&mut self, mut rules: RuleSet, limits: Limits) {
        self.limits = limits;
        rules.adopt(std::mem::take(&mut self.rules));
        self.rules = rules;
    }

    /// Returns which condition has erred for the first time. Call until `None`.
    pub fn take_fault(&mut self) -> Option<String> {
        self.rules.take_fault()
    }

    /// Returns what the rules have seen.
    pub fn rule_stats(&self) -> Vec<RuleStats> {
        self.rules.stats()
    }

    /// Opens an incident at a person's request, or joins the one that an earlier request opened. Cooldowns and limits do not
    /// apply.
    pub fn trigger_manual(&mut self, manual: Manual, now: ClockPair) -> Outcome {
        let failure = Failure {
            rule: Fired {
                name: MANUAL.into(),
                severity: Severity::Low,
                tags: Vec::new(),
                collectors: None,
                notify: None,
                span: self.rules.manual_span(),
                cooldown_ns: 0,
                group: None,
                counted: None,
                also: Vec::new(),
            },
            fingerprint: fingerprint::manual(),
            process: None,
            is_death: false,
            boot_ns: now.boot_ns,
        };
        self.take(failure, || Story {
            unix_ns: now.unix_ns,
            summary: match &manual.reason {
                Some(reason) => format!("triggered by hand: {reason}"),
                None => "triggered by hand".into(),
            },
            trigger: Trigger {
                event_type: EventKind::Note.name().into(),
                boot_ns: now.boot_ns,
                cpu: 0,
                sequence: manual.sequence,
            },
            subject: manual.subject,
            reason: manual.reason,
        })
    }

    /// Decides about a trigger, and does it.
    fn take(&mut self, mut failure: Failure, story: impl FnOnce() -> Story) -> Outcome {
        match self.decide(&mut failure) {
            Verdict::Open { suppressed_before } => {
                let incident = incident(&failure, suppressed_before, story());
                self.spent.begin(&self.limits, failure.boot_ns);
                let until = incident
                    .window_end_boot_ns
                    .saturating_add(failure.rule.cooldown_ns);
                self.cooldowns
                    .start(failure.fingerprint, &incident, until, true);
                self.open.push(Open {
                    incident: incident.clone(),
                    fingerprint: failure.fingerprint,
                    process: failure.process,
                });
                Outcome::Opened(Box::new(incident))
            }
            Verdict::Join(id) => Outcome::Joined(id),
            Verdict::Suppress => Outcome::Suppressed,
            Verdict::Refuse(why) => {
                let (fingerprint, boot_ns) = (failure.fingerprint, failure.boot_ns);
                if failure.is_manual() || self.cooldowns.count_undumped(fingerprint, boot_ns) {
                    return Outcome::Counted(why);
                }
                let suppressed_before = self.cooldowns.suppressed(fingerprint);
                let incident = incident(&failure, suppressed_before, story());
                let until = boot_ns.saturating_add(failure.rule.cooldown_ns.max(UNDUMPED_NS));
                self.cooldowns.start(fingerprint, &incident, until, false);
                Outcome::Undumped(Box::new(incident), why)
            }
        }
    }

    /// Takes note of a dump that has been written.
    pub fn written(&mut self, bytes: u64, now_boot_ns: u64) {
        self.spent.written(bytes, now_boot_ns);
    }

    /// Returns a storm that is over by now. Call until `None`.
    pub fn storm_over(&mut self, now: ClockPair) -> Option<Storm> {
        self.cooldowns.over(now)
    }

    /// Ends all storms: the recording ends.
    pub fn end_storms(&mut self) {
        self.cooldowns.end_until(u64::MAX);
    }

    /// Returns the incident whose window ended first, if it has ended by now: to be frozen and dumped. Call until `None`.
    pub fn poll(&mut self, now_boot_ns: u64) -> Option<Incident> {
        if self.next_deadline()? > now_boot_ns {
            return None;
        }
        let ends = self
            .open
            .iter()
            .map(|open| open.incident.window_end_boot_ns);
        let (first, _) = ends.enumerate().min_by_key(|(_, end)| *end)?;
        Some(self.open.swap_remove(first).incident)
    }

    /// Returns when the first window of an open incident ends, in nanoseconds since boot.
    pub fn next_deadline(&self) -> Option<u64> {
        let ends = self
            .open
            .iter()
            .map(|open| open.incident.window_end_boot_ns);
        ends.min()
    }

    /// Ends the windows of all open incidents now, and returns them.
    pub fn close_all(&mut self, now_boot_ns: u64) -> Vec<Incident> {
        let close = |mut open: Open| {
            let end = &mut open.incident.window_end_boot_ns;
            *end = now_boot_ns.min(*end);
            open.incident
        };
        self.open.drain(..).map(close).collect()
    }

    /// Returns what became of all triggers.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            open: self.open.len() as u64,
            ..self.stats
        }
    }

    /// Decides what a trigger does and counts it; corrects the failure that it belongs to.
    fn decide(&mut self, failure: &mut Failure) -> Verdict {
        self.stats.triggers_total += 1;
        if let Some(fingerprint) = self.death_of(failure.process) {
            failure.fingerprint = fingerprint;
        }
        let joined = self.open.iter_mut().find(|open| open.takes(failure));
        let verdict = if let Some(open) = joined {
            self.stats.joined_total += 1;
            open.incident.followers += 1;
            failure.fingerprint = open.fingerprint;
            Verdict::Join(open.incident.id)
        } else if self.is_cooling_down(failure) {
            self.stats.suppressed_total += 1;
            Verdict::Suppress
        } else if let Some(why) = self.refusal(failure) {
            match why {
                NoDump::TooManyOpen => self.stats.overflow_total += 1,
                NoDump::DumpsPerHour | NoDump::BytesPerDay => self.stats.limited_total += 1,
            }
            Verdict::Refuse(why)
        } else {
            self.stats.opened_total += 1;
            let suppressed_before = self.cooldowns.suppressed(failure.fingerprint);
            Verdict::Open { suppressed_before }
        };
        self.remember_death(failure);
        verdict
    }

    /// Returns whether the trigger is to be suppressed, and counts it there if it is. A person's request never is.
    fn is_cooling_down(&mut self, failure: &Failure) -> bool {
        let cooldowns = &mut self.cooldowns;
        !failure.is_manual() && cooldowns.suppress(failure.fingerprint, failure.boot_ns)
    }

    /// Returns why there can be no further dump now, if there cannot.
    fn refusal(&mut self, failure: &Failure) -> Option<NoDump> {
        if self.open.len() == OPEN_MAX {
            Some(NoDump::TooManyOpen)
        } else if failure.is_manual() {
            None
        } else {
            self.spent.forbids(&self.limits, failure.boot_ns)
        }
    }

    /// Returns the failure that the process died of, if it has.
    fn death_of(&self, process: Option<Process>) -> Option<Fingerprint> {
        let process = process?;
        let mut deaths = self.deaths.iter();
        let (_, fingerprint) = deaths.find(|(dead, _)| *dead == process)?;
        Some(*fingerprint)
    }

    fn remember_death(&mut self, failure: &Failure) {
        let Some(process) = failure.process else {
            return;
        };
        if !failure.is_death || self.death_of(failure.process).is_some() {
            return;
        }
        if self.deaths.len() == PROCESSES_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back((process, failure.fingerprint));
    }
}

fn incident(failure: &Failure, suppressed_before: u64, story: Story) -> Incident {
    let rule = failure.rule.clone();
    Incident {
        id: id_at(story.unix_ns),
        rule: rule.name,
        severity: rule.severity,
        tags: rule.tags,
        also: rule.also,
        summary: story.summary,
        trigger: story.trigger,
        subject: story.subject,
        fingerprint: failure.fingerprint.to_string(),
        reason: story.reason,
        window_start_boot_ns: failure.boot_ns.saturating_sub(rule.span.before_ns),
        window_end_boot_ns: failure.boot_ns.saturating_add(rule.span.after_ns),
        followers: 0,
        suppressed_before,
        collectors: rule.collectors,
        notify: rule.notify,
    }
}

fn id_at(unix_ns: u64) -> Uuid {
    const NANOS: u64 = 1_000_000_000;
    // Below a thousand million, whatever the clock says.
    let nanos = (unix_ns % NANOS) as u32;
    Uuid::new_v7(Timestamp::from_unix(NoContext, unix_ns / NANOS, nanos))
}
