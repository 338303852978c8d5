//! Deaths: which event is behind which, and each exit joined to its cause, in words.
//!
//! Computed from events in their order, by readers and by the writer of dumps alike. Knows events only: no clock, no file.
//!
//! | event | cause, if it is the same process |
//! |---|---|
//! | `signal.fatal` by SIGKILL | its `oom.kill` |
//! | `signal.fatal` sent by a process on its way out | the `process.exit` of that process: its parent, the init of its namespace |
//! | `signal.fatal` sent by a process | the `signal.sent` by which it had been asked to end before |
//! | `process.exit` by SIGKILL | its `oom.kill`, else its `signal.fatal` by SIGKILL |
//! | `process.exit` by another signal | its `signal.fatal` by that signal |
//! | `process.exit` with code 128 + N | the `process.exit` of its child by signal N, which it passes on as shells do |
//! | `sample.process`, `sample.cgroup` with the reason "oom.kill" | the `oom.kill`, whoever was killed |
//! | `process.exit` with another code | the `signal.sent` by which it had been asked to end |
//!
//! A process is its pid and its start: a pid alone is used again.

mod certificate;
mod list;
#[cfg(test)]
mod tests;
pub mod words;

use std::collections::VecDeque;
use std::hash::Hash;

use ahash::HashMap;
use recorder_ebpf::abi::EventKind;

use crate::event::{Body, proto};

pub use certificate::{Asked, Certificate, Deceased, Party, Verdict};
pub use list::{Deaths, DeathsOf};

/// Most processes of a kind that are remembered: dying ones, ended ones, parents of ones that a signal ended. The one
/// remembered first is forgotten first.
pub const REMEMBERED_MAX: usize = 4096;

const SIGHUP: u32 = 1;
const SIGKILL: u32 = 9;
/// What a shell adds to the number of a signal.
const SHELL_SIGNAL: u32 = 128;

/// A process: pid and start in nanoseconds since boot, 0 if unknown.
type Id = (u32, u64);

/// Joins events to the ones behind them.
#[derive(Default)]
pub struct Joiner {
    dying: Remembered<Id, Joined>,
    /// Order of the exit, by pid.
    ended: Remembered<u32, u64>,
    /// Order of the last kill for memory.
    oom: Option<u64>,
    /// The last child that a signal ended, by the pid of the parent.
    children: Remembered<u32, Child>,
}

/// What an event has behind it.
#[derive(Debug, Default)]
pub struct Step {
    /// Order of the event behind this one.
    pub cause: Option<u64>,
    /// For an exit: all that is known of its reasons.
    pub death: Option<Death>,
}

/// A death and all that is known of its reasons: enough to certify it.
#[derive(Debug)]
pub struct Death {
    order: u64,
    unix_ns: u64,
    cause: Option<u64>,
    joined: Joined,
    child: Option<Child>,
}

/// What is known of a dying process.
#[derive(Clone, Debug, Default)]
struct Joined {
    oom: Option<Box<(u64, proto::OomKill)>>,
    fatal: Option<Box<Fatal>>,
    asked: Option<Box<(u64, proto::SignalSent)>>,
}

/// A fatal signal, and what is behind it.
#[derive(Clone, Debug)]
struct Fatal {
    order: u64,
    /// What a certificate tells of it.
    signal: proto::SignalFatal,
    /// The innermost frame.
    place: Option<proto::Frame>,
    /// Number of the system call, if it was forbidden.
    system_call: Option<u64>,
    /// Whether the exit of its sender is in the dump.
    sender_ended: bool,
}

/// A child that a signal ended.
#[derive(Clone, Debug)]
struct Child {
    order: u64,
    signal: u32,
    comm: Option<String>,
    pid: Option<u32>,
}

impl Joiner {
    /// Takes in the next event: its order in the dump and its wall clock, in nanoseconds since 1970.
    pub fn take(&mut self, order: u64, unix_ns: u64, body: &Body) -> Step {
        match body {
            Body::ProcessExit(exit) => self.exit(order, unix_ns, exit).unwrap_or_default(),
            Body::SignalFatal(fatal) => Step {
                cause: self.fatal(order, fatal),
                death: None,
            },
            Body::OomKill(kill) => {
                self.oom = Some(order);
                if let Some(id) = id(kill.process.as_ref()) {
                    self.dying.entry(id).oom = Some(Box::new((order, kill.clone())));
                }
                Step::default()
            }
            Body::SignalSent(sent) => {
                if let Some(id) = id(sent.process.as_ref()) {
                    self.dying.entry(id).asked = Some(Box::new((order, sent.clone())));
                }
                Step::default()
            }
            // Who had the memory when it ran out: looked at because of the kill.
            Body::SampleProcess(proto::SampleProcess { reason, .. })
            | Body::SampleCgroup(proto::SampleCgroup { reason, .. })
                if reason.as_deref() == Some(EventKind::OomKill.name()) =>
            {
                Step {
                    cause: self.oom,
                    death: None,
                }
            }
            _ => Step::default(),
        }
    }

    fn fatal(&mut self, order: u64, fatal: &proto::SignalFatal) -> Option<u64> {
        let id = id(fatal.process.as_ref())?;
        let number = fatal.signal.as_ref()?.number?;
        let sender = fatal.sender.as_ref();
        let ended = sender
            .filter(|sender| sender.exiting())
            .and_then(|sender| self.ended.get(&sender.pid?).copied());
        let joined = self.dying.entry(id);
        joined.fatal = Some(Box::new(Fatal {
            order,
            place: fatal.stack.first().cloned(),
            system_call: forbidden_call(fatal),
            sender_ended: ended.is_some(),
            signal: proto::SignalFatal {
                process: fatal.process.clone(),
                signal: fatal.signal.clone(),
                code: fatal.code.clone(),
                fault_address: fatal.fault_address,
                error_code: fatal.error_code,
                trap_number: fatal.trap_number,
                sender: fatal.sender.clone(),
                reraised: fatal.reraised,
                asked: fatal.asked.clone(),
                ..proto::SignalFatal::default()
            },
        }));
        let oom = joined.oom.as_ref().map(|oom| oom.0);
        let asked = joined.asked.as_ref().filter(|asked| {
            let when = |sender: Option<&proto::Sender>| sender.and_then(|sender| sender.boot_ns);
            let before = fatal
                .asked
                .as_ref()
                .and_then(|asked| when(asked.sender.as_ref()));
            before.is_some() && before == when(asked.1.sender.as_ref())
        });
        oom.filter(|_| number == SIGKILL)
            .or(ended)
            .or(asked.map(|asked| asked.0))
    }

    fn exit(&mut self, order: u64, unix_ns: u64, exit: &proto::ProcessExit) -> Option<Step> {
        let process = exit.process.as_ref();
        let id = id(process)?;
        let joined = self.dying.remove(&id).unwrap_or_default();
        self.ended.insert(id.0, order);
        let own_child = self.children.remove(&id.0);
        let signal = exit.signal.as_ref().and_then(|signal| signal.number);
        let parent = process.and_then(|process| process.ppid);
        if let (Some(signal), Some(parent)) = (signal, parent) {
            self.children.insert(
                parent,
                Child {
                    order,
                    signal,
                    comm: process.and_then(|process| process.comm.clone()),
                    pid: Some(id.0),
                },
            );
        }
        let child = own_child.filter(|child| exit.exit_code == Some(SHELL_SIGNAL + child.signal));
        let cause = match signal {
            Some(signal) => joined.behind(signal),
            None => child.as_ref().map(|child| child.order).or_else(|| {
                let (order, asked) = &**joined.asked.as_ref()?;
                is_to_end(asked).then_some(*order)
            }),
        };
        Some(Step {
            cause,
            death: Some(Death {
                order,
                unix_ns,
                cause,
                joined,
                child,
            }),
        })
    }
}

impl Joined {
    fn behind(&self, signal: u32) -> Option<u64> {
        let oom = self.oom.as_ref().filter(|_| signal == SIGKILL);
        let by_signal = || self.fatal_by(signal).map(|fatal| fatal.order);
        oom.map(|oom| oom.0).or_else(by_signal)
    }

    /// Returns the fatal signal if it is this one.
    fn fatal_by(&self, signal: u32) -> Option<&Fatal> {
        let fatal = self.fatal.as_deref()?;
        let number = fatal.signal.signal.as_ref()?.number;
        (number == Some(signal)).then_some(fatal)
    }
}

/// Returns whether a request was one to end, and one that the process acts upon: daemons take SIGHUP as another request.
fn is_to_end(sent: &proto::SignalSent) -> bool {
    let number = sent.signal.as_ref().and_then(|signal| signal.number);
    number != Some(SIGHUP) && sent.reception() != "ignored"
}

/// Returns the number of the system call that a seccomp filter forbade.
fn forbidden_call(fatal: &proto::SignalFatal) -> Option<u64> {
    let name = fatal.code.as_ref()?.name.as_deref()?;
    let number = ["orig_rax", "x8"];
    (name == "SYS_SECCOMP")
        .then(|| {
            let registers = &fatal.registers;
            registers
                .iter()
                .find(|register| number.contains(&register.name()))
        })?
        .map(proto::Register::value)
}

fn id(process: Option<&proto::Process>) -> Option<Id> {
    let process = process?;
    Some((process.pid?, process.start_boot_ns.unwrap_or(0)))
}

/// A map that forgets what it has known longest.
struct Remembered<K, V> {
    map: HashMap<K, V>,
    /// Keys in the order they were first seen; some may be gone since.
    seen: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            map: HashMap::default(),
            seen: VecDeque::new(),
        }
    }
}

impl<K: Eq + Hash + Copy, V> Remembered<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key, value).is_none() {
            self.remember(key);
        }
    }

    fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.map.contains_key(&key) {
            self.remember(key);
        }
        self.map.entry(key).or_default()
    }

    fn remember(&mut self, key: K) {
        if self.seen.len() >= REMEMBERED_MAX
            && let Some(first) = self.seen.pop_front()
            && first != key
        {
            self.map.remove(&first);
        }
        self.seen.push_back(key);
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.map.remove(key)
    }
}
