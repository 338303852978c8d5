//! The arena: who may write what to the shared mapping, and when, so that readers find it whole.
//!
//! One [`Arena`] writes; any number of [`Pin`]s read, from any thread. What keeps them apart, in terms of one segment:
//!
//! - The header page and the segment headers are only ever accessed as atomic words.
//! - [`Arena::append`] writes at or above the segment's committed length, and then raises it.
//! - [`Arena::clear`] alone lowers that length, and refuses while the segment has a pin.
//! - A [`Pin`] reads below the committed length that it found when it was made. `append` and `clear` take `&mut Arena` and
//!   `pin` takes `&Arena`, so a pin is made wholly before or wholly after each of them.
//!
//! So the bytes below a pin's length are not written while it lives, and are written before it is made. Whoever has the file, and
//! not the memory of this process, reads as `look.rs` does. `tests/models` tries every order of the steps of both.
//!
//! Lengths that bound an access are process memory, never read back from the mapping: whoever scribbles over the shared
//! file cannot make the agent leave its bounds. Other processes are trusted not to write to it (mode 0600) or truncate it.

use std::{mem::offset_of, sync::Arc};

use super::{
    layout::{HEADER_BYTES, RECORD_ALIGN, SEGMENT_HEADER_BYTES, SegmentHeader},
    memory::Memory,
    sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release, fence},
};

/// Most pins of one segment: far above what windows exist, far below what the counter holds.
const PINS_MAX: u32 = u32::MAX / 2;

/// The writer's side of the mapping.
#[derive(Debug)]
pub(super) struct Arena {
    map: Arc<Map>,
    /// Bytes committed in each segment; the segment's own word is a copy for crash readers.
    committed: Box<[usize]>,
}

/// The mapping itself, given back when its last user is gone.
#[derive(Debug)]
struct Map {
    memory: Memory,
    segment_bytes: usize,
    /// For each segment, how many [`Pin`]s there are.
    pins: Box<[AtomicU32]>,
}

impl Map {
    /// Returns the word at `offset` of the segment's header.
    fn segment_word(&self, segment: usize, offset: usize) -> &AtomicU64 {
        assert!(offset < SEGMENT_HEADER_BYTES);
        self.memory.word(self.segment_offset(segment) + offset)
    }

    /// Returns where the segment begins.
    fn segment_offset(&self, segment: usize) -> usize {
        assert!(segment < self.pins.len());
        HEADER_BYTES + segment * self.segment_bytes
    }

    /// Returns where the segment's records begin: `segment_bytes - SEGMENT_HEADER_BYTES` bytes of the mapping.
    fn records(&self, segment: usize) -> usize {
        self.segment_offset(segment) + SEGMENT_HEADER_BYTES
    }
}

impl Arena {
    /// Returns the arena in memory that holds the header page and `segments` empty segments of `segment_bytes` bytes.
    ///
    /// # Panics
    ///
    /// If `memory` is not as long as that, or `segment_bytes` is not a multiple of the segment header.
    pub(super) fn new(memory: Memory, segments: usize, segment_bytes: usize) -> Self {
        assert!(segment_bytes > SEGMENT_HEADER_BYTES);
        assert!(segment_bytes.is_multiple_of(SEGMENT_HEADER_BYTES));
        let records = segments.checked_mul(segment_bytes);
        let len = records.and_then(|bytes| bytes.checked_add(HEADER_BYTES));
        assert_eq!(len, Some(memory.len()));
        let map = Map {
            memory,
            segment_bytes,
            pins: (0..segments).map(|_| AtomicU32::new(0)).collect(),
        };
        Self {
            map: Arc::new(map),
            committed: vec![0; segments].into(),
        }
    }

    /// Returns how many bytes of records a segment holds.
    pub(super) fn capacity(&self) -> usize {
        self.map.segment_bytes - SEGMENT_HEADER_BYTES
    }

    /// Returns how many bytes of records the segment holds now.
    pub(super) fn committed(&self, segment: usize) -> usize {
        self.committed[segment]
    }

    /// Returns how many pins the segment has. It may shrink at any time, and grows by [`Arena::pin`] only.
    pub(super) fn pins(&self, segment: usize) -> u32 {
        self.map.pins[segment].load(Relaxed)
    }

    /// Stores a word of the header page.
    pub(super) fn set_header(&mut self, offset: usize, value: u64) {
        assert!(offset < HEADER_BYTES);
        self.map.memory.word(offset).store(value, Relaxed);
    }

    /// Starts to use an empty segment.
    ///
    /// # Panics
    ///
    /// If it is not empty.
    pub(super) fn open(&mut self, segment: usize, generation: u64) {
        assert_eq!(self.committed[segment], 0, "a segment in use is not opened");
        // Release: whoever sees this use sees that the one before it is no more, and takes no length of that for one of this.
        // Pairs with the fence between the two looks of a reader.
        self.segment_word(segment, offset_of!(SegmentHeader, generation))
            .store(generation, Release);
        // Pairs with the acquire fence of a reader between copying records and looking again at the generation. The store
        // above comes before those of any record that follows, so a reader that copied newer bytes than it asked for finds
        // that the segment has changed.
        fence(Release);
    }

    /// Describes the records that the next [`Arena::append`] commits.
    pub(super) fn describe(&mut self, segment: usize, first: u64, last: u64, records: u64) {
        let words = [
            (offset_of!(SegmentHeader, first_boot_ns), first),
            (offset_of!(SegmentHeader, last_boot_ns), last),
            (offset_of!(SegmentHeader, records), records),
        ];
        for (offset, value) in words {
            self.segment_word(segment, offset).store(value, Relaxed);
        }
    }

    /// Appends a record and commits it.
    ///
    /// # Panics
    ///
    /// If there is no room for it: see [`Arena::capacity`] and [`Arena::committed`].
    pub(super) fn append(&mut self, segment: usize, record: &[u8]) {
        let used = self.committed[segment];
        let end = used + record.len().next_multiple_of(RECORD_ALIGN);
        assert!(end <= self.capacity());
        // SAFETY: the assertion keeps the record within the segment's records, where no words are. Nothing else in this process
        // accesses these bytes: other writers need the `&mut self` that is held here, and pins read below a committed length
        // that was at most `used` (it only grows while they live).
        unsafe {
            self.map
                .memory
                .write(self.map.records(segment) + used, record);
        }
        self.committed[segment] = end;
        // Release: whoever sees this length, a reader in another process or one after the death of this one, sees the bytes
        // below it. Pairs with the fence behind that reader's looks.
        self.segment_word(segment, offset_of!(SegmentHeader, committed))
            .store(end as u64, Release);
    }

    /// Empties a segment. What there is to say of the records that it held, [`Arena::set_header`] said before.
    ///
    /// # Panics
    ///
    /// If it is pinned: see [`Arena::pins`].
    pub(super) fn clear(&mut self, segment: usize) {
        // Acquire: pairs with the release in the drop of `Pin`, so that its last read comes before any write that follows.
        // No new pin can come into being: that takes `&Arena`.
        let pins = self.map.pins[segment].load(Acquire);
        assert_eq!(pins, 0, "what a window holds is not cleared");
        self.committed[segment] = 0;
        // Release: whoever misses the records, in another process or after the death of this one, sees that they are counted
        // as evicted. Pairs with the fence in `read_header`.
        self.segment_word(segment, offset_of!(SegmentHeader, committed))
            .store(0, Release);
    }

    /// Keeps what the segment holds now from being overwritten.
    ///
    /// # Panics
    ///
    /// If there are more than 2³¹ pins of it.
    pub(super) fn pin(&self, segment: usize) -> Pin {
        // Relaxed: `clear` runs on `&mut self`, so whoever calls it has synchronised with the end of this borrow.
        let before = self.map.pins[segment].fetch_add(1, Relaxed);
        let pin = Pin {
            map: Arc::clone(&self.map),
            segment,
            len: self.committed[segment],
        };
        // A counter that wrapped to 0 would free the segment under its readers.
        assert!(before < PINS_MAX, "pins leak");
        pin
    }

    fn segment_word(&self, segment: usize, offset: usize) -> &AtomicU64 {
        self.map.segment_word(segment, offset)
    }
}

/// The records that a segment held at one moment, safe from being overwritten.
#[derive(Debug)]
pub(super) struct Pin {
    map: Arc<Map>,
    segment: usize,
    len: usize,
}

impl Pin {
    /// Returns the committed records.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` was the segment's committed length when this was made: that many bytes were written by `append` (or
        // are padding: what the file had there), and happened before this by way of the `&Arena` that made it. No words are
        // among them. None of them is written while it lives: `append` writes above the committed length, and `clear`, which
        // alone lowers it, refuses because of this pin's count.
        unsafe {
            self.map
                .memory
                .bytes(self.map.records(self.segment), self.len)
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Release: the reads made through this pin come before the reuse of the segment. Pairs with the acquire in `clear`.
        self.map.pins[self.segment].fetch_sub(1, Release);
    }
}
