//! Process accounting over the window, from the records of exits: what `sa -m`, `sa` and `lastcomm` give.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::event::proto;

/// Most users and commands that are told apart; those that come later are counted together.
pub const GROUPS_MAX: usize = 2048;
/// Most users, commands and processes that are listed.
pub const LISTED_MAX: usize = 12;

/// What processes that ended had used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Accounting {
    /// All of them.
    pub total: Usage,
    /// By user, those with most CPU time first.
    pub users: Vec<Usage>,
    /// Users that are not listed.
    pub users_left_out: u64,
    /// By command, those with most CPU time first.
    pub commands: Vec<Usage>,
    /// Commands that are not listed.
    pub commands_left_out: u64,
    /// The processes with most CPU time, the busiest first.
    pub busiest: Vec<Ended>,
    /// The last processes that ended, up to the trigger.
    pub last: Vec<Ended>,
}

/// What a group of processes had used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Name of the user or the command; a user without a name is its id.
    pub name: String,
    /// How many processes.
    pub processes: u64,
    /// How many of them exited with a code other than 0.
    pub failed: u64,
    /// How many of them a signal ended.
    pub signalled: u64,
    /// CPU time in user mode.
    pub user_ns: u64,
    /// CPU time in kernel mode.
    pub system_ns: u64,
    /// Time from start to end, of all of them together.
    pub lifetime_ns: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes sent to storage.
    pub write_bytes: u64,
    /// The highest resident memory that one of them had.
    pub max_rss_bytes: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
}

impl Usage {
    /// Returns the CPU time in both modes.
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }

    fn add(&mut self, exit: &proto::ProcessExit) {
        let sum = |to: &mut u64, from: u64| *to = to.saturating_add(from);
        self.processes += 1;
        self.failed += u64::from(exit.exit_code() != 0);
        self.signalled += u64::from(exit.signal.is_some());
        sum(&mut self.user_ns, exit.user_ns());
        sum(&mut self.system_ns, exit.system_ns());
        sum(&mut self.lifetime_ns, exit.lifetime_ns());
        sum(&mut self.read_bytes, exit.read_bytes());
        sum(&mut self.write_bytes, exit.write_bytes());
        sum(&mut self.major_faults, exit.major_faults().into());
        self.max_rss_bytes = self.max_rss_bytes.max(exit.max_rss_bytes());
    }
}

/// A process that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Process id.
    pub pid: u32,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its user: the name, else the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How it ended: "exit 0", "SIGKILL".
    pub end: String,
    /// When, by the wall clock, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// CPU time in both modes.
    pub cpu_ns: u64,
    /// Time from its start to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_ns: Option<u64>,
    /// Highest resident memory.
    pub max_rss_bytes: u64,
    /// Bytes fetched from and sent to storage.
    pub io_bytes: u64,
}

impl Ended {
    /// Takes it out of an exit.
    pub fn of(exit: &proto::ProcessExit, unix_ns: u64) -> Self {
        let process = exit.process.as_ref();
        let end = match &exit.signal {
            Some(signal) => signal
                .name
                .clone()
                .unwrap_or_else(|| format!("signal {}", signal.number())),
            None => format!("exit {}", exit.exit_code()),
        };
        Self {
            pid: process.map(proto::Process::pid).unwrap_or_default(),
            comm: process.and_then(|process| process.comm.clone()),
            user: process.and_then(user),
            end,
            unix_ns,
            cpu_ns: exit.user_ns().saturating_add(exit.system_ns()),
            lifetime_ns: exit.lifetime_ns,
            max_rss_bytes: exit.max_rss_bytes(),
            io_bytes: exit.read_bytes().saturating_add(exit.write_bytes()),
        }
    }
}

/// Returns the user of a process: by name, or by its id where the host had no name for it.
fn user(process: &proto::Process) -> Option<String> {
    let name = process.user.clone();
    name.or_else(|| process.uid.map(|uid| uid.to_string()))
}

/// A living process and what it used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Busy {
    /// Process id.
    pub pid: u32,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its user: the name, else the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its use of CPUs; 100 is one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Its resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}

impl Busy {
    /// Takes it out of a sample.
    pub fn of(usage: &proto::ProcessUsage) -> Self {
        let process = usage.process.as_ref();
        Self {
            pid: process.map(proto::Process::pid).unwrap_or_default(),
            comm: process.and_then(|process| process.comm.clone()),
            user: process.and_then(user),
            cpu_percent: usage.cpu_percent,
            rss_bytes: usage.rss_bytes,
        }
    }
}

/// Adds up exits.
#[derive(Default)]
pub(super) struct Ledger {
    total: Usage,
    users: Groups,
    commands: Groups,
    busiest: Vec<Ended>,
    last: VecDeque<Ended>,
}

impl Ledger {
    /// Takes in an exit; `before` tells whether it came up to the trigger.
    pub(super) fn take(&mut self, exit: &proto::ProcessExit, unix_ns: u64, before: bool) {
        let process = exit.process.as_ref();
        self.total.add(exit);
        let user = process.and_then(user).unwrap_or_default();
        self.users.of(&user).add(exit);
        let comm = process.and_then(|process| process.comm.as_deref());
        self.commands.of(comm.unwrap_or_default()).add(exit);
        let cpu_ns = exit.user_ns().saturating_add(exit.system_ns());
        let least = self.busiest.last().map_or(0, |ended| ended.cpu_ns);
        if self.busiest.len() < LISTED_MAX || cpu_ns > least {
            let at = self.busiest.partition_point(|ended| ended.cpu_ns >= cpu_ns);
            self.busiest.insert(at, Ended::of(exit, unix_ns));
            self.busiest.truncate(LISTED_MAX);
        }
        if before {
            if self.last.len() == LISTED_MAX {
                self.last.pop_front();
            }
            self.last.push_back(Ended::of(exit, unix_ns));
        }
    }

    pub(super) fn finish(self) -> Accounting {
        let (users, users_left_out) = self.users.finish();
        let (commands, commands_left_out) = self.commands.finish();
        Accounting {
            total: self.total,
            users,
            users_left_out,
            commands,
            commands_left_out,
            busiest: self.busiest,
            last: self.last.into(),
        }
    }
}

/// Usage by name, bounded.
#[derive(Default)]
struct Groups {
    by_name: BTreeMap<String, Usage>,
    others: Usage,
}

impl Groups {
    fn of(&mut self, name: &str) -> &mut Usage {
        if !self.by_name.contains_key(name) {
            if self.by_name.len() == GROUPS_MAX {
                return &mut self.others;
            }
            let usage = Usage {
                name: name.to_owned(),
                ..Usage::default()
            };
            self.by_name.insert(name.to_owned(), usage);
        }
        self.by_name.get_mut(name).unwrap_or(&mut self.others)
    }

    /// Returns those with most CPU time, and how many more there are.
    fn finish(self) -> (Vec<Usage>, u64) {
        let mut groups: Vec<Usage> = self.by_name.into_values().collect();
        if self.others.processes > 0 {
            groups.push(Usage {
                name: "(others)".to_owned(),
                ..self.others
            });
        }
        groups.sort_by_key(|usage| std::cmp::Reverse((usage.cpu_ns(), usage.processes)));
        let left_out = groups.len().saturating_sub(LISTED_MAX) as u64;
        groups.truncate(LISTED_MAX);
        (groups, left_out)
    }
}
