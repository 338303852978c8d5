//! What a lane has taken, kept and given up.

use recorder_ebpf::abi::Lane;

use super::layout::LANES;

/// State of every lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStats {
    /// The lanes, by number.
    pub lanes: [LaneStats; LANES],
}

impl RingStats {
    /// Returns the state of one lane.
    pub fn lane(&self, lane: Lane) -> &LaneStats {
        &self.lanes[lane as usize]
    }
}

/// State of a lane at one moment: `pushed = records + evicted + dropped`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Bytes of records that the lane has room for.
    pub capacity_bytes: u64,
    /// Bytes of records in the lane.
    pub used_bytes: u64,
    /// Bytes that windows keep from being overwritten, in whole segments.
    pub pinned_bytes: u64,
    /// Records in the lane.
    pub records: u64,
    /// Records ever handed to the lane.
    pub pushed: u64,
    /// Records overwritten, by bytes or by age.
    pub evicted: u64,
    /// Records refused: malformed, too large, no segment was free, or they never came.
    pub dropped: u64,
    /// Time of the oldest record in the lane, in nanoseconds since boot.
    pub oldest_boot_ns: Option<u64>,
    /// Time of the newest record in the lane, in nanoseconds since boot.
    pub newest_boot_ns: Option<u64>,
}
