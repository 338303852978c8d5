//! Memory of which loom knows who writes and who reads: for the threads of one process whether they may, for other processes
//! what they can find.
//!
//! The bytes of records are kept by lines. Threads that share the process access the bytes themselves, and loom demands that
//! nobody writes a line which another thread reads. Other processes read without asking: of each line they get what it holds or
//! held, as an atomic word says that is the number of one of its states. So a record of two lines can be torn.

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::{self, Ordering::Relaxed};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::layout::{ArenaHeader, HEADER_BYTES, LaneEntry, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::look::Source;
use super::sync::AtomicU64;

/// Bytes of a line.
pub const LINE_BYTES: usize = 96;

/// The memory of an arena with one lane.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    words: BTreeMap<usize, AtomicU64>,
    lines: BTreeMap<usize, Line>,
    bytes: UnsafeCell<Vec<u8>>,
}

// SAFETY: loom runs one thread at a time, and `bytes` is only accessed behind what it checks of each line.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

#[derive(Debug)]
struct Line {
    /// Who accesses it in this process.
    access: loom::cell::UnsafeCell<()>,
    /// Which of `states` it has.
    state: atomic::AtomicU64,
    states: Mutex<Vec<Vec<u8>>>,
}

impl Memory {
    pub fn new(segments: usize, segment_bytes: usize) -> Self {
        let mut bytes = vec![0; HEADER_BYTES + segments * segment_bytes];
        let mut words = BTreeMap::new();
        let mut lines = BTreeMap::new();
        let mut header = ArenaHeader::new_zeroed();
        header.lanes[0].segments = segments as u32;
        bytes[..size_of::<ArenaHeader>()].copy_from_slice(header.as_bytes());
        let lanes = offset_of!(ArenaHeader, lanes);
        for offset in (lanes + 8..lanes + size_of::<LaneEntry>()).step_by(8) {
            let is_read = [
                offset_of!(LaneEntry, evicted_until_boot_ns),
                offset_of!(LaneEntry, evicted_records),
            ]
            .contains(&(offset - lanes));
            words.insert(offset, word(is_read));
        }
        for segment in 0..segments {
            let at = HEADER_BYTES + segment * segment_bytes;
            let mut header = SegmentHeader::new_zeroed();
            header.index = segment as u32;
            bytes[at..at + SEGMENT_HEADER_BYTES].copy_from_slice(header.as_bytes());
            for offset in (0..offset_of!(SegmentHeader, lane)).step_by(8) {
                let is_read = [
                    offset_of!(SegmentHeader, generation),
                    offset_of!(SegmentHeader, committed),
                ]
                .contains(&offset);
                words.insert(at + offset, word(is_read));
            }
            for line in (SEGMENT_HEADER_BYTES..segment_bytes).step_by(LINE_BYTES) {
                lines.insert(at + line, Line::new());
            }
        }
        Self(Arc::new(Shared {
            words,
            lines,
            bytes: UnsafeCell::new(bytes),
        }))
    }

    pub fn len(&self) -> usize {
        // SAFETY: the vector itself is never changed.
        unsafe { &*self.0.bytes.get() }.len()
    }

    pub fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0.words[&offset]
    }

    /// # Safety
    ///
    /// Loom finds out.
    pub unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for (at, line) in self.0.lines.range(offset..end) {
            let part = &bytes[at - offset..(at - offset + LINE_BYTES).min(bytes.len())];
            line.access.with_mut(|_| {
                // SAFETY: nobody else accesses the line, else loom had ended this.
                let all = unsafe { &mut *self.0.bytes.get() };
                all[*at..*at + part.len()].copy_from_slice(part);
            });
            let mut states = line.states.lock().expect("nobody panics with the lock");
            states.push(part.to_vec());
            let state = states.len() as u64 - 1;
            drop(states);
            line.state.store(state, Relaxed);
        }
    }

    /// # Safety
    ///
    /// Loom finds out.
    pub unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        for line in self.0.lines.range(offset..offset + len) {
            line.1.access.with(|_| {});
        }
        // SAFETY: nobody writes the lines meanwhile, else loom ends this.
        let all = unsafe { &*self.0.bytes.get() };
        &all[offset..offset + len]
    }
}

fn word(is_read: bool) -> AtomicU64 {
    match is_read {
        true => AtomicU64::Modelled(atomic::AtomicU64::new(0)),
        false => AtomicU64::Ignored,
    }
}

impl Line {
    fn new() -> Self {
        Self {
            access: loom::cell::UnsafeCell::new(()),
            state: atomic::AtomicU64::new(0),
            states: Mutex::new(vec![vec![0; LINE_BYTES]]),
        }
    }
}

/// In which order another process reads what it reads at once: nothing says, so both are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// The file of the memory, as another process has it.
#[derive(Clone, Debug)]
pub struct File {
    memory: Memory,
    order: Order,
}

impl File {
    pub fn new(memory: Memory, order: Order) -> Self {
        Self { memory, order }
    }
}

impl Source for File {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        let shared = &self.memory.0;
        let range = at..at + bytes.len();
        // What never changes.
        // SAFETY: loom runs one thread at a time; what others write now is written over below.
        let all = unsafe { &*shared.bytes.get() };
        bytes.copy_from_slice(&all[range.clone()]);
        let mut take = |offset: usize, found: &[u8]| {
            let len = found.len().min(range.end - offset);
            bytes[offset - at..offset - at + len].copy_from_slice(&found[..len]);
        };
        let mut words: Vec<_> = shared.words.range(range.clone()).collect();
        let mut lines: Vec<_> = shared.lines.range(range.clone()).collect();
        if self.order == Order::Descending {
            words.reverse();
            lines.reverse();
        }
        for (offset, word) in words {
            take(*offset, &word.load(Relaxed).to_ne_bytes());
        }
        for (offset, line) in lines {
            let state = line.state.load(Relaxed) as usize;
            let states = line.states.lock().expect("nobody panics with the lock");
            take(*offset, &states[state]);
        }
        Ok(())
    }
}
