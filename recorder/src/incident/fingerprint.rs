//! What makes two failures the same failure.

use std::fmt;

use sha2::{Digest, Sha256};

use super::MANUAL;
use crate::event::{Body, proto};

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

    fn of(rule: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in [rule.as_bytes()].iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_be_bytes(first))
    }
}

/// Returns the fingerprint of an event on which a rule fired: of the values that the rule groups by, if it does.
pub(super) fn of_event(rule: &str, group: Option<&[String]>, body: &Body) -> Fingerprint {
    if let Some(group) = group {
        let parts: Vec<&[u8]> = group.iter().map(|value| value.as_bytes()).collect();
        return Fingerprint::of(rule, &parts);
    }
    let program = program(body.process());
    match body {
        Body::SignalFatal(fatal) => fatal_signal(rule, &program, fatal),
        Body::OomKill(kill) => {
            let cgroup = kill.memory_cgroup_id.unwrap_or(0).to_le_bytes();
            Fingerprint::of(rule, &[&cgroup, program.as_bytes()])
        }
        Body::IoError(error) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let status = error.status_number.unwrap_or(0).to_le_bytes();
            let (device, operation) = (text(&error.device), text(&error.operation));
            let (name, errno) = (text(&error.status), text(&error.errno));
            let texts = [device, operation, name, errno];
            let [device, operation, name, errno] = texts.each_ref().map(String::as_bytes);
            Fingerprint::of(rule, &[device, operation, name, errno, &status])
        }
        Body::WritebackError(error) => {
            let texts = [&error.device, &error.errno].map(|text| text.as_deref().unwrap_or(""));
            Fingerprint::of(rule, &texts.map(str::as_bytes))
        }
        Body::MemoryFailure(failure) => {
            let result = failure.result.as_deref().unwrap_or("");
            Fingerprint::of(rule, &[result.as_bytes()])
        }
        Body::MachineCheck(check) => {
            let [cpu, bank] = [check.cpu(), check.bank()].map(u32::to_le_bytes);
            Fingerprint::of(rule, &[&cpu, &bank, check.part().as_bytes()])
        }
        Body::ProcessExit(exit) => {
            let signal = exit.signal.as_ref().and_then(|signal| signal.number);
            let code = exit.exit_code.unwrap_or(0) << 8;
            let status = (signal.unwrap_or(0) | code).to_le_bytes();
            Fingerprint::of(rule, &[program.as_bytes(), &status])
        }
        Body::TaskHung(_) | Body::ProcessExec(_) | Body::SignalSent(_) => {
            Fingerprint::of(rule, &[program.as_bytes()])
        }
        Body::Note(_)
        | Body::SampleSystem(_)
        | Body::SampleProcess(_)
        | Body::SampleCgroup(_)
        | Body::KernelLog(_)
        | Body::CgroupMkdir(_)
        | Body::CgroupRmdir(_)
        | Body::Loss(_)
        | Body::Unknown(_) => Fingerprint::of(rule, &[]),
    }
}

fn fatal_signal(rule: &str, program: &str, fatal: &proto::SignalFatal) -> Fingerprint {
    const PAGE_MASK: u64 = 0xfff;

    let signal = fatal.signal.as_ref().and_then(|signal| signal.number);
    let signal = signal.unwrap_or(0);
    let of = |how: &[u8], place: &[u8], offset: u64| {
        let (number, offset) = (signal.to_le_bytes(), offset.to_le_bytes());
        Fingerprint::of(rule, &[program.as_bytes(), &number, how, place, &offset])
    };
    let pid = fatal.process.as_ref().and_then(|process| process.pid);
    let sender = fatal.sender.as_ref();
    let another = sender.filter(|sender| sender.kernel != Some(true) && sender.pid != pid);
    let at_any_time = [libc::SIGQUIT, libc::SIGXCPU].map(|signal| signal as u32);
    let frame = fatal.stack.first();
    let place = frame.and_then(|frame| Some((frame.build_id.as_ref()?, frame.offset?)));
    if let Some(sender) = another {
        let name = without_digits(sender.comm.as_deref().unwrap_or(""));
        of(b"sender", name.as_bytes(), 0)
    } else if at_any_time.contains(&signal) {
        of(b"anywhere", &[], 0)
    } else if let Some((build_id, offset)) = place {
        of(b"frame", build_id.as_bytes(), offset)
    } else {
        of(b"page", &[], fatal.ip.unwrap_or(0) & PAGE_MASK)
    }
}

pub(super) fn manual() -> Fingerprint {
    Fingerprint::of(MANUAL, &[])
}

/// Returns the name of a process's thread without what tells its like apart.
fn program(process: Option<&proto::Process>) -> String {
    without_digits(
        process
            .and_then(|process| process.comm.as_deref())
            .unwrap_or(""),
    )
}

/// Returns a name with a `#` for each run of digits.
fn without_digits(name: &str) -> String {
    let mut program = String::with_capacity(name.len());
    for letter in name.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if letter != '#' || !program.ends_with('#') {
            program.push(letter);
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_do_not_tell_programs_apart() {
        for (name, program) in [
            ("worker-7", "worker-#"),
            ("worker-12", "worker-#"),
            ("kworker/u8:3-ev", "kworker/u#:#-ev"),
            ("123456789012345", "#"),
            ("", ""),
        ] {
            assert_eq!(without_digits(name), program);
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Fingerprint::of("io-error", &[b"ab", b"c"]);
        assert_ne!(one, Fingerprint::of("io-error", &[b"a", b"bc"]));
        assert_ne!(one, Fingerprint::of("task-hung", &[b"ab", b"c"]));
    }

    #[test]
    fn stays_what_it_is() {
        assert_eq!(manual().to_string(), "638c1e6ca8803fdf");
    }
}
