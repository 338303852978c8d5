//! The MCAP records as a reader of damaged files needs them: fields taken off a slice, nothing allocated on its say-so.
//!
//! The `mcap` crate's own readers stop at the first error and trust the lengths of a file; this one goes on behind the
//! damage. Layout: <https://mcap.dev/spec>.

use std::collections::BTreeMap;

/// The first and the last bytes of a file.
pub const MAGIC: &[u8] = mcap::MAGIC;

/// Bytes of a record before its body: opcode and length.
pub const PREFIX: u64 = 1 + 8;

/// Bytes of a zstd chunk's body before its compressed records.
pub const CHUNK_FIXED: u64 = 8 + 8 + 8 + 4 + (4 + 4) + 8;

/// Most bytes of a chunk's body before its records, whatever the compression is called.
pub const CHUNK_HEAD_MAX: u64 = CHUNK_FIXED + 28;

/// What the descriptions of all channels may take, in bytes.
pub const CHANNELS_BYTES_MAX: usize = 8 << 20;

/// Most entries of a map of strings. Those of dumps have three.
const MAP_ENTRIES_MAX: usize = 64;

/// Fields of little-endian MCAP, taken one after the other off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Takes `len` bytes; `None` if fewer are left.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a 16-bit number.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a 32-bit number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a 64-bit number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes bytes after their 32-bit length.
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.bytes(len)
    }

    /// Takes a string.
    pub fn string(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.prefixed()?).ok()
    }

    /// Takes a map of a few strings.
    pub fn map(&mut self) -> Option<BTreeMap<String, String>> {
        let mut entries = Fields(self.prefixed()?);
        let mut map = BTreeMap::new();
        while !entries.0.is_empty() {
            let key = entries.string()?;
            map.insert(key.to_owned(), entries.string()?.to_owned());
            if map.len() > MAP_ENTRIES_MAX {
                return None;
            }
        }
        Some(map)
    }

    /// Takes one record: opcode and body.
    pub fn record(&mut self) -> Option<(u8, &'a [u8])> {
        let opcode = self.u8()?;
        let len = usize::try_from(self.u64()?).ok()?;
        Some((opcode, self.bytes(len)?))
    }
}

/// A chunk: compressed records and what is needed to check them.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Length of the records before compression, in bytes, as the file says.
    pub uncompressed_bytes: u64,
    /// CRC-32 of the records before compression.
    pub crc: u32,
    /// "zstd", or empty for none.
    pub compression: &'a str,
    /// The compressed records.
    pub records: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Returns the length of its records before compression, of a chunk whose body has `len` bytes and begins with `head`;
    /// `None` if its fields do not fill that exactly.
    pub fn stated(head: &[u8], len: u64) -> Option<u64> {
        let mut fields = Fields(head);
        fields.bytes(8 + 8)?;
        let uncompressed_bytes = fields.u64()?;
        fields.u32()?;
        fields.string()?;
        let records = fields.u64()?;
        let before = (head.len() - fields.0.len()) as u64;
        (before.checked_add(records)? == len).then_some(uncompressed_bytes)
    }

    /// Takes a chunk apart; `None` if its fields do not fill `body` exactly.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        fields.bytes(8 + 8)?;
        let uncompressed_bytes = fields.u64()?;
        let crc = fields.u32()?;
        let compression = fields.string()?;
        let len = usize::try_from(fields.u64()?).ok()?;
        let records = fields.bytes(len)?;
        fields.0.is_empty().then_some(Self {
            uncompressed_bytes,
            crc,
            compression,
            records,
        })
    }
}

/// One message: its channel, its place and its payload.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Id of its channel.
    pub channel: u16,
    /// Sequence number on its CPU and lane, its low 32 bits.
    pub sequence: u32,
    /// Wall clock in nanoseconds since 1970.
    pub log_time: u64,
    /// The Protobuf message.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes a message apart; `None` if `body` is too short.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let channel = fields.u16()?;
        let sequence = fields.u32()?;
        let log_time = fields.u64()?;
        fields.u64()?;
        Some(Self {
            channel,
            sequence,
            log_time,
            data: fields.0,
        })
    }
}

/// A channel: the topic behind an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The id that messages carry.
    pub id: u16,
    /// The type of the events.
    pub topic: String,
    /// What the writer says of the channel.
    pub metadata: BTreeMap<String, String>,
}

impl Channel {
    /// Takes a channel apart; `None` if its fields do not fit `body`.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let id = fields.u16()?;
        fields.u16()?;
        let topic = fields.string()?.to_owned();
        fields.string()?;
        Some(Self {
            id,
            topic,
            metadata: fields.map()?,
        })
    }
}

/// Counts of a whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages in the file.
    pub messages: u64,
    /// Metadata records in the file.
    pub metadata: u32,
    /// Attachments in the file.
    pub attachments: u32,
    /// Chunks in the file.
    pub chunks: u32,
    /// Messages of each channel.
    pub per_channel: BTreeMap<u16, u64>,
}

impl Statistics {
    /// Takes the statistics apart; `None` if their fields do not fit `body`.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let messages = fields.u64()?;
        fields.bytes(2 + 4)?;
        let attachments = fields.u32()?;
        let metadata = fields.u32()?;
        let chunks = fields.u32()?;
        fields.bytes(8 + 8)?;
        let mut counts = Fields(fields.prefixed()?);
        let mut per_channel = BTreeMap::new();
        while !counts.0.is_empty() {
            let channel = counts.u16()?;
            per_channel.insert(channel, counts.u64()?);
        }
        Some(Self {
            messages,
            metadata,
            attachments,
            chunks,
            per_channel,
        })
    }
}

/// The end of a file: where its summary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Offset of the first record of the summary, 0 if there is none.
    pub summary_start: u64,
    /// CRC-32 from there to this very field.
    pub summary_crc: u32,
}

impl Footer {
    /// Bytes of its body.
    pub const LEN: u64 = 8 + 8 + 4;

    /// Takes a footer apart; `None` if `body` is too short.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let summary_start = fields.u64()?;
        fields.u64()?;
        Some(Self {
            summary_start,
            summary_crc: fields.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_slice_is_refused() {
        assert!(Fields(b"\xff\xff\xff\xffabc").prefixed().is_none());
        assert!(
            Fields(b"\x05\xff\xff\xff\xff\xff\xff\xff\xffabc")
                .record()
                .is_none()
        );
    }

    #[test]
    fn a_chunk_with_bytes_left_over_is_refused() {
        let mut body = vec![0; 28];
        body.extend(4u32.to_le_bytes());
        body.extend(b"zstd");
        body.extend(2u64.to_le_bytes());
        assert_eq!(body.len() as u64, CHUNK_FIXED);
        body.extend(b"xy");
        assert_eq!(
            Chunk::parse(&body).map(|chunk| chunk.records),
            Some(&b"xy"[..])
        );
        body.push(0);
        assert!(Chunk::parse(&body).is_none());
    }

    #[test]
    fn a_map_with_half_an_entry_is_refused() {
        let entry = b"\x01\0\0\0k\x01\0\0\0v";
        for len in 0..entry.len() {
            let mut bytes = u32::try_from(len).expect("short").to_le_bytes().to_vec();
            bytes.extend(&entry[..len]);
            assert_eq!(Fields(&bytes).map().is_some(), len == 0, "{len}");
        }
    }
}
