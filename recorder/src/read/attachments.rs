//! Attachments: where they are, what they hold, and whether that is what was written.

use std::io::{self, Write};

use mcap::records::op;

use super::damage::{Damage, Damages, Flaw};
use super::source::Source;
use super::summary::Summary;
use super::walk::{Extent, Step, Walk, read_extent};
use super::wire::{Fields, PREFIX};

/// Most attachments that are listed.
const ATTACHMENTS_MAX: usize = 4096;
/// Longest name or type, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of the fields before the data: two times, two texts and the length.
const HEAD_BYTES_MAX: usize = 8 + 8 + 2 * (4 + TEXT_BYTES_MAX) + 8;
/// Bytes of the CRC behind the data.
const CRC_BYTES: u64 = 4;
/// Bytes read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// An attachment and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name. It is what the file says: no path to be trusted.
    pub name: String,
    /// Its type: "text/plain".
    pub media_type: String,
    /// When its making began, in nanoseconds since 1970.
    pub created_unix_ns: u64,
    /// When it was complete, in nanoseconds since 1970.
    pub finished_unix_ns: u64,
    /// Length of its data in bytes.
    pub bytes: u64,
    /// The record that it is.
    extent: Extent,
}

/// The attachments of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Those that are there, in the order of the file. Their data may be broken nevertheless.
    pub found: Vec<Attachment>,
    /// What should be one and is not.
    pub broken: Vec<Damage>,
    /// Other places where the file is broken, if its summary is gone: there may have been attachments.
    pub skipped: Damages,
}

impl Attachment {
    /// Takes the head of an attachment apart; `None` if its fields do not fill the record exactly.
    ///
    /// # Errors
    ///
    /// What the file system reports. The record may end behind the file's end.
    pub(super) fn parse(source: &Source, extent: &Extent) -> io::Result<Option<Self>> {
        let there = source.len().saturating_sub(extent.body()).min(extent.len);
        let len = usize::try_from(there).map_or(HEAD_BYTES_MAX, |len| len.min(HEAD_BYTES_MAX));
        let mut head = Vec::new();
        source.read_into(&mut head, extent.body(), len)?;
        Ok(Self::from_head(&head, extent))
    }

    fn from_head(head: &[u8], extent: &Extent) -> Option<Self> {
        let mut fields = Fields(head);
        let finished_unix_ns = fields.u64()?;
        let created_unix_ns = fields.u64()?;
        let name = fields.string()?.to_owned();
        let media_type = fields.string()?.to_owned();
        let bytes = fields.u64()?;
        let before = (head.len() - fields.0.len()) as u64;
        let all = before.checked_add(bytes)?.checked_add(CRC_BYTES)?;
        (extent.opcode == op::ATTACHMENT && all == extent.len).then_some(Self {
            name,
            media_type,
            created_unix_ns,
            finished_unix_ns,
            bytes,
            extent: *extent,
        })
    }

    /// Writes the data to `out`; returns what is wrong with it, which is known only at the end.
    ///
    /// # Errors
    ///
    /// What the file system or `out` reports.
    pub fn copy_to(&self, source: &Source, out: &mut dyn Write) -> io::Result<Option<Damage>> {
        let data_at = self.extent.end() - CRC_BYTES - self.bytes;
        let mut crc = crc32fast::Hasher::new();
        let mut block = Vec::new();
        let head = usize::try_from(data_at - self.extent.body()).unwrap_or(HEAD_BYTES_MAX);
        source.read_into(&mut block, self.extent.body(), head)?;
        crc.update(&block);
        let end = data_at + self.bytes;
        let mut at = data_at;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            source.read_into(&mut block, at, left.min(BLOCK_BYTES))?;
            crc.update(&block);
            out.write_all(&block)?;
            at += block.len() as u64;
        }
        let mut stated = [0; CRC_BYTES as usize];
        source.read_at(&mut stated, end)?;
        let (stated, found) = (u32::from_le_bytes(stated), crc.finalize());
        let flaw = Flaw::Crc {
            of: "attachment",
            stated,
            found,
        };
        Ok((stated != found).then_some(damage(&self.extent, flaw)))
    }
}

impl Attachments {
    /// Finds the attachments of a file: by its summary, or by a walk through what is left.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub(super) fn read(source: &Source, summary: Option<&Summary>) -> io::Result<Self> {
        let mut attachments = Self::default();
        if let Some(summary) = summary {
            for extent in &summary.attachments {
                // The record itself says whether the summary is right about it.
                let is_there = extent.end() <= source.len()
                    && read_extent(source, extent.offset)? == Some(*extent);
                attachments.take(source, extent, is_there)?;
            }
            return Ok(attachments);
        }
        let mut walk = Walk::new(source, None);
        while let Some(step) = walk.step()? {
            match step {
                Step::Record(extent) if extent.opcode == op::ATTACHMENT => {
                    attachments.take(source, &extent, true)?;
                }
                Step::Record(_) => {}
                Step::Damage(damage) => attachments.skipped.push(damage),
            }
        }
        Ok(attachments)
    }

    fn take(&mut self, source: &Source, extent: &Extent, is_there: bool) -> io::Result<()> {
        if self.found.len() + self.broken.len() == ATTACHMENTS_MAX {
            return Ok(());
        }
        let attachment = match is_there {
            true => Attachment::parse(source, extent)?,
            false => None,
        };
        match attachment {
            Some(attachment) => self.found.push(attachment),
            None => self
                .broken
                .push(damage(extent, Flaw::Malformed("attachment"))),
        }
        Ok(())
    }
}

fn damage(extent: &Extent, flaw: Flaw) -> Damage {
    Damage {
        offset: extent.offset,
        bytes: PREFIX.saturating_add(extent.len),
        flaw,
    }
}
