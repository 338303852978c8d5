//! Why a signal was sent: `si_code`, from the kernel's `include/uapi/asm-generic/siginfo.h`.

use libc::{SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGIO, SIGSEGV, SIGSYS, SIGTRAP};

const ILL: [&str; 11] = [
    "ILL_ILLOPC",
    "ILL_ILLOPN",
    "ILL_ILLADR",
    "ILL_ILLTRP",
    "ILL_PRVOPC",
    "ILL_PRVREG",
    "ILL_COPROC",
    "ILL_BADSTK",
    "ILL_BADIADDR",
    "ILL_BREAK",
    "ILL_BNDMOD",
];
const FPE: [&str; 15] = [
    "FPE_INTDIV",
    "FPE_INTOVF",
    "FPE_FLTDIV",
    "FPE_FLTOVF",
    "FPE_FLTUND",
    "FPE_FLTRES",
    "FPE_FLTINV",
    "FPE_FLTSUB",
    "FPE_DECOVF",
    "FPE_DECDIV",
    "FPE_DECERR",
    "FPE_INVASC",
    "FPE_INVDEC",
    "FPE_FLTUNK",
    "FPE_CONDTRAP",
];
const SEGV: [&str; 10] = [
    "SEGV_MAPERR",
    "SEGV_ACCERR",
    "SEGV_BNDERR",
    "SEGV_PKUERR",
    "SEGV_ACCADI",
    "SEGV_ADIDERR",
    "SEGV_ADIPERR",
    "SEGV_MTEAERR",
    "SEGV_MTESERR",
    "SEGV_CPERR",
];
const BUS: [&str; 5] = [
    "BUS_ADRALN",
    "BUS_ADRERR",
    "BUS_OBJERR",
    "BUS_MCEERR_AR",
    "BUS_MCEERR_AO",
];
const TRAP: [&str; 6] = [
    "TRAP_BRKPT",
    "TRAP_TRACE",
    "TRAP_BRANCH",
    "TRAP_HWBKPT",
    "TRAP_UNK",
    "TRAP_PERF",
];
const CLD: [&str; 6] = [
    "CLD_EXITED",
    "CLD_KILLED",
    "CLD_DUMPED",
    "CLD_TRAPPED",
    "CLD_STOPPED",
    "CLD_CONTINUED",
];
const POLL: [&str; 6] = [
    "POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP",
];
const SYS: [&str; 2] = ["SYS_SECCOMP", "SYS_USER_DISPATCH"];

/// Returns whether the kernel sends this signal for a fault at an address.
pub(super) fn is_fault(signal: u32) -> bool {
    [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV].contains(&(signal as i32))
}

/// Returns the name of a code, which depends on the signal where the kernel sent it.
pub(super) fn name(signal: u32, code: i32) -> Option<&'static str> {
    let names: &[&str] = match code {
        0 => return Some("SI_USER"),
        0x80 => return Some("SI_KERNEL"),
        -1 => return Some("SI_QUEUE"),
        -2 => return Some("SI_TIMER"),
        -3 => return Some("SI_MESGQ"),
        -4 => return Some("SI_ASYNCIO"),
        -5 => return Some("SI_SIGIO"),
        -6 => return Some("SI_TKILL"),
        -7 => return Some("SI_DETHREAD"),
        -60 => return Some("SI_ASYNCNL"),
        _ => match signal as i32 {
            SIGILL => &ILL,
            SIGFPE => &FPE,
            SIGSEGV => &SEGV,
            SIGBUS => &BUS,
            SIGTRAP => &TRAP,
            SIGCHLD => &CLD,
            SIGIO => &POLL,
            SIGSYS => &SYS,
            _ => return None,
        },
    };
    let index = usize::try_from(code).ok()?.checked_sub(1)?;
    names.get(index).copied()
}
