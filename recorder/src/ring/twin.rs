//! The twin of a ring: a copy in a file on disk, for the day on which the kernel dies.
//!
//! Whoever records never waits for it: the ring is read as a crash reader reads it, through its file, and only the thread that
//! keeps the twin waits for the disk.
//!
//! The twin is laid out as the ring is. When power goes, of what was written since the last flush that came to its end any
//! sector may be there or not; so what a segment holds counts only as far as a checksum in its header vouches for it, and that
//! header, which is one sector with its beginning, vouches for two lengths: what it holds now, and what it held when the last
//! flush came to its end. Records are only ever added behind those that the second vouches for, so one of both is right. One
//! flush is therefore one `fdatasync`, and nothing in it needs an order.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use zerocopy::IntoBytes as _;

use super::{
    config::RingError,
    file,
    follow::Copied,
    layout::{ArenaHeader, HEADER_BYTES, SEGMENT_HEADER_BYTES, TWIN_MAGIC, header_checksum},
    look::read_header,
};
use crate::event::ClockPair;

/// Writes a twin.
#[derive(Debug)]
pub struct Twin {
    ring: File,
    file: File,
    segment_bytes: usize,
    segments: Vec<Copied>,
    buffer: Vec<u8>,
}

impl Twin {
    /// Creates an empty twin at `path` of the ring at `ring`. A file that was there is replaced.
    ///
    /// # Errors
    ///
    /// There is no such ring, or what the system refused.
    pub fn create(path: &Path, ring: &Path) -> Result<Self, RingError> {
        let failed = |action, path: &Path, source| RingError::File {
            action,
            path: path.to_owned(),
            source,
        };
        let source = File::open(ring).map_err(|error| failed("open", ring, error))?;
        let mut header = read_header(&source).map_err(|error| failed("read", ring, error))?;
        let segments: u32 = header.lanes.iter().map(|lane| lane.segments).sum();
        let segment_bytes = header.segment_bytes as usize;
        seal(
            &mut header,
            ClockPair {
                boot_ns: 0,
                unix_ns: 0,
            },
        );
        let file = file::create(Some(path), &header)?;
        // By it whoever finds the twin knows that it is in use.
        let locked = file.try_lock().map_err(io::Error::from);
        let synced = locked.and_then(|()| file.sync_all());
        let kept = synced.and_then(|()| match path.parent() {
            // So that the name outlives the kernel, too.
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        });
        kept.map_err(|error| failed("flush", path, error))?;
        Ok(Self {
            ring: source,
            file,
            segment_bytes,
            segments: vec![Copied::default(); segments as usize],
            buffer: Vec::new(),
        })
    }

    /// Copies what the ring has taken since, waits until the disk has it, and returns how many bytes of records that were.
    ///
    /// # Errors
    ///
    /// What the disk refused: then nobody knows what it holds, and the twin is to be created again.
    pub fn flush(&mut self, now: ClockPair) -> io::Result<u64> {
        let mut bytes = 0;
        for index in 0..self.segments.len() {
            bytes += self.copy(index)? as u64;
        }
        // Behind the segments: whatever was evicted meanwhile is known of.
        let mut header = read_header(&self.ring)?;
        seal(&mut header, now);
        self.file.write_all_at(header.as_bytes(), 0)?;
        self.file.sync_data()?;
        for segment in &mut self.segments {
            segment.flushed();
        }
        Ok(bytes)
    }

    /// Copies what is new in a segment; returns how many bytes of records that is.
    fn copy(&mut self, index: usize) -> io::Result<usize> {
        let at = (HEADER_BYTES + index * self.segment_bytes) as u64;
        let capacity = self.segment_bytes - SEGMENT_HEADER_BYTES;
        let copied = &mut self.segments[index];
        let Some((header, from)) = copied.follow(&self.ring, at, capacity, &mut self.buffer)?
        else {
            return Ok(0);
        };
        let records = at + (SEGMENT_HEADER_BYTES + from) as u64;
        self.file.write_all_at(&self.buffer, records)?;
        self.file.write_all_at(header.as_bytes(), at)?;
        Ok(self.buffer.len())
    }
}

/// Makes the header of a ring that of its twin.
fn seal(header: &mut ArenaHeader, now: ClockPair) {
    header.magic = TWIN_MAGIC;
    header.copied_boot_ns = now.boot_ns;
    header.copied_unix_ns = now.unix_ns;
    header.checksum = header_checksum(header);
}
