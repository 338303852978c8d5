//! The summary at the end of a file: what is where, and how many.

use std::io;

use mcap::records::op;

use super::source::Source;
use super::walk::Extent;
use super::wire::{CHANNELS_BYTES_MAX, Channel, Fields, Footer, MAGIC, PREFIX, Statistics};

/// Longest summary that is read, in bytes.
const SUMMARY_BYTES_MAX: usize = 16 << 20;

/// Most metadata records, and most attachments, that are looked for.
const INDEXED_MAX: usize = 4097;

/// Bytes of the data end record, which stands before the summary.
const DATA_END: u64 = PREFIX + 4;

/// An intact summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Offset of its first record.
    pub start: u64,
    /// Offset of the data end record before it.
    pub data_end: u64,
    /// CRC-32 of everything before the data end record, 0 if the writer stated none.
    pub data_crc: u32,
    /// Counts of the whole file.
    pub statistics: Option<Statistics>,
    /// Every channel.
    pub channels: Vec<Channel>,
    /// Where the metadata records are.
    pub metadata: Vec<Extent>,
    /// Where the attachments are.
    pub attachments: Vec<Extent>,
}

impl Summary {
    /// Reads the summary of a file; `None` if the file's end, the summary or its CRC is not intact.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn read(source: &Source) -> io::Result<Option<Self>> {
        let end = MAGIC.len() as u64;
        let footer_len = PREFIX + Footer::LEN;
        let Some(footer_at) = source.len().checked_sub(end + footer_len) else {
            return Ok(None);
        };
        let mut tail = Vec::new();
        let tail_len = usize::try_from(footer_len + end).unwrap_or(0);
        source.read_into(&mut tail, footer_at, tail_len)?;
        let mut fields = Fields(&tail);
        let footer = match fields.record() {
            Some((op::FOOTER, body)) if fields.0 == MAGIC => Footer::parse(body),
            _ => None,
        };
        match footer {
            Some(footer) => Self::from_footer(source, footer, footer_at),
            None => Ok(None),
        }
    }

    fn from_footer(source: &Source, footer: Footer, footer_at: u64) -> io::Result<Option<Self>> {
        let start = footer.summary_start;
        let (Some(len), Some(data_end)) =
            (footer_at.checked_sub(start), start.checked_sub(DATA_END))
        else {
            return Ok(None);
        };
        // The CRC takes in the footer up to the CRC itself.
        let checked = len + PREFIX + Footer::LEN - 4;
        let Some(checked) = usize::try_from(checked)
            .ok()
            .filter(|bytes| *bytes <= SUMMARY_BYTES_MAX)
        else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        source.read_into(&mut bytes, start, checked)?;
        if crc32fast::hash(&bytes) != footer.summary_crc {
            return Ok(None);
        }
        let mut end = [0; DATA_END as usize];
        source.read_at(&mut end, data_end)?;
        let Some((op::DATA_END, data_crc)) = Fields(&end).record() else {
            return Ok(None);
        };
        Ok(Self {
            start,
            data_end,
            data_crc: Fields(data_crc).u32().unwrap_or(0),
            ..Self::default()
        }
        .with_records(Fields(&bytes)))
    }

    /// Takes in the records; `None` if one of them is malformed.
    fn with_records(mut self, mut records: Fields<'_>) -> Option<Self> {
        let mut channel_bytes = 0;
        loop {
            let (opcode, body) = match records.record() {
                Some(record) => record,
                // What is left is the head of the footer, which the CRC took in.
                None => return Some(self),
            };
            match opcode {
                op::CHANNEL => {
                    channel_bytes += body.len();
                    if channel_bytes <= CHANNELS_BYTES_MAX {
                        self.channels.push(Channel::parse(body)?);
                    }
                }
                op::STATISTICS => self.statistics = Some(Statistics::parse(body)?),
                op::METADATA_INDEX => push(&mut self.metadata, indexed(body, op::METADATA)?),
                op::ATTACHMENT_INDEX => {
                    push(&mut self.attachments, indexed(body, op::ATTACHMENT)?);
                }
                _ => {}
            }
        }
    }

    /// Returns the offset that all chunks are before, if the summary knows one.
    pub fn chunks_end(&self) -> u64 {
        let attachments = self.attachments.iter().map(|extent| extent.offset);
        attachments
            .min()
            .unwrap_or(self.data_end)
            .min(self.data_end)
    }
}

/// Adds a record to those that are looked for; further ones, and such as begin before the end of the last, are not.
fn push(records: &mut Vec<Extent>, record: Extent) {
    let follows = records
        .last()
        .is_none_or(|last| last.end() <= record.offset);
    if follows && records.len() < INDEXED_MAX {
        records.push(record);
    }
}

/// Returns the record that an index entry leads to: both kinds begin with its offset and its length.
fn indexed(body: &[u8], opcode: u8) -> Option<Extent> {
    let mut fields = Fields(body);
    let offset = fields.u64()?;
    let len = fields.u64()?.checked_sub(PREFIX)?;
    // An end beyond what can be counted leads nowhere.
    offset.checked_add(PREFIX)?.checked_add(len)?;
    Some(Extent {
        offset,
        opcode,
        len,
    })
}
