//! The host in the minutes before: a thread that samples it, for the sample lane.
//!
//! | topic | from | when |
//! |---|---|---|
//! | `sample.system` | `/proc`: load, CPU, memory, paging, pressure, disks, interfaces | every interval |
//! | `sample.process` | the BPF task iterator: who uses most CPU, memory, I/O | every interval, less often with very many processes |
//! | `kernel.log` | `/dev/kmsg` | as lines are written |
//! | `sample.process`, `sample.cgroup` with a reason | the same, and the memory cgroups | at a kill for memory |
//!
//! What a file does not say, or says in a way that cannot be understood, is absent from the sample. The thread never waits
//! for the data plane, and the data plane never for it.

mod cgroup;
mod cpu;
mod disk;
mod file;
mod kernel_log;
mod list;
mod memory;
mod network;
mod pattern;
mod pressure;
mod process;
mod rate;
mod system;
mod text;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recorder_ebpf::abi::EventKind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dump::{Probe, ProbeState};
use crate::ingest::{Ask, Asked, Outlet, now_boot_ns};
use crate::kernel::TaskIterator;
pub use cgroup::Hierarchy;
use kernel_log::{Line, Log};
use process::Processes;
use system::System;

/// How long lines of the kernel's log wait where there is no room for them.
const ROOM_WAIT: Duration = Duration::from_millis(50);
/// Most lines of the kernel's log taken before it is looked whether a sample is due.
const LINES_AT_ONCE: usize = 256;
/// Shortest time between two samples at kills for memory: those of one storm are as good for each other.
const ASK_REST_NS: u64 = 250_000_000;

/// Lines of the kernel's log that say nothing of a failure, where containers come and go.
///
/// The first three are a bridge's port and its interface, several lines for each container that starts or ends; then the
/// address of such an interface; then what the audit subsystem writes here when no daemon takes it.
pub const NOISE: [&str; 5] = [
    "* entered * state",
    "* entered promiscuous mode",
    "* left promiscuous mode",
    "IPv6: ADDRCONF(NETDEV_CHANGE): *: link becomes ready",
    "audit: type=*",
];

/// How to sample.
#[derive(Clone, Debug)]
pub struct SampleConfig {
    /// Time from one sample of the host to the next; zero for none.
    pub interval: Duration,
    /// Patterns of lines of the kernel's log that are left out; `*` stands for any text.
    pub ignored: Vec<String>,
}

/// What the thread has done.
#[derive(Debug, Default)]
pub struct SampleCounters {
    /// Samples of the host.
    pub samples: AtomicU64,
    /// Samples of its processes.
    pub processes: AtomicU64,
    /// Samples that were not taken because the one before took too long, or the thread did not run.
    pub missed: AtomicU64,
    /// Samples for which the data plane had no room.
    pub dropped: AtomicU64,
    /// CPU time that samples took, in nanoseconds.
    pub cpu_ns: AtomicU64,
    /// Lines of the kernel's log.
    pub lines: AtomicU64,
    /// Lines that a pattern left out.
    pub filtered: AtomicU64,
    /// Lines that the kernel overwrote before they were read.
    pub lost: AtomicU64,
    /// Lines left out because there were too many.
    pub left_out: AtomicU64,
}

/// The thread, not yet running.
pub struct Samples {
    config: SampleConfig,
    outlet: Outlet,
    counters: Arc<SampleCounters>,
    system: System,
    processes: Option<Processes>,
    memory: Option<Hierarchy>,
    log: Option<Log>,
    asked_boot_ns: Option<u64>,
    /// How each topic is recorded.
    probes: Vec<Probe>,
}

impl Samples {
    /// Opens what is to be read. What cannot be read is no error: [`Samples::probes`] says so.
    ///
    /// Without `tasks` there are no samples of processes; who has no iterator says why.
    pub fn new(config: SampleConfig, outlet: Outlet, tasks: Option<TaskIterator>) -> Self {
        let mut probes = Vec::new();
        if !config.interval.is_zero() {
            probes.push(of_system());
            probes.push(of_processes(tasks.is_some()));
        }
        let memory = Hierarchy::find();
        probes.push(of_cgroups(memory.as_ref()));
        let log = Log::open(&config.ignored);
        probes.push(of_log(log.as_ref().err()));
        Self {
            config,
            outlet,
            counters: Arc::default(),
            system: System::new(),
            processes: tasks.map(Processes::new),
            memory,
            log: log.ok(),
            asked_boot_ns: None,
            probes,
        }
    }

    /// Returns how each topic is recorded, or why not.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// Returns what the thread counts.
    pub fn counters(&self) -> Arc<SampleCounters> {
        Arc::clone(&self.counters)
    }

    /// Samples until the data plane ends.
    pub fn run(mut self) {
        let interval_ns = crate::config::saturating_ns(self.config.interval);
        let mut due = (interval_ns > 0).then(now_boot_ns);
        loop {
            match self.outlet.asked() {
                Asked::For(ask) => {
                    self.answer(ask);
                    continue;
                }
                Asked::Nothing => {}
                Asked::Ended => return,
            }
            let now = now_boot_ns();
            if let Some(due) = due.as_mut().filter(|due| **due <= now) {
                if !self.outlet.is_left_out() {
                    self.sample(now);
                }
                // On the same beat, whatever was missed.
                let beats = (now - *due) / interval_ns;
                *due += (beats + 1) * interval_ns;
                self.counters.missed.fetch_add(beats, Ordering::Relaxed);
            }
            let paused = !self.read_log();
            if self.outlet.is_filling() {
                self.outlet.tell();
            }
            self.wait(due, paused);
        }
    }

    /// Takes the samples of an interval.
    fn sample(&mut self, now: u64) {
        let start = thread_cpu_ns();
        let sample = self.system.sample(now);
        let sent = self.outlet.send(EventKind::SampleSystem, now, sample);
        self.counters.count(sent, &self.counters.samples);
        let processes = self.processes.as_mut();
        // A pass that failed is not there; the next may be.
        if let Some(Ok(Some(sample))) = processes.map(|processes| processes.sample(now)) {
            let sent = self.outlet.send(EventKind::SampleProcess, now, sample);
            self.counters.count(sent, &self.counters.processes);
        }
        self.outlet.tell();
        let spent = thread_cpu_ns().saturating_sub(start);
        self.counters.cpu_ns.fetch_add(spent, Ordering::Relaxed);
    }

    /// Takes the samples that the data plane asks for.
    fn answer(&mut self, ask: Ask) {
        let now = now_boot_ns();
        let is_rest = |last: u64| now < last.saturating_add(ASK_REST_NS);
        if self.asked_boot_ns.is_some_and(is_rest) {
            return;
        }
        self.asked_boot_ns = Some(now);
        let reason = ask.kind.name();
        let processes = self.processes.as_mut();
        if let Some(Ok(sample)) = processes.map(|processes| processes.by_memory(now, reason)) {
            let sent = self.outlet.send(EventKind::SampleProcess, now, sample);
            self.counters.count(sent, &self.counters.processes);
        }
        if let Some(memory) = &self.memory {
            let sample = memory.sample(ask.memory_cgroup_id, reason);
            let sent = self.outlet.send(EventKind::SampleCgroup, now, &sample);
            if !sent {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.outlet.tell();
    }

    /// Takes the lines that the log has; false if there is no room for more of them now.
    ///
    /// They wait in the kernel, which has more room for them.
    fn read_log(&mut self) -> bool {
        let Some(log) = &mut self.log else {
            return true;
        };
        let counters = &self.counters;
        for _ in 0..LINES_AT_ONCE {
            if !self.outlet.has_room() {
                return false;
            }
            let now = now_boot_ns();
            let counter = match log.next(now) {
                Line::Taken => {
                    let line = log.line();
                    counters
                        .lost
                        .fetch_add(line.lost_before(), Ordering::Relaxed);
                    self.outlet.send(EventKind::KernelLog, now, line);
                    &counters.lines
                }
                Line::Filtered => &counters.filtered,
                Line::LeftOut => &counters.left_out,
                Line::None => break,
                Line::Ended => {
                    self.log = None;
                    break;
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Sleeps until there is a line, a sample is due, or the data plane wants something.
    fn wait(&self, due: Option<u64>, paused: bool) {
        let until_due = due.map(|due| Duration::from_nanos(due.saturating_sub(now_boot_ns())));
        let timeout = match (until_due, paused) {
            (Some(until_due), true) => Some(until_due.min(ROOM_WAIT)),
            (None, true) => Some(ROOM_WAIT),
            (until_due, false) => until_due,
        };
        let timeout = timeout.map(|timeout| Timespec {
            // At most an interval.
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let wake = PollFd::from_borrowed_fd(self.outlet.fd(), PollFlags::IN);
        // An interrupted wait is a short one.
        let _ = match self.log.as_ref().filter(|_| !paused) {
            Some(log) => {
                let log = PollFd::from_borrowed_fd(log.fd(), PollFlags::IN);
                poll(&mut [wake, log], timeout.as_ref())
            }
            None => poll(&mut [wake], timeout.as_ref()),
        };
    }
}

impl SampleCounters {
    fn count(&self, sent: bool, counter: &AtomicU64) {
        let counter = if sent { counter } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says how each topic would be recorded on this host.
pub fn plan() -> Vec<Probe> {
    vec![
        of_system(),
        of_cgroups(Hierarchy::find().as_ref()),
        of_log(Log::open(&[]).as_ref().err()),
    ]
}

fn of_processes(listed: bool) -> Probe {
    Probe {
        event: EventKind::SampleProcess.name().to_owned(),
        hook: if listed { "iter/task" } else { "" }.to_owned(),
        state: match listed {
            true => ProbeState::Attached,
            false => ProbeState::Unavailable,
        },
        detail: (!listed).then(|| "for the reason that process.list gives".to_owned()),
    }
}

fn of_cgroups(memory: Option<&Hierarchy>) -> Probe {
    Probe {
        event: EventKind::SampleCgroup.name().to_owned(),
        hook: memory.map_or_else(String::new, |memory| memory.root().display().to_string()),
        state: match memory {
            Some(_) => ProbeState::Attached,
            None => ProbeState::Unavailable,
        },
        detail: match memory {
            Some(_) => None,
            None => Some("no hierarchy of cgroups has the memory controller".to_owned()),
        },
    }
}

fn of_system() -> Probe {
    let pressure = std::fs::read("/proc/pressure/memory");
    Probe {
        event: EventKind::SampleSystem.name().to_owned(),
        hook: "/proc".to_owned(),
        state: match pressure {
            Ok(_) => ProbeState::Attached,
            Err(_) => ProbeState::Fallback,
        },
        detail: pressure
            .is_err()
            .then(|| "without pressure: this kernel keeps no PSI (CONFIG_PSI, psi=1)".to_owned()),
    }
}

fn of_log(error: Option<&io::Error>) -> Probe {
    Probe {
        event: EventKind::KernelLog.name().to_owned(),
        hook: kernel_log::PATH.to_owned(),
        state: match error {
            None => ProbeState::Attached,
            Some(_) => ProbeState::Unavailable,
        },
        detail: error.map(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => ": it needs CAP_SYSLOG",
                io::ErrorKind::NotFound => ": a container must be given the device",
                _ => "",
            };
            format!("cannot read {}: {error}{remedy}", kernel_log::PATH)
        }),
    }
}

/// Returns the CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Neither is negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
