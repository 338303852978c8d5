//! ELF files as what may have become of them allows: read by position, never mapped, bounded.
//!
//! The files belong to programs that crashed, perhaps of a stranger's container. A mapped file that is cut short meanwhile
//! would end the reader; a read that comes back short is only an error.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use object::elf::{ELF_NOTE_GNU, FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PF_X};
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{
    Endianness, FileKind, Object as _, ObjectSection as _, ObjectSegment as _, ReadCache, ReadRef,
    SegmentFlags,
};

use crate::event::{hex, proto};

/// Most bytes that are read at once: a table of a million symbols. A file may be sparse and claim any size.
const READ_BYTES_MAX: u64 = 32 << 20;
/// The smallest page: segments are mapped in multiples of it.
const PAGE_BYTES: u64 = 4096;

/// As [`READ_BYTES_MAX`], of who reads no more than a few headers.
const BRIEF_READ_BYTES_MAX: u64 = 64 << 10;

/// An open ELF file.
pub struct Elf {
    path: PathBuf,
    bytes: ReadCache<File>,
}

/// Reads of a file, none larger than so many bytes.
#[derive(Clone, Copy)]
pub(super) struct Bounded<'a>(&'a ReadCache<File>, u64);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        match size <= self.1 {
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
        let Some(file) = open_regular(path)? else {
            return Ok(None);
        };
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

    fn bounded(&self) -> Bounded<'_> {
        Bounded(&self.bytes, READ_BYTES_MAX)
    }

    pub(super) fn file(&self) -> Option<object::File<'_, Bounded<'_>>> {
        object::File::parse(self.bounded()).ok()
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
        let data = self.bounded().read_bytes_at(offset, bytes).ok()?;
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

fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        // What is a fifo by now must not keep us waiting.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Returns the GNU build ID of a file in hex, `None` if it has none: by what is loaded of it, as the kernel does, and
/// without reading more than a few headers.
///
/// # Errors
///
/// Those of the file system.
pub fn build_id_of(path: &Path) -> io::Result<Option<String>> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let bytes = ReadCache::new(file);
    let bytes = Bounded(&bytes, BRIEF_READ_BYTES_MAX);
    Ok(match FileKind::parse(bytes) {
        Ok(FileKind::Elf64) => noted::<FileHeader64<Endianness>>(bytes),
        Ok(FileKind::Elf32) => noted::<FileHeader32<Endianness>>(bytes),
        Ok(_) | Err(_) => None,
    })
}

fn noted<Elf: FileHeader<Endian = Endianness>>(bytes: Bounded<'_>) -> Option<String> {
    let header = Elf::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, bytes).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, bytes) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
                return Some(hex(note.desc()));
            }
        }
    }
    None
}
