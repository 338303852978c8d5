//! ELF files as what may have become of them allows: read by position, never mapped, bounded.
//!
//! The files belong to programs that crashed, perhaps of a stranger's container. A mapped file that is cut short meanwhile
//! would end the reader; a read that comes back short is only an error.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ReadCache, ReadRef, SegmentFlags,
    elf::PF_X,
};

use crate::event::{hex, proto};

/// Most bytes that are read at once: a table of a million symbols. A file may be sparse and claim any size.
const READ_BYTES_MAX: u64 = 32 << 20;
/// The smallest page: segments are mapped in multiples of it.
const PAGE_BYTES: u64 = 4096;

/// An open ELF file.
pub struct Elf {
    path: PathBuf,
    bytes: ReadCache<File>,
}

/// Reads of a file, none larger than [`READ_BYTES_MAX`].
#[derive(Clone, Copy)]
pub(super) struct Bounded<'a>(&'a ReadCache<File>);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        match size <= READ_BYTES_MAX {
            true => self.0.read_bytes_at(offset, size),
            false => Err(()),
        }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

impl Elf {
    /// Opens a regular file; `None` if it is no ELF file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            // What is a fifo by now must not keep us waiting.
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let elf = Self {
            path: path.to_owned(),
            bytes: ReadCache::new(file),
        };
        Ok(elf.file().is_some().then_some(elf))
    }

    /// Returns the path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> Option<object::File<'_, Bounded<'_>>> {
        object::File::parse(Bounded(&self.bytes)).ok()
    }

    /// Returns its GNU build ID in hex.
    pub fn build_id(&self) -> Option<String> {
        self.file()?.build_id().ok()?.map(hex)
    }

    /// Returns whether it has a section with content, of whatever size.
    pub fn has(&self, section: &str) -> bool {
        let range = |file: object::File<'_, Bounded<'_>>| {
            let section = file.section_by_name(section)?;
            section.file_range()
        };
        self.file()
            .and_then(range)
            .is_some_and(|(_, bytes)| bytes > 0)
    }

    /// Returns the address and the content of a section; `None` if it has none here, or too much.
    pub fn section(&self, name: &str) -> Option<(u64, &[u8])> {
        let file = self.file()?;
        let section = file.section_by_name(name)?;
        let (offset, bytes) = section.file_range().filter(|(_, bytes)| *bytes > 0)?;
        let data = Bounded(&self.bytes).read_bytes_at(offset, bytes).ok()?;
        Some((section.address(), data))
    }

    /// Returns the address, as this file counts, of what was at `address` of the process, `offset` bytes into the file that
    /// was mapped there.
    ///
    /// A file of debug data alone has lost its offsets; there, a mapping of just the length of its one segment of code tells
    /// where that began.
    pub fn address_of(
        &self,
        address: u64,
        offset: u64,
        mapping: Option<&proto::Mapping>,
    ) -> Option<u64> {
        let file = self.file()?;
        for segment in file.segments() {
            let (start, bytes) = segment.file_range();
            if (start..start.saturating_add(bytes)).contains(&offset) {
                return segment.address().checked_add(offset - start);
            }
        }
        let mut code = file.segments().filter(|segment| {
            let executable = matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if (p_flags & PF_X).0 != 0);
            executable && segment.file_range().1 == 0
        });
        let (segment, mapping) = (code.next()?, mapping?);
        let start = segment.address() & !(PAGE_BYTES - 1);
        let end = segment
            .address()
            .checked_add(segment.size())?
            .checked_next_multiple_of(PAGE_BYTES)?;
        let is_whole = mapping.end().checked_sub(mapping.start())? == end - start;
        (is_whole && code.next().is_none())
            .then(|| address.checked_sub(mapping.start())?.checked_add(start))
            .flatten()
    }
}
