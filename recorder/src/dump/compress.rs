//! The second thread: compresses chunks and writes them. It stays from dump to dump, and so do its buffers.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Compressor as Zstd;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

use super::{
    mcap::{self, ChunkIndex},
    sink::{Sink, SinkError},
};
use crate::reserve;

/// Uncompressed bytes at which a chunk is closed. It is what writing takes memory for, several times; what a truncated or damaged
/// file loses at a time; and what a reader holds in memory. Chunks four times as long are 0.8 % smaller when compressed.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How much longer a chunk may become by its last message without moving.
const MESSAGE_BYTES: usize = 64 << 10;
/// Chunks there are: one is filled while the other is compressed, which takes a third of the time.
const CHUNKS: usize = 2;

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
    fn with_memory() -> Self {
        Self {
            records: Vec::with_capacity(CHUNK_BYTES + MESSAGE_BYTES),
            ..Self::default()
        }
    }

    /// Makes it empty again, with its memory.
    fn clear(&mut self) {
        self.preamble.clear();
        self.records.clear();
        self.messages = 0;
    }
}

/// What has been written.
pub(super) struct Compressed {
    pub(super) sink: Sink,
    pub(super) chunks: Vec<ChunkIndex>,
    /// Messages in those chunks.
    pub(super) messages: u64,
    /// Why there are no more.
    pub(super) result: Result<(), SinkError>,
}

/// What the thread is to do.
enum Order {
    Begin(Sink),
    Write(Chunk),
    End,
}

/// The way to the thread. It ends when this is dropped.
pub(super) struct Compressor {
    orders: Sender<Order>,
    spare: Receiver<Chunk>,
    done: Receiver<Compressed>,
    has_failed: Arc<AtomicBool>,
}

/// The thread does not take chunks any more; it says why at the [end](Compressor::end).
#[derive(Debug)]
pub(super) struct Stopped;

impl Compressor {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let _here = reserve::here();
        let (orders, to_do) = bounded(CHUNKS + 1);
        let (give_back, spare) = bounded(CHUNKS);
        let (finish, done) = bounded(1);
        let has_failed = Arc::new(AtomicBool::new(false));
        for _ in 0..CHUNKS {
            let _ = give_back.send(Chunk::with_memory());
        }
        let mut thread = Thread {
            zstd: Zstd::default(),
            out: Vec::with_capacity(CHUNK_BYTES + 2 * MESSAGE_BYTES),
            has_failed: Arc::clone(&has_failed),
        };
        for parameter in ZSTD {
            thread.zstd.set_parameter(parameter)?;
        }
        thread::Builder::new()
            .name("dump-compress".into())
            .spawn(move || thread.run(&to_do, &give_back, &finish))?;
        Ok(Self {
            orders,
            spare,
            done,
            has_failed,
        })
    }

    /// Begins a file.
    pub(super) fn begin(&self, sink: Sink) -> Result<(), Stopped> {
        self.has_failed.store(false, Relaxed);
        self.order(Order::Begin(sink))
    }

    /// Returns an empty chunk, once there is one.
    pub(super) fn chunk(&self) -> Result<Chunk, Stopped> {
        self.spare.recv().map_err(|_| Stopped)
    }

    /// Has a chunk written.
    pub(super) fn write(&self, chunk: Chunk) -> Result<(), Stopped> {
        self.order(Order::Write(chunk))?;
        match self.has_failed.load(Relaxed) {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    /// Waits until everything is written, or has failed to be.
    pub(super) fn end(&self) -> Result<Compressed, Stopped> {
        self.order(Order::End)?;
        self.done.recv().map_err(|_| Stopped)
    }

    fn order(&self, order: Order) -> Result<(), Stopped> {
        self.orders.send(order).map_err(|_| Stopped)
    }
}

struct Thread {
    zstd: Zstd<'static>,
    /// What is written at once.
    out: Vec<u8>,
    has_failed: Arc<AtomicBool>,
}

impl Thread {
    fn run(mut self, orders: &Receiver<Order>, spare: &Sender<Chunk>, done: &Sender<Compressed>) {
        let _here = reserve::here();
        let mut file = None;
        for order in orders {
            match order {
                Order::Begin(sink) => {
                    file = Some(Compressed {
                        sink,
                        chunks: Vec::new(),
                        messages: 0,
                        result: Ok(()),
                    });
                }
                Order::Write(mut chunk) => {
                    if let Some(file) = file.as_mut().filter(|file| file.result.is_ok()) {
                        file.result = self.write(file, &chunk);
                        self.has_failed.store(file.result.is_err(), Relaxed);
                    }
                    chunk.clear();
                    let _ = spare.send(chunk);
                }
                Order::End => {
                    if let Some(file) = file.take() {
                        let _ = done.send(file);
                    }
                }
            }
        }
    }

    fn write(&mut self, file: &mut Compressed, chunk: &Chunk) -> Result<(), SinkError> {
        if chunk.messages == 0 {
            return Ok(());
        }
        let out = &mut self.out;
        out.clear();
        out.extend_from_slice(&chunk.preamble);
        let start = out.len();
        let times = (chunk.start_time, chunk.end_time);
        let compressed = mcap::chunk(out, times, &chunk.records, |out| {
            let end = out.len();
            out.reserve(compress_bound(chunk.records.len()));
            let mut behind = Cursor::new(&mut *out);
            behind.set_position(end as u64);
            self.zstd.compress_to_buffer(&chunk.records, &mut behind)
        })?;
        file.chunks.push(ChunkIndex {
            start_time: chunk.start_time,
            end_time: chunk.end_time,
            offset: file.sink.bytes() + start as u64,
            bytes: (out.len() - start) as u64,
            compressed_bytes: compressed as u64,
            uncompressed_bytes: chunk.records.len() as u64,
        });
        file.sink.write(out)?;
        file.messages += chunk.messages;
        Ok(())
    }
}
