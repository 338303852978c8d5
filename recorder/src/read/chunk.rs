//! Decompresses chunks, within bounds that no file can move.

use std::io;

use super::damage::Flaw;
use super::source::Source;
use super::walk::Extent;
use super::wire::Chunk;

/// Longest chunk that is read, in bytes, compressed as well as not. Dumps are written in chunks of a hundredth of it.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;

/// Reads one chunk after the other into buffers that it keeps.
#[derive(Default)]
pub struct Chunks {
    body: Vec<u8>,
    records: Vec<u8>,
    zstd: zstd::bulk::Decompressor<'static>,
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
        let len = bounded(extent.len)?;
        source
            .read_into(&mut self.body, extent.body(), len)
            .map_err(ChunkError::Io)?;
        let chunk = Chunk::parse(&self.body).ok_or(ChunkError::Shapeless)?;
        self.records
            .reserve_exact(bounded(chunk.uncompressed_bytes)?);
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
}

fn bounded(bytes: u64) -> Result<usize, ChunkError> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= CHUNK_BYTES_MAX)
        .ok_or(ChunkError::Broken(Flaw::TooLong(bytes)))
}
