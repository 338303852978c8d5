//! How a segment is read that its owner may be writing, by whoever has its file: the thread that keeps the twin, other
//! processes, and the next agent.
//!
//! Nothing is waited for and nothing is locked. What was read is looked at again: had the segment been used anew meanwhile, its
//! generation would be another one. The fences pair with the orderings of `arena.rs`; between two of them, no order is
//! assumed in which words and bytes are read.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    layout::{ArenaHeader, SEGMENT_HEADER_BYTES, SegmentHeader},
    sync::{Acquire, fence},
};

/// What an arena is read from.
pub(super) trait Source {
    /// Reads exactly as many bytes as there is room for. A word that is aligned is read as a whole.
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }
}

/// Reads the header of an arena: behind its segments, so that whatever was evicted meanwhile is known of.
pub(super) fn read_header(source: &impl Source) -> io::Result<ArenaHeader> {
    // Pairs with the release in `Arena::clear`, by way of what was found in a segment: whoever missed records there finds
    // here that they were evicted.
    fence(Acquire);
    let mut header = ArenaHeader::new_zeroed();
    source.read(header.as_mut_bytes(), 0)?;
    Ok(header)
}

/// Reads the header of the segment that begins `at` this byte.
pub(super) fn read_segment_header(source: &impl Source, at: u64) -> io::Result<SegmentHeader> {
    let mut header = SegmentHeader::new_zeroed();
    source.read(header.as_mut_bytes(), at)?;
    Ok(header)
}

/// Looks at the segment that begins `at` this byte: what it says to hold, it holds now, or had before it was used anew.
pub(super) fn look(source: &impl Source, at: u64) -> io::Result<SegmentHeader> {
    let first = read_segment_header(source, at)?;
    // Pairs with the release of the generation in `Arena::open`: what is committed is read behind it, so that it is not the
    // length of an earlier use.
    fence(Acquire);
    let second = read_segment_header(source, at)?;
    // Pairs with the release in `Arena::append`: the bytes below the length are there.
    fence(Acquire);
    Ok(SegmentHeader {
        generation: first.generation,
        ..second
    })
}

/// Copies records of the segment that begins `at` this byte, from byte `from` of them on; returns whether they are those that
/// `seen`, by [`look`], was about.
pub(super) fn copy(
    source: &impl Source,
    at: u64,
    seen: &SegmentHeader,
    from: usize,
    records: &mut [u8],
) -> io::Result<bool> {
    source.read(records, at + (SEGMENT_HEADER_BYTES + from) as u64)?;
    // Pairs with the fence in `Arena::open`: whoever has copied bytes of a later use finds its generation.
    fence(Acquire);
    let now = read_segment_header(source, at)?;
    Ok(now.generation == seen.generation)
}

/// Returns the time up to which records of a lane may be missing, in nanoseconds since boot, by the generations of the segments
/// that were found, in ascending order, and the time of the oldest record of each. `None` if they are all that ever were.
///
/// What was evicted the header tells of. But a segment that was evicted and used anew since it was looked at is not found, while
/// one that was used after it may be.
pub(super) fn gaps_until(found: impl IntoIterator<Item = (u64, u64)>) -> Option<u64> {
    let mut next = 1;
    let mut until = None;
    for (generation, oldest_boot_ns) in found {
        if generation != next {
            until = until.max(Some(oldest_boot_ns));
        }
        next = generation.wrapping_add(1);
    }
    until
}
