//! The second thread: compresses chunks and writes them.

use crossbeam_channel::{Receiver, Sender};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

use super::{
    mcap::{self, ChunkIndex},
    sink::{Sink, SinkError},
};

/// How chunks are compressed, chosen by measurement: as fast as level 1 for 5 % less, since what repeats does so within a few
/// hundred bytes and small tables stay in the cache. Higher levels take two to five times as long for 2 % less.
const ZSTD: [CParameter; 7] = [
    CParameter::CompressionLevel(1),
    CParameter::Strategy(Strategy::ZSTD_dfast),
    CParameter::MinMatch(5),
    CParameter::WindowLog(20),
    CParameter::HashLog(15),
    CParameter::ChainLog(14),
    CParameter::TargetLength(0),
];

/// Messages laid out as they are to be compressed.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Schemas and channels that occur for the first time. They stand before the chunk, so that damage to one chunk leaves
    /// the others readable.
    pub(super) preamble: Vec<u8>,
    /// Message records.
    pub(super) records: Vec<u8>,
    pub(super) messages: u64,
    pub(super) start_time: u64,
    pub(super) end_time: u64,
}

impl Chunk {
    /// Makes it empty again, with its memory.
    pub(super) fn clear(&mut self) {
        self.preamble.clear();
        self.records.clear();
        self.messages = 0;
    }
}

/// What has been written.
pub(super) struct Compressed<'a> {
    pub(super) sink: Sink<'a>,
    pub(super) chunks: Vec<ChunkIndex>,
    /// Messages in those chunks.
    pub(super) messages: u64,
    /// Why there are no more.
    pub(super) result: Result<(), SinkError>,
}

/// Writes every chunk that comes until there are no more or one cannot be written; gives back their memory.
pub(super) fn run(sink: Sink<'_>, chunks: Receiver<Chunk>, spent: Sender<Chunk>) -> Compressed<'_> {
    let mut done = Compressed {
        sink,
        chunks: Vec::new(),
        messages: 0,
        result: Ok(()),
    };
    done.result = write_all(&mut done, &chunks, &spent);
    done
}

fn write_all(
    done: &mut Compressed<'_>,
    chunks: &Receiver<Chunk>,
    spent: &Sender<Chunk>,
) -> Result<(), SinkError> {
    let mut compressor = Compressor::default();
    for parameter in ZSTD {
        compressor.set_parameter(parameter)?;
    }
    let mut compressed = Vec::new();
    let mut out = Vec::new();
    for chunk in chunks {
        compressed.clear();
        compressed.reserve(zstd::zstd_safe::compress_bound(chunk.records.len()));
        compressor.compress_to_buffer(&chunk.records, &mut compressed)?;
        out.clear();
        out.extend_from_slice(&chunk.preamble);
        let offset = done.sink.bytes() + out.len() as u64;
        let times = (chunk.start_time, chunk.end_time);
        let bytes = mcap::chunk(&mut out, times, &chunk.records, &compressed);
        done.sink.write(&out)?;
        done.messages += chunk.messages;
        done.chunks.push(ChunkIndex {
            start_time: chunk.start_time,
            end_time: chunk.end_time,
            offset,
            bytes,
            compressed_bytes: compressed.len() as u64,
            uncompressed_bytes: chunk.records.len() as u64,
        });
        // Nobody takes it back after the last one.
        let _ = spent.try_send(chunk);
    }
    Ok(())
}
