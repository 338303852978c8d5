//! A copy of what enters the flight ring, for who watches live.
//!
//! The data plane writes copies into batches that the other end has given it. Without an empty batch it goes on without a
//! copy: the numbers of the records tell the other end how many it missed. While nobody watches, a record costs one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use recorder_ebpf::abi::Lane;

/// Bytes of a batch.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that there are while somebody watches.
const BATCHES: usize = 8;
/// Bytes before each record: its length and its lane.
const PREFIX_BYTES: usize = 8;

/// Records of all lanes, in the order in which they entered the ring.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(BATCH_BYTES),
        }
    }

    /// Takes a record, if there is room without allocating.
    fn push(&mut self, lane: Lane, record: &[u8]) -> bool {
        if self.bytes.capacity() - self.bytes.len() < PREFIX_BYTES + record.len() {
            return false;
        }
        let prefix = (record.len() as u64) << 8 | lane as u64;
        self.bytes.extend_from_slice(&prefix.to_ne_bytes());
        self.bytes.extend_from_slice(record);
        true
    }

    /// Returns the records.
    pub fn records(&self) -> impl Iterator<Item = (Lane, &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (prefix, after) = rest.split_first_chunk::<PREFIX_BYTES>()?;
            let prefix = u64::from_ne_bytes(*prefix);
            let lane = Lane::ALL
                .into_iter()
                .find(|lane| *lane as u64 == prefix & 0xff)?;
            // As it was put together.
            let (record, after) = after.split_at_checked((prefix >> 8) as usize)?;
            rest = after;
            Some((lane, record))
        })
    }
}

/// The data plane's end.
#[derive(Debug)]
pub struct Tap {
    is_open: Arc<AtomicBool>,
    empty: Receiver<Batch>,
    full: Sender<Batch>,
    current: Option<Batch>,
}

/// The watcher's end.
#[derive(Debug)]
pub struct Spout {
    is_open: Arc<AtomicBool>,
    empty: Sender<Batch>,
    full: Receiver<Batch>,
}

/// Makes both ends, closed.
pub fn tap() -> (Tap, Spout) {
    let is_open = Arc::new(AtomicBool::new(false));
    let (give_back, empty) = bounded(BATCHES);
    let (send, full) = bounded(BATCHES);
    let tap = Tap {
        is_open: Arc::clone(&is_open),
        empty,
        full: send,
        current: None,
    };
    let spout = Spout {
        is_open,
        empty: give_back,
        full,
    };
    (tap, spout)
}

impl Tap {
    /// Copies a record, if somebody watches and there is room.
    pub(super) fn take(&mut self, lane: Lane, record: &[u8]) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..2 {
            if self.current.is_none() {
                self.current = self.empty.try_recv().ok();
            }
            let Some(batch) = &mut self.current else {
                return;
            };
            if batch.push(lane, record) {
                return;
            }
            self.flush();
        }
    }

    /// Hands over what was copied.
    pub(super) fn flush(&mut self) {
        if let Some(batch) = self.current.take_if(|batch| !batch.bytes.is_empty()) {
            // There are no more batches than there is room for.
            let _ = self.full.try_send(batch);
        }
    }
}

impl Spout {
    /// Starts the copying.
    pub fn open(&self) {
        // What an earlier opening left behind is old.
        self.full.try_iter().for_each(drop);
        while self.empty.try_send(Batch::new()).is_ok() {}
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Ends the copying.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.full.try_iter().for_each(drop);
    }

    /// Returns where batches arrive.
    pub fn batches(&self) -> &Receiver<Batch> {
        &self.full
    }

    /// Gives a batch back.
    pub fn give_back(&self, mut batch: Batch) {
        batch.bytes.clear();
        let _ = self.empty.try_send(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_nothing_is_copied_for_nobody() {
        let (mut tap, spout) = tap();
        tap.take(Lane::Failure, b"unseen");
        tap.flush();
        spout.open();
        tap.take(Lane::Failure, b"first");
        tap.take(Lane::Sample, b"");
        tap.take(Lane::Lifecycle, b"third");
        tap.flush();
        let batch = spout.batches().try_recv().expect("it was flushed");
        let records: Vec<_> = batch.records().collect();
        assert_eq!(
            records,
            [
                (Lane::Failure, b"first".as_slice()),
                (Lane::Sample, b""),
                (Lane::Lifecycle, b"third"),
            ]
        );
        spout.close();
        tap.take(Lane::Failure, b"unseen");
        tap.flush();
        assert!(spout.batches().try_recv().is_err());
    }

    #[test]
    fn a_watcher_who_takes_nothing_costs_no_more_than_the_batches_there_are() {
        let (mut tap, spout) = tap();
        spout.open();
        let record = [7; 1000];
        for _ in 0..10 * BATCHES * BATCH_BYTES / record.len() {
            tap.take(Lane::Lifecycle, &record);
        }
        assert_eq!(spout.batches().len(), BATCHES);
        let batch = spout.batches().try_recv().expect("there are eight");
        let taken = batch.records().count();
        assert!(taken > 200, "{taken}");
        spout.give_back(batch);
        tap.take(Lane::Lifecycle, b"again");
        tap.flush();
        assert_eq!(spout.batches().len(), BATCHES);
    }

    #[test]
    fn a_record_larger_than_a_batch_is_left_out() {
        let (mut tap, spout) = tap();
        spout.open();
        tap.take(Lane::Failure, &vec![0; BATCH_BYTES]);
        tap.take(Lane::Failure, b"next");
        tap.flush();
        let batch = spout.batches().try_recv().expect("it was flushed");
        assert_eq!(batch.records().count(), 1);
    }
}
