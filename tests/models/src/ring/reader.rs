//! Who has the file of a ring and not its memory: `recover`, and the keeper of a twin.

use super::follow::Copied;
use super::layout::{HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::look::{copy, gaps_until, look, read_header};
use super::memory::File;
use super::ring::{Shape, numbers};

/// Segments that were found, by ascending generation: the generation, and the numbers of the records.
type Found = Vec<(u64, Vec<u64>)>;

/// Reads a ring as `OldArena::read` does.
pub struct Reader {
    file: File,
    shape: Shape,
}

/// What a reader has found.
pub struct Finding {
    /// The numbers of the records.
    pub numbers: Vec<u64>,
    /// Later records than this one are all there, up to the newest.
    pub complete_after: u64,
}

impl Reader {
    pub fn new(file: File, shape: Shape) -> Self {
        Self { file, shape }
    }

    pub fn read(&self) -> Finding {
        let mut found = Found::new();
        for segment in 0..self.shape.segments {
            let at = at(segment, self.shape);
            let header = look(&self.file, at).expect("memory");
            if header.committed == 0 {
                continue;
            }
            let mut bytes = vec![0; header.committed as usize];
            if copy(&self.file, at, &header, 0, &mut bytes).expect("memory") {
                found.push((header.generation, numbers(&bytes, self.shape)));
            }
        }
        finish(&self.file, found)
    }
}

/// Copies a ring as `Twin::flush` does.
pub struct Copier {
    file: File,
    shape: Shape,
    segments: Vec<(Copied, SegmentHeader, Vec<u8>)>,
}

impl Copier {
    pub fn new(file: File, shape: Shape) -> Self {
        let segments = (0..shape.segments).map(|_| {
            let header = zerocopy::FromZeros::new_zeroed();
            (Copied::default(), header, Vec::new())
        });
        Self {
            segments: segments.collect(),
            file,
            shape,
        }
    }

    /// Copies what is new, and returns what the copy holds then.
    pub fn flush(&mut self) -> Finding {
        let capacity = self.shape.segment_bytes() - SEGMENT_HEADER_BYTES;
        let mut buffer = Vec::new();
        for (segment, (copied, header, held)) in self.segments.iter_mut().enumerate() {
            let at = at(segment, self.shape);
            let new = copied.follow(&self.file, at, capacity, &mut buffer);
            if let Some((new, from)) = new.expect("lengths are possible") {
                *header = new;
                held.truncate(from);
                held.extend(&buffer);
                assert_eq!(held.len() as u64, header.committed);
            }
            copied.flushed();
        }
        let held = self.segments.iter().filter(|(.., held)| !held.is_empty());
        let found = held.map(|(_, header, held)| (header.generation, numbers(held, self.shape)));
        finish(&self.file, found.collect())
    }
}

fn at(segment: usize, shape: Shape) -> u64 {
    (HEADER_BYTES + segment * shape.segment_bytes()) as u64
}

/// Reads the header behind the segments, and puts them in order.
fn finish(file: &File, mut found: Found) -> Finding {
    let header = read_header(file).expect("memory");
    found.sort();
    let entry = &header.lanes[0];
    let evicted = (entry.evicted_records > 0).then_some(entry.evicted_until_boot_ns);
    let oldest = |(generation, numbers): &(u64, Vec<u64>)| (*generation, numbers[0]);
    let gaps = gaps_until(found.iter().map(oldest));
    Finding {
        complete_after: evicted.max(gaps).unwrap_or(0),
        numbers: found.into_iter().flat_map(|(_, numbers)| numbers).collect(),
    }
}
