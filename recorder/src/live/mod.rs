//! Live events: what enters the flight ring, as it does, for any number of readers who cannot hold recording up.
//!
//! ```text
//! data plane ── one copy of each record ──► fan-out thread ── decoded, named and written once ──► a queue for each reader
//!    (ingest::tap: 8 batches, then none)       (this module)                                        (256 KiB, then lost)
//! ```
//!
//! Two things can be missing, and a reader is told of both in the stream, in their place: `lost`, events that it wanted and
//! was too slow for; `missed`, records that the fan-out thread never saw, because the kernel ring was full or the host too
//! busy to keep up. Recording has them, or has counted them.

mod fanout;
mod frame;
mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::event::Selection;

pub use fanout::Fanout;
pub use frame::{LOST, MISSED};
pub use reader::Reader;
use reader::Subscriber;

/// Most readers at once.
pub const READERS_MAX: u64 = 64;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As JSON Lines have them.
    #[default]
    Json,
    /// As the messages of a dump, in hex.
    Protobuf,
}

/// What a reader wants.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which events.
    pub selection: Selection,
    /// How they are written.
    pub format: Format,
    /// From when on, in nanoseconds since boot; from now on if absent.
    pub since_boot_ns: Option<u64>,
}

/// What became of live events.
#[derive(Debug, Default)]
pub struct LiveCounters {
    /// Readers now.
    pub readers: AtomicU64,
    /// Events put into a reader's queue.
    pub delivered: AtomicU64,
    /// Events for which a reader was too slow.
    pub lost: AtomicU64,
    /// Records that the fan-out thread did not see.
    pub missed: AtomicU64,
}

/// The way to the fan-out thread; it ends when the last of these is gone.
#[derive(Clone, Debug)]
pub struct Live {
    subscriptions: Sender<Subscriber>,
    counters: Arc<LiveCounters>,
}

impl Live {
    /// Makes the way there, and where it arrives.
    fn new() -> (Self, Receiver<Subscriber>) {
        let (subscriptions, arriving) = bounded(READERS_MAX as usize);
        let live = Self {
            subscriptions,
            counters: Arc::default(),
        };
        (live, arriving)
    }

    /// Starts reading; `None` if as many read as may.
    pub fn subscribe(&self, request: Request) -> Option<Reader> {
        let place = Place::take(&self.counters)?;
        let (subscriber, reader) = reader::pair(request, place);
        self.subscriptions.try_send(subscriber).ok()?;
        Some(reader)
    }

    /// Returns what became of live events.
    pub fn counters(&self) -> &LiveCounters {
        &self.counters
    }
}

/// One of the places for readers.
#[derive(Debug)]
struct Place(Arc<LiveCounters>);

impl Place {
    fn take(counters: &Arc<LiveCounters>) -> Option<Self> {
        let readers = &counters.readers;
        let one_more = |now| (now < READERS_MAX).then_some(now + 1);
        let taken = readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(Arc::clone(counters)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}
