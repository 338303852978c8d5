//! One reader: its queue, and what it lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use recorder_ebpf::abi::{Header, Lane};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::frame::{self, LOST, MISSED};
use super::{LiveCounters, Place, Request};

/// Most bytes that wait for one reader.
const QUEUE_BYTES: usize = 256 << 10;
/// Most bytes that wait for all of them: many readers have smaller queues.
const QUEUES_BYTES: usize = 4 << 20;
/// Room for two chunks: less, and a reader that keeps up loses too.
const _: () = assert!(QUEUES_BYTES / super::READERS_MAX as usize >= 2 * CHUNK_BYTES);
/// Bytes that are handed over together.
const CHUNK_BYTES: usize = 32 << 10;
/// Room for the frames that say what is missing.
const MARK_BYTES: usize = 256;

/// Bytes on their way to a reader.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// Whether they count towards its queue; what it asked for of the past does not.
    counts: bool,
}

/// The reader's end.
#[derive(Debug)]
pub struct Reader {
    chunks: UnboundedReceiver<Chunk>,
    queued: Arc<AtomicUsize>,
    _place: Place,
}

/// The fan-out thread's end.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) request: Request,
    chunks: UnboundedSender<Chunk>,
    queued: Arc<AtomicUsize>,
    counters: Arc<LiveCounters>,
    chunk: Vec<u8>,
    lost: Missing,
    missed: Missing,
    /// The last record of the past that it has got, by lane and CPU.
    pub(super) past: HashMap<(Lane, u16), u64>,
}

/// A count of what is missing, and how much of it was said.
#[derive(Debug, Default)]
struct Missing {
    total: u64,
    said: u64,
}

/// Makes both ends.
pub(super) fn pair(request: Request, place: Place) -> (Subscriber, Reader) {
    let (sender, chunks) = unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let subscriber = Subscriber {
        request,
        chunks: sender,
        queued: Arc::clone(&queued),
        counters: Arc::clone(&place.0),
        chunk: Vec::new(),
        lost: Missing::default(),
        missed: Missing::default(),
        past: HashMap::new(),
    };
    let reader = Reader {
        chunks,
        queued,
        _place: place,
    };
    (subscriber, reader)
}

impl Reader {
    /// Waits for the next bytes of the stream; `None` at its end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.recv().await?;
        if chunk.counts {
            self.queued.fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
        }
        Some(chunk.bytes)
    }
}

impl Subscriber {
    /// Tells whether nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.chunks.is_closed()
    }

    /// Tells whether it has got this record already.
    pub(super) fn had(&self, lane: Lane, header: &Header) -> bool {
        let last = self.past.get(&(lane, header.cpu));
        last.is_some_and(|last| header.seq <= *last)
    }

    /// Returns its part of what all readers have together.
    pub(super) fn share(&self, bytes: usize) -> usize {
        let readers = self.counters.readers.load(Ordering::Relaxed);
        bytes / usize::try_from(readers).unwrap_or(usize::MAX).max(1)
    }

    /// Gives it an event, or counts it as lost.
    pub(super) fn offer(&mut self, frame: &[u8]) -> bool {
        let waiting = self.queued.load(Ordering::Relaxed) + self.chunk.len();
        let queue_bytes = self.share(QUEUES_BYTES).min(QUEUE_BYTES);
        if waiting + frame.len() + MARK_BYTES > queue_bytes {
            self.lost.total += 1;
            return false;
        }
        self.say_missing();
        self.chunk.extend_from_slice(frame);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
        true
    }

    /// Gives it what it asked for of the past.
    pub(super) fn give_past(&mut self, bytes: Vec<u8>, left_out: u64) {
        self.lost.total += left_out;
        self.say_missing();
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.extend_from_slice(&bytes);
        let _ = self.chunks.send(Chunk {
            bytes: chunk,
            counts: false,
        });
    }

    /// Counts records that never came by.
    pub(super) fn miss(&mut self, records: u64) {
        self.missed.total += records;
    }

    /// Hands over what was given, with what there is to say.
    pub(super) fn settle(&mut self) {
        let waiting = self.queued.load(Ordering::Relaxed) + self.chunk.len();
        if waiting + MARK_BYTES <= QUEUE_BYTES {
            self.say_missing();
        }
        self.flush();
    }

    fn say_missing(&mut self) {
        for (name, missing) in [(LOST, &mut self.lost), (MISSED, &mut self.missed)] {
            if missing.said < missing.total {
                let count = missing.total - missing.said;
                frame::missing(&mut self.chunk, name, count, missing.total);
                missing.said = missing.total;
            }
        }
    }

    fn flush(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.chunk);
        self.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        // Nobody reads: found out at the next look.
        let _ = self.chunks.send(Chunk {
            bytes,
            counts: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::LiveCounters;

    fn both() -> (Subscriber, Reader) {
        let place = Place::take(&Arc::new(LiveCounters::default())).expect("the first");
        pair(Request::default(), place)
    }

    fn next(reader: &mut Reader) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let bytes = runtime.expect("a runtime").block_on(reader.next());
        bytes.map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn a_stuck_reader_holds_its_queue_and_no_more_and_is_told_exactly_what_it_lost() {
        let (mut subscriber, mut reader) = both();
        let frame = format!("data: {}\n\n", "x".repeat(1000));
        let given = (0..10_000)
            .filter(|_| subscriber.offer(frame.as_bytes()))
            .count();
        subscriber.settle();
        assert!(subscriber.queued.load(Ordering::Relaxed) <= QUEUE_BYTES);
        drop(subscriber);
        let mut text = String::new();
        while let Some(chunk) = next(&mut reader) {
            text += &chunk;
        }
        assert_eq!(text.matches("data: xxx").count(), given);
        let lost = 10_000 - given;
        assert!(text.ends_with(&format!(
            "event: lost\ndata: {{\"lost\":{lost},\"total\":{lost}}}\n\n"
        )));
    }

    #[test]
    fn what_is_lost_is_said_once_there_is_room_and_only_once() {
        let (mut subscriber, mut reader) = both();
        assert!(subscriber.offer(&vec![b'x'; QUEUE_BYTES - MARK_BYTES]));
        assert!(!subscriber.offer(&[b'y'; 10]));
        subscriber.queued.fetch_add(MARK_BYTES, Ordering::Relaxed);
        subscriber.settle();
        assert_eq!(
            next(&mut reader).map(|text| text.len()),
            Some(QUEUE_BYTES - MARK_BYTES)
        );
        subscriber.settle();
        let text = next(&mut reader).expect("there is room now");
        assert_eq!(text, "event: lost\ndata: {\"lost\":1,\"total\":1}\n\n");
        subscriber.settle();
        drop(subscriber);
        assert_eq!(next(&mut reader), None);
    }

    #[test]
    fn losses_stand_before_what_comes_after_them() {
        let (mut subscriber, mut reader) = both();
        subscriber.miss(3);
        subscriber.offer(b"data: 1\n\n");
        subscriber.miss(2);
        subscriber.settle();
        assert_eq!(
            next(&mut reader).expect("one chunk"),
            "event: missed\ndata: {\"missed\":3,\"total\":3}\n\ndata: 1\n\n\
             event: missed\ndata: {\"missed\":2,\"total\":5}\n\n"
        );
    }

    #[test]
    fn there_are_places_for_so_many_and_they_come_back() {
        let counters = Arc::new(LiveCounters::default());
        let mut places: Vec<Place> = (0..super::super::READERS_MAX)
            .map(|_| Place::take(&counters).expect("there is room"))
            .collect();
        assert!(Place::take(&counters).is_none());
        places.pop();
        assert!(Place::take(&counters).is_some());
    }
}
