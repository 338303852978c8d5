//! What kind of problem it was, and what else stands out: proposals with their reasons, for a person to judge.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Series, host};
use crate::death::{Certificate, Verdict};
use crate::dump::Clocks;
use crate::event::{Body, proto};
use crate::incident::Incident;

/// What kind of problem it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseClass {
    /// Memory ran out.
    Memory,
    /// CPU time ran out.
    Cpu,
    /// Storage failed or stalled.
    Io,
    /// A component is broken.
    Hardware,
    /// A program failed by itself.
    Software,
    /// Somebody, or another program, ended it.
    Killed,
    /// A person asked for the dump.
    Manual,
    /// The dump does not say.
    #[default]
    Unknown,
}

impl CauseClass {
    /// Returns its name as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Io => "I/O",
            Self::Hardware => "hardware",
            Self::Software => "software",
            Self::Killed => "killed from outside",
            Self::Manual => "none: triggered by hand",
            Self::Unknown => "unknown",
        }
    }
}

/// The kind of problem, and why it seems so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The kind.
    pub class: CauseClass,
    /// Why: one sentence each.
    pub reasons: Vec<String>,
}

/// Something that stands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flag {
    /// "memory", "disk", "hardware", "load", "crash-loop", "fork-storm", "killed", "clock", "loss".
    pub name: &'static str,
    /// Why: one sentence.
    pub reason: String,
}

/// Crashes of one command from which on it is a loop.
const CRASH_LOOP: u64 = 3;
/// Programs that crash on one CPU, and on no other, from which on the CPU is suspected.
const CRASHES_ON_ONE_CPU: usize = 3;
/// Processes that end in a second from which on it is a storm.
const STORM_PER_SECOND: u64 = 200;
/// Difference of the wall clock from which on it was set.
const CLOCK_STEP_NS: u64 = 100_000_000;
/// Most programs that are told apart.
const PROGRAMS_MAX: usize = 1024;

/// Status of requests that say that the medium or the device itself is broken.
const BROKEN: [&str; 3] = ["BLK_STS_MEDIUM", "BLK_STS_TARGET", "BLK_STS_PROTECTION"];

/// What the events say beside each other.
#[derive(Default)]
pub(super) struct Signs {
    oom_kills: u64,
    hangs: u64,
    /// By disk: how many errors, and the last one's reason.
    io_errors: BTreeMap<String, (u64, String)>,
    lost_writes: u64,
    is_medium_broken: bool,
    is_disk_full: bool,
    is_memory_broken: bool,
    /// Pages that broke.
    broken_pages: u64,
    /// Machine checks: those that were corrected, and the others.
    corrected: u64,
    uncorrected: u64,
    /// Programs that crashed, by CPU.
    crashed_on: BTreeMap<u32, BTreeSet<String>>,
    /// Crashes by command.
    crashes: BTreeMap<String, u64>,
    exits: u64,
}

impl Signs {
    /// Takes in an event, and of an exit the verdict.
    pub(super) fn take(&mut self, body: &Body, verdict: Option<Verdict>) {
        match body {
            Body::OomKill(_) => self.oom_kills += 1,
            Body::TaskHung(_) => self.hangs += 1,
            Body::IoError(error) => self.io_error(error),
            Body::WritebackError(error) => {
                self.lost_writes += 1;
                self.is_disk_full |= error.errno() == "ENOSPC";
            }
            Body::MemoryFailure(_) => self.broken_pages += 1,
            Body::MachineCheck(check) if check.uncorrected() => self.uncorrected += 1,
            Body::MachineCheck(_) => self.corrected += 1,
            Body::SignalFatal(fatal) => self.fault(fatal),
            Body::ProcessExit(exit) => {
                self.exits += 1;
                let crashed = matches!(
                    verdict,
                    Some(Verdict::Fault | Verdict::Abort | Verdict::Seccomp | Verdict::OomKill)
                );
                let comm = exit
                    .process
                    .as_ref()
                    .and_then(|process| process.comm.clone());
                if crashed && self.crashes.len() < PROGRAMS_MAX {
                    *self.crashes.entry(comm.unwrap_or_default()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn io_error(&mut self, error: &proto::IoError) {
        let disk = error.disk.as_ref().or(error.device.as_ref());
        let reason = error.errno.as_ref().or(error.status.as_ref());
        if self.io_errors.len() < PROGRAMS_MAX {
            let disk = self.io_errors.entry(disk.cloned().unwrap_or_default());
            let (count, last) = disk.or_default();
            *count += 1;
            *last = reason.cloned().unwrap_or_default();
        }
        self.is_medium_broken |= BROKEN.contains(&error.status());
        self.is_disk_full |= error.errno() == "ENOSPC";
    }

    fn fault(&mut self, fatal: &proto::SignalFatal) {
        let code = fatal.code.as_ref();
        let name = code
            .and_then(|code| code.name.as_deref())
            .unwrap_or_default();
        self.is_memory_broken |= name.starts_with("BUS_MCEERR");
        let is_fault = fatal.sender.is_none() && code.is_some_and(|code| code.number() > 0);
        if let (true, Some(cpu), true) = (is_fault, fatal.cpu, self.crashed_on.len() < PROGRAMS_MAX)
        {
            let comm = fatal
                .process
                .as_ref()
                .and_then(|process| process.comm.clone());
            let programs = self.crashed_on.entry(cpu).or_default();
            if programs.len() < PROGRAMS_MAX {
                programs.insert(comm.unwrap_or_default());
            }
        }
    }

    /// Returns the CPU on which several programs crashed while none did elsewhere.
    fn suspected_cpu(&self) -> Option<(u32, usize)> {
        let mut cpus = self.crashed_on.iter();
        match (cpus.next(), cpus.next()) {
            (Some((cpu, programs)), None) if programs.len() >= CRASHES_ON_ONE_CPU => {
                Some((*cpu, programs.len()))
            }
            _ => None,
        }
    }
}

/// What the kind of problem is judged by.
pub(super) struct Case<'a> {
    pub(super) incident: Option<&'a Incident>,
    /// The certificate of the subject.
    pub(super) death: Option<&'a Certificate>,
    pub(super) signs: &'a Signs,
    pub(super) series: &'a [Series],
    pub(super) clocks: Option<&'a Clocks>,
    /// CPUs of the host.
    pub(super) cpus: u32,
    /// Length of the window that was covered.
    pub(super) window_ns: u64,
    /// What is missing, if something is.
    pub(super) missing: Option<&'a str>,
}

impl Case<'_> {
    /// Judges what kind of problem it was.
    pub(super) fn cause(&self) -> Cause {
        let Some(incident) = self.incident else {
            return Cause::default();
        };
        let (class, reason) = match incident.trigger.event_type.as_str() {
            "oom.kill" => self.memory(),
            "io.error" if self.signs.is_medium_broken => (
                CauseClass::Hardware,
                "the device itself says that it is broken".to_owned(),
            ),
            "io.error" => (CauseClass::Io, "a block device failed a request".to_owned()),
            "fs.writeback_error" => (
                CauseClass::Io,
                "data was lost after its write had succeeded".to_owned(),
            ),
            "hw.memory_failure" => (
                CauseClass::Hardware,
                "the memory itself is broken".to_owned(),
            ),
            "hw.machine_check" => (
                CauseClass::Hardware,
                "a processor reported an error of the hardware".to_owned(),
            ),
            "task.hung" => (
                CauseClass::Io,
                "a task waited without end, as tasks do for storage".to_owned(),
            ),
            _ => match self.death {
                Some(death) if incident.rule != "manual" => self.death(death),
                _ if incident.rule == "manual" => {
                    (CauseClass::Manual, "nothing had failed".to_owned())
                }
                _ => (
                    CauseClass::Unknown,
                    "the end of the subject is not in the dump".to_owned(),
                ),
            },
        };
        let mut reasons = vec![reason];
        reasons.extend(self.death.map(|death| death.text.clone()));
        reasons.extend(self.context(class));
        Cause { class, reasons }
    }

    fn memory(&self) -> (CauseClass, String) {
        let text = "the kernel killed for memory";
        (CauseClass::Memory, text.to_owned())
    }

    fn death(&self, death: &Certificate) -> (CauseClass, String) {
        let (class, reason) = match death.verdict {
            Verdict::OomKill => return self.memory(),
            Verdict::Fault if self.signs.is_memory_broken => {
                (CauseClass::Hardware, "the memory itself is broken")
            }
            Verdict::Fault => (
                CauseClass::Software,
                "the program crashed by a fault of its own",
            ),
            Verdict::Abort => (CauseClass::Software, "the program gave up by itself"),
            Verdict::Seccomp => (
                CauseClass::Software,
                "the program made a system call that it may not",
            ),
            Verdict::Killed => (CauseClass::Killed, "another process sent the signal"),
            Verdict::ParentDied => (CauseClass::Killed, "its parent ended"),
            Verdict::NamespaceEnded => (CauseClass::Killed, "its pid namespace ended"),
            Verdict::Kernel if death.signal.as_deref() == Some("SIGXCPU") => {
                (CauseClass::Cpu, "it used more CPU time than it may")
            }
            Verdict::Kernel => (CauseClass::Killed, "the kernel sent the signal"),
            Verdict::OwnSignal => (CauseClass::Software, "it sent the signal to itself"),
            Verdict::ExitFailure => (CauseClass::Software, "it exited with an error of its own"),
            Verdict::Signal | Verdict::Exit => (CauseClass::Unknown, "the dump does not say more"),
        };
        (class, reason.to_owned())
    }

    /// Says what speaks for or against other kinds.
    fn context(&self, class: CauseClass) -> Vec<String> {
        let signs = self.signs;
        let mut reasons = Vec::new();
        let others = signs.oom_kills;
        match (class, others) {
            (CauseClass::Memory | CauseClass::Manual, _) => {}
            (_, 0) => reasons.push("not memory: no OOM kill in the window".to_owned()),
            (_, kills) => reasons.push(format!("{kills} OOM kills in the window beside it")),
        }
        let is_io = matches!(class, CauseClass::Io | CauseClass::Hardware);
        if !is_io && !signs.io_errors.is_empty() {
            let disks: Vec<&str> = signs.io_errors.keys().map(String::as_str).collect();
            reasons.push(format!("I/O errors in the window: {}", disks.join(", ")));
        }
        for (name, most, what) in [
            (host::MEMORY_PRESSURE, 20.0, "tasks waited for memory"),
            (host::IO_PRESSURE, 40.0, "tasks waited for storage"),
        ] {
            if let Some(series) = self.above(name, most) {
                reasons.push(format!("{what}: up to {:.0} % of the time", series.highest));
            }
        }
        reasons
    }

    fn above(&self, name: &str, most: f64) -> Option<&Series> {
        let mut series = self.series.iter();
        series.find(|series| series.name == name && series.highest > most)
    }

    /// Proposes what stands out.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut flag = |name, reason: String| flags.push(Flag { name, reason });
        let signs = self.signs;
        if signs.oom_kills > 0 {
            flag(
                "memory",
                format!("{} killed for memory", times(signs.oom_kills)),
            );
        }
        if let Some(series) = self.above(host::MEMORY_PRESSURE, 20.0) {
            let share = series.highest;
            flag(
                "memory",
                format!("tasks waited for memory up to {share:.0} % of the time"),
            );
        }
        for (disk, (count, reason)) in signs.io_errors.iter().take(8) {
            flag(
                "disk",
                format!("{disk}: {} failed, the last with {reason}", times(*count)),
            );
        }
        if signs.lost_writes > 0 {
            let lost = times(signs.lost_writes);
            flag(
                "disk",
                format!("{lost} data was lost after its write had succeeded"),
            );
        }
        if signs.is_disk_full {
            flag("disk-full", "a write failed for want of space".to_owned());
        }
        if signs.is_medium_broken {
            flag(
                "hardware",
                "a disk says that its medium or the device is broken".to_owned(),
            );
        }
        if signs.is_memory_broken {
            flag(
                "hardware",
                "the memory itself is broken (BUS_MCEERR)".to_owned(),
            );
        }
        if signs.broken_pages > 0 {
            let pages = signs.broken_pages;
            flag(
                "hardware",
                format!("{} a page of memory was found broken", times(pages)),
            );
        }
        if signs.uncorrected + signs.corrected > 0 {
            let (all, corrected) = (signs.uncorrected + signs.corrected, signs.corrected);
            flag(
                "hardware",
                format!("{all} machine checks, {corrected} of them corrected"),
            );
        }
        if let Some((cpu, programs)) = signs.suspected_cpu().filter(|_| self.cpus > 1) {
            let text = format!("{programs} different programs crashed, all of them on CPU {cpu}");
            flag("hardware", text);
        }
        if signs.hangs > 0 {
            flag(
                "hang",
                format!("{} a task did not run for too long", times(signs.hangs)),
            );
        }
        let runnable = 4.0 * f64::from(self.cpus.max(1));
        if let Some(series) = self.above(host::RUNNABLE, runnable) {
            let (most, cpus) = (series.highest, self.cpus);
            flag(
                "load",
                format!("up to {most:.0} threads wanted to run on {cpus} CPUs"),
            );
        }
        for (comm, count) in signs
            .crashes
            .iter()
            .filter(|(_, count)| **count >= CRASH_LOOP)
        {
            flag(
                "crash-loop",
                format!("{comm} crashed {count} times in the window"),
            );
        }
        if let Some(incident) = self
            .incident
            .filter(|one| one.suppressed_before >= CRASH_LOOP)
        {
            let before = incident.suppressed_before;
            flag(
                "crash-loop",
                format!("the same failure {before} times before, without a dump"),
            );
        }
        let seconds = (self.window_ns / 1_000_000_000).max(1);
        if signs.exits / seconds >= STORM_PER_SECOND {
            let rate = signs.exits / seconds;
            flag("fork-storm", format!("{rate} processes ended each second"));
        }
        if let Some(death) = self.death.filter(|death| death.asked.is_some())
            && death.verdict == Verdict::Killed
        {
            flag(
                "killed",
                format!("it did not end when asked: {}", death.text),
            );
        }
        if let Some(step) = self.clocks.and_then(clock_step) {
            flag("clock", step);
        }
        if let Some(missing) = self.missing {
            flag("loss", format!("the dump is not complete: {missing}"));
        }
        flags
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Says by how much the wall clock was set between the start of recording and the freeze.
fn clock_step(clocks: &Clocks) -> Option<String> {
    let expected = clocks.start.unix_ns_at(clocks.freeze.boot_ns);
    let step = clocks.freeze.unix_ns.abs_diff(expected);
    let direction = match clocks.freeze.unix_ns > expected {
        true => "forward",
        false => "back",
    };
    (step > CLOCK_STEP_NS).then(|| {
        format!(
            "the wall clock went {} {direction} since recording began; all times here are by the clock as it was at the freeze",
            crate::units::duration(step)
        )
    })
}
