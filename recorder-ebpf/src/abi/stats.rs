//! Counters that the probes keep for each lane and CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots of a counter per kind: kinds are numbered from 1, slot 0 is unused.
pub const KIND_SLOTS: usize = 32;

/// What one CPU did in one lane.
///
/// `attempted = committed + lost`: what is not counted here as lost has entered the kernel ring.
#[derive(
    Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, PartialEq, Eq,
)]
#[repr(C)]
pub struct LaneStats {
    /// Records begun: also the next sequence number.
    pub attempted: u64,
    /// Not zero while the kernel ring is short of room: cgroups are then held to their rate.
    pub short: u64,
    /// Records for which the kernel ring had no room, by kind.
    pub lost: [u64; KIND_SLOTS],
    /// Records that were not begun, because their cgroup wrote too many, by kind.
    pub throttled: [u64; KIND_SLOTS],
    /// Records that were not begun, to keep to the budget, by kind.
    pub filtered: [u64; KIND_SLOTS],
}

impl LaneStats {
    /// Returns the records lost, of all kinds.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Returns the records that were not begun, of all kinds.
    pub fn throttled_total(&self) -> u64 {
        self.throttled.iter().sum()
    }

    /// Returns the records that were not begun to keep to the budget, of all kinds.
    pub fn filtered_total(&self) -> u64 {
        self.filtered.iter().sum()
    }
}
