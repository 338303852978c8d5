//! Reading on one CPU while another one works on what has been read.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use crossbeam_channel::{Sender, bounded};

use super::damage::Damages;
use super::dump::Dump;
use super::events::Entry;

/// Events that change hands at once.
const BATCH_EVENTS: usize = 1024;
/// Bytes of a file behind which events change hands, however few they are: what a file has made to grow stays small.
const BATCH_BYTES: u64 = 64 << 10;
/// Batches that wait at most.
const BATCHES_MAX: usize = 4;

/// Events that were read, and how many bytes of the file are behind the last.
type Batch = (Vec<Entry>, u64);

/// Reads a dump in a thread of its own, and gives what `wants` chooses to `take` in batches, each with the bytes of the file
/// that are behind it. Returns what of the file is broken, and how many events are of unknown types.
///
/// # Shape
///
/// The order is that of the file. A few thousand events are in memory at most, whatever the dump holds.
///
/// # Errors
///
/// What the file system reports, or `take`, which ends the reading.
pub fn ahead<E: From<io::Error>>(
    dump: &Dump,
    wants: impl Fn(&Entry) -> bool + Send,
    mut take: impl FnMut(Vec<Entry>, u64) -> Result<(), E>,
) -> Result<(Damages, u64), E> {
    thread::scope(|scope| {
        let (sender, batches) = bounded(BATCHES_MAX);
        let reader = scope.spawn(move || read(dump, wants, &sender));
        let mut taken = Ok(());
        for (batch, position) in &batches {
            taken = take(batch, position);
            if taken.is_err() {
                break;
            }
        }
        // Whoever reads on finds nobody there.
        drop(batches);
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        taken?;
        Ok(read?)
    })
}

fn read(
    dump: &Dump,
    wants: impl Fn(&Entry) -> bool,
    sender: &Sender<Batch>,
) -> io::Result<(Damages, u64)> {
    let mut events = dump.events();
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    // Counts what is left out too: who waits is told how far the work is.
    let mut read = 0;
    let mut bytes_before = 0;
    while let Some(entry) = events.next() {
        let entry = entry?;
        read += 1;
        if wants(&entry) {
            batch.push(entry);
        }
        if read == BATCH_EVENTS || events.message_bytes() >= bytes_before + BATCH_BYTES {
            read = 0;
            bytes_before = events.message_bytes();
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_EVENTS));
            if sender.send((full, events.position())).is_err() {
                break;
            }
        }
    }
    // Nobody is there to take it if the reading was ended.
    sender.send((batch, events.position())).ok();
    Ok((events.damages().clone(), events.unknown()))
}
