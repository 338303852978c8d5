//! Decompresses chunks, within bounds that no file can move.

use std::io;

use super::damage::Flaw;
use super::source::Source;
use super::walk::Extent;
use super::wire::{CHUNK_HEAD_MAX, Chunk};

/// Longest chunk that is read, in bytes, compressed as well as not. Dumps are written in chunks of a sixteenth of it.
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// What the chunks of a file may come to, all together: this many times its length, and a little more. Dumps come to ten or
/// twenty times theirs.
const EXPANSION_MAX: u64 = 200;
/// The little more, in bytes.
const EXPANSION_BYTES: u64 = 64 << 20;

/// Reads one chunk after the other into buffers that it keeps.
#[derive(Default)]
pub struct Chunks {
    body: Vec<u8>,
    records: Vec<u8>,
    zstd: zstd::bulk::Decompressor<'static>,
    /// Bytes that all chunks have come to.
    expanded: u64,
}

/// Why a chunk was not read.
#[derive(Debug)]
pub enum ChunkError {
    /// The file system failed.
    Io(io::Error),
    /// The chunk is broken but ends where it says.
    Broken(Flaw),
    /// The chunk's fields contradict its length: it may end elsewhere.
    Shapeless,
}

impl Chunks {
    /// Returns the records of the chunk that was read last.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// Reads, decompresses and checks a chunk.
    ///
    /// # Errors
    ///
    /// [`ChunkError`] says whether the walk may go on behind it; the records are then gone.
    pub fn read(&mut self, source: &Source, extent: &Extent) -> Result<(), ChunkError> {
        self.records.clear();
        // Its fields first: a length that they contradict is not worth the reading.
        self.read_body(source, extent, extent.len.min(CHUNK_HEAD_MAX))?;
        let stated = Chunk::stated(&self.body, extent.len).ok_or(ChunkError::Shapeless)?;
        let room = bounded(stated)?;
        let expanded_max = source.len().saturating_mul(EXPANSION_MAX) + EXPANSION_BYTES;
        if self.expanded + stated > expanded_max {
            return Err(ChunkError::Broken(Flaw::Expansion));
        }
        self.expanded += stated;
        self.read_body(source, extent, extent.len)?;
        let chunk = Chunk::parse(&self.body).ok_or(ChunkError::Shapeless)?;
        self.records.reserve_exact(room);
        match chunk.compression {
            "" => self.records.extend_from_slice(chunk.records),
            "zstd" => {
                self.zstd
                    .decompress_to_buffer(chunk.records, &mut self.records)
                    .map_err(|_| ChunkError::Broken(Flaw::Decompression))?;
            }
            _ => return Err(ChunkError::Broken(Flaw::Compression)),
        }
        let found = crc32fast::hash(&self.records);
        if found != chunk.crc || self.records.len() as u64 != chunk.uncompressed_bytes {
            self.records.clear();
            return Err(ChunkError::Broken(Flaw::Crc {
                of: "chunk",
                stated: chunk.crc,
                found,
            }));
        }
        Ok(())
    }

    fn read_body(&mut self, source: &Source, extent: &Extent, len: u64) -> Result<(), ChunkError> {
        let len = bounded(len)?;
        source
            .read_into(&mut self.body, extent.body(), len)
            .map_err(ChunkError::Io)
    }
}

fn bounded(bytes: u64) -> Result<usize, ChunkError> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= CHUNK_BYTES_MAX)
        .ok_or(ChunkError::Broken(Flaw::TooLong(bytes)))
}
