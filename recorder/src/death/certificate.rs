//! What is certified of a death.

use serde::{Deserialize, Serialize};

use crate::event::proto;

/// What a process died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The kernel killed it for its memory.
    OomKill,
    /// A fault of its own: it touched, computed or executed what it must not.
    Fault,
    /// It gave up by itself: abort(), a failed assertion.
    Abort,
    /// A seccomp filter forbade a system call.
    Seccomp,
    /// Another process sent the signal.
    Killed,
    /// Its parent ended, and it had asked to end then (`PR_SET_PDEATHSIG`).
    ParentDied,
    /// The init of its pid namespace ended, and the namespace with it: a container stopped.
    NamespaceEnded,
    /// The kernel sent the signal: a limit, a timer, a terminal.
    Kernel,
    /// It sent the signal to itself, or the kernel did for what it was doing.
    OwnSignal,
    /// A signal that the recorder did not see sent.
    Signal,
    /// It exited with a code other than 0.
    ExitFailure,
    /// It exited with code 0.
    Exit,
}

impl Verdict {
    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OomKill => "oom_kill",
            Self::Fault => "fault",
            Self::Abort => "abort",
            Self::Seccomp => "seccomp",
            Self::Killed => "killed",
            Self::ParentDied => "parent_died",
            Self::NamespaceEnded => "namespace_ended",
            Self::Kernel => "kernel",
            Self::OwnSignal => "own_signal",
            Self::Signal => "signal",
            Self::ExitFailure => "exit_failure",
            Self::Exit => "exit",
        }
    }

    /// Returns whether a signal ended the process.
    pub const fn is_signal(self) -> bool {
        !matches!(self, Self::Exit | Self::ExitFailure)
    }
}

/// The death certificate of a process: its end joined to what is behind it.
///
/// Names are as the kernel gave them: whoever shows them escapes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Who died.
    pub process: Deceased,
    /// When, by the wall clock, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// What it died of.
    pub verdict: Verdict,
    /// The same in words: "Exit 137, not OOM: SIGKILL from systemd\[1\] 12 ms after its SIGTERM".
    pub text: String,
    /// The status that a shell shows: the argument of exit(), or 128 and the number of the signal.
    pub status: u32,
    /// The signal, by name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<String>,
    /// Who sent the signal, if somebody else did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sender: Option<Party>,
    /// Who had asked it to end before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked: Option<Asked>,
    /// Time from its start to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lifetime_ns: Option<u64>,
    /// Order of the exit in the dump.
    pub order: u64,
    /// Order of the event behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<u64>,
}

impl Certificate {
    /// Returns "nginx\[812\]".
    pub fn name(&self) -> String {
        super::words::named(self.process.comm.as_deref(), self.process.pid)
    }
}

/// A process that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deceased {
    /// Process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// When it started, in nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_boot_ns: Option<u64>,
    /// Its parent as it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ppid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comm: Option<String>,
    /// Path of its executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    /// GNU build ID of its executable, in hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe_build_id: Option<String>,
    /// Real user id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Path of its cgroup.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// Its systemd unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_id: Option<String>,
}

impl From<&proto::Process> for Deceased {
    fn from(process: &proto::Process) -> Self {
        Self {
            pid: process.pid,
            start_boot_ns: process.start_boot_ns,
            ppid: process.ppid,
            comm: process.comm.clone(),
            exe: process.exe.clone(),
            exe_build_id: process.exe_build_id.clone(),
            uid: process.uid,
            cgroup: process.cgroup.clone(),
            unit: process.unit.clone(),
            container_id: process.container_id.clone(),
        }
    }
}

/// A process with a part in a death.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comm: Option<String>,
    /// Real user id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Path of its executable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    /// Its systemd unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_id: Option<String>,
    /// The kernel acted while this process ran.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub kernel: bool,
}

impl From<&proto::Sender> for Party {
    fn from(sender: &proto::Sender) -> Self {
        Self {
            pid: sender.pid,
            comm: sender.comm.clone(),
            uid: sender.uid,
            exe: sender.exe.clone(),
            unit: sender.unit.clone(),
            container_id: sender.container_id.clone(),
            kernel: sender.kernel(),
        }
    }
}

/// A request to end that came before the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The signal, by name.
    pub signal: String,
    /// Who sent it.
    pub by: Party,
    /// How long before the fatal signal, or before the exit if there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before_ns: Option<u64>,
    /// What the process did about it: "handled", "ignored", "blocked".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reception: Option<String>,
}
