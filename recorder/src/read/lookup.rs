//! One event again, by the place where a reading of the whole dump came across it.

use std::collections::VecDeque;
use std::io;

use mcap::records::op;

use super::chunk::{ChunkError, Chunks};
use super::source::Source;
use super::walk::read_extent;
use super::wire::{Fields, Message};
use crate::event::{Body, ClockPair};

/// Chunks that are kept unpacked.
const CHUNKS_KEPT: usize = 4;

/// Where in a file a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset of its chunk in the file.
    pub chunk: u64,
    /// Offset of its record in the unpacked chunk, which is bounded.
    pub record: u32,
}

/// Reads single events; the chunks that were used last stay unpacked.
pub struct Lookup<'a> {
    source: &'a Source,
    clock: Option<ClockPair>,
    /// The one used last in front.
    kept: VecDeque<(u64, Chunks)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(source: &'a Source, clock: Option<ClockPair>) -> Self {
        Self {
            source,
            clock,
            kept: VecDeque::new(),
        }
    }

    /// Returns what happened at a place, whose event is of a topic; `None` if it is no longer there.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn body(&mut self, place: Place, topic: &str) -> io::Result<Option<Body>> {
        let clock = self.clock;
        let Some(chunks) = self.chunk(place.chunk)? else {
            return Ok(None);
        };
        let start = usize::try_from(place.record).unwrap_or(usize::MAX);
        let body = chunks.records().get(start..).and_then(|records| {
            let (opcode, body) = Fields(records).record()?;
            let message = Message::parse(body).filter(|_| opcode == op::MESSAGE)?;
            let mut body = Body::decode(topic, message.data).ok()?;
            body.complete(clock.map(|clock| clock.boot_ns_at(message.log_time)));
            Some(body)
        });
        Ok(body)
    }

    /// Returns the unpacked chunk at an offset; `None` if it is none, or broken.
    fn chunk(&mut self, offset: u64) -> io::Result<Option<&Chunks>> {
        let known = self.kept.iter().position(|(kept, _)| *kept == offset);
        let chunk = known.and_then(|index| self.kept.remove(index));
        let (offset, chunks) = match chunk {
            Some(chunk) => chunk,
            None => {
                let Some(extent) = read_extent(self.source, offset)? else {
                    return Ok(None);
                };
                // The buffers of the one that was not used for longest.
                let mut chunks = match self.kept.len() {
                    CHUNKS_KEPT.. => self.kept.pop_back().map(|(_, chunks)| chunks),
                    _ => None,
                }
                .unwrap_or_default();
                match chunks.read(self.source, &extent) {
                    Ok(()) => (offset, chunks),
                    Err(ChunkError::Io(error)) => return Err(error),
                    Err(ChunkError::Broken(_) | ChunkError::Shapeless) => return Ok(None),
                }
            }
        };
        self.kept.push_front((offset, chunks));
        Ok(self.kept.front().map(|(_, chunks)| chunks))
    }
}
