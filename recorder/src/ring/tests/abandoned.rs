//! What is left of an arena whose agent is gone.

use std::fs;
use std::os::unix::fs::FileExt as _;

use recorder_ebpf::abi::Lane;
use tempfile::TempDir;

use super::{SEGMENT_CAPACITY, SEGMENTS, record};
use crate::ring::{AbandonedError, FlightRing, OldArena, RingConfig};

fn ring_at(path: &std::path::Path) -> FlightRing {
    let segment_bytes = SEGMENT_CAPACITY + 64;
    let config = RingConfig {
        lane_bytes: [(segment_bytes * SEGMENTS) as u64; 3],
        segment_bytes: segment_bytes as u32,
        max_age_ns: None,
    };
    FlightRing::create(Some(path), &config).expect("memory for a small ring")
}

#[test]
fn every_committed_record_is_there_after_the_owner_is_gone_and_the_file_replaced() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    let mut ring = ring_at(&path);
    for number in 1..=200 {
        ring.push(Lane::Lifecycle, &record(number, 256, number as u8))
            .expect("it fits");
    }
    ring.push(Lane::Failure, &record(7, 128, 9))
        .expect("it fits");
    let stats = *ring.stats().lane(Lane::Lifecycle);
    drop(ring);
    let old = OldArena::open(&path)
        .expect("it is whole")
        .expect("it is there");
    drop(ring_at(&path));
    let old = old.read().expect("readable");
    assert_eq!(old.pid, std::process::id());
    let times: Vec<u8> = old
        .records(Lane::Lifecycle)
        .map(|record| *record.last().expect("not empty"))
        .collect();
    let kept = stats.records;
    let expected: Vec<u8> = (201 - kept..=200).map(|number| number as u8).collect();
    assert_eq!(times, expected);
    let lane = old.lane(Lane::Lifecycle);
    assert_eq!((lane.records, lane.bytes), (kept, stats.used_bytes));
    assert_eq!(lane.evicted_until_boot_ns, Some(200 - kept));
    assert_eq!(old.lane(Lane::Failure).evicted_until_boot_ns, None);
    assert_eq!(old.span(), Some((7.min(201 - kept), 200)));
    assert!(!old.was_stopped());
}

#[test]
fn no_arena_and_none_of_ours_are_told_apart() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    assert!(OldArena::open(&path).expect("nothing is wrong").is_none());
    fs::write(&path, "short").expect("ours");
    assert!(matches!(
        OldArena::open(&path),
        Err(AbandonedError::Malformed)
    ));
    drop(ring_at(&path));
    let file = fs::File::options().write(true).open(&path).expect("ours");
    // The boot id.
    file.write_all_at(&[0; 16], 24).expect("ours");
    assert!(matches!(
        OldArena::open(&path),
        Err(AbandonedError::OtherBoot)
    ));
    // The layout.
    file.write_all_at(&[0; 8], 16).expect("ours");
    assert!(matches!(
        OldArena::open(&path),
        Err(AbandonedError::OtherVersion)
    ));
}

#[test]
fn whatever_the_bytes_are_reading_ends() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    let mut ring = ring_at(&path);
    for number in 1..=50 {
        ring.push(Lane::Sample, &record(number, 200, 1))
            .expect("it fits");
    }
    drop(ring);
    let whole = fs::read(&path).expect("ours");
    // Every byte of the headers after the boot id, and of the first segments, once.
    for at in (40..4096).step_by(3).chain(4096..4096 + 2 * 1088) {
        for value in [0, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            fs::write(&path, &bytes).expect("ours");
            if let Ok(Some(old)) = OldArena::open(&path) {
                let old = old.read().expect("the file is there");
                let records: usize = Lane::ALL
                    .iter()
                    .map(|lane| old.records(*lane).count())
                    .sum();
                assert!(records <= 50 + 8, "{records} at {at}");
            }
        }
    }
    fs::write(&path, &whole[..whole.len() - 1]).expect("ours");
    assert!(matches!(
        OldArena::open(&path),
        Err(AbandonedError::Malformed)
    ));
}
