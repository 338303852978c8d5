//! What makes two failures the same failure.

use std::fmt;

use recorder_ebpf::abi::{
    COMM_LEN, Exit, IoError, OomKill, SENDER_KERNEL, SIGNAL_HAS_SENDER, SignalFatal, TaskHung,
    WritebackError,
};
use sha2::{Digest, Sha256};

use super::Rule;

/// Equal for the same failure again, on any host and in any version of the program that computes it.
///
/// # Shape
///
/// The first eight bytes of the SHA-256 of the rule's name and the parts that the module [`incident`](super) names, each
/// preceded by its length as eight bytes, all little-endian; shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Fingerprint {
    #[cfg(test)]
    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }

    fn of<const N: usize>(rule: Rule, parts: [&[u8]; N]) -> Self {
        let mut hash = Sha256::new();
        for part in [rule.name().as_bytes()].into_iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_be_bytes(first))
    }
}

pub(super) fn fatal_signal(fatal: &SignalFatal) -> Fingerprint {
    const IN_FILE: i32 = 1;
    const PAGE_MASK: u64 = 0xfff;

    let number = fatal.signal.to_le_bytes();
    let of = |how: &[u8], place: &[u8], offset: u64| {
        let program = Program::of(&fatal.header.comm);
        let parts = [program.name(), &number, how, place, &offset.to_le_bytes()];
        Fingerprint::of(Rule::FatalSignal, parts)
    };
    let sender = &fatal.sender;
    let from_another = fatal.header.flags & SIGNAL_HAS_SENDER != 0
        && sender.flags & SENDER_KERNEL == 0
        && sender.tgid != fatal.header.tgid;
    let at_any_time = [libc::SIGQUIT, libc::SIGXCPU].map(|signal| signal as u32);
    if from_another {
        of(b"sender", Program::of(&sender.comm).name(), 0)
    } else if at_any_time.contains(&fatal.signal) {
        of(b"anywhere", &[], 0)
    } else if fatal.stack_len > 0 && fatal.frames[0].status == IN_FILE {
        let frame = &fatal.frames[0];
        of(b"frame", &frame.build_id, frame.offset_or_ip)
    } else {
        of(b"page", &[], fatal.ip & PAGE_MASK)
    }
}

pub(super) fn oom_kill(kill: &OomKill) -> Fingerprint {
    let cgroup = kill.memory_cgroup_id.to_le_bytes();
    let victim = Program::of(&kill.header.comm);
    Fingerprint::of(Rule::OomKill, [&cgroup, victim.name()])
}

pub(super) fn io_error(error: &IoError) -> Fingerprint {
    const OPERATION: u32 = 0xff;
    let numbers = [
        error.major,
        error.minor,
        error.cmd_flags & OPERATION,
        error.status,
        error.errno,
    ];
    let parts = numbers.map(u32::to_le_bytes);
    Fingerprint::of(Rule::IoError, parts.each_ref().map(|part| part.as_slice()))
}

pub(super) fn writeback_error(error: &WritebackError) -> Fingerprint {
    let device = error.device.to_le_bytes();
    let errno = error.errno.to_le_bytes();
    Fingerprint::of(Rule::WritebackError, [&device, &errno])
}

pub(super) fn task_hung(hung: &TaskHung) -> Fingerprint {
    let program = Program::of(&hung.header.comm);
    Fingerprint::of(Rule::TaskHung, [program.name()])
}

pub(super) fn watched_exit(exit: &Exit) -> Fingerprint {
    let program = Program::of(&exit.header.comm);
    let status = exit_status(exit).to_le_bytes();
    Fingerprint::of(Rule::WatchedExit, [program.name(), &status])
}

pub(super) fn manual() -> Fingerprint {
    Fingerprint::of(Rule::Manual, [])
}

/// Returns the wait status without the core-dump flag, which depends on limits and not on the failure.
pub(super) fn exit_status(exit: &Exit) -> u32 {
    const CORE_DUMPED: u32 = 0x80;
    exit.status & !CORE_DUMPED
}

/// A thread's name, with a `#` for each run of digits.
struct Program {
    name: [u8; COMM_LEN],
    len: usize,
}

impl Program {
    fn of(comm: &[u8; COMM_LEN]) -> Self {
        let mut program = Self {
            name: [0; COMM_LEN],
            len: 0,
        };
        for byte in comm.iter().take_while(|byte| **byte != 0) {
            let byte = if byte.is_ascii_digit() { b'#' } else { *byte };
            if byte == b'#' && program.name().last() == Some(&b'#') {
                continue;
            }
            program.name[program.len] = byte;
            program.len += 1;
        }
        program
    }

    fn name(&self) -> &[u8] {
        &self.name[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(comm: &str) -> String {
        let mut bytes = [0; COMM_LEN];
        bytes[..comm.len()].copy_from_slice(comm.as_bytes());
        String::from_utf8_lossy(Program::of(&bytes).name()).into_owned()
    }

    #[test]
    fn digits_do_not_tell_programs_apart() {
        assert_eq!(program("worker-7"), "worker-#");
        assert_eq!(program("worker-12"), "worker-#");
        assert_eq!(program("kworker/u8:3-ev"), "kworker/u#:#-ev");
        assert_eq!(program("123456789012345"), "#");
        assert_eq!(
            program("abcdefghijklmnop"),
            "abcdefghijklmnop",
            "no NUL at all"
        );
        assert_eq!(program(""), "");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Fingerprint::of(Rule::IoError, [b"ab", b"c"]);
        assert_ne!(one, Fingerprint::of(Rule::IoError, [b"a", b"bc"]));
        assert_ne!(one, Fingerprint::of(Rule::TaskHung, [b"ab", b"c"]));
    }

    #[test]
    fn stays_what_it_is() {
        assert_eq!(manual().to_string(), "638c1e6ca8803fdf");
    }
}
