//! One lane: which of its segments take records, hold them, and give them up.

use std::{collections::VecDeque, mem, mem::offset_of, ops::Range};

use recorder_ebpf::abi::Lane;

use super::{
    arena::Arena,
    config::PushError,
    layout::{LaneEntry, RECORD_ALIGN, boot_ns, lane_word},
    stats::LaneStats,
    window::{FrozenLane, LaneWindow, Share},
};

/// A bounded queue of records in the lane's own segments of the arena.
///
/// Every segment is either free or in use, and at most [`Share::SevenEighths`] of them are pinned.
#[derive(Debug)]
pub(super) struct LaneRing {
    lane: Lane,
    /// Number of the lane's first segment in the arena.
    first: usize,
    /// What each segment holds.
    contents: Box<[Contents]>,
    /// Segments without records.
    free: Vec<usize>,
    /// Segments with records, by ascending generation: the last is the one that takes records.
    used: VecDeque<usize>,
    /// Generation of the last segment in `used`.
    generation: u64,
    pushed: u64,
    evicted: u64,
    evicted_bytes: u64,
    evicted_until: Option<u64>,
    dropped: u64,
}

/// What a segment holds. Records of different CPUs are not in order, so both times are kept.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    records: u64,
    oldest_boot_ns: u64,
    newest_boot_ns: u64,
}

impl Contents {
    fn add(&mut self, boot_ns: u64) {
        if self.records == 0 {
            self.oldest_boot_ns = boot_ns;
        }
        self.oldest_boot_ns = self.oldest_boot_ns.min(boot_ns);
        self.newest_boot_ns = self.newest_boot_ns.max(boot_ns);
        self.records += 1;
    }
}

impl LaneRing {
    /// Returns an empty lane that owns `segments` of the arena.
    pub(super) fn new(lane: Lane, segments: Range<usize>) -> Self {
        Self {
            lane,
            first: segments.start,
            contents: vec![Contents::default(); segments.len()].into(),
            used: VecDeque::with_capacity(segments.len()),
            free: segments.rev().collect(),
            generation: 0,
            pushed: 0,
            evicted: 0,
            evicted_bytes: 0,
            evicted_until: None,
            dropped: 0,
        }
    }

    /// Appends a record; makes room for it if there is none.
    pub(super) fn push(&mut self, arena: &mut Arena, record: &[u8]) -> Result<(), PushError> {
        let committed = self.commit(arena, record);
        match committed {
            Ok(()) => self.pushed += 1,
            Err(_) => self.refuse(arena, 1),
        }
        committed
    }

    /// Counts records as handed to the lane and dropped.
    pub(super) fn refuse(&mut self, arena: &mut Arena, records: u64) {
        self.pushed += records;
        self.dropped += records;
        let word = lane_word(self.lane, offset_of!(LaneEntry, dropped_records));
        arena.set_header(word, self.dropped);
    }

    fn commit(&mut self, arena: &mut Arena, record: &[u8]) -> Result<(), PushError> {
        let boot_ns = boot_ns(record).ok_or(PushError::Malformed(record.len()))?;
        let len = record.len().next_multiple_of(RECORD_ALIGN);
        let max = arena.capacity();
        if len > max {
            let len = record.len();
            return Err(PushError::TooLarge { len, max });
        }
        let segment = match self.used.back() {
            Some(&segment) if arena.committed(segment) + len <= max => segment,
            _ => self.advance(arena).ok_or(PushError::Pinned(self.lane))?,
        };
        let contents = &mut self.contents[segment - self.first];
        contents.add(boot_ns);
        arena.describe(
            segment,
            contents.oldest_boot_ns,
            contents.newest_boot_ns,
            contents.records,
        );
        arena.append(segment, record);
        Ok(())
    }

    /// Returns an empty segment, now the last one in use; `None` if all are pinned.
    fn advance(&mut self, arena: &mut Arena) -> Option<usize> {
        let segment = match self.free.pop() {
            Some(segment) => segment,
            None => {
                let mut oldest_first = 0..self.used.len();
                let index = oldest_first.find(|index| self.evict(arena, self.used[*index]))?;
                self.used.remove(index)?
            }
        };
        self.generation += 1;
        arena.open(segment, self.generation);
        self.used.push_back(segment);
        Some(segment)
    }

    /// Evicts what is older than `boot_ns`, by whole segments, unless a window holds it.
    pub(super) fn expire(&mut self, arena: &mut Arena, boot_ns: u64) {
        let mut used = mem::take(&mut self.used);
        used.retain(|&segment| {
            let newest = self.contents[segment - self.first].newest_boot_ns;
            let expired = newest < boot_ns && self.evict(arena, segment);
            if expired {
                self.free.push(segment);
            }
            !expired
        });
        self.used = used;
    }

    /// Empties a segment and counts what was in it, unless it is pinned; returns whether it is empty.
    fn evict(&mut self, arena: &mut Arena, segment: usize) -> bool {
        // It may lose its last pin at any moment, and gets no other one here.
        if arena.pins(segment) != 0 {
            return false;
        }
        let bytes = arena.committed(segment) as u64;
        let contents = mem::take(&mut self.contents[segment - self.first]);
        let until = self.evicted_until.unwrap_or(0).max(contents.newest_boot_ns);
        self.evicted_until = Some(until);
        self.evicted += contents.records;
        self.evicted_bytes += bytes;
        let words = [
            (offset_of!(LaneEntry, evicted_until_boot_ns), until),
            (offset_of!(LaneEntry, evicted_records), self.evicted),
            (offset_of!(LaneEntry, evicted_bytes), self.evicted_bytes),
        ];
        for (offset, value) in words {
            arena.set_header(lane_word(self.lane, offset), value);
        }
        // Behind the account: at no moment are records missing that are not said to be.
        arena.clear(segment);
        true
    }

    /// Pins the segments with records of `since` or later, the newest first, as far as the budgets go.
    pub(super) fn freeze(&self, arena: &Arena, since: u64, share: Share) -> FrozenLane {
        let segments = self.contents.len();
        let mut window_left = share.of(segments);
        let mut lane_left = Share::SevenEighths
            .of(segments)
            .saturating_sub(self.pinned(arena));
        let mut summary = LaneWindow {
            evicted_until_boot_ns: self.evicted_until,
            complete_after_boot_ns: self.evicted_until.filter(|until| *until >= since),
            dropped: self.dropped,
            ..LaneWindow::default()
        };
        let mut pins = Vec::with_capacity(window_left.min(self.used.len()));
        for &segment in self.used.iter().rev() {
            let contents = &self.contents[segment - self.first];
            if contents.newest_boot_ns < since {
                continue;
            }
            // What another window holds costs the lane nothing more. That window may be dropped at any moment of this walk:
            // then fewer segments are pinned in the end than were counted, never more.
            let costs = usize::from(arena.pins(segment) == 0);
            if window_left == 0 || lane_left < costs {
                summary.cut_at(contents);
                continue;
            }
            window_left -= 1;
            lane_left -= costs;
            summary.hold(contents, arena.committed(segment) as u64);
            pins.push(arena.pin(segment));
        }
        pins.reverse();
        FrozenLane { summary, pins }
    }

    /// Returns how many of the lane's segments are pinned.
    fn pinned(&self, arena: &Arena) -> usize {
        let pinned = self
            .used
            .iter()
            .filter(|segment| arena.pins(**segment) != 0);
        pinned.count()
    }

    /// Returns the state of the lane.
    pub(super) fn stats(&self, arena: &Arena) -> LaneStats {
        let capacity = arena.capacity() as u64;
        let mut stats = LaneStats {
            capacity_bytes: self.contents.len() as u64 * capacity,
            pinned_bytes: self.pinned(arena) as u64 * capacity,
            pushed: self.pushed,
            evicted: self.evicted,
            dropped: self.dropped,
            ..LaneStats::default()
        };
        let mut span = LaneWindow::default();
        for &segment in &self.used {
            let contents = &self.contents[segment - self.first];
            span.hold(contents, arena.committed(segment) as u64);
        }
        stats.used_bytes = span.bytes;
        stats.records = span.records;
        stats.oldest_boot_ns = span.oldest_boot_ns;
        stats.newest_boot_ns = span.newest_boot_ns;
        stats
    }
}

impl LaneWindow {
    fn hold(&mut self, contents: &Contents, bytes: u64) {
        self.records += contents.records;
        self.bytes += bytes;
        let oldest = self.oldest_boot_ns.unwrap_or(u64::MAX);
        self.oldest_boot_ns = Some(oldest.min(contents.oldest_boot_ns));
        self.newest_boot_ns = self.newest_boot_ns.max(Some(contents.newest_boot_ns));
    }

    fn cut_at(&mut self, contents: &Contents) {
        self.cut_by_budget = true;
        self.complete_after_boot_ns = self
            .complete_after_boot_ns
            .max(Some(contents.newest_boot_ns));
    }
}
