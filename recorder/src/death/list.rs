//! The deaths of a window: all of them counted, those that matter certified.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Certificate, Joiner, Verdict};
use crate::event::Body;
use crate::incident::Subject;

/// Most certificates of deaths by signal that are kept before the trigger and after it: those nearest to it.
const KEPT: (usize, usize) = (32, 32);

/// The deaths of a window.
///
/// Serialised, it is the `deaths` object of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths {
    /// How many died of what.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// The subject of the incident first, whatever it died of; then the deaths by signal nearest to the trigger, in the
    /// order of their time.
    pub certificates: Vec<Certificate>,
    /// Deaths by signal that have no certificate here.
    pub left_out: u64,
}

/// Collects the deaths of a window from its events in their order. Memory is bounded whatever comes.
pub struct DeathsOf {
    joiner: Joiner,
    subject: Subject,
    trigger_unix_ns: u64,
    verdicts: BTreeMap<Verdict, u64>,
    of_subject: Option<Certificate>,
    before: VecDeque<Certificate>,
    after: Vec<Certificate>,
    left_out: u64,
}

impl DeathsOf {
    /// Starts before the first event of the window around a trigger, whose time is nanoseconds since 1970.
    pub fn new(subject: &Subject, trigger_unix_ns: u64) -> Self {
        Self {
            joiner: Joiner::default(),
            subject: subject.clone(),
            trigger_unix_ns,
            verdicts: BTreeMap::new(),
            of_subject: None,
            before: VecDeque::new(),
            after: Vec::new(),
            left_out: 0,
        }
    }

    /// Takes in the next event: its order in the dump and its time, in nanoseconds since 1970. Returns the verdict on an exit.
    pub fn take(&mut self, order: u64, unix_ns: u64, body: &Body) -> Option<Verdict> {
        let death = self.joiner.take(order, unix_ns, body).death;
        let (Some(death), Body::ProcessExit(exit)) = (death, body) else {
            return None;
        };
        let process = exit.process.as_ref();
        let is_subject = self.subject.pid.is_some()
            && process.is_some_and(|process| {
                process.pid == self.subject.pid
                    && process.start_boot_ns == self.subject.start_boot_ns
            });
        if !is_subject && exit.signal.is_none() {
            let verdict = match exit.exit_code() {
                0 => Verdict::Exit,
                _ => Verdict::ExitFailure,
            };
            *self.verdicts.entry(verdict).or_default() += 1;
            return Some(verdict);
        }
        let certificate = death.certify(exit);
        let verdict = certificate.verdict;
        *self.verdicts.entry(verdict).or_default() += 1;
        if is_subject {
            self.of_subject = Some(certificate);
        } else if unix_ns <= self.trigger_unix_ns {
            if self.before.len() == KEPT.0 {
                self.before.pop_front();
                self.left_out += 1;
            }
            self.before.push_back(certificate);
        } else if self.after.len() < KEPT.1 {
            self.after.push(certificate);
        } else {
            self.left_out += 1;
        }
        Some(verdict)
    }

    /// Returns what was collected.
    pub fn finish(&self) -> Deaths {
        let certificates = self
            .of_subject
            .iter()
            .chain(&self.before)
            .chain(&self.after);
        Deaths {
            verdicts: self.verdicts.clone(),
            certificates: certificates.cloned().collect(),
            left_out: self.left_out,
        }
    }
}
