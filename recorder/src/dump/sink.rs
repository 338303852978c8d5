//! Where the bytes of a dump go: counted, hashed and bounded.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::Grow;
use super::file::NewFile;

/// Why bytes could not be taken.
#[derive(Debug)]
pub(super) enum SinkError {
    /// The file would become longer than it may.
    TooLarge,
    /// What is free on the file system is to stay free.
    LowSpace,
    /// The file system refused them.
    Io(io::Error),
}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes after which the free space is looked at again.
const LOOK_BYTES: u64 = 256 << 10;

pub(super) struct Sink {
    file: NewFile,
    bytes: u64,
    bytes_max: u64,
    may_grow: Grow,
    /// Length of the file at which the free space is looked at again.
    look_at: u64,
    crc: crc32fast::Hasher,
    sha256: Sha256,
}

impl Sink {
    pub(super) fn new(file: NewFile, bytes_max: u64, may_grow: Grow) -> Self {
        Self {
            file,
            bytes: 0,
            bytes_max,
            may_grow,
            look_at: LOOK_BYTES,
            crc: crc32fast::Hasher::new(),
            sha256: Sha256::new(),
        }
    }

    /// Returns the bytes written so far: the offset of the next.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the CRC-32 of the bytes written so far.
    pub(super) fn crc(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// Lets the file become longer by this.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.bytes_max += bytes;
    }

    /// Writes all of `bytes`, or none if there is no room for all.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let end = self.bytes + bytes.len() as u64;
        if end > self.bytes_max {
            return Err(SinkError::TooLarge);
        }
        if end > self.look_at {
            if !(self.may_grow)() {
                return Err(SinkError::LowSpace);
            }
            self.look_at = end + LOOK_BYTES;
        }
        self.file.write_all(bytes)?;
        self.crc.update(bytes);
        self.sha256.update(bytes);
        self.bytes = end;
        Ok(())
    }

    /// Returns the file and the SHA-256 of all bytes, in hex.
    pub(super) fn finish(self) -> (NewFile, String) {
        (self.file, hex(&self.sha256.finalize()))
    }
}

/// Returns the SHA-256 of `bytes`, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
