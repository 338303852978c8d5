//! How large a ring is, and how it fails.

use std::{io, path::PathBuf};

use recorder_ebpf::abi::Lane;
use thiserror::Error;

use super::layout::{LANES, RECORD_BYTES_MIN, SEGMENT_HEADER_BYTES};
use crate::event::ClockPair;

/// Default bytes of a segment.
pub const SEGMENT_BYTES_DEFAULT: u32 = 256 << 10;
/// Fewest bytes of a segment.
pub const SEGMENT_BYTES_MIN: u32 = 256;
/// Most bytes of a segment.
pub const SEGMENT_BYTES_MAX: u32 = 64 << 20;
/// Fewest segments of a lane: with less, half of a lane would be one segment, and evicting one a quarter or more.
pub const LANE_SEGMENTS_MIN: u32 = 4;
/// Most segments of all lanes together: what a freeze walks.
pub const SEGMENTS_MAX: u32 = 1 << 16;

const _: () = {
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT);
    assert!(SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
    assert!(SEGMENT_BYTES_MIN as usize >= SEGMENT_HEADER_BYTES + RECORD_BYTES_MIN);
    assert!(LANE_SEGMENTS_MIN as usize * LANES <= SEGMENTS_MAX as usize);
};

/// Size and age bounds of a [`FlightRing`](super::FlightRing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Bytes of each lane, by its number; rounded up to whole segments, and to no less than [`LANE_SEGMENTS_MIN`] of them.
    pub lane_bytes: [u64; LANES],
    /// Bytes of a segment, its header of 64 included: a multiple of 64 in [[`SEGMENT_BYTES_MIN`], [`SEGMENT_BYTES_MAX`]].
    pub segment_bytes: u32,
    /// Age at which records are evicted though there is room for them.
    pub max_age_ns: Option<u64>,
    /// When the ring is made: by it, whoever finds the ring after the next boot knows when its records were.
    pub made: Option<ClockPair>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            lane_bytes: [8 << 20, 48 << 20, 8 << 20],
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            max_age_ns: None,
            made: None,
        }
    }
}

impl RingConfig {
    /// Returns the first segment and the number of segments of each lane.
    pub(super) fn lanes(&self) -> Result<[(u32, u32); LANES], RingError> {
        let size = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&size) || !size.is_multiple_of(64) {
            return Err(RingError::SegmentBytes(size));
        }
        let mut lanes = [(0, 0); LANES];
        let mut first = 0_u64;
        for (lane, bytes) in lanes.iter_mut().zip(self.lane_bytes) {
            let segments = bytes
                .div_ceil(u64::from(size))
                .max(u64::from(LANE_SEGMENTS_MIN));
            let end = first.saturating_add(segments);
            if end > u64::from(SEGMENTS_MAX) {
                return Err(RingError::TooManySegments(end));
            }
            // Both are at most SEGMENTS_MAX.
            *lane = (first as u32, segments as u32);
            first = end;
        }
        Ok(lanes)
    }
}

/// Why a ring could not be created.
#[derive(Debug, Error)]
pub enum RingError {
    /// The configuration asks for segments of an impossible size.
    #[error(
        "segment of {0} bytes: must be a multiple of 64 between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes(u32),
    /// The configuration asks for more segments than a freeze may walk.
    #[error("{0} segments in all lanes: at most {SEGMENTS_MAX}; make the segments larger")]
    TooManySegments(u64),
    /// The boot could not be identified.
    #[error("read the boot id from /proc/sys/kernel/random/boot_id")]
    BootId(#[source] io::Error),
    /// The arena's file could not be made.
    #[error("{action} the arena {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file; "memfd" if it has no name.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// Why a record did not enter the ring. Each is counted as dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// It is no record: shorter than a header, or its header says another length.
    #[error("record of {0} bytes: shorter than a header, or its header says another length")]
    Malformed(usize),
    /// No segment is large enough for it.
    #[error("record of {len} bytes: a segment holds {max}")]
    TooLarge {
        /// Length of the record.
        len: usize,
        /// Most bytes a record may have.
        max: usize,
    },
    /// Windows hold every segment of the lane.
    #[error("every segment of the {} lane is held by a window", .0.name())]
    Pinned(Lane),
}
