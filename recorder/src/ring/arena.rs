//! The shared mapping, and all of the unsafe code that touches it.
//!
//! One [`Arena`] writes; any number of [`Pin`]s read, from any thread. What keeps them apart, in terms of one segment:
//!
//! - The header page and the segment headers are only ever accessed as atomic words.
//! - [`Arena::append`] writes at or above the segment's committed length, and then raises it.
//! - [`Arena::clear`] alone lowers that length, and refuses while the segment has a pin.
//! - A [`Pin`] reads below the committed length that it found when it was made. `append` and `clear` take `&mut Arena` and
//!   `pin` takes `&Arena`, so a pin is made wholly before or wholly after each of them.
//!
//! So the bytes below a pin's length are not written while it lives, and are written before it is made.
//!
//! Lengths that bound an access are process memory, never read back from the mapping: whoever scribbles over the shared
//! file cannot make the agent leave its bounds. Other processes are trusted not to write to it (mode 0600) or truncate it.

use std::{
    fs::File,
    io,
    mem::offset_of,
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, munmap},
};

use super::layout::{HEADER_BYTES, RECORD_ALIGN, SEGMENT_HEADER_BYTES, SegmentHeader};

/// Most pins of one segment: far above what windows exist, far below what the counter holds.
const PINS_MAX: u32 = u32::MAX / 2;

/// The writer's side of the mapping.
#[derive(Debug)]
pub(super) struct Arena {
    map: Arc<Map>,
    /// Bytes committed in each segment; the segment's own word is a copy for crash readers.
    committed: Box<[usize]>,
}

/// The mapping itself, unmapped when its last user is gone.
#[derive(Debug)]
struct Map {
    base: NonNull<u8>,
    len: usize,
    segment_bytes: usize,
    /// For each segment, how many [`Pin`]s there are.
    pins: Box<[AtomicU32]>,
}

// SAFETY: `base` is the only field that is not `Send` of itself. It points at a mapping that belongs to the process, not
// to a thread, and that lives until the drop of `Map`.
unsafe impl Send for Map {}
// SAFETY: `&Map` gives access to the mapping through `word`, which is atomic, and through private raw pointers, whose only
// two users are `Arena::append` and `Pin::bytes`; the module's documentation shows that these never meet.
unsafe impl Sync for Map {}

impl Map {
    /// Makes every page present and writable, so that recording takes no page faults later.
    fn populate(&self) -> io::Result<()> {
        let base = self.base.as_ptr().cast();
        // SAFETY: the range is the whole mapping; the advice changes which of its pages are present, not what they hold.
        match unsafe { madvise(base, self.len, Advice::LinuxPopulateWrite) } {
            Ok(()) => Ok(()),
            // Linux before 5.14 does not know it: there a store of what is there anyway does the same, page by page. Nobody
            // else has the mapping yet.
            Err(Errno::INVAL) => {
                for offset in (0..self.len).step_by(HEADER_BYTES) {
                    self.word(offset).fetch_or(0, Relaxed);
                }
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Keeps the pages from being swapped out, so that recording never waits for a disk. Best effort: whoever may not lock so
    /// much memory records nevertheless.
    fn lock(&self) {
        // SAFETY: the range is the whole mapping; where its pages are changes nothing about what they hold.
        let _ = unsafe { mlock(self.base.as_ptr().cast(), self.len) };
    }

    /// Returns the word at `offset` of the header page or, by way of `segment_word`, of a segment's header.
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(align_of::<AtomicU64>()));
        assert!(offset + size_of::<AtomicU64>() <= self.len);
        // SAFETY: the assertion above keeps the sum within the mapping of `self.len` bytes.
        let word = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: the word lies within the mapping, which outlives `self`; `base` is page-aligned and `offset` a multiple of
        // eight; and the callers pass offsets of headers only, which nothing accesses but as such words.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Returns the word at `offset` of the segment's header.
    fn segment_word(&self, segment: usize, offset: usize) -> &AtomicU64 {
        assert!(offset < SEGMENT_HEADER_BYTES);
        self.word(self.segment_offset(segment) + offset)
    }

    /// Returns where the segment begins.
    fn segment_offset(&self, segment: usize) -> usize {
        assert!(segment < self.pins.len());
        HEADER_BYTES + segment * self.segment_bytes
    }

    /// Returns where the segment's records begin: `segment_bytes - SEGMENT_HEADER_BYTES` bytes of the mapping.
    fn records(&self, segment: usize) -> *mut u8 {
        let offset = self.segment_offset(segment) + SEGMENT_HEADER_BYTES;
        // SAFETY: the segment exists, `segment_offset` asserts it, and `Arena::new` made the mapping long enough for all.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what `mmap` returned and was given, and this is the last use: every `Arena` and `Pin`
        // holds an `Arc` of this, and the references they hand out borrow from them.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

impl Arena {
    /// Maps `file`, which holds the header page and `segments` segments of `segment_bytes` bytes.
    ///
    /// # Panics
    ///
    /// If `segment_bytes` is not a multiple of the segment header.
    pub(super) fn new(file: &File, segments: usize, segment_bytes: usize) -> io::Result<Self> {
        assert!(segment_bytes > SEGMENT_HEADER_BYTES);
        assert!(segment_bytes.is_multiple_of(SEGMENT_HEADER_BYTES));
        let len = segments
            .checked_mul(segment_bytes)
            .and_then(|bytes| bytes.checked_add(HEADER_BYTES))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        if file.metadata()?.len() != len as u64 {
            // Touching a page beyond the end of the file would be SIGBUS.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with a null hint and without `FIXED` the kernel picks addresses that nothing uses.
        let base = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        let map = Map {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
            segment_bytes,
            pins: (0..segments).map(|_| AtomicU32::new(0)).collect(),
        };
        map.populate()?;
        map.lock();
        Ok(Self {
            map: Arc::new(map),
            committed: vec![0; segments].into(),
        })
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
        self.map.word(offset).store(value, Relaxed);
    }

    /// Starts to use an empty segment.
    ///
    /// # Panics
    ///
    /// If it is not empty.
    pub(super) fn open(&mut self, segment: usize, generation: u64) {
        assert_eq!(self.committed[segment], 0, "a segment in use is not opened");
        self.segment_word(segment, offset_of!(SegmentHeader, generation))
            .store(generation, Relaxed);
        // Pairs with an acquire fence of a reader in another process, between copying records and looking again at
        // `generation` and `committed`. The stores here and in `clear` come before those of any record that follows, so a
        // reader that copied newer bytes than it asked for finds that the segment has changed.
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
        // SAFETY: `used` is below the capacity, which is how many bytes there are at `records`.
        let target = unsafe { self.map.records(segment).add(used) };
        // SAFETY: `target` has room for the record, by the assertion. Nothing else accesses these bytes: other writers need
        // the `&mut self` that is held here, and pins read below a committed length that was at most `used` (it only grows
        // while they live). So `record` does not overlap them either, even if it is itself a pin's.
        unsafe { ptr::copy_nonoverlapping(record.as_ptr(), target, record.len()) };
        self.committed[segment] = end;
        // Release: whoever sees this length, a reader in another process or one after the death of this one, sees the bytes
        // below it. Pairs with that reader's acquire load.
        self.segment_word(segment, offset_of!(SegmentHeader, committed))
            .store(end as u64, Release);
    }

    /// Empties a segment, unless it is pinned; returns whether it is empty.
    pub(super) fn clear(&mut self, segment: usize) -> bool {
        // Acquire: pairs with the release in the drop of `Pin`, so that its last read comes before any write that follows.
        // No new pin can come into being: that takes `&Arena`.
        if self.map.pins[segment].load(Acquire) != 0 {
            return false;
        }
        self.committed[segment] = 0;
        // Ordered before the next record's bytes by the fence in `open`.
        self.segment_word(segment, offset_of!(SegmentHeader, committed))
            .store(0, Relaxed);
        true
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
        let start = self.map.records(self.segment);
        // SAFETY: `len` was the segment's committed length when this was made: that many bytes from `start` are inside the
        // mapping, were written by `append` (or are padding: what the file had there), and happened before this by way of
        // the `&Arena` that made it. None of them is written while it lives: `append` writes above the committed length, and
        // `clear`, which alone lowers it, refuses because of this pin's count. The mapping lives as long as `map`.
        unsafe { slice::from_raw_parts(start, self.len) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Release: the reads made through this pin come before the reuse of the segment. Pairs with the acquire in `clear`.
        self.map.pins[self.segment].fetch_sub(1, Release);
    }
}
