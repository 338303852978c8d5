//! What a freeze holds.

use recorder_ebpf::abi::Lane;

use super::{
    arena::Pin,
    layout::{LANES, Records},
};

/// How much of each lane a window may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Half: for what led up to an incident, so that there is room for what follows.
    Half,
    /// Seven eighths: also what all windows together may hold, so that the writer always has a segment.
    SevenEighths,
}

impl Share {
    /// Returns this share of `segments`, rounded down.
    pub(super) fn of(self, segments: usize) -> usize {
        match self {
            Self::Half => segments / 2,
            Self::SevenEighths => segments - segments.div_ceil(8),
        }
    }
}

/// A span of every lane, held in place while recording goes on around it.
///
/// It holds whole segments: some of its records may be older than the freeze asked for. Dropping it lets the ring overwrite
/// them.
#[derive(Debug)]
pub struct Window {
    pub(super) lanes: [FrozenLane; LANES],
}

/// One lane of a [`Window`].
#[derive(Debug)]
pub(super) struct FrozenLane {
    pub(super) summary: LaneWindow,
    /// Oldest first.
    pub(super) pins: Vec<Pin>,
}

/// What a window holds of one lane, and what it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneWindow {
    /// Records held.
    pub records: u64,
    /// Bytes of records held.
    pub bytes: u64,
    /// Time of the oldest record held, in nanoseconds since boot.
    pub oldest_boot_ns: Option<u64>,
    /// Time of the newest record held, in nanoseconds since boot.
    pub newest_boot_ns: Option<u64>,
    /// Time of the newest record that the lane had overwritten by then, in nanoseconds since boot.
    pub evicted_until_boot_ns: Option<u64>,
    /// Whether records of the span asked for were in the lane but more than the window may hold.
    pub cut_by_budget: bool,
    /// Every record of the lane with a later time is held, in nanoseconds since boot; `None`: so is every one of the span.
    pub complete_after_boot_ns: Option<u64>,
    /// Records that the lane had refused by then.
    pub dropped: u64,
}

impl Window {
    /// Returns the lane's records, in the order in which they were committed: raw, each with its header.
    pub fn records(&self, lane: Lane) -> impl Iterator<Item = &[u8]> + Clone {
        let pins = &self.lanes[lane as usize].pins;
        pins.iter().flat_map(|pin| Records::new(pin.bytes()))
    }

    /// Returns what is held of the lane, and what is lacking.
    pub fn lane(&self, lane: Lane) -> LaneWindow {
        self.lanes[lane as usize].summary
    }
}
