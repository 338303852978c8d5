//! The contract at run time: what recording may cost, what it does cost, and what is left out so that it keeps to that.
//!
//! A thread measures once a second. When it is too much it asks the data plane to leave out one thing more, in the order of
//! [`Saving`](recorder_ebpf::abi::Saving), and when there is room again to take one back: see [`controller`]. The data plane writes the note, tells the
//! probes, and keeps the account of what was left out.
//!
//! The same thread looks whether the kernel will kill for the memory of the agent's cgroup: see [`limit`].

mod contract;
mod controller;
mod limit;
mod measure;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::{Deserialize, Serialize};

use crate::ingest::{Command, Commands, now_boot_ns};
use crate::kernel::Counters;
use limit::Limit;
use measure::{Probes, Slice, Threads};
use recorder_ebpf::abi::NoteKind;

pub use contract::{Contract, Resource, Share};
pub use controller::{Cause, Change, Controller, Measure};
pub use limit::{CgroupMemory, limit_of_this_process};
pub use measure::{give_back_arenas, give_back_memory, map_large_blocks};

/// Time from one measure to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Measures from one slice of the probes to the next, where their time is bounded and there is room enough.
const SLICE_EVERY: u32 = 10;

/// What recording costs and may cost, and what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// What it may cost; absent what may cost any amount.
    #[serde(default)]
    pub limits: Costs,
    /// What it does cost, on average since the last step but of ten seconds at most; absent what was not measured.
    #[serde(default)]
    pub measured: Costs,
    /// What is left out, in the order in which it began: "argv", "samples", "exec", "exit_detail".
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Since when, by the wall clock, in nanoseconds since the Unix epoch; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_unix_ns: Option<u64>,
    /// What there is or was too much of; absent if nothing is left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Resource>,
    /// Whether it costs too much though all that may be left out is.
    #[serde(default)]
    pub exceeded: bool,
    /// Records of which all or something was left out since recording began, by what was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub records: BTreeMap<String, u64>,
    /// Steps that left something out, ever.
    #[serde(default)]
    pub degradations: u64,
    /// Steps that took something back, ever.
    #[serde(default)]
    pub recoveries: u64,
    /// What the agent's cgroup may hold; absent if that has no limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<CgroupMemory>,
    /// Every thread of the agent.
    #[serde(default)]
    pub threads: Vec<ThreadStatus>,
    /// What the probes took in the last slice in which they were measured.
    #[serde(default)]
    pub probes: Vec<ProbeStatus>,
}

/// Amounts of what recording costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// CPU time of the threads that record and of the probes, in millionths of one core.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_millionths: Option<u64>,
    /// Average time of a run of the dearest probe of processes, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe_ns: Option<u64>,
    /// Memory of the agent's own, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
}

impl Costs {
    fn of(amount: impl Fn(Resource) -> Option<u64>) -> Self {
        Self {
            cpu_millionths: amount(Resource::Cpu),
            probe_ns: amount(Resource::ProbeNs),
            memory_bytes: amount(Resource::Memory),
        }
    }

    /// Returns one of them.
    pub fn get(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Cpu => self.cpu_millionths,
            Resource::ProbeNs => self.probe_ns,
            Resource::Memory => self.memory_bytes,
        }
    }
}

/// What a thread of the agent has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// Its name; those of one name are told together.
    pub name: String,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Whether the budget counts it.
    pub is_counted: bool,
}

/// What a probe took while it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// Its program.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// How long all runs took, in nanoseconds.
    pub run_ns: u64,
}

/// What the thread shares with those who set the contract and who ask how it is kept.
#[derive(Debug, Default)]
pub struct Shared {
    contract: Mutex<Contract>,
    status: Mutex<BudgetStatus>,
}

impl Shared {
    /// Begins with a contract.
    pub fn new(contract: Contract) -> Self {
        Self {
            contract: Mutex::new(contract),
            status: Mutex::default(),
        }
    }

    /// Puts another contract in force.
    pub fn set_contract(&self, contract: Contract) {
        *self.contract.lock().unwrap_or_else(PoisonError::into_inner) = contract;
    }

    /// Returns how the contract is kept.
    pub fn status(&self) -> BudgetStatus {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    fn contract(&self) -> Contract {
        *self.contract.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, not yet running.
pub struct Watch {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    commands: Commands,
    controller: Controller,
    threads: Threads,
    probes: Probes,
    /// Measures since the last slice.
    unsliced: u32,
    /// Records that the probes had begun at the last look.
    records: u64,
    looked_boot_ns: u64,
    degradations: u64,
    recoveries: u64,
    since_unix_ns: Option<u64>,
    reason: Option<Resource>,
    limit: Limit,
    cgroup: Option<CgroupMemory>,
}

impl Watch {
    /// Measures what these count, and asks these.
    pub fn new(shared: Arc<Shared>, counters: Arc<Counters>, commands: Commands) -> Self {
        let controller = Controller::new(shared.contract());
        Self {
            shared,
            counters,
            commands,
            controller,
            threads: Threads::default(),
            probes: Probes::default(),
            unsliced: SLICE_EVERY,
            records: 0,
            looked_boot_ns: 0,
            degradations: 0,
            recoveries: 0,
            since_unix_ns: None,
            reason: None,
            limit: Limit::default(),
            cgroup: None,
        }
    }

    /// Measures until it is told to stop.
    pub fn run(mut self, stopped: &Receiver<()>) {
        self.threads.look();
        self.records = measure::records(&self.counters);
        self.looked_boot_ns = now_boot_ns();
        let mut rest = INTERVAL;
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(rest) {
            self.controller.set_contract(self.shared.contract());
            rest = INTERVAL;
            let mut measured = None;
            if self.wants_slice() {
                let slice = Slice::begin(&self.counters);
                if stopped.recv_timeout(measure::SLICE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                rest -= measure::SLICE;
                self.unsliced = 0;
                // Nothing ran if nobody has the kernel measure.
                let probes = slice.end(&self.counters);
                measured = (!probes.programs.is_empty()).then_some(probes);
            }
            self.unsliced = self.unsliced.saturating_add(1);
            self.measure(measured);
        }
    }

    /// Whether the probes are to be measured now, and not only guessed at: when it is getting close. To measure changes the
    /// kernel's code twice, which every CPU notices.
    fn wants_slice(&self) -> bool {
        let contract = self.controller.contract();
        // A quarter: a guess may be wrong by a factor of two.
        let near = |resource| {
            let (budget, now) = (contract.of(resource), self.controller.average(resource));
            matches!((budget, now), (Some(budget), Some(now)) if now > budget / 4)
        };
        let is_bound = |resource| contract.of(resource).is_some();
        let is_left_out = !self.controller.in_force().is_empty();
        let of_cpu = is_bound(Resource::Cpu) && (is_left_out || near(Resource::Cpu));
        let of_probes = is_bound(Resource::ProbeNs)
            && (is_left_out || near(Resource::ProbeNs) || self.unsliced >= SLICE_EVERY);
        of_cpu || of_probes
    }

    fn measure(&mut self, measured: Option<Probes>) {
        let now = now_boot_ns();
        let elapsed_ns = now - self.looked_boot_ns;
        self.looked_boot_ns = now;
        let records = measure::records(&self.counters);
        let guessed = measure::estimate(records - self.records, elapsed_ns);
        self.records = records;
        let threads = Share::of(self.threads.look(), elapsed_ns);
        let probes = measured.as_ref().map_or(guessed, |probes| probes.cpu);
        let measure = Measure {
            cpu: threads.0.saturating_add(probes.0),
            probe_ns: measured.as_ref().and_then(|probes| probes.dearest_ns),
            memory_bytes: self.memory(),
        };
        if let Some(probes) = measured {
            self.probes = probes;
        }
        // The step is taken only if the data plane takes it: one that does not keep up is asked again.
        if let Some(change) = self.controller.measured(now, measure) {
            match self.commands.send(Command::Budget(change)) {
                true => self.taken(change),
                false => self.controller.undo(change),
            }
        }
        self.look_at_limit();
        self.publish();
    }

    /// Says when the cgroup's memory is nearly used up, after what is not used was given back, and when it is not any more.
    fn look_at_limit(&mut self) {
        let mut now = self.limit.look();
        let is_short = |found: &Option<CgroupMemory>| found.as_ref().is_some_and(|it| it.is_short);
        let was_short = is_short(&self.cgroup);
        if is_short(&now) && !was_short {
            give_back_memory();
            now = self.limit.look();
        }
        if let Some(found) = &now
            && found.is_short != was_short
        {
            let note = Command::Note(NoteKind::Memory, found.sentence());
            if !self.commands.send(note) {
                // It is said at the next look.
                return;
            }
        }
        self.cgroup = now;
    }

    /// Returns the agent's own memory, after what is not used was given back if it is too much.
    fn memory(&self) -> u64 {
        let bytes = measure::memory_bytes();
        let budget = self.controller.contract().of(Resource::Memory);
        if budget.is_some_and(|budget| bytes > budget) {
            give_back_memory();
            return measure::memory_bytes();
        }
        bytes
    }

    fn taken(&mut self, change: Change) {
        if change.begins {
            self.degradations += 1;
            self.reason = change.cause.map(|cause| cause.resource);
            let unix_ns = crate::ingest::now_pair().unix_ns;
            self.since_unix_ns.get_or_insert(unix_ns);
        } else {
            self.recoveries += 1;
            if change.savings() == 0 {
                self.since_unix_ns = None;
                self.reason = None;
            }
        }
    }

    fn publish(&self) {
        let controller = &self.controller;
        let in_force = controller.in_force();
        let worst = controller.worst();
        let is_over = worst.is_some_and(|cause| cause.measured > cause.budget);
        let thread = |thread: measure::Thread| ThreadStatus {
            is_counted: measure::RECORDING.contains(&thread.name.as_str()),
            name: thread.name,
            cpu_ns: thread.cpu_ns,
        };
        let probe = |(program, runs): &(String, crate::kernel::Runs)| ProbeStatus {
            program: program.clone(),
            runs: runs.count,
            run_ns: runs.ns,
        };
        let status = BudgetStatus {
            limits: Costs::of(|resource| controller.contract().of(resource)),
            measured: Costs::of(|resource| controller.average(resource)),
            left_out: in_force
                .iter()
                .map(|saving| saving.name().to_owned())
                .collect(),
            since_unix_ns: self.since_unix_ns,
            reason: self.reason,
            exceeded: is_over && in_force.len() == recorder_ebpf::abi::Saving::ALL.len(),
            records: BTreeMap::new(),
            degradations: self.degradations,
            recoveries: self.recoveries,
            cgroup: self.cgroup.clone(),
            threads: self.threads.by_name().into_iter().map(thread).collect(),
            probes: self.probes.programs.iter().map(probe).collect(),
        };
        *self
            .shared
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = status;
    }
}
