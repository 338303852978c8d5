//! The running agent: what it may not do, and what it has lost since it started, with what to do about it.

use std::fs;

use super::{Answer, Check, State};
use crate::api::{ClientError, LaneStatus, Status};
use crate::budget::Resource;
use crate::config::Paths;
use crate::health::Word;
use crate::units::{bytes, duration};

/// Capabilities beside those that load programs, and what is not there without them.
const CAPABILITIES: [(&str, u32, &str); 4] = [
    ("CAP_SYSLOG", 34, "the kernel's log"),
    (
        "CAP_SYS_PTRACE",
        19,
        "the files and arguments of other users' processes",
    ),
    (
        "CAP_DAC_READ_SEARCH",
        2,
        "files that only their owners can read",
    ),
    (
        "CAP_CHECKPOINT_RESTORE",
        40,
        "programs that were replaced while they ran",
    ),
];
/// May do everything.
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn checks(paths: &Paths, answer: Option<&Answer>) -> Vec<Check> {
    const NAME: &str = "agent";
    let status = match answer {
        None => {
            let none = format!("none runs at {}", paths.control_socket().display());
            return vec![Check::pass(NAME, none)];
        }
        Some(Ok(status)) => status,
        Some(Err(error @ ClientError::NotPermitted(_))) => {
            return vec![Check::unseen(NAME, error)];
        }
        Some(Err(error)) => {
            let remedy = "end what holds the socket, or start the recorder again";
            return vec![Check::warn(NAME, error.to_string(), remedy)];
        }
    };
    let recording = format!("{}, as process {}", status.health.state, status.pid);
    let mut checks = vec![match status.health.state == Word::Recording {
        true => Check::pass(NAME, recording),
        false => Check::warn(NAME, recording, "recorder status says more"),
    }];
    let own = fs::read_to_string(format!("/proc/{}/status", status.pid));
    checks.extend(own.ok().and_then(|own| capabilities(&own)));
    checks.extend(losses(status));
    checks.extend(status.lanes.iter().filter_map(|lane| window(lane, status)));
    checks.extend(samples(status));
    checks.extend(budget(status));
    checks.extend(dumps(status));
    checks.push(twin(status));
    checks
}

/// What the agent may not look at.
fn capabilities(status: &str) -> Option<Check> {
    const NAME: &str = "agent's capabilities";
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let held = u64::from_str_radix(line.trim(), 16).ok()?;
    let has = |bit: u32| held & (1 << bit) != 0;
    let lacking: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(_, bit, _)| !has(*bit) && !has(CAP_SYS_ADMIN))
        .collect();
    if lacking.is_empty() {
        return Some(Check::pass(NAME, "all that it uses"));
    }
    let missing: Vec<String> = lacking
        .iter()
        .map(|(name, _, what)| format!("without {name} not {what}"))
        .collect();
    Some(Check::warn(
        NAME,
        missing.join("; "),
        "AmbientCapabilities= and CapabilityBoundingSet= of the unit, as its package has them",
    ))
}

/// What never came into the ring.
fn losses(status: &Status) -> Vec<Check> {
    const NAME: &str = "lost events";
    let mut checks = Vec::new();
    for lane in &status.lanes {
        let attempted: u64 = lane.cpus.iter().map(|cpu| cpu.attempted).sum();
        let lost: u64 = lane.cpus.iter().map(|cpu| cpu.lost).sum();
        if lost > 0 {
            checks.push(Check::warn(
                NAME,
                format!(
                    "{}: {lost} of {attempted} found the kernel ring full, since the start",
                    lane.lane
                ),
                "the agent got no CPU for as long as the ring lasts: raise its CPUWeight=; dumps say where the gaps are",
            ));
        }
        if lane.dropped > 0 {
            checks.push(Check::warn(
                NAME,
                format!(
                    "{}: {} found the flight ring full of windows",
                    lane.lane, lane.dropped
                ),
                format!("a larger memory.{}_bytes, or a shorter window", lane.lane),
            ));
        }
    }
    for (program, times) in &status.skipped {
        checks.push(Check::warn(
            NAME,
            format!("{program} was skipped {times} times: the CPU was inside it already"),
            "report this: it should not happen",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::pass(NAME, "none since the start"));
    }
    checks
}

/// A lane that reaches back less than a dump wants.
fn window(lane: &LaneStatus, status: &Status) -> Option<Check> {
    let span = lane.span_ns?;
    if lane.evicted == 0 || span >= status.before_ns || span == 0 {
        return None;
    }
    let wanted = u128::from(lane.capacity_bytes) * u128::from(status.before_ns) / u128::from(span);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    Some(Check::warn(
        &format!("{} lane", lane.lane),
        format!(
            "it reaches back {}, and a dump wants {}",
            duration(span),
            duration(status.before_ns)
        ),
        format!(
            "memory.{}_bytes of about {} at the rate of now, or a shorter window.before",
            lane.lane,
            bytes(wanted)
        ),
    ))
}

/// What recording may cost, and what is left out for that.
fn budget(status: &Status) -> Option<Check> {
    const NAME: &str = "budget";
    let budget = &status.budget;
    let bound = |resource: Resource| {
        let limit = budget.limits.get(resource)?;
        let now = budget.measured.get(resource);
        let now = now.map(|amount| format!("{} of ", resource.words(amount)));
        Some(format!(
            "{}: {}{}",
            resource.name(),
            now.unwrap_or_default(),
            resource.words(limit)
        ))
    };
    let bounds: Vec<String> = Resource::ALL.into_iter().filter_map(bound).collect();
    let bounds = bounds.join(", ");
    if !budget.left_out.is_empty() {
        let left_out = budget.left_out.join(", ");
        let found = format!("{left_out} left out, to keep to it ({bounds})");
        let remedy =
            "what makes so many processes, or a larger budget: see [budget] in configuration.md";
        return Some(Check::warn(NAME, found, remedy));
    }
    let kept = match budget.degradations {
        0 => "kept".to_owned(),
        times => format!("kept; something was left out {times} times since the start"),
    };
    (!bounds.is_empty()).then(|| Check::pass(NAME, format!("{kept} ({bounds})")))
}

/// Whether the window outlives a crash of the kernel.
fn twin(status: &Status) -> Check {
    const NAME: &str = "crash of the kernel";
    match &status.twin {
        None => Check::pass(
            NAME,
            "the ring is lost with the kernel: memory.ring_sync = \"1s\" keeps a copy on disk",
        ),
        Some(twin) => match &twin.last_error {
            Some(error) => Check::warn(
                NAME,
                format!("the ring is not copied to {}: {error}", twin.path),
                "see that file system",
            ),
            None => Check::pass(
                NAME,
                format!(
                    "the ring is in {}, but for what the last {} brought",
                    twin.path,
                    duration(twin.interval_ns)
                ),
            ),
        },
    }
}

fn samples(status: &Status) -> Vec<Check> {
    let samples = &status.samples;
    let mut checks = Vec::new();
    if samples.missed + samples.dropped > samples.taken / 100 {
        checks.push(Check::warn(
            "samples",
            format!(
                "{} missed and {} dropped of {}",
                samples.missed,
                samples.dropped,
                samples.taken + samples.missed
            ),
            "a longer samples.interval, or more CPU for the agent",
        ));
    }
    if samples.log_lost > 0 {
        checks.push(Check::warn(
            "kernel log",
            format!(
                "{} lines were overwritten before they were read",
                samples.log_lost
            ),
            "a larger log: log_buf_len=4M on the kernel's command line",
        ));
    }
    checks
}

fn dumps(status: &Status) -> Vec<Check> {
    const NAME: &str = "dumps";
    let mut checks = Vec::new();
    let (dumps, incidents) = (&status.dumps, &status.incidents);
    match (&dumps.last_error, dumps.failed) {
        (Some(error), 1..) => checks.push(Check::fail(
            NAME,
            format!("{} were not written: {error}", dumps.failed),
            "see the directory of dumps and its budget above",
        )),
        _ => checks.push(Check::new(
            NAME,
            State::Pass,
            format!(
                "{} written of {} incidents",
                dumps.written, incidents.opened
            ),
        )),
    }
    if incidents.overflow > 0 {
        checks.push(Check::warn(
            "incidents",
            format!(
                "{} found as many open as may be, and made no dump",
                incidents.overflow
            ),
            "a shorter window.after, so that windows close sooner",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(span_ns: u64, evicted: u64) -> LaneStatus {
        LaneStatus {
            lane: "lifecycle".into(),
            capacity_bytes: 48 << 20,
            used_bytes: 48 << 20,
            pinned_bytes: 0,
            records: 1,
            pushed: 1 + evicted,
            evicted,
            dropped: 0,
            span_ns: Some(span_ns),
            cpus: Vec::new(),
        }
    }

    #[test]
    fn what_the_agent_may_not_see_is_named() {
        let all = capabilities("CapEff:\t000001ffffffffff\n").expect("it has the line");
        assert_eq!(all.state, State::Pass);
        // BPF and PERFMON alone.
        let few = capabilities("CapEff:\t000000c000000000\n").expect("it has the line");
        assert_eq!(few.state, State::Warn);
        for (name, ..) in CAPABILITIES {
            assert!(few.found.contains(name), "{name}");
        }
        assert!(capabilities("Name:\tx\n").is_none());
    }

    #[test]
    fn a_lane_that_is_too_short_says_how_much_it_would_need() {
        let text = r#"{"state":"recording","version":"1","pid":1,"started_unix_ns":1,"dumps_dir":"d","before_ns":60000000000,
            "after_ns":1,"probes":[],"skipped":{},"lanes":[],"incidents":{"open":0,"opened":0,"joined":0,"suppressed":0,
            "overflow":0},"dumps":{"written":0,"failed":0}}"#;
        let Ok(status) = serde_json::from_str::<Status>(text) else {
            panic!("it is a status");
        };
        assert!(window(&lane(61_000_000_000, 9), &status).is_none());
        assert!(window(&lane(1_000_000_000, 0), &status).is_none());
        let short = window(&lane(20_000_000_000, 9), &status).expect("it is too short");
        let remedy = short.remedy.expect("there is one");
        assert!(
            remedy.contains("memory.lifecycle_bytes of about 144"),
            "{remedy}"
        );
    }
}
