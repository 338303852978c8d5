//! Sifts the events for the timeline: what failed, what the subject did, what the recorder and the kernel say; each time
//! what is nearest to the trigger.

use std::collections::VecDeque;

use super::Moment;
use crate::event::{Body, proto};
use crate::incident::Subject;
use crate::read::Entry;

/// Most moments of each kind before the trigger and after it.
const FAILURES: (usize, usize) = (24, 12);
const SUBJECT: (usize, usize) = (12, 8);
const REMARKS: (usize, usize) = (8, 6);
const KERNEL_LINES: (usize, usize) = (16, 8);

/// Chooses moments.
pub(super) struct Sift {
    describe: fn(&Body) -> String,
    subject: Subject,
    failures: Near,
    of_subject: Near,
    remarks: Near,
    kernel_lines: Near,
    trigger: Option<Moment>,
}

impl Sift {
    pub(super) fn new(describe: fn(&Body) -> String, subject: &Subject) -> Self {
        Self {
            describe,
            subject: subject.clone(),
            failures: Near::new(FAILURES),
            of_subject: Near::new(SUBJECT),
            remarks: Near::new(REMARKS),
            kernel_lines: Near::new(KERNEL_LINES),
            trigger: None,
        }
    }

    /// Takes in the next event, at its time from the trigger.
    pub(super) fn take(&mut self, entry: &Entry, offset_ns: i64, is_trigger: bool) {
        let is_subject = is_subject(entry.body.process(), &self.subject);
        let near = match &entry.body {
            _ if is_trigger => None,
            Body::SignalFatal(_)
            | Body::OomKill(_)
            | Body::IoError(_)
            | Body::WritebackError(_)
            | Body::TaskHung(_)
            | Body::MemoryFailure(_)
            | Body::MachineCheck(_) => Some(&mut self.failures),
            _ if is_subject => Some(&mut self.of_subject),
            Body::Note(note) if note.kind() == "incident" => return,
            Body::Note(_) | Body::Loss(_) => Some(&mut self.remarks),
            Body::KernelLog(log) if is_warning(log) => Some(&mut self.kernel_lines),
            _ => return,
        };
        let moment = || Moment {
            offset_ns,
            order: entry.order,
            event_type: entry.body.topic(),
            text: (self.describe)(&entry.body),
            cause: entry.cause,
            is_trigger,
            repeated: 0,
        };
        match near {
            Some(near) => near.take(likeness(&entry.body), offset_ns <= 0, moment),
            None => self.trigger = Some(moment()),
        }
    }

    /// Returns the moments in the order of time.
    pub(super) fn finish(self) -> Vec<Moment> {
        let kinds = [
            self.failures,
            self.of_subject,
            self.remarks,
            self.kernel_lines,
        ];
        let mut moments: Vec<Moment> = kinds
            .into_iter()
            .flat_map(Near::finish)
            .chain(self.trigger)
            .collect();
        moments.sort_by_key(|moment| moment.order);
        moments
    }
}

/// Tells whether the kernel thought that somebody should see a line.
fn is_warning(log: &proto::KernelLog) -> bool {
    ["emerg", "alert", "crit", "err", "warning"].contains(&log.level())
}

fn is_subject(process: Option<&proto::Process>, subject: &Subject) -> bool {
    process.is_some_and(|process| {
        subject.pid.is_some()
            && process.pid == subject.pid
            && process.start_boot_ns == subject.start_boot_ns
    })
}

/// Returns what makes two failures in a row the same one again for a reader; `None` for what is always told.
fn likeness(body: &Body) -> Option<String> {
    match body {
        Body::SignalFatal(fatal) => {
            let comm = fatal.process.as_ref()?.comm.as_deref()?;
            let signal = fatal.signal.as_ref()?.number?;
            let sender = fatal.sender.as_ref().and_then(|sender| sender.pid);
            Some(format!("signal {signal} {sender:?} {comm}"))
        }
        Body::IoError(error) => Some(format!(
            "io {:?} {:?} {:?}",
            error.device, error.operation, error.status
        )),
        Body::WritebackError(error) => Some(format!("write-back {:?}", error.device)),
        Body::MemoryFailure(failure) => Some(format!("memory {:?}", failure.result)),
        Body::MachineCheck(check) => {
            Some(format!("machine check {:?} {:?}", check.cpu, check.bank))
        }
        Body::OomKill(kill) => Some(format!("oom {:?}", kill.process.as_ref()?.comm)),
        _ => None,
    }
}

/// The last moments before the trigger and the first ones after it.
struct Near {
    most: (usize, usize),
    before: VecDeque<(Option<String>, Moment)>,
    after: Vec<(Option<String>, Moment)>,
}

impl Near {
    fn new(most: (usize, usize)) -> Self {
        Self {
            most,
            before: VecDeque::new(),
            after: Vec::new(),
        }
    }

    fn take(&mut self, likeness: Option<String>, before: bool, moment: impl FnOnce() -> Moment) {
        let last = match before {
            true => self.before.back_mut(),
            false => self.after.last_mut(),
        };
        if let Some((like, last)) = last
            && likeness.is_some()
            && *like == likeness
        {
            last.repeated += 1;
        } else if before {
            if self.before.len() == self.most.0 {
                self.before.pop_front();
            }
            self.before.push_back((likeness, moment()));
        } else if self.after.len() < self.most.1 {
            self.after.push((likeness, moment()));
        }
    }

    fn finish(self) -> impl Iterator<Item = Moment> {
        let all = self.before.into_iter().chain(self.after);
        all.map(|(_, moment)| moment)
    }
}
