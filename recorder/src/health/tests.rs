use super::*;
use crate::api::{CpuStatus, LaneStatus, NotifyStatus, SpaceStatus};
use crate::dump::Probe;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_000 * SECOND;
const UNIX: u64 = UNIX_NS_MIN + SECOND;

fn lane(lost: u64) -> LaneStatus {
    LaneStatus {
        lane: "lifecycle".to_owned(),
        capacity_bytes: 48 << 20,
        used_bytes: 1 << 20,
        span_ns: Some(600 * SECOND),
        cpus: vec![CpuStatus {
            lost,
            ..CpuStatus::default()
        }],
        ..LaneStatus::default()
    }
}

fn status() -> Status {
    let mut status = Status {
        before_ns: 60 * SECOND,
        lanes: vec![lane(0)],
        ..Status::default()
    };
    status.dumps.space = Some(SpaceStatus {
        free_bytes: 1 << 30,
        keep_free_bytes: 256 << 20,
        ..SpaceStatus::default()
    });
    status
}

fn codes(status: &Status) -> Vec<String> {
    let reasons = Watch::default().judge(status, NOW, UNIX);
    reasons.into_iter().map(|reason| reason.code).collect()
}

#[test]
fn nothing_is_said_of_an_agent_that_is_well() {
    assert_eq!(codes(&status()), [""; 0]);
}

#[test]
fn a_loss_counts_until_it_is_long_ago() {
    let mut watch = Watch::default();
    let mut judge = |lost, after_s| {
        let mut status = status();
        status.lanes = vec![lane(lost)];
        let reasons = watch.judge(&status, NOW + after_s * SECOND, UNIX);
        reasons.first().map(|reason| reason.text.clone())
    };
    assert_eq!(judge(0, 0), None);
    assert!(judge(5, 10).is_some_and(|text| text.starts_with("5 events")));
    assert!(judge(7, 200).is_some_and(|text| text.starts_with("7 events")));
    assert!(judge(7, 499).is_some(), "299 s after the last");
    assert_eq!(judge(7, 501), None);
    assert!(judge(8, 600).is_some_and(|text| text.starts_with("1 event")));
}

#[test]
fn each_trouble_has_its_code() {
    type Spoil = fn(&mut Status);
    let troubles: [(&str, Spoil); 10] = [
        ("probe-missing", |status| {
            status.probes = vec![Probe {
                event: "oom.kill".to_owned(),
                hook: "mark_victim".to_owned(),
                state: ProbeState::Unavailable,
                detail: None,
            }];
        }),
        ("window-too-long", |status| {
            let lane = &mut status.lanes[0];
            (lane.evicted, lane.used_bytes) = (1, 48 << 20);
            lane.span_ns = Some(100 * SECOND);
        }),
        ("dump-failed", |status| status.dumps.failed_in_a_row = 1),
        ("dump-elsewhere", |status| {
            status.dumps.elsewhere = Some("it is in /second".into());
        }),
        ("disk-full", |status| {
            if let Some(space) = &mut status.dumps.space {
                space.free_bytes = 256 << 20;
            }
        }),
        ("dumps-unreadable", |status| status.dumps.space = None),
        ("dumps-behind", |status| status.dumps.waiting = 5),
        ("incidents-overflow", |status| status.incidents.overflow = 1),
        ("notifications-fail", |status| {
            status.notify = vec![NotifyStatus {
                failures_in_a_row: 3,
                ..NotifyStatus::default()
            }];
        }),
        ("rule-errors", |status| status.rule_errors = 1),
    ];
    for (code, spoil) in troubles {
        let mut status = status();
        spoil(&mut status);
        assert_eq!(codes(&status), [code]);
    }
}

#[test]
fn what_expires_by_age_is_no_lack_of_room() {
    let mut status = status();
    status.lanes[0].evicted = 1;
    status.lanes[0].span_ns = Some(60 * SECOND);
    assert_eq!(codes(&status), [""; 0]);
}

#[test]
fn a_clock_that_was_never_set_is_said() {
    let reasons = Watch::default().judge(&status(), NOW, 0);
    assert_eq!(reasons[0].code, "clock");
}

#[test]
fn what_is_left_out_to_keep_to_the_budget_is_a_reason_while_it_is() {
    let mut status = status();
    status.budget.limits.cpu_millionths = Some(10_000);
    status.budget.measured.cpu_millionths = Some(31_200);
    assert_eq!(codes(&status), [""; 0], "one measure is no step");
    status.budget.left_out = vec!["argv".into(), "samples".into()];
    status.budget.since_unix_ns = Some(UNIX - 12 * SECOND);
    status.budget.reason = Some(crate::budget::Resource::Cpu);
    let reasons = Watch::default().judge(&status, NOW, UNIX);
    let [reason] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    assert_eq!(reason.code, "over-budget");
    assert_eq!(
        reason.text,
        "to keep to the budget these are left out, the first since 12 s: argv, samples; cpu may take 1.00 %, and takes 3.12 % now"
    );
}
