//! A first reading of a dump: what it holds, and which of it a person wants to see without asking.
//!
//! A dump may hold hundreds of thousands of processes that came and went. Chosen are, each time those nearest to the
//! trigger:
//!
//! - what failed, what the recorder says of itself, and what is missing ([`FAILURES`]),
//! - the kernel's log ([`LOG`]),
//! - the samples that show a host in trouble, and the last of each kind before the trigger ([`SAMPLES`]),
//! - what the subject of the incident did, its children, and how it and its ancestors were started ([`FAMILY`]),
//! - what else came and went ([`OTHERS`]).
//!
//! Memory is bounded whatever the dump holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use recorder_ebpf::abi::{EventKind, Lane};

use super::sample;
use crate::death::Deaths;
use crate::event::{Body, proto};
use crate::incident::Incident;
use crate::read::Entry;

/// Most failures chosen before the trigger and after it.
pub const FAILURES: (usize, usize) = (40, 40);
/// Most events of the subject's family chosen before the trigger and after it.
pub const FAMILY: (usize, usize) = (40, 40);
/// Most other events chosen before the trigger and after it.
pub const OTHERS: (usize, usize) = (20, 10);

/// Most errors in the kernel's log chosen before the trigger and after it.
pub const LOG: (usize, usize) = (20, 20);
/// Most other lines of it: the trace behind an error has a hundred.
pub const LOG_OTHER: (usize, usize) = (5, 5);
/// Most samples of a host in trouble chosen before the trigger and after it.
pub const SAMPLES: (usize, usize) = (5, 5);

/// Executions remembered to find the ancestors of the subject.
const STARTED_MAX: usize = 1 << 16;
/// Generations looked back.
const ANCESTORS_MAX: usize = 8;

/// The incident as the reader of its dump looks for it.
#[derive(Clone, Debug)]
pub struct Sought<'a> {
    /// What the dump is about.
    pub incident: &'a Incident,
    /// When its trigger was, by the wall clock, in nanoseconds since 1970.
    pub trigger_unix_ns: u64,
}

/// What a dump holds.
#[derive(Default)]
pub struct Survey {
    /// Events by type.
    pub types: BTreeMap<&'static str, u64>,
    /// Order of the last event.
    pub last_order: u64,
    /// The event that fired the incident.
    pub trigger: Option<Entry>,
    /// The last execution of the subject before the trigger: what it was running.
    pub exec: Option<Entry>,
    /// The exit of the subject.
    pub exit: Option<Entry>,
    /// Who died, and of what.
    pub deaths: Deaths,
    /// Who had the memory when the trigger's victim was killed for it: the processes, and the cgroups.
    pub had_memory: Option<proto::SampleProcess>,
    /// The same of the cgroups.
    pub cgroups: Option<proto::SampleCgroup>,
    failures: Nearest,
    family: Nearest,
    others: Nearest,
    log: Nearest,
    log_other: Nearest,
    samples: Nearest,
    /// The last samples before the trigger: of the host, and of its processes.
    last_system: Option<u64>,
    last_process: Option<u64>,
    ancestors: Vec<u64>,
    started: Started,
}

impl Survey {
    /// Takes in the next event of a dump.
    pub fn take(&mut self, entry: &Entry, sought: Option<&Sought<'_>>) {
        *self.types.entry(entry.body.topic()).or_default() += 1;
        self.last_order = entry.order;
        let before = sought.is_none_or(|sought| entry.unix_ns <= sought.trigger_unix_ns);
        if let Body::ProcessExec(exec) = &entry.body {
            self.started.take(entry.order, exec);
        }
        if self.trigger.is_none()
            && sought
                .is_some_and(|sought| entry.is(&sought.incident.trigger, sought.trigger_unix_ns))
        {
            self.trigger = Some(entry.clone());
        }
        let subject = sought.map(|sought| &sought.incident.subject);
        let is_subject = subject.is_some_and(|subject| {
            is_process(entry.body.process(), subject.pid, subject.start_boot_ns)
        });
        if is_subject {
            self.subject(entry, before);
        }
        let is_child = subject.is_some_and(|subject| {
            let parent = entry.body.process().and_then(|process| process.ppid);
            subject.pid.is_some() && parent == subject.pid
        });
        if self.sampled(entry, before) {
            // Chosen or left out.
        } else if lane(&entry.body) != Some(Lane::Lifecycle) {
            self.failures.take(entry.order, before, FAILURES);
        } else if is_subject || is_child {
            self.family.take(entry.order, before, FAMILY);
        } else {
            self.others.take(entry.order, before, OTHERS);
        }
    }

    /// Takes in a sample, or a line of the kernel's log; false if the event is neither.
    fn sampled(&mut self, entry: &Entry, before: bool) -> bool {
        match &entry.body {
            Body::KernelLog(log) if sample::is_error(log) => {
                self.log.take(entry.order, before, LOG);
            }
            Body::KernelLog(_) => self.log_other.take(entry.order, before, LOG_OTHER),
            Body::SampleSystem(sample) => {
                if before {
                    self.last_system = Some(entry.order);
                }
                if sample::stands_out(sample) {
                    self.samples.take(entry.order, before, SAMPLES);
                }
            }
            // One that was taken for a reason is as good as what it was taken for.
            Body::SampleProcess(sample) if sample.reason.is_none() => {
                if before {
                    self.last_process = Some(entry.order);
                }
            }
            // The first after the trigger is its own.
            Body::SampleProcess(sample) if !before && self.had_memory.is_none() => {
                self.had_memory = Some(sample.clone());
                return false;
            }
            Body::SampleCgroup(sample) if !before && self.cgroups.is_none() => {
                self.cgroups = Some(sample.clone());
                return false;
            }
            _ => return false,
        }
        true
    }

    fn subject(&mut self, entry: &Entry, before: bool) {
        match &entry.body {
            Body::ProcessExec(_) if before => self.exec = Some(entry.clone()),
            Body::ProcessExit(_) => self.exit = Some(entry.clone()),
            _ => {}
        }
        let parent = entry.body.process().and_then(|process| process.ppid);
        if let (Some(parent), true) = (parent, self.ancestors.is_empty()) {
            self.ancestors = self.started.ancestors(parent);
        }
    }

    /// Returns how many events the dump holds.
    pub fn events(&self) -> u64 {
        self.types.values().sum()
    }

    /// Returns the orders of the events a person wants to see without asking.
    pub fn chosen(&self) -> BTreeSet<u64> {
        let mut chosen: BTreeSet<u64> = self.trigger.iter().map(|entry| entry.order).collect();
        chosen.extend(self.last_system);
        chosen.extend(self.last_process);
        for nearest in [
            &self.failures,
            &self.family,
            &self.others,
            &self.log,
            &self.log_other,
            &self.samples,
        ] {
            chosen.extend(&nearest.before);
            chosen.extend(&nearest.after);
        }
        chosen.extend(&self.ancestors);
        chosen
    }
}

/// Returns the lane of an event; `None` for a record that nobody could interpret.
pub fn lane(body: &Body) -> Option<Lane> {
    EventKind::ALL
        .into_iter()
        .find(|kind| kind.name() == body.topic())
        .map(EventKind::lane)
}

fn is_process(
    process: Option<&proto::Process>,
    pid: Option<u32>,
    start_boot_ns: Option<u64>,
) -> bool {
    process.is_some_and(|process| {
        pid.is_some()
            && process.pid == pid
            && (start_boot_ns.is_none() || process.start_boot_ns == start_boot_ns)
    })
}

/// The last events before the trigger and the first ones after it.
#[derive(Default)]
struct Nearest {
    before: VecDeque<u64>,
    after: Vec<u64>,
}

impl Nearest {
    fn take(&mut self, order: u64, before: bool, most: (usize, usize)) {
        if before {
            if self.before.len() == most.0 {
                self.before.pop_front();
            }
            self.before.push_back(order);
        } else if self.after.len() < most.1 {
            self.after.push(order);
        }
    }
}

/// Which processes were started by an execution in the dump, and by whom.
#[derive(Default)]
struct Started {
    /// Pid to order of its last execution and pid of its parent.
    by_pid: HashMap<u32, (u64, Option<u32>)>,
    pids: VecDeque<u32>,
}

impl Started {
    fn take(&mut self, order: u64, exec: &proto::ProcessExec) {
        let Some((pid, parent)) = exec
            .process
            .as_ref()
            .and_then(|process| Some((process.pid?, process.ppid)))
        else {
            return;
        };
        if self.by_pid.insert(pid, (order, parent)).is_none() {
            if self.pids.len() == STARTED_MAX
                && let Some(first) = self.pids.pop_front()
            {
                self.by_pid.remove(&first);
            }
            self.pids.push_back(pid);
        }
    }

    /// Returns the orders of the executions that a process and its ancestors were started by.
    fn ancestors(&self, mut pid: u32) -> Vec<u64> {
        let mut orders = Vec::new();
        while orders.len() < ANCESTORS_MAX
            && let Some((order, parent)) = self.by_pid.get(&pid)
        {
            orders.push(*order);
            match parent {
                Some(parent) => pid = *parent,
                None => break,
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::{Subject, Trigger};

    fn incident() -> Incident {
        Incident {
            id: uuid::Uuid::nil(),
            rule: "signal.fatal".to_owned(),
            summary: String::new(),
            trigger: Trigger {
                event_type: "signal.fatal".to_owned(),
                boot_ns: 0,
                cpu: 0,
                sequence: 7 + (1 << 32),
            },
            subject: Subject {
                pid: Some(70),
                ..Subject::default()
            },
            fingerprint: String::new(),
            reason: None,
            window_start_boot_ns: 0,
            window_end_boot_ns: 0,
            followers: 0,
            suppressed_before: 0,
            ..Incident::default()
        }
    }

    fn entry(order: u64, unix_ns: u64, body: Body) -> Entry {
        Entry {
            order,
            cause: None,
            unix_ns,
            sequence: 7,
            body,
        }
    }

    fn process(pid: u32, ppid: u32) -> Option<proto::Process> {
        Some(proto::Process {
            pid: Some(pid),
            ppid: Some(ppid),
            ..proto::Process::default()
        })
    }

    fn exec(pid: u32, ppid: u32) -> Body {
        Body::ProcessExec(proto::ProcessExec {
            process: process(pid, ppid),
            ..proto::ProcessExec::default()
        })
    }

    fn survey(bodies: Vec<Body>, trigger_unix_ns: u64) -> Survey {
        let incident = incident();
        let sought = Sought {
            incident: &incident,
            trigger_unix_ns,
        };
        let mut survey = Survey::default();
        for (order, body) in (1..).zip(bodies) {
            survey.take(&entry(order, order, body), Some(&sought));
        }
        survey
    }

    #[test]
    fn the_trigger_is_known_by_type_time_and_sequence() {
        let fatal = || Body::SignalFatal(proto::SignalFatal::default());
        let survey = survey(vec![exec(1, 0), fatal(), fatal(), fatal()], 3);
        assert_eq!(survey.trigger.map(|trigger| trigger.order), Some(3));
    }

    #[test]
    fn a_flood_is_cut_to_what_is_near_and_failures_stay() {
        let mut flood: Vec<Body> = (1000..101_000).map(|pid| exec(pid, 1)).collect();
        flood[10] = Body::IoError(proto::IoError::default());
        let survey = survey(flood, 50_000);
        let chosen = survey.chosen();
        assert_eq!(survey.events(), 100_000);
        assert!(chosen.contains(&11));
        assert_eq!(chosen.len(), 1 + OTHERS.0 + OTHERS.1);
        assert!(chosen.contains(&50_000) && chosen.contains(&50_001));
    }

    #[test]
    fn ancestors_and_children_of_the_subject_are_chosen_from_far_away() {
        let mut bodies = vec![exec(50, 1), exec(60, 50), exec(70, 60), exec(71, 70)];
        bodies.extend((1000..2000).map(|pid| exec(pid, 2)));
        let chosen = survey(bodies, 1004).chosen();
        assert!([1, 2, 3, 4].iter().all(|order| chosen.contains(order)));
        assert!(!chosen.contains(&5));
    }

    #[test]
    fn parents_in_a_circle_end() {
        let survey = survey(vec![exec(50, 60), exec(60, 50), exec(70, 60)], 3);
        assert!(survey.ancestors.len() <= ANCESTORS_MAX);
    }
}
