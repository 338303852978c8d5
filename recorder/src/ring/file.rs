//! The file behind an arena.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

#[cfg(not(miri))]
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use zerocopy::IntoBytes;

use super::{
    config::RingError,
    layout::{ArenaHeader, HEADER_BYTES, SegmentHeader},
};

/// Creates the file and fills in every header.
///
/// A named file comes into being under its name only when it is whole. It replaces what was there: an arena that another
/// agent left is to be recovered before.
pub(super) fn create(path: Option<&Path>, header: &ArenaHeader) -> Result<File, RingError> {
    let Some(path) = path else {
        let shown = Path::new("memfd");
        let file = nameless().map_err(|error| failed("create", shown, error))?;
        fill(&file, header).map_err(|error| failed("allocate", shown, error))?;
        return Ok(file);
    };
    let temporary = temporary_name(path);
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove the unfinished", &temporary, error)),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed("create", &temporary, errno))?;
    let file = File::from(file);
    let named = fill(&file, header)
        .map_err(|error| failed("allocate", &temporary, error))
        .and_then(|()| fs::rename(&temporary, path).map_err(|error| failed("rename", path, error)));
    if named.is_err() {
        // Best effort: what failed is worth more to the caller than what is left over.
        drop(fs::remove_file(&temporary));
    }
    named.map(|()| file)
}

/// Creates a file in memory.
#[cfg(not(miri))]
fn nameless() -> io::Result<File> {
    let file = rustix::fs::memfd_create("recorder-ring", MemfdFlags::CLOEXEC)?;
    Ok(file.into())
}

/// Creates a file that has lost its name: the interpreter knows no better.
#[cfg(miri)]
fn nameless() -> io::Result<File> {
    tempfile::tempfile()
}

/// Returns the name that the file has while it is being made.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Gives the file its size, its blocks and its headers.
fn fill(file: &File, header: &ArenaHeader) -> io::Result<()> {
    let segments: u32 = header.lanes.iter().map(|lane| lane.segments).sum();
    let size = HEADER_BYTES as u64 + u64::from(segments) * u64::from(header.segment_bytes);
    file.set_len(size)?;
    // Without blocks of its own, a store into the mapping on a full file system would kill the agent with SIGBUS.
    match allocate(file, size) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(0).take(size), &mut &*file)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    let mut at = HEADER_BYTES as u64;
    for (lane, entry) in (0..).zip(&header.lanes) {
        for index in entry.first_segment..entry.first_segment + entry.segments {
            let segment = SegmentHeader {
                generation: 0,
                committed: 0,
                first_boot_ns: 0,
                last_boot_ns: 0,
                records: 0,
                lane,
                index,
                vouched: [0; 2],
            };
            file.write_all_at(segment.as_bytes(), at)?;
            at += u64::from(header.segment_bytes);
        }
    }
    file.write_all_at(header.as_bytes(), 0)
}

#[cfg(not(miri))]
fn allocate(file: &File, size: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size)
}

/// Does nothing: the interpreter maps no files.
#[cfg(miri)]
fn allocate(_: &File, _: u64) -> Result<(), Errno> {
    Ok(())
}

fn failed(action: &'static str, path: &Path, source: impl Into<io::Error>) -> RingError {
    RingError::File {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}
