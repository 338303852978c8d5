//! Finds the records of a file one after the other, and the next chunk behind what is broken.
//!
//! ```text
//! magic │ header │ records: metadata, chunks, … │ data end │ summary │ footer │ magic
//!         └── opcode u8, length u64, body ──┘
//! ```
//!
//! The walk trusts no length that leads nowhere. When there is no record where one should be, it searches for the next
//! chunk by its signature, from the end of the last record whose content was confirmed: a wrong length may have led past
//! it. It never goes back behind a chunk that it gave out, so that every walk ends.
//!
//! Attachments stand behind all chunks. What they hold may look like a chunk (another dump, say), so nothing is searched for
//! behind the first of them.

use std::io;

use mcap::records::op;

use super::attachments::Attachment;
use super::damage::{Damage, Flaw};
use super::source::Source;
use super::summary::Summary;
use super::wire::{CHUNK_FIXED, Footer, MAGIC, PREFIX};

/// Bytes searched at first for the next chunk, and at a time in the end: one that is near costs little.
const SEARCH_BYTES_FIRST: usize = 4 << 10;
const SEARCH_BYTES: usize = 1 << 20;

/// Most times that the walk goes back to a chunk that a wrong length led past: bounds the time a made-up file can cost.
const REWINDS_MAX: u32 = 256;

/// Offset of the signature in a chunk record: behind opcode, length, two times, size and CRC.
const SIGNATURE_AT: u64 = PREFIX + 8 + 8 + 8 + 4;

/// The length and the name of the compression, as they stand in every chunk of a dump.
const SIGNATURE: [u8; 8] = *b"\x04\0\0\0zstd";

/// Where a record is and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its opcode.
    pub offset: u64,
    /// What it is.
    pub opcode: u8,
    /// Length of its body, in bytes; the file is that long.
    pub len: u64,
}

impl Extent {
    /// Returns the offset of the body.
    pub fn body(&self) -> u64 {
        self.offset + PREFIX
    }

    /// Returns the offset behind the record.
    pub fn end(&self) -> u64 {
        self.body() + self.len
    }
}

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Extent),
    /// Bytes that are no record.
    Damage(Damage),
}

/// A walk through the records of a file.
#[derive(Debug)]
pub struct Walk<'a> {
    source: &'a Source,
    /// Where the next record should be.
    at: u64,
    /// No chunk before this offset is given out any more.
    floor: u64,
    /// Offset of the data end record, if an intact footer leads to it.
    data_end: Option<u64>,
    /// No chunk is searched for behind this offset: attachments begin there.
    search_end: u64,
    /// How often the search found a chunk that a wrong length had led past.
    rewinds: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Records,
    Footer,
    Done,
}

impl<'a> Walk<'a> {
    /// Starts at the first byte. An intact summary says where the data section and the chunks in it end.
    pub fn new(source: &'a Source, summary: Option<&Summary>) -> Self {
        Self {
            source,
            at: 0,
            floor: 0,
            data_end: summary.map(|summary| summary.data_end),
            search_end: summary.map_or(source.len(), Summary::chunks_end),
            rewinds: 0,
            state: State::Start,
        }
    }

    /// Returns the next record or broken place, `None` at the end.
    ///
    /// # Errors
    ///
    /// Only what the file system reports; damage is a step.
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        let left = self.source.len() - self.at;
        match self.state {
            State::Done => Ok(None),
            State::Start => {
                self.state = State::Records;
                self.magic(left)
            }
            State::Footer => {
                self.state = State::Done;
                let len = left.min(MAGIC.len() as u64 + 1);
                let mut end = Vec::new();
                self.source
                    .read_into(&mut end, self.at, usize::try_from(len).unwrap_or(0))?;
                Ok((end != MAGIC).then(|| self.damage(self.at, left, Flaw::Magic)))
            }
            State::Records if left == 0 => {
                self.state = State::Done;
                Ok(Some(self.damage(self.at, 0, Flaw::Unfinished)))
            }
            State::Records => self.record(left),
        }
    }

    /// Returns the offset of the next step.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Confirms a record: the search for a chunk need not look into it.
    pub fn confirm(&mut self, extent: &Extent) {
        self.floor = self.floor.max(extent.end());
    }

    /// Takes back a record whose fields contradict its length, and goes on at what can be found behind its start.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn reject(&mut self, extent: &Extent, flaw: Flaw) -> io::Result<Step> {
        self.at = extent.offset;
        self.floor = extent.offset + 1;
        self.state = State::Records;
        self.search(flaw)
    }

    fn damage(&self, offset: u64, bytes: u64, flaw: Flaw) -> Step {
        Step::Damage(Damage {
            offset,
            bytes,
            flaw,
        })
    }

    fn magic(&mut self, left: u64) -> io::Result<Option<Step>> {
        let len = MAGIC.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut start = Vec::new();
        self.source.read_into(&mut start, 0, len)?;
        self.at = len as u64;
        self.floor = self.at;
        match start == MAGIC {
            true => self.step(),
            false => Ok(Some(self.damage(0, len as u64, Flaw::Magic))),
        }
    }

    fn record(&mut self, left: u64) -> io::Result<Option<Step>> {
        let at = self.at;
        let Some(extent) = read_extent(self.source, at)? else {
            let cut = match left < PREFIX {
                true => Flaw::Cut,
                false => Flaw::NoRecord,
            };
            return self.search(cut).map(Some);
        };
        if extent.opcode == op::ATTACHMENT {
            if Attachment::parse(self.source, &extent)?.is_none() {
                return self.search(Flaw::Malformed("attachment")).map(Some);
            }
            self.search_end = self.search_end.min(at);
            self.floor = self.floor.max(at);
        }
        if extent.end() > self.source.len() {
            return self.search(Flaw::Cut).map(Some);
        }
        self.at = extent.end();
        if extent.opcode == op::CHUNK {
            self.floor = self.floor.max(at + 1);
        } else if extent.opcode == op::FOOTER {
            if extent.len != Footer::LEN {
                return self.search(Flaw::Malformed("footer")).map(Some);
            }
            self.state = State::Footer;
        }
        Ok(Some(Step::Record(extent)))
    }

    /// Goes on behind something that is no record, and says what was skipped.
    fn search(&mut self, flaw: Flaw) -> io::Result<Step> {
        if self.rewinds == REWINDS_MAX {
            self.floor = self.floor.max(self.at);
        }
        let (found, what) = self.resume(self.at)?;
        self.rewinds += u32::from(found < self.at);
        let from = match found < self.at {
            true => self.floor,
            false => self.at,
        };
        // Where something follows, the file was not cut: the length was wrong.
        let flaw = match (flaw, what) {
            (Flaw::Cut, Found::Chunk | Found::DataEnd) => Flaw::NoRecord,
            (flaw, _) => flaw,
        };
        self.at = found;
        self.floor = found;
        if what == Found::Nothing {
            self.state = State::Done;
        }
        Ok(self.damage(from, found - from, flaw))
    }

    /// Finds where to go on: the next chunk, else the end of the data section if it is not behind `at`.
    fn resume(&self, at: u64) -> io::Result<(u64, Found)> {
        if let Some(chunk) = find_chunk(self.source, self.floor, self.search_end)? {
            return Ok((chunk, Found::Chunk));
        }
        Ok(match self.data_end {
            Some(end) if end > at.max(self.floor) => (end, Found::DataEnd),
            _ => (self.source.len(), Found::Nothing),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Chunk,
    DataEnd,
    Nothing,
}

/// Reads the extent at an offset; `None` if that is no record of MCAP.
///
/// # Errors
///
/// What the file system reports.
pub fn read_extent(source: &Source, offset: u64) -> io::Result<Option<Extent>> {
    if offset
        .checked_add(PREFIX)
        .is_none_or(|end| end > source.len())
    {
        return Ok(None);
    }
    let mut prefix = [0; PREFIX as usize];
    source.read_at(&mut prefix, offset)?;
    let [opcode, len @ ..] = prefix;
    let len = u64::from_le_bytes(len);
    let known = (op::HEADER..=op::DATA_END).contains(&opcode);
    let fits = len.checked_add(offset + PREFIX).is_some();
    Ok((known && fits).then_some(Extent {
        offset,
        opcode,
        len,
    }))
}

/// Finds the first chunk at or behind an offset, and before another, by its signature.
fn find_chunk(source: &Source, from: u64, end: u64) -> io::Result<Option<u64>> {
    let end = end.min(source.len());
    let mut at = from.saturating_add(SIGNATURE_AT);
    let mut window = Vec::new();
    let mut most = SEARCH_BYTES_FIRST;
    while at + (SIGNATURE.len() as u64) <= end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        source.read_into(&mut window, at, left.min(most))?;
        most = (most * 2).min(SEARCH_BYTES);
        for (index, found) in window.windows(SIGNATURE.len()).enumerate() {
            if found == SIGNATURE {
                let offset = at + index as u64 - SIGNATURE_AT;
                if is_chunk(source, offset)? {
                    return Ok(Some(offset));
                }
            }
        }
        // The next window begins with the bytes that were too few for a signature.
        at += (window.len() - (SIGNATURE.len() - 1)) as u64;
    }
    Ok(None)
}

/// Tells whether the record at an offset is a chunk whose lengths agree and that is there to its end.
fn is_chunk(source: &Source, offset: u64) -> io::Result<bool> {
    let Some(extent) = read_extent(source, offset)? else {
        return Ok(false);
    };
    if extent.opcode != op::CHUNK || extent.end() > source.len() || extent.len < CHUNK_FIXED {
        return Ok(false);
    }
    let mut compressed = [0; 8];
    source.read_at(&mut compressed, extent.body() + CHUNK_FIXED - 8)?;
    Ok(u64::from_le_bytes(compressed) == extent.len - CHUNK_FIXED)
}
