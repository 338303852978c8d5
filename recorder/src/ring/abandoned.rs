//! The arena of an agent that is no more, or that still writes to it.
//!
//! It is read, never written. Whatever its bytes are, reading ends, takes no more memory than the file is long, and gives whole
//! records only. What is damaged is said once, as a [`Flaw`], and costs no more than what it lies in:
//!
//! | the file | then |
//! |---|---|
//! | is no file, too short, or nothing in it looks like a ring | there is nothing to read |
//! | has another magic, version or layout of records | it is read as far as it agrees with this version |
//! | has a header that cannot be | the segments tell where they lie and whose they are |
//! | is shorter than its header says | the segments that are there are read |
//!
//! | a segment | then |
//! |---|---|
//! | was never used, or was emptied | it has no records |
//! | has records up to the length that was committed | they are read: a record that was being written is beyond it |
//! | has bytes below that length that are no record | the records before them are read |
//! | has a length or a header that cannot be | records are read as long as each is possible and newer than those before it |
//! | was used anew while it was read | it counts as evicted |
//! | is one of a twin | what its checksums vouch for is read, and nothing else of it |

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use recorder_ebpf::abi::{EventKind, Header, LAYOUT_HASH, Lane, Note, NoteKind, decode};
use thiserror::Error;

use super::{
    LaneWindow, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_MAX,
    layout::{
        ArenaHeader, HEADER_BYTES, LANES, MAGIC, Records, SEGMENT_HEADER_BYTES, SegmentHeader,
        TWIN_MAGIC, VERSION, boot_ns, header_checksum, salvage, vouched,
    },
    look::{copy, gaps_until, look, read_header, read_segment_header},
};
use crate::event::ClockPair;

/// No link is followed, and no pipe is waited for. The interpreter knows neither.
const OPEN_FLAGS: i32 = if cfg!(miri) {
    0
} else {
    libc::O_NOFOLLOW | libc::O_NONBLOCK
};

/// Why nothing of an arena can be read.
#[derive(Debug, Error)]
pub enum AbandonedError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is no arena, or nothing of it is left.
    #[error("it is not a ring, or nothing of it is left that could be read")]
    NotARing,
}

/// What is wrong with an arena.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// It does not begin as arenas do.
    #[error("it does not begin as a ring does")]
    Magic,
    /// Another version laid it out.
    #[error("version {0} of a ring, not {VERSION}: read as far as they agree")]
    Version(u32),
    /// The records are of another version: nobody here knows their fields.
    #[error("its records are of another version of the recorder: kept as bytes")]
    Records,
    /// Its header says of segments and lanes what cannot be.
    #[error("its header is damaged: the segments were looked for")]
    Header,
    /// It ends before its last segment does.
    #[error("{missing} of {segments} segments are missing at its end")]
    Short {
        /// Segments that should be there.
        segments: u32,
        /// Segments of which a part or all is not there.
        missing: u32,
    },
    /// The header of a segment is not what it must be.
    #[error(
        "the header of segment {segment} is damaged: {bytes} bytes of records were found in it"
    )]
    Segment {
        /// Its number.
        segment: u32,
        /// Bytes of records that were found.
        bytes: usize,
    },
    /// A segment says that more is committed than it holds.
    #[error(
        "segment {segment} claims {committed} bytes, more than it has: {bytes} bytes of records were found in it"
    )]
    Length {
        /// Its number.
        segment: u32,
        /// Bytes that it claims.
        committed: u64,
        /// Bytes of records that were found.
        bytes: usize,
    },
    /// The checksums in the header of a twin's segment do not vouch for all that it claims.
    #[error(
        "segment {segment} is damaged, or was being written: {bytes} of {committed} bytes are sure"
    )]
    Checksum {
        /// Its number.
        segment: u32,
        /// Bytes that it claims.
        committed: u64,
        /// Bytes of records that are as they were written.
        bytes: usize,
    },
    /// There is something in a segment that is no record.
    #[error("segment {segment} has no record at byte {at}: {bytes} bytes are lost")]
    Record {
        /// Its number.
        segment: u32,
        /// Where, in bytes behind the segment's header.
        at: usize,
        /// Bytes that were committed from there on.
        bytes: usize,
    },
}

/// An arena that was found, not read yet.
#[derive(Debug)]
pub struct OldArena {
    file: File,
    header: ArenaHeader,
    geometry: Geometry,
    /// Whether it is a copy on disk: see [`Twin`](super::Twin).
    is_twin: bool,
    flaws: Vec<Flaw>,
}

/// Where the segments lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    segment_bytes: u32,
    /// Those that are wholly in the file.
    segments: u32,
    /// Whether the header says so, and whose they are.
    is_by_header: bool,
}

/// What an agent left in its arena.
#[derive(Debug, Default)]
pub struct Abandoned {
    /// Process id of the agent.
    pub pid: u32,
    /// The boot it recorded in.
    pub boot_id: [u8; 16],
    /// When the ring was made; `None` if that is not known.
    pub made: Option<ClockPair>,
    /// Whether it is a copy on disk.
    pub is_twin: bool,
    /// When the last flush of a twin began; `None` if this is none, or nothing was flushed.
    pub copied: Option<ClockPair>,
    /// What is wrong with the arena.
    pub flaws: Vec<Flaw>,
    lanes: [OldLane; LANES],
}

#[derive(Debug, Default)]
struct OldLane {
    summary: LaneWindow,
    /// Committed bytes, oldest first.
    segments: Vec<Vec<u8>>,
}

/// A segment with records, and which use of the lane's segments it is.
struct Used {
    lane: usize,
    generation: u64,
    bytes: Vec<u8>,
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
            .custom_flags(OPEN_FLAGS)
            .open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() < HEADER_BYTES as u64 {
            return Err(AbandonedError::NotARing);
        }
        let header = read_header(&file)?;
        let mut flaws = Vec::new();
        let (geometry, flaw) =
            geometry(&file, &header, metadata.len())?.ok_or(AbandonedError::NotARing)?;
        if geometry.is_by_header {
            if header.version != VERSION {
                flaws.push(Flaw::Version(header.version));
            }
            if header.layout_hash != LAYOUT_HASH {
                flaws.push(Flaw::Records);
            }
            if ![MAGIC, TWIN_MAGIC].contains(&header.magic) {
                flaws.push(Flaw::Magic);
            }
        }
        flaws.extend(flaw);
        let mut arena = Self {
            file,
            header,
            geometry,
            is_twin: header.is_twin(),
            flaws,
        };
        // Its header may be lost.
        for segment in 0..geometry.segments {
            arena.is_twin |= arena.segment_header(segment)?.is_vouched();
        }
        Ok(Some(arena))
    }

    /// Returns who recorded into it: the boot, and the process id of the agent.
    pub fn writer(&self) -> ([u8; 16], u32) {
        (self.header.boot_id, self.header.pid)
    }

    /// Tells whether the process that made it has it mapped still; if it is a twin, whether it holds the lock of it.
    pub fn is_in_use(&self) -> bool {
        if self.is_twin {
            return match self.file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => true,
                Ok(()) => self.file.unlock().is_err(),
                Err(TryLockError::Error(_)) => false,
            };
        }
        let process = Path::new("/proc").join(self.header.pid.to_string());
        let Ok(metadata) = self.file.metadata() else {
            return false;
        };
        let Ok(maps) = fs::read_to_string(process.join("maps")) else {
            return false;
        };
        let inode = metadata.ino().to_string();
        maps.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let is_shared = fields.next().is_some_and(|access| access.ends_with('s'));
            is_shared && fields.nth(2) == Some(&inode)
        })
    }

    /// Reads every record that was committed.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn read(&self) -> io::Result<Abandoned> {
        let mut flaws = self.flaws.clone();
        let mut used = Vec::new();
        for segment in 0..self.geometry.segments {
            used.extend(self.segment(segment, &mut flaws)?);
        }
        used.sort_by_key(|used| used.generation);
        let mut lanes: [OldLane; LANES] = Default::default();
        // Read behind the segments: whatever was evicted meanwhile is known of.
        let header = read_header(&self.file)?;
        if self.geometry.is_by_header {
            for (lane, entry) in lanes.iter_mut().zip(&header.lanes) {
                lane.summary.dropped = entry.dropped_records;
                if entry.evicted_records > 0 {
                    lane.summary.evicted_until_boot_ns = Some(entry.evicted_until_boot_ns);
                    lane.summary.complete_after_boot_ns = Some(entry.evicted_until_boot_ns);
                }
            }
        }
        let mut generations: [Vec<(u64, u64)>; LANES] = Default::default();
        for used in used {
            if let Some(oldest) = Records::new(&used.bytes).filter_map(boot_ns).min() {
                generations[used.lane].push((used.generation, oldest));
            }
            lanes[used.lane].hold(used.bytes);
        }
        for (lane, generations) in lanes.iter_mut().zip(generations) {
            let complete_after = &mut lane.summary.complete_after_boot_ns;
            *complete_after = (*complete_after).max(gaps_until(generations));
        }
        let made = ClockPair {
            boot_ns: header.made_boot_ns,
            unix_ns: header.made_unix_ns,
        };
        let copied = ClockPair {
            boot_ns: header.copied_boot_ns,
            unix_ns: header.copied_unix_ns,
        };
        Ok(Abandoned {
            pid: header.pid,
            boot_id: header.boot_id,
            is_twin: self.is_twin,
            made: (self.geometry.is_by_header && made.unix_ns > 0).then_some(made),
            copied: (self.geometry.is_by_header && copied.unix_ns > 0).then_some(copied),
            flaws,
            lanes,
        })
    }

    fn segment_at(&self, index: u32) -> u64 {
        HEADER_BYTES as u64 + u64::from(index) * u64::from(self.geometry.segment_bytes)
    }

    fn segment_header(&self, index: u32) -> io::Result<SegmentHeader> {
        read_segment_header(&self.file, self.segment_at(index))
    }

    /// Returns the records of a segment, if it has any.
    fn segment(&self, index: u32, flaws: &mut Vec<Flaw>) -> io::Result<Option<Used>> {
        let at = self.segment_at(index);
        let capacity = self.geometry.segment_bytes as usize - SEGMENT_HEADER_BYTES;
        let header = look(&self.file, at)?;
        let owner = match self.geometry.is_by_header {
            true => self.owner(index),
            false => Some(header.lane as usize).filter(|lane| *lane < LANES),
        };
        if self.is_twin {
            return self.vouched_segment(index, &header, owner, flaws);
        }
        let is_damaged = header.index != index
            || owner != Some(header.lane as usize)
            || (header.generation == 0 && header.committed > 0);
        if !is_damaged && header.committed == 0 {
            return Ok(None);
        }
        let committed = usize::try_from(header.committed).ok();
        let committed = committed.filter(|committed| !is_damaged && *committed <= capacity);
        let mut bytes = vec![0; committed.unwrap_or(capacity)];
        if !copy(&self.file, at, &header, 0, &mut bytes)? {
            return Ok(None);
        }
        let whole = match committed {
            Some(committed) => {
                let whole = Records::new(&bytes).whole_bytes();
                if whole < committed {
                    flaws.push(Flaw::Record {
                        segment: index,
                        at: whole,
                        bytes: committed - whole,
                    });
                }
                whole
            }
            None => {
                let whole = salvage(&bytes);
                flaws.push(match is_damaged {
                    true => Flaw::Segment {
                        segment: index,
                        bytes: whole,
                    },
                    false => Flaw::Length {
                        segment: index,
                        committed: header.committed,
                        bytes: whole,
                    },
                });
                whole
            }
        };
        bytes.truncate(whole);
        Ok(owner.filter(|_| whole > 0).map(|lane| Used {
            lane,
            generation: header.generation,
            bytes,
        }))
    }

    /// Returns those records of a twin's segment that its header vouches for. Nothing else in it can be told from what an earlier
    /// use of it or a torn write has left.
    fn vouched_segment(
        &self,
        index: u32,
        header: &SegmentHeader,
        owner: Option<usize>,
        flaws: &mut Vec<Flaw>,
    ) -> io::Result<Option<Used>> {
        if header.generation == 0 && header.committed == 0 && header.vouched == [0; 2] {
            return Ok(None);
        }
        let mut bytes = vec![0; self.geometry.segment_bytes as usize - SEGMENT_HEADER_BYTES];
        let at = self.segment_at(index) + SEGMENT_HEADER_BYTES as u64;
        self.file.read_exact_at(&mut bytes, at)?;
        let owner = owner.filter(|lane| *lane == header.lane as usize && header.index == index);
        let whole = owner.and_then(|_| vouched(header, &bytes)).unwrap_or(0);
        if whole as u64 != header.committed || owner.is_none() {
            flaws.push(Flaw::Checksum {
                segment: index,
                committed: header.committed,
                bytes: whole,
            });
        }
        bytes.truncate(whole);
        Ok(owner.filter(|_| whole > 0).map(|lane| Used {
            lane,
            generation: header.generation,
            bytes,
        }))
    }

    /// Returns the lane that owns a segment, by the header.
    fn owner(&self, segment: u32) -> Option<usize> {
        self.header.lanes.iter().position(|lane| {
            (lane.first_segment..lane.first_segment + lane.segments).contains(&segment)
        })
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

    /// Tells whether this version knows the fields of its records; else only those of their headers.
    pub fn is_known(&self) -> bool {
        !self.flaws.contains(&Flaw::Records)
    }

    /// Returns whether the agent ended as it should: it says so last.
    pub fn was_stopped(&self) -> bool {
        self.records(Lane::Sample).any(|record| {
            decode::<Header>(record).is_some_and(|header| header.kind == EventKind::Note as u8)
                && decode::<Note>(record).is_some_and(|note| note.kind == NoteKind::Stop as u32)
        })
    }

    /// Returns the last thing that the agent wrote itself; if there is nothing, the last of all.
    pub fn last(&self) -> Option<Header> {
        let headers = |lane| self.records(lane).filter_map(decode::<Header>);
        let notes = headers(Lane::Sample).filter(|header| header.kind == EventKind::Note as u8);
        let all = Lane::ALL.into_iter().flat_map(headers);
        notes
            .last()
            .or_else(|| all.max_by_key(|header| header.boot_ns))
    }
}

/// Finds the segments of a file of this length, and what is wrong about them; `None` if there are none.
fn geometry(
    file: &File,
    header: &ArenaHeader,
    len: u64,
) -> io::Result<Option<(Geometry, Option<Flaw>)>> {
    let is_right = !header.is_twin() || header.checksum == header_checksum(header);
    let Some(segments) = segments_by_header(header).filter(|_| is_right) else {
        return Ok(look_for_segments(file, len)?.map(|found| (found, Some(Flaw::Header))));
    };
    let there = (len - HEADER_BYTES as u64) / u64::from(header.segment_bytes);
    let there = u32::try_from(there).unwrap_or(u32::MAX).min(segments);
    // By chance, a file that is something else may hold numbers that could be; not its length besides.
    let end = HEADER_BYTES as u64 + u64::from(segments) * u64::from(header.segment_bytes);
    if ![MAGIC, TWIN_MAGIC].contains(&header.magic) && end != len {
        return Ok(None);
    }
    let geometry = Geometry {
        segment_bytes: header.segment_bytes,
        segments: there,
        is_by_header: true,
    };
    let missing = segments - there;
    let short = (missing > 0).then_some(Flaw::Short { segments, missing });
    Ok(Some((geometry, short)))
}

/// Returns how many segments the header tells of, if the lanes lie one behind the other.
fn segments_by_header(header: &ArenaHeader) -> Option<u32> {
    let size = header.segment_bytes;
    if header.lane_count as usize != LANES
        || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&size)
        || !(size as usize).is_multiple_of(SEGMENT_HEADER_BYTES)
    {
        return None;
    }
    let mut next = 0;
    for lane in &header.lanes {
        if lane.first_segment != next || lane.segments == 0 || lane.segments > SEGMENTS_MAX {
            return None;
        }
        next += lane.segments;
    }
    (next <= SEGMENTS_MAX).then_some(next)
}

/// Looks for segments by their own headers, which hold their number: two of the first three must be where they should.
fn look_for_segments(file: &File, len: u64) -> io::Result<Option<Geometry>> {
    let room = len - HEADER_BYTES as u64;
    let most = u32::try_from(room / 4).unwrap_or(SEGMENT_BYTES_MAX);
    let sizes = (SEGMENT_BYTES_MIN..=most.min(SEGMENT_BYTES_MAX)).step_by(SEGMENT_HEADER_BYTES);
    for size in std::iter::once(SEGMENT_BYTES_DEFAULT).chain(sizes) {
        let segments = room / u64::from(size);
        if segments < 4 || segments > u64::from(SEGMENTS_MAX) {
            continue;
        }
        let mut right = 0;
        for index in 1..4_u32 {
            let at = HEADER_BYTES as u64 + u64::from(index) * u64::from(size);
            let header = read_segment_header(file, at)?;
            let is_right = header.index == index
                && (header.lane as usize) < LANES
                && (header.vouched == [0; 2] || header.is_vouched());
            right += u32::from(is_right);
        }
        if right >= 2 {
            return Ok(Some(Geometry {
                segment_bytes: size,
                segments: segments as u32,
                is_by_header: false,
            }));
        }
    }
    Ok(None)
}
