//! How much an event matters, in the words of logs.

use crate::event::Body;

/// How much an event matters, as syslog counts it: the less, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Urgency {
    /// The system cannot be used.
    Emergency = 0,
    /// Somebody has to act now.
    Alert = 1,
    /// A process died of a fault or of want of memory.
    Critical = 2,
    /// I/O failed, data was lost, a task hangs.
    Error = 3,
    /// A death by signal that was asked for, a loss of records.
    Warning = 4,
    /// Out of the ordinary.
    Notice = 5,
    /// A process ended, a remark.
    Info = 6,
    /// Samples.
    Debug = 7,
}

impl Urgency {
    /// Returns the urgency of an event.
    pub fn of(body: &Body) -> Self {
        /// Signals that dump core: faults and aborts.
        const FAULTS: [u32; 8] = [3, 4, 5, 6, 7, 8, 11, 31];
        match body {
            Body::SignalFatal(fatal) => {
                let number = fatal.signal.as_ref().map_or(0, |signal| signal.number());
                match FAULTS.contains(&number) {
                    true => Self::Critical,
                    false => Self::Warning,
                }
            }
            Body::OomKill(_) | Body::MemoryFailure(_) => Self::Critical,
            Body::MachineCheck(check) => match check.uncorrected() {
                true => Self::Critical,
                false => Self::Warning,
            },
            Body::IoError(_) | Body::WritebackError(_) | Body::TaskHung(_) => Self::Error,
            Body::Loss(_) | Body::Unknown(_) => Self::Warning,
            Body::SignalSent(_) | Body::Note(_) => Self::Notice,
            Body::ProcessExec(_)
            | Body::ProcessExit(_)
            | Body::CgroupMkdir(_)
            | Body::CgroupRmdir(_) => Self::Info,
            Body::SampleSystem(_) | Body::SampleProcess(_) | Body::SampleCgroup(_) => Self::Debug,
            Body::KernelLog(log) => match log.level() {
                "emerg" => Self::Emergency,
                "alert" => Self::Alert,
                "crit" => Self::Critical,
                "err" => Self::Error,
                "warning" => Self::Warning,
                "notice" => Self::Notice,
                "debug" => Self::Debug,
                _ => Self::Info,
            },
        }
    }

    /// Returns its name in the kernel's log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emerg",
            Self::Alert => "alert",
            Self::Critical => "crit",
            Self::Error => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}
