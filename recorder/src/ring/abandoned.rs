//! The arena of an agent that is no more.
//!
//! It is read, never written, and only while no agent uses it. Whatever its bytes are, reading ends, takes no more memory than
//! the file is long, and gives whole records only: those below the length that a segment had committed.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use recorder_ebpf::abi::{EventKind, Header, LAYOUT_HASH, Lane, Note, NoteKind, decode};
use thiserror::Error;
use zerocopy::FromBytes;

use super::{
    LaneWindow, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_MAX, boot_id,
    layout::{
        ArenaHeader, HEADER_BYTES, LANES, LaneEntry, MAGIC, Records, SEGMENT_HEADER_BYTES,
        SegmentHeader, VERSION, boot_ns,
    },
};

/// Why nothing of an arena can be kept.
#[derive(Debug, Error)]
pub enum AbandonedError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is no arena, or a broken one.
    #[error("it is not an arena")]
    Malformed,
    /// Another version of the recorder laid it out.
    #[error("another version of the recorder wrote it")]
    OtherVersion,
    /// It is from before the host was booted: its times mean nothing now.
    #[error("it is from another boot")]
    OtherBoot,
}

/// An arena that was found, not read yet.
#[derive(Debug)]
pub struct OldArena {
    file: File,
    header: ArenaHeader,
}

/// What an agent left in its arena.
#[derive(Debug)]
pub struct Abandoned {
    /// Process id of the agent.
    pub pid: u32,
    lanes: [OldLane; LANES],
}

#[derive(Debug)]
struct OldLane {
    summary: LaneWindow,
    /// Committed bytes, oldest first.
    segments: Vec<Vec<u8>>,
}

impl OldArena {
    /// Opens the arena at `path`; `None` if there is none.
    ///
    /// The file may be replaced afterwards: what was opened stays.
    ///
    /// # Errors
    ///
    /// [`AbandonedError`].
    pub fn open(path: &Path) -> Result<Option<Self>, AbandonedError> {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let metadata = file.metadata()?;
        let mut bytes = [0; size_of::<ArenaHeader>()];
        if !metadata.is_file() || metadata.len() < HEADER_BYTES as u64 {
            return Err(AbandonedError::Malformed);
        }
        file.read_exact_at(&mut bytes, 0)?;
        let header = ArenaHeader::read_from_bytes(&bytes).map_err(|_| AbandonedError::Malformed)?;
        if header.magic != MAGIC {
            return Err(AbandonedError::Malformed);
        }
        if header.version != VERSION || header.layout_hash != LAYOUT_HASH {
            return Err(AbandonedError::OtherVersion);
        }
        if header.boot_id != boot_id()? {
            return Err(AbandonedError::OtherBoot);
        }
        if !is_plausible(&header, metadata.len()) {
            return Err(AbandonedError::Malformed);
        }
        Ok(Some(Self { file, header }))
    }

    /// Reads every record that was committed.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn read(&self) -> io::Result<Abandoned> {
        let mut lanes = Vec::with_capacity(LANES);
        for entry in &self.header.lanes {
            lanes.push(self.lane(entry)?);
        }
        let lanes = lanes
            .try_into()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Abandoned {
            pid: self.header.pid,
            lanes,
        })
    }

    fn lane(&self, entry: &LaneEntry) -> io::Result<OldLane> {
        let mut used = Vec::new();
        for index in entry.first_segment..entry.first_segment + entry.segments {
            let at = HEADER_BYTES as u64 + u64::from(index) * u64::from(self.header.segment_bytes);
            let mut bytes = [0; SEGMENT_HEADER_BYTES];
            self.file.read_exact_at(&mut bytes, at)?;
            let Ok(segment) = SegmentHeader::read_from_bytes(&bytes) else {
                continue;
            };
            let capacity = self.header.segment_bytes as usize - SEGMENT_HEADER_BYTES;
            let committed = usize::try_from(segment.committed).unwrap_or(usize::MAX);
            if segment.generation > 0 && (1..=capacity).contains(&committed) {
                used.push((segment.generation, at, committed));
            }
        }
        used.sort_unstable();
        let mut lane = OldLane {
            summary: LaneWindow {
                dropped: entry.dropped_records,
                ..LaneWindow::default()
            },
            segments: Vec::with_capacity(used.len()),
        };
        if entry.evicted_records > 0 {
            lane.summary.evicted_until_boot_ns = Some(entry.evicted_until_boot_ns);
            lane.summary.complete_after_boot_ns = Some(entry.evicted_until_boot_ns);
        }
        for (_, at, committed) in used {
            let mut bytes = vec![0; committed];
            self.file
                .read_exact_at(&mut bytes, at + SEGMENT_HEADER_BYTES as u64)?;
            lane.hold(bytes);
        }
        Ok(lane)
    }
}

impl OldLane {
    fn hold(&mut self, bytes: Vec<u8>) {
        let summary = &mut self.summary;
        for record in Records::new(&bytes) {
            let Some(at) = boot_ns(record) else { continue };
            summary.records += 1;
            summary.oldest_boot_ns = Some(summary.oldest_boot_ns.unwrap_or(at).min(at));
            summary.newest_boot_ns = summary.newest_boot_ns.max(Some(at));
        }
        summary.bytes += bytes.len() as u64;
        self.segments.push(bytes);
    }
}

impl Abandoned {
    /// Returns the lane's records, in the order in which they were committed.
    pub fn records(&self, lane: Lane) -> impl Iterator<Item = &[u8]> + Clone {
        let segments = &self.lanes[lane as usize].segments;
        segments.iter().flat_map(|bytes| Records::new(bytes))
    }

    /// Returns what there is of the lane, and what is lacking.
    pub fn lane(&self, lane: Lane) -> LaneWindow {
        self.lanes[lane as usize].summary
    }

    /// Returns when the oldest and the newest record happened; `None` if there is none.
    pub fn span(&self) -> Option<(u64, u64)> {
        let summaries = self.lanes.iter().map(|lane| lane.summary);
        let oldest = summaries.clone().filter_map(|lane| lane.oldest_boot_ns);
        let newest = summaries.filter_map(|lane| lane.newest_boot_ns);
        Some((oldest.min()?, newest.max()?))
    }

    /// Returns whether the agent ended as it should: it says so last.
    pub fn was_stopped(&self) -> bool {
        self.records(Lane::Sample).any(|record| {
            decode::<Header>(record).is_some_and(|header| header.kind == EventKind::Note as u8)
                && decode::<Note>(record).is_some_and(|note| note.kind == NoteKind::Stop as u32)
        })
    }

    /// Returns the last thing that the agent wrote itself.
    pub fn last_note(&self) -> Option<Header> {
        let notes = self.records(Lane::Sample).filter_map(decode::<Header>);
        notes
            .filter(|header| header.kind == EventKind::Note as u8)
            .last()
    }
}

/// Tells whether the lanes lie one behind the other inside a file of this length.
fn is_plausible(header: &ArenaHeader, len: u64) -> bool {
    if header.lane_count as usize != LANES
        || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes)
    {
        return false;
    }
    let mut next = 0;
    for lane in &header.lanes {
        if lane.first_segment != next || lane.segments > SEGMENTS_MAX {
            return false;
        }
        next += lane.segments;
    }
    next <= SEGMENTS_MAX
        && HEADER_BYTES as u64 + u64::from(next) * u64::from(header.segment_bytes) <= len
}
