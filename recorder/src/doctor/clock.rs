//! The wall clock: whether the times in dumps can be compared with those of other hosts.

use std::fs;
use std::time::Duration;

use super::Check;
use crate::api::Status;
use crate::evidence::builtin::process_start_boot_ns;
use crate::ingest::now_pair;
use crate::units::duration;

/// A clock that differs by less than this since the agent started was not set: the start itself takes a moment.
const STEP_MIN: Duration = Duration::from_secs(10);
/// The kernel has no estimate of the clock's error.
const STA_UNSYNC: i32 = 0x40;

pub(super) fn checks(status: Option<&Status>) -> Vec<Check> {
    let mut checks = vec![synchronised()];
    checks.extend(status.and_then(steps));
    checks
}

fn synchronised() -> Check {
    const NAME: &str = "clock";
    match clock_status() {
        Some(status) if status & STA_UNSYNC != 0 => Check::warn(
            NAME,
            "the kernel says that it is not synchronised: times cannot be compared with those of other hosts",
            "run a time service: systemd-timesyncd, chrony; or the host's hypervisor keeps it, and this is of no matter",
        ),
        Some(_) => Check::pass(NAME, "synchronised"),
        None => Check::unseen(NAME, "the kernel does not say whether it is synchronised"),
    }
}

#[expect(unsafe_code, reason = "no safe interface tells the clock's status")]
fn clock_status() -> Option<i32> {
    // SAFETY: all zeros is a valid timex: numbers only; without modes nothing is changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole timex that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some(timex.status)
}

/// Compares how far the clocks were apart when the agent started with how far they are apart now.
fn steps(status: &Status) -> Option<Check> {
    let stat = fs::read(format!("/proc/{}/stat", status.pid)).ok()?;
    let started_boot_ns = process_start_boot_ns(&String::from_utf8_lossy(&stat))?;
    let expected = now_pair().unix_ns_at(started_boot_ns);
    Some(stepped(expected, status.started_unix_ns))
}

fn stepped(expected_unix_ns: u64, started_unix_ns: u64) -> Check {
    const NAME: &str = "clock since the start";
    let step = expected_unix_ns.abs_diff(started_unix_ns);
    if u128::from(step) < STEP_MIN.as_nanos() {
        return Check::pass(NAME, "it was not set");
    }
    let way = if expected_unix_ns > started_unix_ns {
        "forward"
    } else {
        "back"
    };
    Check::warn(
        NAME,
        format!(
            "it was set {way} by {} since the agent started",
            duration(step)
        ),
        "nothing to do: dumps carry boot times as well, and both clocks at start and freeze show the step",
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_with_how_far() {
        const SECOND: u64 = 1_000_000_000;
        assert_eq!(stepped(100 * SECOND, 101 * SECOND).state, State::Pass);
        let forward = stepped(3_700 * SECOND, 100 * SECOND);
        assert_eq!(forward.state, State::Warn);
        assert!(forward.found.contains("forward"), "{}", forward.found);
        assert!(stepped(0, 20 * SECOND).found.contains("back"));
    }
}
