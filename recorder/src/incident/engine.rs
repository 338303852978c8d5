//! The engine: takes records and requests, gives incidents.

use std::collections::VecDeque;

use recorder_ebpf::abi::{EventKind, Header};
use uuid::{NoContext, Timestamp, Uuid};

use super::{
    EngineConfig, EngineStats, Incident, NoDump, Outcome, Rule, Storm, Subject, Trigger,
    cooldown::Cooldowns,
    fingerprint::{self, Fingerprint},
    limits::Spent,
    rule::{self, Finding, WatchList},
    summary,
};
use crate::event::{self, ClockPair};

/// Most incidents that are open at once.
pub const OPEN_MAX: usize = 8;
/// Most processes of which the engine remembers how they died; the first is forgotten first.
pub const PROCESSES_MAX: usize = 256;

/// Decides which records are incidents.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    watch: WatchList,
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
    fn of(header: &Header) -> Option<Self> {
        let Header {
            tgid,
            start_boot_ns,
            ..
        } = *header;
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
#[derive(Clone, Copy, Debug)]
struct Failure {
    rule: Rule,
    fingerprint: Fingerprint,
    process: Option<Process>,
    boot_ns: u64,
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
    pub fn new(config: EngineConfig) -> Self {
        Self {
            watch: WatchList::new(&config.watch),
            config,
            open: Vec::with_capacity(OPEN_MAX),
            cooldowns: Cooldowns::default(),
            deaths: VecDeque::with_capacity(PROCESSES_MAX),
            spent: Spent::default(),
            stats: EngineStats::default(),
        }
    }

    /// Looks at a record; returns what it did, if a rule fires on it.
    ///
    /// `clocks` date the incident's id. A record that cannot be decoded is no trigger.
    pub fn on_record(&mut self, record: &[u8], clocks: ClockPair) -> Option<Outcome> {
        let Finding {
            rule,
            fingerprint,
            kind,
            header,
        } = rule::find(record, &self.watch)?;
        let failure = Failure {
            rule,
            fingerprint,
            process: Process::of(&header),
            boot_ns: header.boot_ns,
        };
        Some(self.take(failure, || {
            let body = event::decode(kind.lane(), record).body;
            Story {
                unix_ns: clocks.unix_ns_at(header.boot_ns),
                summary: summary::sentence(&body),
                trigger: Trigger {
                    event_type: kind.name().into(),
                    boot_ns: header.boot_ns,
                    cpu: header.cpu,
                    sequence: header.seq,
                },
                subject: summary::subject(&body),
                reason: None,
            }
        }))
    }

    /// Opens an incident at a person's request, or joins the one that an earlier request opened. Cooldowns and limits do not
    /// apply.
    pub fn trigger_manual(&mut self, manual: Manual, now: ClockPair) -> Outcome {
        let failure = Failure {
            rule: Rule::Manual,
            fingerprint: fingerprint::manual(),
            process: None,
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
                let incident = self.incident(&failure, suppressed_before, story());
                self.spent.begin(&self.config.limits, failure.boot_ns);
                let until = incident
                    .window_end_boot_ns
                    .saturating_add(self.config.cooldown_ns);
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
                if failure.rule == Rule::Manual
                    || self.cooldowns.count_undumped(fingerprint, boot_ns)
                {
                    return Outcome::Counted(why);
                }
                let suppressed_before = self.cooldowns.suppressed(fingerprint);
                let incident = self.incident(&failure, suppressed_before, story());
                let until = boot_ns.saturating_add(self.config.cooldown_ns.max(UNDUMPED_NS));
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
        failure.rule != Rule::Manual && cooldowns.suppress(failure.fingerprint, failure.boot_ns)
    }

    /// Returns why there can be no further dump now, if there cannot.
    fn refusal(&mut self, failure: &Failure) -> Option<NoDump> {
        if self.open.len() == OPEN_MAX {
            Some(NoDump::TooManyOpen)
        } else if failure.rule == Rule::Manual {
            None
        } else {
            self.spent.forbids(&self.config.limits, failure.boot_ns)
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
        if !failure.rule.is_death() || self.death_of(failure.process).is_some() {
            return;
        }
        if self.deaths.len() == PROCESSES_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back((process, failure.fingerprint));
    }

    fn incident(&self, failure: &Failure, suppressed_before: u64, story: Story) -> Incident {
        let (window_start_boot_ns, window_end_boot_ns) = self.window(failure);
        Incident {
            id: id_at(story.unix_ns),
            rule: failure.rule.name().into(),
            severity: failure.rule.severity(),
            summary: story.summary,
            trigger: story.trigger,
            subject: story.subject,
            fingerprint: failure.fingerprint.to_string(),
            reason: story.reason,
            window_start_boot_ns,
            window_end_boot_ns,
            suppressed_before,
            ..Incident::default()
        }
    }

    /// Returns start and end of the window around a trigger.
    fn window(&self, failure: &Failure) -> (u64, u64) {
        let spans = &self.config.rule_spans;
        let span = spans.get(&failure.rule).unwrap_or(&self.config.span);
        (
            failure.boot_ns.saturating_sub(span.before_ns),
            failure.boot_ns.saturating_add(span.after_ns),
        )
    }
}

fn id_at(unix_ns: u64) -> Uuid {
    const NANOS: u64 = 1_000_000_000;
    // Below a thousand million, whatever the clock says.
    let nanos = (unix_ns % NANOS) as u32;
    Uuid::new_v7(Timestamp::from_unix(NoContext, unix_ns / NANOS, nanos))
}
