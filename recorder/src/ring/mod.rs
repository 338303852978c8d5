//! The flight ring: the last minutes of every lane, in memory of a fixed size.
//!
//! Nothing here allocates, blocks or enters the kernel once a ring is created, save [`FlightRing::freeze`], which allocates
//! the list of what it pins. There is no clock here either: time is an argument.
//!
//! ```text
//!            push                                    Window: pins, no copy
//!             │                                     ┌────┴────┐
//!  lane   [ records ][ records ][ rec.. ]  free  [ records ][ records ]
//!              ▲          ▲         ▲                ▲
//!              oldest: evicted first, unless pinned; the last in use takes records
//! ```
//!
//! Each lane has its own segments, so that a flood in one evicts nothing in another. For every lane, at all times,
//! `pushed = records + evicted + dropped`.

mod abandoned;
#[expect(
    unsafe_code,
    reason = "windows read the arena's memory while it is written"
)]
mod arena;
mod config;
mod file;
mod follow;
mod lane;
mod layout;
mod look;
#[expect(unsafe_code, reason = "the arena is memory that other processes map")]
mod memory;
#[expect(unsafe_code, reason = "the kernel maps it")]
#[cfg_attr(miri, path = "pages_miri.rs")]
mod pages;
mod stats;
mod sync;
#[cfg(test)]
mod tests;
mod twin;
mod window;

use std::{fs, io, path::Path};

use recorder_ebpf::abi::Lane;
use uuid::Uuid;

use arena::Arena;
use lane::LaneRing;
use layout::{ArenaHeader, LANES};
use memory::Memory;

pub use abandoned::{Abandoned, AbandonedError, Flaw, OldArena};
pub use config::{
    LANE_SEGMENTS_MIN, PushError, RingConfig, RingError, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENTS_MAX,
};
pub use stats::{LaneStats, RingStats};
#[cfg(test)]
pub(crate) use tests::allocations_of_this_thread;
pub use twin::Twin;
pub use window::{LaneWindow, Share, Window};

/// A bounded ring of records, in memory that survives the death of its owner.
#[derive(Debug)]
pub struct FlightRing {
    arena: Arena,
    lanes: [LaneRing; LANES],
    max_age_ns: Option<u64>,
}

impl FlightRing {
    /// Creates an empty ring in a new file at `path`, or in a file without a name.
    ///
    /// All of its memory, `RingConfig::lane_bytes` rounded up to segments, is allocated and present afterwards. A file that
    /// was at `path` is replaced.
    ///
    /// # Errors
    ///
    /// [`RingError::SegmentBytes`] and [`RingError::TooManySegments`] if `config` cannot be; else what the system refused.
    pub fn create(path: Option<&Path>, config: &RingConfig) -> Result<Self, RingError> {
        let lanes = config.lanes()?;
        let boot_id = boot_id().map_err(RingError::BootId)?;
        let file = file::create(path, &ArenaHeader::new(config, boot_id, lanes))?;
        let segments: u32 = lanes.iter().map(|(_, segments)| segments).sum();
        let memory = Memory::map(&file).map_err(|source| RingError::File {
            action: "map",
            path: path.unwrap_or(Path::new("memfd")).to_owned(),
            source,
        })?;
        let arena = Arena::new(memory, segments as usize, config.segment_bytes as usize);
        let lanes = Lane::ALL.map(|lane| {
            let (first, segments) = lanes[lane as usize];
            LaneRing::new(lane, first as usize..(first + segments) as usize)
        });
        Ok(Self {
            arena,
            lanes,
            max_age_ns: config.max_age_ns,
        })
    }

    /// Appends a record to a lane, and evicts the lane's oldest segment if there is no room.
    ///
    /// # Errors
    ///
    /// The record is counted as dropped if it is [malformed](PushError::Malformed), [too large](PushError::TooLarge), or if
    /// [no segment](PushError::Pinned) can take it, which the share that windows may hold rules out.
    pub fn push(&mut self, lane: Lane, record: &[u8]) -> Result<(), PushError> {
        self.lanes[lane as usize].push(&mut self.arena, record)
    }

    /// Counts records that were meant for a lane and never came: as if they had been pushed and refused.
    pub fn refuse(&mut self, lane: Lane, records: u64) {
        self.lanes[lane as usize].refuse(&mut self.arena, records);
    }

    /// Evicts the segments of which every record is older than [`RingConfig::max_age_ns`], unless a window holds them.
    pub fn expire(&mut self, now_boot_ns: u64) {
        let Some(max_age_ns) = self.max_age_ns else {
            return;
        };
        for lane in &mut self.lanes {
            lane.expire(&mut self.arena, now_boot_ns.saturating_sub(max_age_ns));
        }
    }

    /// Holds the records of `since_boot_ns` nanoseconds since boot or later, as far as `share` of each lane goes.
    ///
    /// # Shape
    ///
    /// Whole segments, the newest first. All windows together hold at most [`Share::SevenEighths`] of a lane; segments that
    /// several windows hold count once. What a budget kept out is told by [`Window::lane`].
    pub fn freeze(&self, since_boot_ns: u64, share: Share) -> Window {
        let freeze = |lane: &LaneRing| lane.freeze(&self.arena, since_boot_ns, share);
        Window {
            lanes: self.lanes.each_ref().map(freeze),
        }
    }

    /// Returns what every lane has taken, kept and given up.
    pub fn stats(&self) -> RingStats {
        RingStats {
            lanes: self.lanes.each_ref().map(|lane| lane.stats(&self.arena)),
        }
    }
}

/// Returns the id of this boot of the kernel.
///
/// # Errors
///
/// Without `/proc`.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    match Uuid::try_parse(text.trim()) {
        Ok(id) => Ok(id.into_bytes()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
