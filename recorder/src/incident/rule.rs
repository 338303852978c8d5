//! The built-in rules: what makes an incident.

use std::mem::offset_of;

use recorder_ebpf::abi::{
    COMM_LEN, EventKind, Exit, HEADER_OWN, Header, IoError, OomKill, SignalFatal, TaskHung,
    WritebackError, decode,
};

use super::Severity;
use super::fingerprint::{self, Fingerprint};

/// Signals that dump core unless a program asks otherwise: signal(7).
const CORE_SIGNALS: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// What makes an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A signal that dumps core by default ended a process.
    FatalSignal,
    /// The kernel killed a process for its memory.
    OomKill,
    /// A block device failed a request.
    IoError,
    /// Data was lost after its write had succeeded.
    WritebackError,
    /// A task did not run for too long.
    TaskHung,
    /// A process with a watched name ended by a signal or with a code other than 0.
    WatchedExit,
    /// A person asked for it.
    Manual,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] = [
        Self::FatalSignal,
        Self::OomKill,
        Self::IoError,
        Self::WritebackError,
        Self::TaskHung,
        Self::WatchedExit,
        Self::Manual,
    ];

    /// Returns its name: "fatal-signal".
    pub const fn name(self) -> &'static str {
        match self {
            Self::FatalSignal => "fatal-signal",
            Self::OomKill => "oom-kill",
            Self::IoError => "io-error",
            Self::WritebackError => "writeback-error",
            Self::TaskHung => "task-hung",
            Self::WatchedExit => "watched-exit",
            Self::Manual => "manual",
        }
    }

    /// Returns how grave it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::FatalSignal | Self::OomKill | Self::IoError | Self::WatchedExit => Severity::High,
            Self::WritebackError => Severity::Critical,
            Self::TaskHung => Severity::Medium,
            Self::Manual => Severity::Low,
        }
    }

    /// Returns whether it fires on the death of a process, which happens once.
    pub(super) const fn is_death(self) -> bool {
        match self {
            Self::FatalSignal | Self::OomKill | Self::WatchedExit => true,
            Self::IoError | Self::WritebackError | Self::TaskHung | Self::Manual => false,
        }
    }
}

/// A rule that fired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) fingerprint: Fingerprint,
    pub(super) kind: EventKind,
    pub(super) header: Header,
}

/// Names of processes whose abnormal exit is an incident, as the kernel has them: cut to 15 bytes.
#[derive(Clone, Debug)]
pub(super) struct WatchList(Vec<Box<[u8]>>);

impl WatchList {
    pub(super) fn new(names: &[String]) -> Self {
        let cut = |name: &String| {
            let bytes = name.as_bytes();
            bytes[..bytes.len().min(COMM_LEN - 1)].into()
        };
        Self(names.iter().map(cut).collect())
    }

    /// Returns whether the name in a record's header is watched.
    fn holds(&self, record: &[u8]) -> bool {
        const COMM: usize = offset_of!(Header, comm);
        if self.0.is_empty() {
            return false;
        }
        let comm = record.get(COMM..COMM + COMM_LEN).unwrap_or_default();
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
        self.0.iter().any(|watched| **watched == *comm)
    }
}

/// Returns the rule that fires on a record, if one does.
///
/// None does on what happens to the recorder's own descendants: a collector that crashes is reported in the evidence that it
/// was to give, and must not be the reason to run it again. An OOM kill of one is the host's failure all the same.
///
/// Executions, and exits of what is not watched, cost a look at one byte, or one more at the name; nothing is copied.
pub(super) fn find(record: &[u8], watch: &WatchList) -> Option<Finding> {
    let kind = EventKind::from_number(*record.get(offset_of!(Header, kind))?)?;
    if *record.get(offset_of!(Header, flags))? & HEADER_OWN != 0 {
        return None;
    }
    let (rule, fingerprint) = match kind {
        EventKind::ProcessExec
        | EventKind::CgroupMkdir
        | EventKind::CgroupRmdir
        | EventKind::SignalSent
        | EventKind::Note
        | EventKind::SampleSystem
        | EventKind::SampleProcess
        | EventKind::SampleCgroup
        | EventKind::KernelLog => return None,
        EventKind::ProcessExit => {
            if !watch.holds(record) {
                return None;
            }
            let exit = decode::<Exit>(record)?;
            let status = fingerprint::exit_status(&exit);
            if status == 0 {
                return None;
            }
            (Rule::WatchedExit, fingerprint::watched_exit(&exit))
        }
        EventKind::SignalFatal => {
            let fatal = decode::<SignalFatal>(record)?;
            let dumps_core = |signal: &i32| u32::try_from(*signal) == Ok(fatal.signal);
            if !CORE_SIGNALS.iter().any(dumps_core) {
                return None;
            }
            (Rule::FatalSignal, fingerprint::fatal_signal(&fatal))
        }
        EventKind::OomKill => {
            let kill = decode::<OomKill>(record)?;
            (Rule::OomKill, fingerprint::oom_kill(&kill))
        }
        EventKind::IoError => {
            let error = decode::<IoError>(record)?;
            (Rule::IoError, fingerprint::io_error(&error))
        }
        EventKind::WritebackError => {
            let error = decode::<WritebackError>(record)?;
            (Rule::WritebackError, fingerprint::writeback_error(&error))
        }
        EventKind::TaskHung => {
            let hung = decode::<TaskHung>(record)?;
            (Rule::TaskHung, fingerprint::task_hung(&hung))
        }
    };
    Some(Finding {
        rule,
        fingerprint,
        kind,
        header: decode(record)?,
    })
}
