//! Signals, as Linux numbers them on x86-64 and aarch64.

use crate::event::proto;

use super::codes;

const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The first real-time signal as the C library counts them: it keeps the kernel's first two, 32 and 33, for itself.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// Returns "SIGSEGV" for 11, "SIGRTMIN+1" for 35; `None` for a number without a name.
pub fn signal_name(number: u32) -> Option<String> {
    match number {
        1..=31 => Some(NAMES[number as usize - 1].into()),
        RTMIN => Some("SIGRTMIN".into()),
        35..RTMAX => Some(format!("SIGRTMIN+{}", number - RTMIN)),
        RTMAX => Some("SIGRTMAX".into()),
        _ => None,
    }
}

/// Returns the name of a signal that is none of the real-time ones; of 0, which is none, the empty one.
pub(crate) fn standard_signal_name(number: u32) -> Option<&'static str> {
    match number {
        0 => Some(""),
        number => NAMES.get(number as usize - 1).copied(),
    }
}

/// Returns the message of a signal.
pub(crate) fn signal(number: u32) -> proto::Signal {
    proto::Signal {
        number: Some(number),
        name: signal_name(number),
    }
}

/// Returns the message of a signal's code.
pub(crate) fn signal_code(signal: u32, code: i32) -> proto::SignalCode {
    proto::SignalCode {
        number: Some(code),
        name: codes::name(signal, code).map(Into::into),
    }
}

/// Returns whether a signal with this code says at which address the fault was.
///
/// A process's own words (code 0 and below) name none, and neither does `SI_KERNEL`: of a general protection fault the
/// processor does not tell the address.
pub(crate) fn has_address(signal: u32, code: i32) -> bool {
    code > 0 && code != libc::SI_KERNEL && codes::is_fault(signal)
}
