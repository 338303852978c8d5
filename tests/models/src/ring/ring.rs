//! A ring of one lane, and what is put into it.

use recorder_ebpf::abi::{Header, Lane};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::arena::Arena;
use super::lane::LaneRing;
use super::layout::{Records, SEGMENT_HEADER_BYTES, boot_ns};
use super::memory::{File, LINE_BYTES, Memory, Order};
use super::window::{FrozenLane, Share};

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub segments: usize,
    pub records_per_segment: usize,
    pub lines_per_record: usize,
}

impl Shape {
    pub fn segment_bytes(&self) -> usize {
        SEGMENT_HEADER_BYTES + self.records_per_segment * self.lines_per_record * LINE_BYTES
    }
}

/// A lane and its arena.
pub struct Ring {
    shape: Shape,
    memory: Memory,
    arena: Arena,
    lane: LaneRing,
}

/// A window of the one lane.
pub struct Pinned(FrozenLane);

impl Ring {
    pub fn new(shape: Shape) -> Self {
        let memory = Memory::new(shape.segments, shape.segment_bytes());
        Self {
            shape,
            arena: Arena::new(memory.clone(), shape.segments, shape.segment_bytes()),
            lane: LaneRing::new(Lane::ALL[0], 0..shape.segments),
            memory,
        }
    }

    /// Records the number; there is room for it, or can be made.
    pub fn push(&mut self, number: u64) {
        let record = record(number, self.shape);
        let pushed = self.lane.push(&mut self.arena, &record);
        assert_eq!(pushed, Ok(()));
    }

    /// Evicts what is older than the number.
    pub fn expire(&mut self, number: u64) {
        self.lane.expire(&mut self.arena, number);
    }

    /// Holds those of the number or newer, as far as the lane's share goes.
    pub fn freeze(&self, number: u64) -> Pinned {
        let frozen = self.lane.freeze(&self.arena, number, Share::SevenEighths);
        Pinned(frozen)
    }

    /// Returns its file, as another process has it.
    pub fn file(&self, order: Order) -> File {
        File::new(self.memory.clone(), order)
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }
}

impl Pinned {
    /// Returns the numbers of the records that it holds.
    pub fn numbers(&self, shape: Shape) -> Vec<u64> {
        let records = self.0.pins.iter();
        records
            .flat_map(|pin| numbers(pin.bytes(), shape))
            .collect()
    }
}

/// Returns the record of a number: every byte of it is known.
pub fn record(number: u64, shape: Shape) -> Vec<u8> {
    let mut bytes = vec![number as u8; shape.lines_per_record * LINE_BYTES];
    let mut header = Header::new_zeroed();
    header.boot_ns = number;
    header.len = bytes.len() as u32;
    bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    bytes
}

/// Returns the numbers of records, each of which must be as it was recorded.
pub fn numbers(bytes: &[u8], shape: Shape) -> Vec<u64> {
    assert_eq!(Records::new(bytes).whole_bytes(), bytes.len(), "torn");
    let mut numbers = Vec::new();
    for found in Records::new(bytes) {
        let number = boot_ns(found).expect("it is whole");
        assert!(found == record(number, shape), "{number} is torn");
        numbers.push(number);
    }
    numbers
}
