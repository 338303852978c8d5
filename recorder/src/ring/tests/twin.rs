//! A twin, and what is left of it when power went or the disk has changed it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use recorder_ebpf::abi::Lane;
use tempfile::TempDir;

use super::{SEGMENT_CAPACITY, SEGMENTS, record};
use crate::event::ClockPair;
use crate::ring::{Abandoned, Flaw, FlightRing, OldArena, RingConfig, Twin};

/// Seeds of each test.
const SEEDS: u64 = 3000;
/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// Numbers that look random, always the same for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end as u64) as usize
    }
}

fn at(boot_ns: u64) -> ClockPair {
    ClockPair {
        boot_ns,
        unix_ns: boot_ns + 1_000_000,
    }
}

/// A ring with its twin, and all that was ever pushed.
struct Pair {
    directory: TempDir,
    ring: FlightRing,
    twin: Twin,
    pushed: HashSet<Vec<u8>>,
    next: u64,
}

impl Pair {
    fn new(max_age_ns: Option<u64>) -> Self {
        let directory = TempDir::new().expect("there is room for tests");
        let segment_bytes = SEGMENT_CAPACITY + 64;
        let config = RingConfig {
            lane_bytes: [(segment_bytes * SEGMENTS) as u64; 3],
            segment_bytes: segment_bytes as u32,
            max_age_ns,
            made: Some(at(1)),
        };
        let path = directory.path().join("ring");
        let ring = FlightRing::create(Some(&path), &config).expect("memory for a small ring");
        let twin = Twin::create(&directory.path().join("twin"), &path).expect("there is room");
        Self {
            directory,
            ring,
            twin,
            pushed: HashSet::new(),
            next: 1,
        }
    }

    fn push(&mut self, random: &mut Random) {
        let number = self.next;
        self.next += 1;
        let lane = Lane::ALL[random.below(3)];
        let mut record = record(number, 80 + random.below(200), number as u8);
        // No two are equal.
        record[72..80].copy_from_slice(&number.to_ne_bytes());
        self.ring.push(lane, &record).expect("it fits");
        self.pushed.insert(record);
    }

    fn flush(&mut self) {
        self.twin.flush(at(self.next)).expect("there is room");
    }

    fn twin(&self) -> std::path::PathBuf {
        self.directory.path().join("twin")
    }

    /// Reads what the file would give, and requires that it was pushed, in order.
    #[track_caller]
    fn read(&self, bytes: &[u8], what: &str) -> Option<Abandoned> {
        let path = self.directory.path().join("found");
        fs::write(&path, bytes).expect("there is room");
        let old = OldArena::open(&path).ok()??.read().expect("it is there");
        for lane in Lane::ALL {
            for record in old.records(lane) {
                assert!(self.pushed.contains(record), "{what}: was never pushed");
            }
            assert!(numbers(&old, lane).is_sorted(), "{what}: not in order");
        }
        Some(old)
    }
}

fn numbers(old: &Abandoned, lane: Lane) -> Vec<u64> {
    old.records(lane)
        .map(|record| crate::ring::layout::boot_ns(record).expect("records are whole"))
        .collect()
}

fn read(path: &Path) -> Abandoned {
    let old = OldArena::open(path).expect("it is whole").expect("there");
    old.read().expect("readable")
}

#[test]
fn a_twin_holds_what_the_ring_held_at_the_last_flush() {
    use std::os::unix::fs::MetadataExt as _;
    let mut pair = Pair::new(Some(400));
    let mut random = Random(1);
    let path = pair.directory.path().join("ring");
    for _ in 0..60 {
        for _ in 0..random.below(30) {
            pair.push(&mut random);
        }
        pair.ring.expire(pair.next);
        pair.flush();
        let (ring, twin) = (read(&path), read(&pair.twin()));
        for lane in Lane::ALL {
            assert_eq!(numbers(&ring, lane), numbers(&twin, lane));
            assert_eq!(ring.lane(lane), twin.lane(lane));
        }
        assert_eq!(twin.flaws, []);
        assert_eq!(twin.copied, Some(at(pair.next)));
        assert_eq!((twin.pid, twin.boot_id), (ring.pid, ring.boot_id));
        assert_eq!((ring.copied, twin.made), (None, Some(at(1))));
    }
    let metadata = fs::metadata(pair.twin()).expect("it is there");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), fs::metadata(&path).expect("there").len());
    let found = OldArena::open(&pair.twin()).expect("whole").expect("there");
    assert!(found.is_in_use());
    drop(pair.twin);
    assert!(!found.is_in_use());
}

#[test]
fn when_power_goes_between_two_flushes_nothing_of_the_first_is_lost() {
    for seed in 0..SEEDS / 16 {
        let mut random = Random(seed);
        let mut pair = Pair::new(None);
        for _ in 0..random.below(8) {
            for _ in 0..random.below(40) {
                pair.push(&mut random);
            }
            pair.flush();
        }
        let first = fs::read(pair.twin()).expect("it is there");
        let before = read(&pair.twin());
        for _ in 0..random.below(40) {
            pair.push(&mut random);
        }
        pair.flush();
        let second = fs::read(pair.twin()).expect("it is there");
        let after = read(&pair.twin());
        for cut in 0..16 {
            let what = format!("seed {seed}, cut {cut}");
            // Any sector may have come to the disk.
            let mut torn = first.clone();
            let odds = 1 + random.below(4);
            for (torn, new) in torn.chunks_mut(SECTOR).zip(second.chunks(SECTOR)) {
                if random.below(odds + 1) != 0 {
                    torn.copy_from_slice(new);
                }
            }
            let old = pair.read(&torn, &what).expect("its header is whole");
            for lane in Lane::ALL {
                let found: HashSet<u64> = numbers(&old, lane).into_iter().collect();
                let kept: HashSet<u64> = numbers(&after, lane).into_iter().collect();
                // What the ring has evicted since may be gone.
                for number in numbers(&before, lane) {
                    assert!(
                        found.contains(&number) || !kept.contains(&number),
                        "{what}: {number} was flushed, and is lost"
                    );
                }
            }
            let is_expected = |flaw: &Flaw| matches!(flaw, Flaw::Checksum { .. });
            assert!(old.flaws.iter().all(is_expected), "{what}: {:?}", old.flaws);
        }
    }
}

#[test]
fn whatever_a_disk_does_to_a_twin_no_record_comes_back_that_was_never_pushed() {
    let mut random = Random(7);
    let mut pair = Pair::new(None);
    for _ in 0..12 {
        for _ in 0..random.below(40) {
            pair.push(&mut random);
        }
        pair.flush();
    }
    let whole = fs::read(pair.twin()).expect("it is there");
    let all: usize = Lane::ALL
        .map(|lane| read(&pair.twin()).records(lane).count())
        .iter()
        .sum();
    let (mut readable, mut recovered) = (0, 0);
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..=random.below(4) {
            let start = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(start.max(1)),
                1 => bytes[start] ^= 1 << random.below(8),
                2 => {
                    let page = start / 4096 * 4096;
                    let end = bytes.len().min(page + 4096);
                    bytes[page..end].fill(0);
                }
                _ => {
                    // An old page in the place of another.
                    let from = random.below(bytes.len()) / SECTOR * SECTOR;
                    let to = start / SECTOR * SECTOR;
                    let len = SECTOR.min(bytes.len() - from.max(to));
                    bytes.copy_within(from..from + len, to);
                }
            }
        }
        if let Some(old) = pair.read(&bytes, &format!("seed {seed}")) {
            readable += 1;
            recovered += Lane::ALL
                .map(|lane| old.records(lane).count())
                .iter()
                .sum::<usize>();
        }
    }
    assert!(
        readable > SEEDS / 2 && recovered > readable as usize * all / 2,
        "most is read after most damages: {recovered} records of {readable} files with {all} each"
    );
}

#[test]
fn a_twin_of_no_ring_or_in_no_directory_is_refused() {
    let directory = TempDir::new().expect("there is room for tests");
    let none = directory.path().join("none");
    Twin::create(&directory.path().join("twin"), &none).expect_err("there is no ring");
    let pair = Pair::new(None);
    let ring = pair.directory.path().join("ring");
    Twin::create(&none.join("twin"), &ring).expect_err("there is no directory");
}
