//! One edge each.

use std::{fs, mem::offset_of, os::unix::fs::PermissionsExt};

use recorder_ebpf::abi::{LAYOUT_HASH, Lane};
use zerocopy::FromBytes;

use super::{SEGMENT_CAPACITY, SEGMENTS, record, small_ring, small_ring_of_age};
use crate::ring::{
    FlightRing, PushError, RingConfig, RingError, SEGMENTS_MAX, Share,
    layout::{
        ArenaHeader, HEADER_BYTES, LaneEntry, MAGIC, Records, SEGMENT_HEADER_BYTES, SegmentHeader,
        VERSION, lane_word,
    },
};

const LANE: Lane = Lane::Failure;

/// Fills `segments` segments, each with one record: number 1 and upwards, which are also their times.
fn fill(ring: &mut FlightRing, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let record = record(number, SEGMENT_CAPACITY, number as u8);
        ring.push(LANE, &record).expect("room");
    }
}

fn times(window: &crate::ring::Window) -> Vec<u64> {
    let records = window.records(LANE);
    records
        .map(|record| u64::from_ne_bytes(*record.first_chunk().expect("a header")))
        .collect()
}

#[test]
fn evicts_the_oldest_segment_when_full() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=SEGMENTS as u64);
    assert_eq!(ring.stats().lane(LANE).evicted, 0);
    fill(&mut ring, 9..=9);
    let stats = *ring.stats().lane(LANE);
    assert_eq!((stats.evicted, stats.records), (1, SEGMENTS as u64));
    assert_eq!(
        (stats.oldest_boot_ns, stats.newest_boot_ns),
        (Some(2), Some(9))
    );
    assert_eq!(stats.used_bytes, stats.capacity_bytes);
}

#[test]
fn a_flood_in_one_lane_evicts_nothing_in_another() {
    let mut ring = small_ring();
    ring.push(Lane::Failure, &record(1, 72, 0)).expect("room");
    // An interpreter takes its time.
    for number in 0..if cfg!(miri) { 300 } else { 10_000 } {
        ring.push(Lane::Lifecycle, &record(number, 136, 0))
            .expect("room");
    }
    assert_eq!(
        ring.freeze(0, Share::SevenEighths)
            .records(Lane::Failure)
            .count(),
        1
    );
}

#[test]
fn a_freeze_reaches_back_to_since_by_whole_segments() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=5);
    let window = ring.freeze(3, Share::SevenEighths);
    assert_eq!(times(&window), [3, 4, 5]);
    let told = window.lane(LANE);
    assert_eq!(
        (told.oldest_boot_ns, told.newest_boot_ns),
        (Some(3), Some(5))
    );
    assert_eq!(
        (told.cut_by_budget, told.complete_after_boot_ns),
        (false, None)
    );
}

#[test]
fn a_freeze_tells_what_was_evicted_from_its_span() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=10);
    let reaching = ring.freeze(2, Share::SevenEighths);
    assert_eq!(reaching.lane(LANE).evicted_until_boot_ns, Some(2));
    // The share holds 4 to 10; 3 is in the ring, and 2 is gone.
    assert_eq!(reaching.lane(LANE).complete_after_boot_ns, Some(3));
    let short = ring.freeze(5, Share::SevenEighths);
    assert_eq!(short.lane(LANE).evicted_until_boot_ns, Some(2));
    assert_eq!(short.lane(LANE).complete_after_boot_ns, None);
}

#[test]
fn half_leaves_room_for_what_follows() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=8);
    let before = ring.freeze(0, Share::Half);
    assert_eq!(times(&before), [5, 6, 7, 8]);
    assert!(before.lane(LANE).cut_by_budget);
    fill(&mut ring, 9..=12);
    assert_eq!(times(&before), [5, 6, 7, 8]);
    let all = ring.freeze(0, Share::SevenEighths);
    // One segment is the writer's. It is the fourth newest: what the first window holds costs nothing more.
    assert_eq!(times(&all), [5, 6, 7, 8, 10, 11, 12]);
    assert_eq!(all.lane(LANE).complete_after_boot_ns, Some(9));
}

#[test]
fn recording_goes_on_with_all_pinned_that_may_be() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=8);
    let window = ring.freeze(0, Share::SevenEighths);
    let again = ring.freeze(0, Share::SevenEighths);
    fill(&mut ring, 9..=100);
    assert_eq!(times(&window), [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(times(&again), times(&window));
    let stats = *ring.stats().lane(LANE);
    assert_eq!((stats.dropped, stats.newest_boot_ns), (0, Some(100)));
    assert_eq!(stats.pinned_bytes, 7 * SEGMENT_CAPACITY as u64);
    drop((window, again));
    assert_eq!(ring.stats().lane(LANE).pinned_bytes, 0);
}

#[test]
fn a_window_holds_the_open_segment_as_it_was() {
    let mut ring = small_ring();
    ring.push(LANE, &record(1, 72, 0)).expect("room");
    let window = ring.freeze(0, Share::Half);
    ring.push(LANE, &record(2, 72, 0)).expect("room");
    assert_eq!(times(&window), [1]);
    assert_eq!(times(&ring.freeze(0, Share::Half)), [1, 2]);
}

#[test]
fn a_window_outlives_its_ring() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=3);
    let window = ring.freeze(0, Share::SevenEighths);
    drop(ring);
    assert_eq!(times(&window), [1, 2, 3]);
}

#[test]
fn drops_and_counts_when_every_segment_is_pinned() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=8);
    let pins: Vec<_> = (0..SEGMENTS)
        .map(|segment| ring.arena.pin(segment))
        .collect();
    let refused = ring.push(LANE, &record(9, 72, 0));
    assert_eq!(refused, Err(PushError::Pinned(LANE)));
    let stats = *ring.stats().lane(LANE);
    assert_eq!((stats.pushed, stats.records, stats.dropped), (9, 8, 1));
    drop(pins);
    fill(&mut ring, 10..=10);
    assert_eq!(ring.stats().lane(LANE).evicted, 1);
}

#[test]
fn expires_whole_segments_that_no_window_holds() {
    let mut ring = small_ring_of_age(Some(10));
    fill(&mut ring, 1..=4);
    let window = ring.freeze(4, Share::Half);
    ring.expire(12);
    assert_eq!(
        ring.stats().lane(LANE).oldest_boot_ns,
        Some(2),
        "10 old is not older than 10"
    );
    ring.expire(100);
    assert_eq!(ring.stats().lane(LANE).records, 1, "the window's");
    assert_eq!(times(&window), [4]);
    drop(window);
    ring.expire(100);
    let stats = *ring.stats().lane(LANE);
    assert_eq!((stats.records, stats.evicted, stats.used_bytes), (0, 4, 0));
    assert_eq!(stats.oldest_boot_ns, None);
    fill(&mut ring, 5..=20);
    assert_eq!(ring.stats().lane(LANE).records, SEGMENTS as u64);
}

#[test]
fn a_ring_without_an_age_expires_nothing() {
    let mut ring = small_ring();
    fill(&mut ring, 1..=1);
    ring.expire(u64::MAX);
    assert_eq!(ring.stats().lane(LANE).records, 1);
}

#[test]
fn refuses_what_is_no_record() {
    let mut ring = small_ring();
    let whole = record(1, 100, 0);
    for len in 0..whole.len() {
        let refused = ring.push(LANE, &whole[..len]);
        assert_eq!(refused, Err(PushError::Malformed(len)));
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(ring.push(LANE, &longer), Err(PushError::Malformed(101)));
    let stats = *ring.stats().lane(LANE);
    assert_eq!((stats.pushed, stats.dropped, stats.records), (101, 101, 0));
}

#[test]
fn refuses_what_no_segment_can_hold() {
    let mut ring = small_ring();
    let len = SEGMENT_CAPACITY + 1;
    let refused = ring.push(LANE, &record(1, len, 0));
    let max = SEGMENT_CAPACITY;
    assert_eq!(refused, Err(PushError::TooLarge { len, max }));
    assert_eq!(ring.stats().lane(LANE).dropped, 1);
}

#[test]
fn refuses_configurations_that_cannot_be() {
    for segment_bytes in [0, 192, 257, 1 << 31] {
        let config = RingConfig {
            segment_bytes,
            ..RingConfig::default()
        };
        let refused = FlightRing::create(None, &config);
        assert!(matches!(refused, Err(RingError::SegmentBytes(bytes)) if bytes == segment_bytes));
    }
    let config = RingConfig {
        lane_bytes: [u64::MAX; 3],
        ..RingConfig::default()
    };
    let refused = FlightRing::create(None, &config);
    assert!(matches!(refused, Err(RingError::TooManySegments(n)) if n > u64::from(SEGMENTS_MAX)));
}

#[test]
fn the_file_tells_a_later_reader_all_it_needs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("ring");
    fs::write(&path, "an older one").expect("the directory is ours");
    let config = RingConfig {
        lane_bytes: [(SEGMENT_CAPACITY * SEGMENTS) as u64; 3],
        segment_bytes: SEGMENT_CAPACITY as u32,
        ..RingConfig::default()
    };
    let mut ring = FlightRing::create(Some(&path), &config).expect("room");
    let pushed: Vec<_> = (1..=12).map(|n| record(n, 900, n as u8)).collect();
    for record in &pushed {
        ring.push(Lane::Lifecycle, record).expect("room");
    }
    ring.push(Lane::Lifecycle, &[]).expect_err("no record");

    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = fs::read(&path).expect("it is ours");
    let (header, _) = ArenaHeader::read_from_prefix(&bytes).expect("whole");
    assert_eq!((header.magic, header.version), (MAGIC, VERSION));
    assert_eq!(
        (header.layout_hash, header.pid),
        (LAYOUT_HASH, std::process::id())
    );
    assert_ne!(header.boot_id, [0; 16]);
    let lane = header.lanes[Lane::Lifecycle as usize];
    assert_eq!((lane.first_segment, lane.segments), (8, 8));
    assert_eq!((lane.evicted_records, lane.evicted_until_boot_ns), (4, 4));
    assert_eq!((lane.evicted_bytes, lane.dropped_records), (4 * 904, 1));

    let mut segments: Vec<_> = bytes[HEADER_BYTES..]
        .chunks(SEGMENT_CAPACITY)
        .map(|segment| {
            let (header, records) = SegmentHeader::read_from_prefix(segment).expect("whole");
            (header, &records[..header.committed as usize])
        })
        .filter(|(header, _)| header.lane == Lane::Lifecycle as u32)
        .collect();
    assert_eq!(segments.len(), 8);
    segments.sort_by_key(|(header, _)| header.generation);
    let found: Vec<_> = segments
        .iter()
        .flat_map(|(_, records)| Records::new(records))
        .collect();
    assert_eq!(found, pushed[4..].iter().collect::<Vec<_>>());
    let generations: Vec<_> = segments
        .iter()
        .map(|(header, _)| header.generation)
        .collect();
    assert_eq!(generations, (5..=12).collect::<Vec<_>>());
    let (last, _) = segments.last().expect("eight");
    assert_eq!(
        (last.first_boot_ns, last.last_boot_ns, last.records),
        (12, 12, 1)
    );
}

#[test]
fn the_file_has_blocks_for_all_of_its_size() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("ring");
    let _ring = FlightRing::create(Some(&path), &RingConfig::default()).expect("room");
    let metadata = fs::metadata(&path).expect("it is there");
    assert_eq!(metadata.len(), (64 << 20) + HEADER_BYTES as u64);
    assert!(metadata.blocks() * 512 >= metadata.len());
    assert_eq!(fs::read_dir(directory.path()).expect("ours").count(), 1);
}

#[test]
fn an_arena_that_cannot_be_made_says_where() {
    let path = std::path::Path::new("/proc/recorder/ring");
    let error = FlightRing::create(Some(path), &RingConfig::default()).expect_err("no such place");
    assert!(error.to_string().contains("/proc/recorder/ring"), "{error}");
}

#[test]
fn damaged_lengths_end_the_records_of_a_segment() {
    let mut bytes = record(1, 80, 0);
    bytes.extend(record(2, 80, 0));
    assert_eq!(Records::new(&bytes).count(), 2);
    for len in [0_u32, 71, 81, u32::MAX] {
        let at = 80 + offset_of!(recorder_ebpf::abi::Header, len);
        bytes[at..at + 4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(Records::new(&bytes).count(), 1, "a length of {len}");
    }
    for cut in 0..bytes.len() {
        assert_eq!(Records::new(&bytes[..cut]).count(), usize::from(cut >= 80));
    }
}

#[test]
fn lane_words_lie_in_the_header() {
    for lane in Lane::ALL {
        let offset = lane_word(lane, offset_of!(LaneEntry, dropped_records));
        assert!(offset.is_multiple_of(8) && offset + 8 <= size_of::<ArenaHeader>());
    }
    assert!(size_of::<ArenaHeader>() <= HEADER_BYTES - SEGMENT_HEADER_BYTES);
}
