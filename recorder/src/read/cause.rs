//! Which event is behind which: computed while reading, from what the events say of their processes.
//!
//! | event | cause, if it is the same process |
//! |---|---|
//! | `signal.fatal` by SIGKILL | its `oom.kill` |
//! | `process.exit` by SIGKILL | its `oom.kill`, else its `signal.fatal` by SIGKILL |
//! | `process.exit` by another signal | its `signal.fatal` by that signal |
//!
//! A process is its pid and its start: a pid alone is used again.

use std::collections::{HashMap, VecDeque};

use crate::event::{Body, proto};

/// Most dying processes that are remembered; the one remembered first is forgotten first.
const DYING_MAX: usize = 8192;

const SIGKILL: u32 = 9;

/// A process: pid and start in nanoseconds since boot, 0 if unknown.
type Id = (u32, u64);

/// What is known of a dying process: orders of events.
#[derive(Default)]
struct Dying {
    oom_kill: Option<u64>,
    /// Order and number of its fatal signal.
    signal: Option<(u64, u32)>,
}

/// Links each event to the one behind it.
#[derive(Default)]
pub struct Causes {
    dying: HashMap<Id, Dying>,
    /// Ids in the order they were first seen; some may have exited since.
    seen: VecDeque<Id>,
}

impl Causes {
    /// Takes in the next event; returns the order of its cause.
    pub fn of(&mut self, order: u64, body: &Body) -> Option<u64> {
        match body {
            Body::ProcessExit(exit) => {
                let dying = self.dying.remove(&id(exit.process.as_ref()?)?)?;
                dying.behind(exit.signal.as_ref()?.number?)
            }
            Body::SignalFatal(fatal) => {
                let number = fatal.signal.as_ref()?.number?;
                let dying = self.dying(id(fatal.process.as_ref()?)?);
                dying.signal = Some((order, number));
                dying.oom_kill.filter(|_| number == SIGKILL)
            }
            Body::OomKill(kill) => {
                self.dying(id(kill.process.as_ref()?)?).oom_kill = Some(order);
                None
            }
            Body::ProcessExec(_)
            | Body::IoError(_)
            | Body::WritebackError(_)
            | Body::TaskHung(_)
            | Body::SignalSent(_)
            | Body::Note(_)
            | Body::Loss(_)
            | Body::Unknown(_) => None,
        }
    }

    fn dying(&mut self, id: Id) -> &mut Dying {
        if !self.dying.contains_key(&id) {
            if self.seen.len() == DYING_MAX
                && let Some(first) = self.seen.pop_front()
            {
                self.dying.remove(&first);
            }
            self.seen.push_back(id);
        }
        self.dying.entry(id).or_default()
    }
}

impl Dying {
    fn behind(&self, signal: u32) -> Option<u64> {
        let by_signal = self
            .signal
            .filter(|(_, number)| *number == signal)
            .map(|(order, _)| order);
        match signal {
            SIGKILL => self.oom_kill.or(by_signal),
            _ => by_signal,
        }
    }
}

fn id(process: &proto::Process) -> Option<Id> {
    Some((process.pid?, process.start_boot_ns.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, start: u64) -> Option<proto::Process> {
        Some(proto::Process {
            pid: Some(pid),
            start_boot_ns: Some(start),
            ..proto::Process::default()
        })
    }

    fn signal(number: u32) -> Option<proto::Signal> {
        Some(proto::Signal {
            number: Some(number),
            name: None,
        })
    }

    fn exit(pid: u32, start: u64, number: Option<u32>) -> Body {
        Body::ProcessExit(proto::ProcessExit {
            process: process(pid, start),
            signal: number.and_then(signal),
            ..proto::ProcessExit::default()
        })
    }

    fn fatal(pid: u32, start: u64, number: u32) -> Body {
        Body::SignalFatal(proto::SignalFatal {
            process: process(pid, start),
            signal: signal(number),
            ..proto::SignalFatal::default()
        })
    }

    fn oom(pid: u32, start: u64) -> Body {
        Body::OomKill(proto::OomKill {
            process: process(pid, start),
            ..proto::OomKill::default()
        })
    }

    fn causes(events: &[Body]) -> Vec<Option<u64>> {
        let mut causes = Causes::default();
        (0..)
            .zip(events)
            .map(|(order, body)| causes.of(order, body))
            .collect()
    }

    #[test]
    fn an_exit_points_to_its_signal() {
        assert_eq!(
            causes(&[fatal(7, 1, 11), exit(7, 1, Some(11))]),
            [None, Some(0)]
        );
    }

    #[test]
    fn an_oom_kill_is_behind_both_its_signal_and_its_exit() {
        assert_eq!(
            causes(&[oom(7, 1), fatal(7, 1, 9), exit(7, 1, Some(9))]),
            [None, Some(0), Some(0)]
        );
    }

    #[test]
    fn a_victim_that_crashed_before_the_kill_arrived_died_of_its_own_signal() {
        assert_eq!(
            causes(&[oom(7, 1), fatal(7, 1, 11), exit(7, 1, Some(11))]),
            [None, None, Some(1)]
        );
    }

    #[test]
    fn another_process_with_the_same_pid_has_no_part_in_it() {
        assert_eq!(
            causes(&[fatal(7, 1, 11), exit(7, 2, Some(11)), exit(8, 1, Some(11))]),
            [None, None, None]
        );
    }

    #[test]
    fn an_exit_without_a_signal_has_no_cause() {
        assert_eq!(causes(&[oom(7, 1), exit(7, 1, None)]), [None, None]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut causes = Causes::default();
        for pid in 0..3 * DYING_MAX as u32 {
            causes.of(u64::from(pid), &fatal(pid, 1, 11));
        }
        assert_eq!(causes.dying.len(), DYING_MAX);
        assert_eq!(causes.seen.len(), DYING_MAX);
        let last = 3 * DYING_MAX as u32 - 1;
        assert_eq!(
            causes.of(0, &exit(last, 1, Some(11))),
            Some(u64::from(last))
        );
    }
}
