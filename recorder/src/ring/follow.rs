//! How a copy of a segment follows it: what it has, and what is new.

use std::io;

use crc32fast::Hasher;

use super::{
    layout::{SegmentHeader, segment_checksum, vouch},
    look::{Source, copy, look},
};

/// What the copy of a segment holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Copied {
    generation: u64,
    committed: usize,
    /// Of the bytes of its records.
    hasher: Hasher,
    /// The committed length and the checksum when the last flush came to its end.
    flushed: (u32, u32),
    /// The same now.
    current: (u32, u32),
}

impl Copied {
    /// Reads into `buffer` what is new in the segment that begins `at` this byte of `ring` and has room for `capacity` bytes of
    /// records. Returns the header that the copy has with it, and behind how many bytes of records it belongs; `None` if there
    /// is nothing new.
    pub(super) fn follow(
        &mut self,
        ring: &impl Source,
        at: u64,
        capacity: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<(SegmentHeader, usize)>> {
        let live = look(ring, at)?;
        let is_same_use = live.generation == self.generation;
        let committed = usize::try_from(live.committed);
        let Some(committed) = committed.ok().filter(|committed| *committed <= capacity) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if is_same_use && committed == self.committed {
            return Ok(None);
        }
        let is_longer = is_same_use && committed > self.committed;
        let from = if is_longer { self.committed } else { 0 };
        buffer.resize(committed - from, 0);
        if !copy(ring, at, &live, from, buffer)? {
            // It was evicted meanwhile. Its next use is copied the next time.
            return Ok(None);
        }
        if !is_longer {
            *self = Self {
                generation: live.generation,
                ..Self::default()
            };
        }
        self.hasher.update(buffer);
        self.committed = committed;
        let checksum = segment_checksum(self.hasher.clone(), &live, committed as u64);
        self.current = (committed as u32, checksum);
        let header = SegmentHeader {
            vouched: vouch(checksum, self.flushed),
            ..live
        };
        Ok(Some((header, from)))
    }

    /// Notes that the disk has what was copied.
    pub(super) fn flushed(&mut self) {
        self.flushed = self.current;
    }
}
