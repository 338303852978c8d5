//! What joins, what is suppressed, what opens.

use super::*;
use crate::incident::{FINGERPRINTS_MAX, Manual, NoDump, OPEN_MAX, Storm};

/// Returns the dumps that a driver makes of records in time order, up to this time.
fn dumps(engine: &mut Engine, records: &[impl IntoBytes + Immutable], until: u64) -> Vec<Incident> {
    let mut dumps = Vec::new();
    for record in records {
        let boot_ns = u64::from_ne_bytes(*record.as_bytes().first_chunk().expect("a header"));
        dumps.extend(std::iter::from_fn(|| engine.poll(boot_ns)));
        engine.on_record(record.as_bytes(), CLOCKS, |_| ());
    }
    dumps.extend(std::iter::from_fn(|| engine.poll(until)));
    dumps
}

#[test]
fn a_hundred_crashes_of_one_program_make_one_dump() {
    let mut engine = engine();
    // Ten a second: half of them inside the window, half after it.
    let crash_of = |n: u32| crash(START + u64::from(n) * SECOND / 10, "app", 100 + n, 0x1234);
    let crashes: Vec<_> = (0..100).map(crash_of).collect();
    let made = dumps(&mut engine, &crashes, u64::MAX);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].subject.pid, Some(100));
    assert_eq!((made[0].followers, made[0].suppressed_before), (49, 0));
    let stats = engine.stats();
    assert_eq!((stats.opened_total, stats.joined_total), (1, 49));
    assert_eq!((stats.suppressed_total, stats.overflow_total), (50, 0));
    assert_eq!((stats.triggers_total, stats.open), (100, 0));
}

#[test]
fn the_dump_after_a_cooldown_tells_what_it_suppressed() {
    let mut engine = engine();
    let crash_of = |n: u64| crash(START + n * SECOND, "app", n as u32 + 1, 0x1234);
    let crashes: Vec<_> = (0..200).map(crash_of).collect();
    let made = dumps(&mut engine, &crashes, u64::MAX);
    let told: Vec<_> = made
        .iter()
        .map(|incident| {
            let at = (incident.trigger.boot_ns - START) / SECOND;
            (at, incident.followers, incident.suppressed_before)
        })
        .collect();
    // Every 65 seconds: a trigger, 4 followers before its window is polled, and 60 suppressed.
    assert_eq!(told, [(0, 4, 0), (65, 4, 60), (130, 4, 60), (195, 4, 60)]);
}

#[test]
fn two_different_failures_make_two_dumps() {
    let mut engine = engine();
    let crashes = [
        crash(START, "app", 1, 0x1234),
        crash(START + 1, "app", 2, 0x4321),
    ];
    let made = dumps(&mut engine, &crashes, u64::MAX);
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|incident| incident.followers == 0));
    assert_ne!(made[0].fingerprint, made[1].fingerprint);
    assert_ne!(made[0].id, made[1].id);
}

#[test]
fn a_window_includes_its_last_instant() {
    let mut engine = engine();
    assert!(feed(&mut engine, crash(START, "app", 1, 0)).is_some());
    feed(&mut engine, crash(START + AFTER, "app", 2, 0));
    assert_eq!(engine.stats().joined_total, 1);
    feed(&mut engine, crash(START + AFTER + 1, "app", 3, 0));
    assert_eq!(
        engine.stats().suppressed_total,
        1,
        "though nobody polled yet"
    );
    let end = START + AFTER + COOLDOWN;
    feed(&mut engine, crash(end - 1, "app", 4, 0));
    assert_eq!(engine.stats().suppressed_total, 2);
    assert!(feed(&mut engine, crash(end, "app", 5, 0)).is_some());
}

#[test]
fn without_a_cooldown_every_window_is_followed_by_the_next() {
    let mut config = config();
    config.cooldown_ns = 0;
    let mut engine = engine_of(config);
    assert!(feed(&mut engine, crash(START, "app", 1, 0)).is_some());
    assert!(feed(&mut engine, crash(START + AFTER, "app", 2, 0)).is_none());
    assert!(feed(&mut engine, crash(START + AFTER + 1, "app", 3, 0)).is_some());
}

#[test]
fn other_failures_of_the_subject_join_it() {
    let mut engine = engine();
    assert!(feed(&mut engine, hung(START, "postgres", 7)).is_some());
    assert!(feed(&mut engine, crash(START + 1, "postgres", 7, 0)).is_none());
    assert!(feed(&mut engine, exit(START + 2, "postgres", 7, 11)).is_none());
    assert_eq!(engine.stats().joined_total, 2);
    assert!(
        feed(&mut engine, hung(START + 3, "sshd", 8)).is_some(),
        "another process"
    );
}

#[test]
fn a_watched_program_that_crashes_in_a_loop_makes_one_dump() {
    for exit_first in [false, true] {
        let mut engine = engine();
        let records: Vec<Vec<u8>> = (0..100)
            .flat_map(|n: u32| {
                let boot_ns = START + u64::from(n) * SECOND / 10;
                let crash = crash(boot_ns, "postgres", 100 + n, 0x1234);
                let exit = exit(boot_ns, "postgres", 100 + n, 11);
                let mut both = [crash.as_bytes().to_vec(), exit.as_bytes().to_vec()];
                if exit_first {
                    both.reverse();
                }
                both
            })
            .collect();
        for record in &records {
            engine.on_record(record, CLOCKS, |_| ());
        }
        assert_eq!(
            engine.close_all(u64::MAX).len(),
            1,
            "exit first: {exit_first}"
        );
        assert_eq!(engine.stats().triggers_total, 200);
    }
}

#[test]
fn the_exits_of_a_crash_loop_may_come_long_after_the_crashes() {
    let mut engine = engine();
    for n in 0..100 {
        feed(&mut engine, crash(START, "postgres", 100 + n, 0x1234));
    }
    engine.close_all(START + AFTER);
    for n in 0..100 {
        feed(
            &mut engine,
            exit(START + AFTER + 1, "postgres", 100 + n, 11),
        );
    }
    assert_eq!(engine.stats().opened_total, 1);
    assert_eq!(engine.stats().suppressed_total, 100);
}

#[test]
fn a_crash_after_a_hang_that_made_its_dump_is_another_failure() {
    let mut engine = engine();
    feed(&mut engine, hung(START, "postgres", 7));
    assert!(engine.poll(START + AFTER).is_some());
    let opened = feed(&mut engine, crash(START + AFTER + 1, "postgres", 7, 0));
    assert!(opened.is_some());
}

#[test]
fn processes_without_a_name_are_not_one_process() {
    let mut engine = engine();
    assert!(feed(&mut engine, io_error(START, 0, 10)).is_some());
    assert!(feed(&mut engine, io_error(START, 16, 10)).is_some());
}

#[test]
fn one_id_used_twice_is_two_processes() {
    let mut engine = engine();
    assert!(feed(&mut engine, hung(START, "tar", 7)).is_some());
    let mut reused = crash(START + 1, "app", 7, 0);
    reused.header.start_boot_ns += 1;
    assert!(feed(&mut engine, reused).is_some());
}

#[test]
fn more_than_may_be_open_are_counted() {
    let mut engine = engine();
    for n in 0..OPEN_MAX as u32 + 3 {
        let opened = feed(&mut engine, io_error(START + u64::from(n), n, 10));
        assert_eq!(opened.is_some(), n < OPEN_MAX as u32);
    }
    let stats = engine.stats();
    assert_eq!((stats.open, stats.overflow_total), (OPEN_MAX as u64, 3));
    assert!(engine.poll(START + AFTER).is_some());
    assert!(
        feed(&mut engine, io_error(START + 20, 9, 10)).is_some(),
        "there is room again"
    );
}

#[test]
fn incidents_end_in_the_order_of_their_windows() {
    let mut engine = engine();
    assert_eq!(engine.next_deadline(), None);
    for (minor, later) in [(0, 3), (1, 1), (2, 2)] {
        feed(&mut engine, io_error(START + later, minor, 10));
    }
    assert_eq!(engine.next_deadline(), Some(START + 1 + AFTER));
    assert_eq!(engine.poll(START + AFTER), None);
    let ended: Vec<_> = std::iter::from_fn(|| engine.poll(START + 2 + AFTER))
        .map(|incident| incident.trigger.boot_ns - START)
        .collect();
    assert_eq!(ended, [1, 2]);
    assert_eq!(engine.next_deadline(), Some(START + 3 + AFTER));
}

#[test]
fn closing_ends_windows_now() {
    let mut engine = engine();
    feed(&mut engine, io_error(START, 0, 10));
    feed(&mut engine, io_error(START - AFTER, 1, 10));
    let ends: Vec<_> = engine
        .close_all(START + 1)
        .iter()
        .map(|incident| incident.window_end_boot_ns)
        .collect();
    assert_eq!(ends, [START + 1, START]);
    assert_eq!((engine.stats().open, engine.next_deadline()), (0, None));
}

#[test]
fn memory_of_failures_is_bounded() {
    let mut engine = engine();
    for n in 0..FINGERPRINTS_MAX as u64 + 1 {
        let time = START + n;
        assert!(feed(&mut engine, crash(time, "app", n as u32 + 1, n)).is_some());
        assert_eq!(engine.close_all(time).len(), 1);
    }
    let time = START + FINGERPRINTS_MAX as u64 + 1;
    assert!(feed(&mut engine, crash(time, "app", 1_000_000, 1)).is_none());
    assert!(
        feed(&mut engine, crash(time, "app", 1_000_001, 0)).is_some(),
        "forgotten"
    );
}

/// Returns the storms that are over by then.
fn storms(engine: &mut Engine, boot_ns: u64) -> Vec<Storm> {
    let now = ClockPair {
        boot_ns,
        unix_ns: CLOCKS.unix_ns + boot_ns,
    };
    std::iter::from_fn(|| engine.storm_over(now)).collect()
}

#[test]
fn a_storm_ends_with_its_cooldown_and_says_how_many_the_first_and_the_last() {
    let mut engine = engine();
    let first = feed(&mut engine, crash(START, "app", 1, 0)).expect("news");
    engine.poll(START + AFTER);
    for n in 1..=30 {
        let at = START + AFTER + n * SECOND;
        assert!(feed(&mut engine, crash(at, "app", 1 + n as u32, 0)).is_none());
    }
    let end = START + AFTER + COOLDOWN;
    assert_eq!(storms(&mut engine, end - 1), []);
    let told = storms(&mut engine, end);
    assert_eq!(told.len(), 1);
    let storm = &told[0];
    assert_eq!((storm.incident, storm.count), (first.id, 30));
    assert_eq!(storm.first_boot_ns, START + AFTER + SECOND);
    assert_eq!(storm.last_boot_ns, START + AFTER + 30 * SECOND);
    assert_eq!(storm.last_unix_ns, CLOCKS.unix_ns + storm.last_boot_ns);
    assert_eq!(storms(&mut engine, 2 * end), [], "told once");
    let next = feed(&mut engine, crash(end, "app", 99, 0)).expect("news again");
    assert_eq!(next.suppressed_before, 30);
}

#[test]
fn storms_that_rage_when_the_recording_ends_are_told() {
    let mut engine = engine();
    feed(&mut engine, crash(START, "app", 1, 0));
    feed(&mut engine, crash(START + AFTER + 1, "app", 2, 0));
    engine.end_storms();
    assert_eq!(storms(&mut engine, START + AFTER + 2)[0].count, 1);
}

#[test]
fn over_a_limit_an_incident_is_told_once_and_then_counted() {
    let mut config = config();
    config.limits.dumps_per_hour = 1;
    let mut engine = engine_of(config);
    assert!(feed(&mut engine, crash(START, "app", 1, 0)).is_some());
    engine.poll(START + AFTER);
    let mut fed = |at, n| engine.on_record(crash(at, "other", n, 7).as_bytes(), CLOCKS, |_| ());
    let Some(Outcome::Undumped(incident, NoDump::DumpsPerHour)) = fed(START + SECOND, 2) else {
        panic!("one was the limit");
    };
    for n in 2..=9 {
        let again = fed(START + n * SECOND, 1 + n as u32);
        assert_eq!(again, Some(Outcome::Counted(NoDump::DumpsPerHour)));
    }
    assert_eq!(engine.stats().limited_total, 9);
    let told = storms(&mut engine, START + SECOND + COOLDOWN);
    assert_eq!((told[0].incident, told[0].count), (incident.id, 8));
    let hour = START + 3600 * SECOND;
    assert!(feed(&mut engine, crash(hour, "other", 50, 7)).is_some());
    // What a person asks for is no failure.
    let now = ClockPair {
        boot_ns: hour + 1,
        unix_ns: hour + 1,
    };
    let asked = engine.trigger_manual(Manual::default(), now);
    assert!(matches!(asked, Outcome::Opened(_)));
}

#[test]
fn once_a_days_bytes_are_written_no_dump_begins() {
    let mut config = config();
    config.limits.bytes_per_day = 1000;
    let mut engine = engine_of(config);
    assert!(feed(&mut engine, crash(START, "app", 1, 0)).is_some());
    engine.written(1000, START + SECOND);
    let over = engine.on_record(crash(START + 2, "other", 2, 7).as_bytes(), CLOCKS, |_| ());
    assert!(matches!(
        over,
        Some(Outcome::Undumped(_, NoDump::BytesPerDay))
    ));
}
