//! Where the bytes of a dump come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are read by position and never written.
///
/// # Shape
///
/// The length is taken once: what is appended later is not seen, what is cut off later is an I/O error.
#[derive(Debug)]
pub enum Source {
    /// A file and its length when it was opened.
    File(File, u64),
    /// Bytes in memory.
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a regular file.
    ///
    /// # Errors
    ///
    /// What the kernel says; `InvalidInput` for what is no regular file, because a fifo would block and a device has no
    /// length.
    pub fn open(path: &Path) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?;
        if !kind.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self::File(file, len))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Tells whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if they end before the buffer is full.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.read_exact_at(buffer, offset),
            Self::Memory(bytes) => {
                let from = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..)?.get(..buffer.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// Replaces the content of `buffer` by the `len` bytes from `offset` on, keeping its capacity.
    ///
    /// # Errors
    ///
    /// As [`Source::read_at`]; the caller bounds `len`.
    pub fn read_into(&self, buffer: &mut Vec<u8>, offset: u64, len: usize) -> io::Result<()> {
        buffer.resize(len, 0);
        self.read_at(buffer, offset)
    }
}
