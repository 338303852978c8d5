//! The records of an MCAP file, as <https://mcap.dev/spec> defines them.
//!
//! Written here, not by the `mcap` crate, because that compresses message by message on the thread that makes them: a chunk
//! that is laid out in memory and compressed at once, on another thread, takes half the time. Tests read the result with
//! that crate.

use mcap::records::op;

/// First and last bytes of a file.
pub(super) const MAGIC: &[u8] = mcap::MAGIC;
/// Opcode and length, before every record.
pub(super) const PREFIX_BYTES: usize = 1 + 8;
/// The CRC-32 behind an attachment's data.
pub(super) const CRC_BYTES: usize = 4;

/// Where a chunk is and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkIndex {
    pub(super) start_time: u64,
    pub(super) end_time: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) compressed_bytes: u64,
    pub(super) uncompressed_bytes: u64,
}

/// Where a metadata record is.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetadataIndex {
    pub(super) name: &'static str,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// An attachment without its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttachmentHeader<'a> {
    pub(super) log_time: u64,
    pub(super) create_time: u64,
    pub(super) name: &'a str,
    pub(super) media_type: &'a str,
    pub(super) data_bytes: u64,
}

/// Where an attachment is.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttachmentIndex<'a> {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) header: AttachmentHeader<'a>,
}

/// A message before its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageHeader {
    pub(super) channel: u16,
    pub(super) sequence: u32,
    pub(super) log_time: u64,
}

/// Counts of a whole file.
pub(super) struct Statistics<'a> {
    pub(super) schemas: u16,
    pub(super) attachments: u32,
    pub(super) metadata: u32,
    pub(super) chunks: u32,
    pub(super) start_time: u64,
    pub(super) end_time: u64,
    /// Messages by channel.
    pub(super) messages: &'a [(u16, u64)],
}

/// Appends a record whose body `body` appends; returns how long it became.
fn record(out: &mut Vec<u8>, opcode: u8, body: impl FnOnce(&mut Vec<u8>)) -> u64 {
    let start = out.len();
    out.push(opcode);
    out.extend_from_slice(&[0; PREFIX_BYTES - 1]);
    body(out);
    let len = (out.len() - start - PREFIX_BYTES) as u64;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&len.to_le_bytes());
    (out.len() - start) as u64
}

fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends what `body` appends, after its length. Everything here is far below 4 GiB: names, schemas, our own JSON.
fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    u32(out, 0);
    body(out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn string(out: &mut Vec<u8>, value: &str) {
    sized(out, |out| out.extend_from_slice(value.as_bytes()));
}

fn strings(out: &mut Vec<u8>, map: &[(&str, &str)]) {
    sized(out, |out| {
        for (key, value) in map {
            string(out, key);
            string(out, value);
        }
    });
}

pub(super) fn header(out: &mut Vec<u8>, profile: &str, library: &str) {
    record(out, op::HEADER, |out| {
        string(out, profile);
        string(out, library);
    });
}

pub(super) fn schema(out: &mut Vec<u8>, id: u16, name: &str, encoding: &str, data: &[u8]) {
    record(out, op::SCHEMA, |out| {
        u16(out, id);
        string(out, name);
        string(out, encoding);
        sized(out, |out| out.extend_from_slice(data));
    });
}

pub(super) fn channel(
    out: &mut Vec<u8>,
    id: u16,
    schema: u16,
    topic: &str,
    metadata: &[(&str, &str)],
) {
    record(out, op::CHANNEL, |out| {
        u16(out, id);
        u16(out, schema);
        string(out, topic);
        string(out, "protobuf");
        strings(out, metadata);
    });
}

/// Appends a message whose data `data` appends. The publish time is the log time.
pub(super) fn message(out: &mut Vec<u8>, header: MessageHeader, data: impl FnOnce(&mut Vec<u8>)) {
    record(out, op::MESSAGE, |out| {
        u16(out, header.channel);
        u32(out, header.sequence);
        u64(out, header.log_time);
        u64(out, header.log_time);
        data(out);
    });
}

/// Appends a chunk whose compressed records `compress` appends; returns how many bytes it says that these are.
pub(super) fn chunk<E>(
    out: &mut Vec<u8>,
    (start_time, end_time): (u64, u64),
    uncompressed: &[u8],
    compress: impl FnOnce(&mut Vec<u8>) -> Result<usize, E>,
) -> Result<usize, E> {
    let mut compressed = Ok(0);
    record(out, op::CHUNK, |out| {
        u64(out, start_time);
        u64(out, end_time);
        u64(out, uncompressed.len() as u64);
        u32(out, crc32fast::hash(uncompressed));
        string(out, "zstd");
        let at = out.len();
        u64(out, 0);
        compressed = compress(out);
        let len = (out.len() - at - size_of::<u64>()) as u64;
        out[at..at + size_of::<u64>()].copy_from_slice(&len.to_le_bytes());
    });
    compressed
}

pub(super) fn metadata(out: &mut Vec<u8>, name: &str, map: &[(&str, &str)]) -> u64 {
    record(out, op::METADATA, |out| {
        string(out, name);
        strings(out, map);
    })
}

/// Appends an attachment up to its data; the data and the CRC-32 of all but the prefix are to follow.
pub(super) fn attachment_head(out: &mut Vec<u8>, header: &AttachmentHeader<'_>) {
    let start = out.len();
    record(out, op::ATTACHMENT, |out| {
        u64(out, header.log_time);
        u64(out, header.create_time);
        string(out, header.name);
        string(out, header.media_type);
        u64(out, header.data_bytes);
    });
    let head = (out.len() - start - PREFIX_BYTES) as u64;
    let len = head + header.data_bytes + CRC_BYTES as u64;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&len.to_le_bytes());
}

pub(super) fn data_end(out: &mut Vec<u8>, crc: u32) {
    record(out, op::DATA_END, |out| u32(out, crc));
}

fn statistics(out: &mut Vec<u8>, statistics: &Statistics<'_>) {
    record(out, op::STATISTICS, |out| {
        u64(
            out,
            statistics.messages.iter().map(|(_, count)| count).sum(),
        );
        u16(out, statistics.schemas);
        u32(out, statistics.messages.len() as u32);
        u32(out, statistics.attachments);
        u32(out, statistics.metadata);
        u32(out, statistics.chunks);
        u64(out, statistics.start_time);
        u64(out, statistics.end_time);
        sized(out, |out| {
            for (channel, count) in statistics.messages {
                u16(out, *channel);
                u64(out, *count);
            }
        });
    });
}

fn chunk_index(out: &mut Vec<u8>, index: &ChunkIndex) {
    record(out, op::CHUNK_INDEX, |out| {
        u64(out, index.start_time);
        u64(out, index.end_time);
        u64(out, index.offset);
        u64(out, index.bytes);
        sized(out, |_| {}); // no message indexes: they would cost 16 bytes for each message
        u64(out, 0);
        string(out, "zstd");
        u64(out, index.compressed_bytes);
        u64(out, index.uncompressed_bytes);
    });
}

fn metadata_index(out: &mut Vec<u8>, index: &MetadataIndex) {
    record(out, op::METADATA_INDEX, |out| {
        u64(out, index.offset);
        u64(out, index.bytes);
        string(out, index.name);
    });
}

pub(super) fn attachment_index(out: &mut Vec<u8>, index: &AttachmentIndex<'_>) {
    record(out, op::ATTACHMENT_INDEX, |out| {
        u64(out, index.offset);
        u64(out, index.bytes);
        u64(out, index.header.log_time);
        u64(out, index.header.create_time);
        u64(out, index.header.data_bytes);
        string(out, index.header.name);
        string(out, index.header.media_type);
    });
}

/// What the summary repeats from the data before it.
pub(super) struct Summary<'a> {
    /// Schema records.
    pub(super) schemas: &'a [u8],
    /// Channel records.
    pub(super) channels: &'a [u8],
    pub(super) statistics: Statistics<'a>,
    pub(super) chunks: &'a [ChunkIndex],
    pub(super) metadata: &'a [MetadataIndex],
    pub(super) attachments: &'a [AttachmentIndex<'a>],
}

impl Summary<'_> {
    /// Returns the bytes from the data end record, which is at `offset` in the file, to the end of the file.
    pub(super) fn encode(&self, offset: u64, data_crc: u32) -> Vec<u8> {
        let mut out = Vec::new();
        data_end(&mut out, data_crc);
        let start = out.len();
        let mut groups = Vec::new();
        self.group(&mut out, &mut groups, op::SCHEMA, |out| {
            out.extend_from_slice(self.schemas);
        });
        self.group(&mut out, &mut groups, op::CHANNEL, |out| {
            out.extend_from_slice(self.channels);
        });
        self.group(&mut out, &mut groups, op::STATISTICS, |out| {
            statistics(out, &self.statistics);
        });
        self.group(&mut out, &mut groups, op::CHUNK_INDEX, |out| {
            self.chunks.iter().for_each(|index| chunk_index(out, index));
        });
        self.group(&mut out, &mut groups, op::ATTACHMENT_INDEX, |out| {
            self.attachments
                .iter()
                .for_each(|index| attachment_index(out, index));
        });
        self.group(&mut out, &mut groups, op::METADATA_INDEX, |out| {
            self.metadata
                .iter()
                .for_each(|index| metadata_index(out, index));
        });
        let offsets_start = out.len();
        for (opcode, range) in groups {
            record(&mut out, op::SUMMARY_OFFSET, |out| {
                out.push(opcode);
                u64(out, offset + range.start as u64);
                u64(out, range.len() as u64);
            });
        }
        record(&mut out, op::FOOTER, |out| {
            u64(out, offset + start as u64);
            u64(out, offset + offsets_start as u64);
            u32(out, 0);
        });
        // The CRC takes in the summary and the footer up to itself.
        let crc_at = out.len() - 4;
        let crc = crc32fast::hash(&out[start..crc_at]);
        out[crc_at..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }

    fn group(
        &self,
        out: &mut Vec<u8>,
        groups: &mut Vec<(u8, std::ops::Range<usize>)>,
        opcode: u8,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = out.len();
        body(out);
        if out.len() > start {
            groups.push((opcode, start..out.len()));
        }
    }
}
