//! The messages of a file in their order, whatever else is broken in it.

use std::collections::BTreeMap;
use std::io;

use mcap::records::op;

use super::chunk::{ChunkError, Chunks};
use super::damage::{Damage, Damages, Flaw};
use super::lookup::Place;
use super::source::Source;
use super::summary::Summary;
use super::walk::{Extent, Step, Walk};
use super::wire::{CHANNELS_BYTES_MAX, Channel, Fields, Message, PREFIX};

/// Longest description of a channel that is read, in bytes.
const CHANNEL_BYTES_MAX: usize = 4 << 10;

/// Longest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Reads messages chunk by chunk; one chunk is in memory at a time.
pub struct Messages<'a> {
    source: &'a Source,
    walk: Walk<'a>,
    chunks: Chunks,
    /// The chunk being read, and how many of its bytes are behind.
    chunk: Option<(Extent, usize)>,
    /// Where in it the record starts that was looked at last.
    start: usize,
    channels: BTreeMap<u16, Channel>,
    /// Bytes that the descriptions of channels have come to.
    channel_bytes: usize,
    damages: Damages,
    counts: Counts,
    /// Messages that the summary counts.
    stated: Option<u64>,
}

/// What a walk came across.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of each channel.
    pub per_channel: BTreeMap<u16, u64>,
    /// Chunks that were read.
    pub chunks: u32,
    /// Metadata records.
    pub metadata: u32,
    /// Attachments.
    pub attachments: u32,
}

impl Counts {
    /// Returns the messages of all channels.
    pub fn messages(&self) -> u64 {
        self.per_channel.values().sum()
    }
}

impl<'a> Messages<'a> {
    /// Starts at the first message. An intact summary names channels whose description is broken.
    pub fn new(source: &'a Source, summary: Option<&Summary>) -> Self {
        let channels = summary.map(|summary| &summary.channels[..]).unwrap_or(&[]);
        Self {
            source,
            walk: Walk::new(source, summary),
            chunks: Chunks::default(),
            chunk: None,
            start: 0,
            channels: channels
                .iter()
                .map(|channel| (channel.id, channel.clone()))
                .collect(),
            channel_bytes: 0,
            damages: Damages::default(),
            counts: Counts::default(),
            stated: summary
                .and_then(|summary| summary.statistics.as_ref())
                .map(|statistics| statistics.messages),
        }
    }

    /// Returns what has been found broken so far; after the last message, everything.
    pub fn damages(&self) -> &Damages {
        &self.damages
    }

    /// Returns what has been read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns how many bytes of the file are behind.
    pub fn position(&self) -> u64 {
        self.walk.position()
    }

    /// Returns where the message is that was returned last.
    pub fn place(&self) -> Place {
        Place {
            chunk: self.chunk.map_or(0, |(extent, _)| extent.offset),
            record: u32::try_from(self.start).unwrap_or(u32::MAX),
        }
    }

    /// Reports something broken in the message that was returned last.
    pub fn broken(&mut self, flaw: Flaw) {
        if let Some((extent, _)) = self.chunk {
            self.damages.push(Damage {
                offset: extent.offset,
                bytes: PREFIX + extent.len,
                flaw,
            });
        }
    }

    /// Returns the next message and its channel, `None` behind the last one.
    ///
    /// # Errors
    ///
    /// Only what the file system reports; damage is collected.
    pub fn advance(&mut self) -> io::Result<Option<(Message<'_>, &Channel)>> {
        loop {
            let Some((extent, behind)) = self.chunk else {
                if !self.next_chunk()? {
                    self.finish();
                    return Ok(None);
                }
                continue;
            };
            let mut fields = Fields(&self.chunks.records()[behind..]);
            if fields.0.is_empty() {
                self.chunk = None;
                continue;
            }
            let Some((opcode, body)) = fields.record() else {
                self.broken(Flaw::Malformed("record in a chunk"));
                self.chunk = None;
                continue;
            };
            let end = self.chunks.records().len() - fields.0.len();
            let body = end - body.len()..end;
            self.chunk = Some((extent, end));
            self.start = behind;
            match opcode {
                op::CHANNEL => self.channel(body),
                op::MESSAGE => {
                    if let Some(channel) = self.message(body.clone()) {
                        // Parsed again rather than kept: a borrow cannot leave a loop that goes on borrowing.
                        let message = Message::parse(&self.chunks.records()[body]);
                        let channel = self.channels.get(&channel);
                        return Ok(message.zip(channel));
                    }
                }
                _ => {}
            }
        }
    }

    /// Compares what was read with what the summary counts: a chunk whose opcode changed is missing without a trace.
    fn finish(&mut self) {
        let stated = self.stated.take().unwrap_or(0);
        let missing = stated.saturating_sub(self.counts.messages());
        if missing > 0 && self.damages.is_empty() {
            self.damages.push(Damage {
                offset: self.source.len(),
                bytes: 0,
                flaw: Flaw::Missing { events: missing },
            });
        }
    }

    /// Takes in a channel that is described before its first chunk.
    fn described(&mut self, extent: &Extent) -> io::Result<()> {
        let mut body = Vec::new();
        if let Ok(len @ ..=CHANNEL_BYTES_MAX) = usize::try_from(extent.len) {
            self.source.read_into(&mut body, extent.body(), len)?;
        }
        match Channel::parse(&body) {
            Some(channel) => self.know(channel, body.len()),
            None => self.damages.push(Damage {
                offset: extent.offset,
                bytes: PREFIX + extent.len,
                flaw: Flaw::Malformed("channel"),
            }),
        }
        Ok(())
    }

    /// Takes in a channel, as long as there is room for what is said of all of them.
    fn know(&mut self, channel: Channel, bytes: usize) {
        if self.channels.get(&channel.id) != Some(&channel) {
            self.channel_bytes += bytes;
            if self.channel_bytes <= CHANNELS_BYTES_MAX {
                self.channels.insert(channel.id, channel);
            }
        }
    }

    fn channel(&mut self, body: std::ops::Range<usize>) {
        let body = &self.chunks.records()[body];
        let bytes = body.len();
        let channel = (bytes <= CHANNEL_BYTES_MAX).then(|| Channel::parse(body));
        match channel.flatten() {
            Some(channel) => self.know(channel, bytes),
            None => self.broken(Flaw::Malformed("channel")),
        }
    }

    /// Counts a message; returns its channel if that is known.
    fn message(&mut self, body: std::ops::Range<usize>) -> Option<u16> {
        let Some(message) = Message::parse(&self.chunks.records()[body]) else {
            self.broken(Flaw::Malformed("message"));
            return None;
        };
        if message.data.len() > MESSAGE_BYTES_MAX {
            self.broken(Flaw::Malformed("message"));
            return None;
        }
        let channel = message.channel;
        if !self.channels.contains_key(&channel) {
            self.broken(Flaw::Channel);
            return None;
        }
        *self.counts.per_channel.entry(channel).or_default() += 1;
        Some(channel)
    }

    /// Goes to the next chunk that can be read; false at the end of the file.
    fn next_chunk(&mut self) -> io::Result<bool> {
        while let Some(step) = self.walk.step()? {
            let extent = match step {
                Step::Record(extent) => extent,
                Step::Damage(damage) => {
                    self.damages.push(damage);
                    continue;
                }
            };
            match extent.opcode {
                op::CHUNK if self.read_chunk(&extent)? => return Ok(true),
                op::CHANNEL => self.described(&extent)?,
                op::METADATA => self.counts.metadata += 1,
                op::ATTACHMENT => self.counts.attachments += 1,
                _ => {}
            }
        }
        Ok(false)
    }

    fn read_chunk(&mut self, extent: &Extent) -> io::Result<bool> {
        let flaw = match self.chunks.read(self.source, extent) {
            Ok(_) => {
                self.walk.confirm(extent);
                self.counts.chunks += 1;
                self.chunk = Some((*extent, 0));
                return Ok(true);
            }
            Err(ChunkError::Io(error)) => return Err(error),
            Err(ChunkError::Broken(flaw)) => flaw,
            Err(ChunkError::Shapeless) => {
                if let Step::Damage(damage) = self.walk.reject(extent, Flaw::Malformed("chunk"))? {
                    self.damages.push(damage);
                }
                return Ok(false);
            }
        };
        self.walk.confirm(extent);
        self.damages.push(Damage {
            offset: extent.offset,
            bytes: PREFIX + extent.len,
            flaw,
        });
        Ok(false)
    }
}
