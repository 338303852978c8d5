//! What is left of an arena whose agent is gone.

use std::fs;
use std::os::unix::fs::FileExt as _;

use recorder_ebpf::abi::Lane;
use tempfile::TempDir;

use super::{SEGMENT_CAPACITY, SEGMENTS, record};
use crate::ring::{Abandoned, AbandonedError, Flaw, FlightRing, OldArena, RingConfig};

fn ring_at(path: &std::path::Path) -> FlightRing {
    let segment_bytes = SEGMENT_CAPACITY + 64;
    let config = RingConfig {
        lane_bytes: [(segment_bytes * SEGMENTS) as u64; 3],
        segment_bytes: segment_bytes as u32,
        ..RingConfig::default()
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

/// Records of 256 bytes in a segment of the small ring.
const PER_SEGMENT: u64 = (SEGMENT_CAPACITY / 256) as u64;
const SEGMENT_BYTES: u64 = SEGMENT_CAPACITY as u64 + 64;
/// Where the lifecycle lane's second segment begins.
const SECOND: u64 = 4096 + (SEGMENTS as u64 + 1) * SEGMENT_BYTES;

/// What is done to an arena in which the lifecycle lane has [`PER_SEGMENT`] records in each of three segments, and the failure
/// lane one record.
struct Case {
    name: &'static str,
    /// Bytes that are written, and where.
    writes: Vec<(u64, Vec<u8>)>,
    /// Length that the file is cut to.
    cut: Option<u64>,
    /// Times of the lifecycle lane's records that come back; `None` if nothing can be read.
    lifecycle: Option<Vec<u64>>,
    flaws: Vec<Flaw>,
}

impl Case {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            writes: Vec::new(),
            cut: None,
            lifecycle: Some((1..=3 * PER_SEGMENT).collect()),
            flaws: Vec::new(),
        }
    }

    fn write(mut self, at: u64, bytes: impl Into<Vec<u8>>) -> Self {
        self.writes.push((at, bytes.into()));
        self
    }

    fn cut(mut self, len: u64) -> Self {
        self.cut = Some(len);
        self
    }

    fn without(mut self, lost: std::ops::RangeInclusive<u64>) -> Self {
        let all = self.lifecycle.take().expect("set from the start");
        self.lifecycle = Some(all.into_iter().filter(|at| !lost.contains(at)).collect());
        self
    }

    fn nothing(mut self) -> Self {
        self.lifecycle = None;
        self
    }

    fn flaw(mut self, flaw: Flaw) -> Self {
        self.flaws.push(flaw);
        self
    }
}

/// Every way in which an arena can be found.
fn cases() -> Vec<Case> {
    let second = SEGMENTS as u32 + 1;
    let second_of = PER_SEGMENT + 1..=2 * PER_SEGMENT;
    let all = 3 * SEGMENTS as u32;
    let missing = all - second;
    let committed = SECOND + 8;
    let header = [0; 4096];
    vec![
        Case::new("whole"),
        // The record is there as far as it was written; its length was not committed.
        Case::new("a record that was being written")
            .write(committed, ((PER_SEGMENT - 1) * 256).to_ne_bytes())
            .without(2 * PER_SEGMENT..=2 * PER_SEGMENT),
        Case::new("a committed record that is torn")
            .write(SECOND + 64 + (PER_SEGMENT - 1) * 256, [0; 256])
            .without(2 * PER_SEGMENT..=2 * PER_SEGMENT)
            .flaw(Flaw::Record {
                segment: second,
                at: (PER_SEGMENT as usize - 1) * 256,
                bytes: 256,
            }),
        Case::new("a record with an impossible length")
            .write(SECOND + 64 + 48, u32::MAX.to_ne_bytes())
            .without(second_of.clone())
            .flaw(Flaw::Record {
                segment: second,
                at: 0,
                bytes: SEGMENT_CAPACITY,
            }),
        Case::new("a segment without a number")
            .write(SECOND + 44, u32::MAX.to_ne_bytes())
            .flaw(Flaw::Segment {
                segment: second,
                bytes: SEGMENT_CAPACITY,
            }),
        Case::new("a segment of another lane")
            .write(SECOND + 40, 2_u32.to_ne_bytes())
            .flaw(Flaw::Segment {
                segment: second,
                bytes: SEGMENT_CAPACITY,
            }),
        Case::new("a segment that was never used and has records")
            .write(SECOND, [0; 8])
            .flaw(Flaw::Segment {
                segment: second,
                bytes: SEGMENT_CAPACITY,
            }),
        Case::new("a segment that claims more than it has")
            .write(committed, u64::MAX.to_ne_bytes())
            .flaw(Flaw::Length {
                segment: second,
                committed: u64::MAX,
                bytes: SEGMENT_CAPACITY,
            }),
        Case::new("a segment of zeros")
            .write(SECOND, vec![0; SEGMENT_BYTES as usize])
            .without(second_of.clone())
            .flaw(Flaw::Segment {
                segment: second,
                bytes: 0,
            }),
        Case::new("an emptied segment")
            .write(committed, [0; 8])
            .without(second_of.clone()),
        Case::new("another magic")
            .write(0, *b"RECRANG\0")
            .flaw(Flaw::Magic),
        Case::new("another version")
            .write(8, 9_u32.to_ne_bytes())
            .flaw(Flaw::Version(9)),
        Case::new("other records")
            .write(16, [7; 8])
            .flaw(Flaw::Records),
        Case::new("another version with other records")
            .write(8, 9_u32.to_ne_bytes())
            .write(16, [7; 8])
            .flaw(Flaw::Version(9))
            .flaw(Flaw::Records),
        Case::new("another boot").write(24, [0; 16]),
        Case::new("segments of an impossible size")
            .write(40, 100_u32.to_ne_bytes())
            .flaw(Flaw::Header),
        Case::new("too many lanes")
            .write(44, 4_u32.to_ne_bytes())
            .flaw(Flaw::Header),
        Case::new("lanes that overlap")
            .write(48 + 40, 1_u32.to_ne_bytes())
            .flaw(Flaw::Header),
        Case::new("no header").write(0, header).flaw(Flaw::Header),
        Case::new("no header, and a segment without one")
            .write(0, header)
            .write(4096 + 2 * SEGMENT_BYTES, [0xff; 64])
            .flaw(Flaw::Header)
            .flaw(Flaw::Segment {
                segment: 2,
                bytes: 0,
            }),
        Case::new("cut between segments")
            .cut(SECOND)
            .without(PER_SEGMENT + 1..=3 * PER_SEGMENT)
            .flaw(Flaw::Short {
                segments: all,
                missing,
            }),
        Case::new("cut within a segment")
            .cut(SECOND + SEGMENT_BYTES - 1)
            .without(PER_SEGMENT + 1..=3 * PER_SEGMENT)
            .flaw(Flaw::Short {
                segments: all,
                missing,
            }),
        Case::new("cut to its header")
            .cut(4096)
            .without(1..=3 * PER_SEGMENT)
            .flaw(Flaw::Short {
                segments: all,
                missing: all,
            }),
        Case::new("no header, and cut")
            .write(0, header)
            .cut(SECOND)
            .without(PER_SEGMENT + 1..=3 * PER_SEGMENT)
            .flaw(Flaw::Header),
        Case::new("another magic, and cut")
            .write(0, [0; 8])
            .cut(SECOND)
            .nothing(),
        Case::new("cut within its header").cut(4095).nothing(),
        Case::new("empty").cut(0).nothing(),
        Case::new("neither header nor segments")
            .write(0, vec![0; 4096 + 16 * SEGMENT_BYTES as usize])
            .nothing(),
        Case::new("random bytes")
            .write(
                0,
                (0..4096 + 24 * SEGMENT_BYTES)
                    .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8)
                    .collect::<Vec<_>>(),
            )
            .nothing(),
    ]
}

fn times(old: &Abandoned, lane: Lane) -> Vec<u64> {
    old.records(lane)
        .map(|record| crate::ring::layout::boot_ns(record).expect("records are whole"))
        .collect()
}

#[test]
fn what_is_whole_is_recovered_in_every_case_and_the_rest_is_said() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    for case in cases() {
        let mut ring = ring_at(&path);
        for number in 1..=3 * PER_SEGMENT {
            ring.push(Lane::Lifecycle, &record(number, 256, number as u8))
                .expect("it fits");
        }
        ring.push(Lane::Failure, &record(7, 128, 9))
            .expect("it fits");
        drop(ring);
        let file = fs::File::options().write(true).open(&path).expect("ours");
        for (at, bytes) in &case.writes {
            file.write_all_at(bytes, *at).expect("ours");
        }
        if let Some(len) = case.cut {
            file.set_len(len).expect("ours");
        }
        let before = fs::read(&path).expect("ours");
        let opened = OldArena::open(&path);
        let Some(expected) = &case.lifecycle else {
            assert!(
                matches!(opened, Err(AbandonedError::NotARing)),
                "{}: {opened:?}",
                case.name
            );
            continue;
        };
        let old = opened.expect(case.name).expect("it is there");
        let old = old.read().expect("readable");
        let mut found = times(&old, Lane::Lifecycle);
        // Of a damaged segment nobody knows when it was used.
        found.sort_unstable();
        assert_eq!(found, *expected, "{}", case.name);
        assert_eq!(old.flaws, case.flaws, "{}", case.name);
        if case.cut.is_none_or(|len| len > 4096) {
            assert_eq!(times(&old, Lane::Failure), [7], "{}", case.name);
        }
        assert_eq!(old.is_known(), !case.flaws.contains(&Flaw::Records));
        assert_eq!(fs::read(&path).expect("ours"), before, "it is only read");
    }
}

#[test]
fn neither_a_directory_nor_a_pipe_nor_nothing_is_a_ring() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    assert!(OldArena::open(&path).expect("nothing is wrong").is_none());
    let found = OldArena::open(directory.path());
    assert!(matches!(found, Err(AbandonedError::NotARing)), "{found:?}");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("ours");
    let found = OldArena::open(&path);
    assert!(matches!(found, Err(AbandonedError::NotARing)), "{found:?}");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("ours");
    let found = OldArena::open(&link);
    assert!(matches!(found, Err(AbandonedError::Io(_))), "{found:?}");
}

#[test]
fn what_an_earlier_use_left_in_a_damaged_segment_is_not_taken_for_new() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    let mut ring = ring_at(&path);
    let rounds = SEGMENTS as u64 * PER_SEGMENT;
    // The first segment is used a second time, for one record: three old ones stand behind it.
    for number in 1..=rounds + 1 {
        ring.push(Lane::Lifecycle, &record(number, 256, 0))
            .expect("it fits");
    }
    drop(ring);
    let file = fs::File::options().write(true).open(&path).expect("ours");
    let first = 4096 + SEGMENTS as u64 * SEGMENT_BYTES;
    file.write_all_at(&u64::MAX.to_ne_bytes(), first + 8)
        .expect("ours");
    let old = OldArena::open(&path).expect("readable").expect("there");
    let old = old.read().expect("readable");
    let expected: Vec<u64> = (PER_SEGMENT + 1..=rounds + 1).collect();
    assert_eq!(times(&old, Lane::Lifecycle), expected);
}

#[test]
fn a_ring_is_read_while_it_is_written() {
    let directory = TempDir::new().expect("there is room for tests");
    let path = directory.path().join("ring");
    let mut ring = ring_at(&path);
    let old = OldArena::open(&path).expect("whole").expect("there");
    assert!(old.is_in_use());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                ring.push(Lane::Lifecycle, &record(number, 256, number as u8))
                    .expect("it fits");
            }
        });
        for _ in 0..300 {
            let read = old.read().expect("readable");
            assert_eq!(read.flaws, []);
            let times = times(&read, Lane::Lifecycle);
            assert!(times.is_sorted(), "{times:?}");
            for record in read.records(Lane::Lifecycle) {
                let number = crate::ring::layout::boot_ns(record).expect("whole");
                assert!(record[72..].iter().all(|byte| *byte == number as u8));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(ring);
    assert!(!old.is_in_use());
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
    let step = if cfg!(miri) { 97 } else { 1 };
    let places = (40..4096).step_by(3).chain(4096..4096 + 2 * 1088);
    for at in places.step_by(step) {
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
}
