//! The ring against a model that does the same in the plainest way.

use std::collections::BTreeSet;

use proptest::prelude::*;
use recorder_ebpf::abi::Lane;

use super::{SEGMENT_CAPACITY, SEGMENTS, record, small_ring_of_age};
use crate::ring::{FlightRing, Share, Window};

const MAX_AGE_NS: u64 = 40;

#[derive(Clone, Debug)]
enum Step {
    /// A record of this lane and length, this much later than the last one (or as much earlier: CPUs are not in order).
    Push {
        lane: usize,
        len: usize,
        later: i64,
    },
    /// A freeze that reaches this far back.
    Freeze {
        back: u64,
        half: bool,
    },
    /// Drop a live window, chosen by this number.
    Drop(usize),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let push = (0..3_usize, 60..400_usize, -3..6_i64).prop_map(|(lane, len, later)| Step::Push {
        lane,
        len,
        later,
    });
    let too_large = (0..3_usize, Just(SEGMENT_CAPACITY + 1), Just(1))
        .prop_map(|(lane, len, later)| Step::Push { lane, len, later });
    let freeze = (0..200_u64, any::<bool>()).prop_map(|(back, half)| Step::Freeze { back, half });
    prop_oneof![
        60 => push,
        1 => too_large,
        4 => freeze,
        3 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Expire),
    ]
}

/// A segment in use: its records, and a number that no other segment ever had.
#[derive(Clone, Default)]
struct Segment {
    number: u64,
    records: Vec<(u64, Vec<u8>)>,
}

impl Segment {
    fn bytes(&self) -> usize {
        let lens = self.records.iter().map(|(_, record)| record.len());
        lens.map(|len| len.next_multiple_of(8)).sum()
    }

    fn newest(&self) -> u64 {
        let times = self.records.iter().map(|(boot_ns, _)| *boot_ns);
        times.max().unwrap_or(0)
    }
}

#[derive(Default)]
struct LaneModel {
    used: Vec<Segment>,
    numbers: u64,
    pushed: u64,
    evicted: u64,
    dropped: u64,
    evicted_until: Option<u64>,
}

impl LaneModel {
    fn evict(&mut self, index: usize) {
        let segment = self.used.remove(index);
        self.evicted += segment.records.len() as u64;
        self.evicted_until = self.evicted_until.max(Some(segment.newest()));
    }

    fn push(&mut self, boot_ns: u64, record: Vec<u8>, pinned: &BTreeSet<u64>) {
        self.pushed += 1;
        let len = record.len().next_multiple_of(8);
        if record.len() < 72 || len > SEGMENT_CAPACITY {
            self.dropped += 1;
            return;
        }
        let fits = |last: &Segment| last.bytes() + len <= SEGMENT_CAPACITY;
        if !self.used.last().is_some_and(fits) {
            if self.used.len() == SEGMENTS {
                let unpinned = |segment: &Segment| !pinned.contains(&segment.number);
                let index = self.used.iter().position(unpinned);
                self.evict(index.expect("windows never hold every segment"));
            }
            self.numbers += 1;
            self.used.push(Segment {
                number: self.numbers,
                ..Segment::default()
            });
        }
        let last = self.used.last_mut().expect("one was just added");
        last.records.push((boot_ns, record));
    }

    fn expire(&mut self, cutoff: u64, pinned: &BTreeSet<u64>) {
        for index in (0..self.used.len()).rev() {
            let segment = &self.used[index];
            if segment.newest() < cutoff && !pinned.contains(&segment.number) {
                self.evict(index);
            }
        }
    }

    fn freeze(&self, since: u64, half: bool, pinned: &BTreeSet<u64>) -> LaneWindowModel {
        let most = if half { SEGMENTS / 2 } else { SEGMENTS * 7 / 8 };
        let mut all = pinned.clone();
        let mut window = LaneWindowModel {
            incomplete_until: self.evicted_until.filter(|until| *until >= since),
            ..LaneWindowModel::default()
        };
        for segment in self.used.iter().rev().filter(|one| one.newest() >= since) {
            let mut with = all.clone();
            with.insert(segment.number);
            if window.segments.len() == most || with.len() > SEGMENTS * 7 / 8 {
                window.cut = true;
                window.incomplete_until = window.incomplete_until.max(Some(segment.newest()));
            } else {
                all = with;
                window.segments.insert(0, segment.clone());
            }
        }
        window
    }
}

#[derive(Default)]
struct LaneWindowModel {
    segments: Vec<Segment>,
    cut: bool,
    incomplete_until: Option<u64>,
}

/// The ring under test, its live windows, and what they should be.
struct Pair {
    ring: FlightRing,
    model: [LaneModel; 3],
    windows: Vec<(Window, [LaneWindowModel; 3])>,
    now: u64,
}

impl Pair {
    fn new() -> Self {
        Self {
            ring: small_ring_of_age(Some(MAX_AGE_NS)),
            model: Default::default(),
            windows: Vec::new(),
            now: 1000,
        }
    }

    fn pinned(&self, lane: usize) -> BTreeSet<u64> {
        let windows = self.windows.iter();
        let segments = windows.flat_map(|(_, model)| &model[lane].segments);
        segments.map(|segment| segment.number).collect()
    }

    fn take(&mut self, number: usize, step: &Step) {
        match *step {
            Step::Push { lane, len, later } => {
                self.now = self.now.saturating_add_signed(later);
                let record = record(self.now, len.max(72), number as u8);
                let record = &record[..len];
                let pinned = self.pinned(lane);
                let pushed = self.ring.push(Lane::ALL[lane], record);
                let dropped = self.model[lane].dropped;
                self.model[lane].push(self.now, record.to_vec(), &pinned);
                assert_eq!(pushed.is_err(), self.model[lane].dropped > dropped);
            }
            Step::Freeze { back, half } => {
                let since = self.now - back;
                let share = if half {
                    Share::Half
                } else {
                    Share::SevenEighths
                };
                let model =
                    [0, 1, 2].map(|lane| self.model[lane].freeze(since, half, &self.pinned(lane)));
                self.windows.push((self.ring.freeze(since, share), model));
            }
            Step::Drop(which) if !self.windows.is_empty() => {
                self.windows.swap_remove(which % self.windows.len());
            }
            Step::Drop(_) => {}
            Step::Expire => {
                for lane in 0..3 {
                    let pinned = self.pinned(lane);
                    self.model[lane].expire(self.now - MAX_AGE_NS, &pinned);
                }
                self.ring.expire(self.now);
            }
        }
    }

    fn check(&self) {
        let stats = self.ring.stats();
        for (lane, model) in Lane::ALL.into_iter().zip(&self.model) {
            let stats = stats.lane(lane);
            let records = model.used.iter().flat_map(|segment| &segment.records);
            assert_eq!(stats.pushed, stats.records + stats.evicted + stats.dropped);
            assert_eq!(stats.records, records.clone().count() as u64);
            assert_eq!(stats.pushed, model.pushed);
            assert_eq!(stats.evicted, model.evicted);
            assert_eq!(stats.dropped, model.dropped);
            let used: usize = model.used.iter().map(Segment::bytes).sum();
            assert_eq!(stats.used_bytes, used as u64);
            let pinned = self.pinned(lane as usize).len() * SEGMENT_CAPACITY;
            assert_eq!(stats.pinned_bytes, pinned as u64);
            let times = records.map(|(boot_ns, _)| *boot_ns);
            assert_eq!(stats.oldest_boot_ns, times.clone().min());
            assert_eq!(stats.newest_boot_ns, times.max());
        }
        for (window, model) in &self.windows {
            for (lane, model) in Lane::ALL.into_iter().zip(model) {
                let records = model.segments.iter().flat_map(|segment| &segment.records);
                assert!(
                    window
                        .records(lane)
                        .eq(records.map(|(_, record)| record.as_slice()))
                );
                let told = window.lane(lane);
                assert_eq!(told.records, window.records(lane).count() as u64);
                assert_eq!(told.cut_by_budget, model.cut);
                assert_eq!(told.complete_after_boot_ns, model.incomplete_until);
            }
        }
    }
}

/// How often and how long; an interpreter takes its time.
const CASES: u32 = if cfg!(miri) { 2 } else { 100 };
const STEPS_MAX: usize = if cfg!(miri) { 40 } else { 400 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn does_what_the_model_does(steps in prop::collection::vec(step(), 1..STEPS_MAX)) {
        let mut pair = Pair::new();
        for (number, step) in steps.iter().enumerate() {
            pair.take(number, step);
            pair.check();
        }
    }
}
