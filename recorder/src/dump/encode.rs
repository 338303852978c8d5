//! The first thread: turns records into messages and lays them out in chunks.

use std::collections::BTreeMap;

use recorder_ebpf::abi::Lane;

use super::{
    compress::{CHUNK_BYTES, Chunk, Compressor, Stopped},
    mcap::{self, MessageHeader},
};
use crate::event::{ClockPair, Event, TOPICS};

/// Who a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A record.
    Record,
    /// The writer of the dump.
    Writer,
}

/// What one MCAP channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChannelKey {
    topic: usize,
    lane: Lane,
    cpu: u16,
    source: Source,
}

/// Lays messages out in chunks and sends the chunks.
pub(super) struct Encoder<'a> {
    clock: ClockPair,
    chunk: Chunk,
    compressor: &'a Compressor,
    contents: Contents,
    events: u64,
}

/// What is in the file, for its summary.
#[derive(Debug, Default)]
pub(super) struct Contents {
    channels: BTreeMap<ChannelKey, u16>,
    /// Schema records; the id of a topic's schema is its index plus one.
    pub(super) schema_records: Vec<u8>,
    schemas: Vec<usize>,
    /// Channel records.
    pub(super) channel_records: Vec<u8>,
    /// Messages by channel.
    pub(super) messages: Vec<(u16, u64)>,
    /// Earliest and latest log time.
    pub(super) times: Option<(u64, u64)>,
}

impl Contents {
    pub(super) fn schemas(&self) -> u16 {
        self.schemas.len() as u16
    }

    pub(super) fn events(&self) -> u64 {
        self.messages.iter().map(|(_, count)| count).sum()
    }

    /// Returns the channel's id, and appends its record and perhaps that of its schema to `preamble` if it is new.
    fn channel(&mut self, key: ChannelKey, preamble: &mut Vec<u8>) -> u16 {
        if let Some(id) = self.channels.get(&key) {
            return *id;
        }
        let topic = &TOPICS[key.topic];
        // Topics are few; CPUs with records at most `abi::CPUS_MAX`: their product stays below 65,536.
        let schema = key.topic as u16 + 1;
        if !self.schemas.contains(&key.topic) {
            self.schemas.push(key.topic);
            let start = self.schema_records.len();
            let out = &mut self.schema_records;
            mcap::schema(out, schema, topic.message, "protobuf", topic.schema);
            preamble.extend_from_slice(&out[start..]);
        }
        let id = self.channels.len() as u16 + 1;
        let cpu = key.cpu.to_string();
        let mut metadata = vec![("cpu", cpu.as_str()), ("lane", key.lane.name())];
        if key.source == Source::Writer {
            metadata.push(("source", "writer"));
        }
        let start = self.channel_records.len();
        let out = &mut self.channel_records;
        mcap::channel(out, id, schema, topic.name, &metadata);
        preamble.extend_from_slice(&out[start..]);
        self.channels.insert(key, id);
        self.messages.push((id, 0));
        id
    }

    fn count(&mut self, channel: u16, log_time: u64) {
        self.messages[usize::from(channel) - 1].1 += 1;
        self.times = Some(match self.times {
            Some((start, end)) => (start.min(log_time), end.max(log_time)),
            None => (log_time, log_time),
        });
    }
}

impl<'a> Encoder<'a> {
    pub(super) fn new(clock: ClockPair, compressor: &'a Compressor) -> Result<Self, Stopped> {
        Ok(Self {
            clock,
            chunk: compressor.chunk()?,
            compressor,
            contents: Contents::default(),
            events: 0,
        })
    }

    /// Appends an event; returns its order in the dump, from 1.
    pub(super) fn event(&mut self, event: &mut Event, source: Source) -> Result<u64, Stopped> {
        let key = ChannelKey {
            topic: event.body.topic_index(),
            lane: event.lane,
            cpu: event.cpu,
            source,
        };
        let log_time = self.clock.unix_ns_at(event.boot_ns);
        let chunk = &mut self.chunk;
        let header = MessageHeader {
            channel: self.contents.channel(key, &mut chunk.preamble),
            sequence: event.sequence as u32,
            log_time,
        };
        mcap::message(&mut chunk.records, header, |out| {
            event.body.encode_brief(event.boot_ns, out);
        });
        if chunk.messages == 0 {
            (chunk.start_time, chunk.end_time) = (log_time, log_time);
        }
        chunk.start_time = chunk.start_time.min(log_time);
        chunk.end_time = chunk.end_time.max(log_time);
        chunk.messages += 1;
        self.contents.count(header.channel, log_time);
        self.events += 1;
        if chunk.records.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(self.events)
    }

    /// Has what is left written and returns what the file holds.
    pub(super) fn finish(self) -> Result<Contents, Stopped> {
        self.compressor.write(self.chunk)?;
        Ok(self.contents)
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let chunk = std::mem::take(&mut self.chunk);
        self.compressor.write(chunk)?;
        self.chunk = self.compressor.chunk()?;
        Ok(())
    }
}
