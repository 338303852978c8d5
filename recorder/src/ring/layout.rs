//! What the bytes of an arena mean.
//!
//! ```text
//! 0                 ArenaHeader, padded to one page
//! 4096              segment 0: SegmentHeader (64 bytes), then records
//! 4096 + 1 * size   segment 1
//! ...
//! ```
//!
//! Integers are in the byte order of the host: an arena is only ever read on the host, and mostly by the boot, that wrote it.
//! Records start at multiples of eight bytes; each begins with a [`Header`] and says its length there. The lanes own
//! consecutive ranges of segments.
//!
//! A reader of a dead agent's arena takes the segments of each lane by ascending generation (0: never used), and in each
//! the records below `committed`. All else in a segment's header is a hint: it may be one record ahead of `committed`.

use std::collections::HashMap;
use std::mem::offset_of;

use crc32fast::Hasher;
use recorder_ebpf::abi::{Header, LAYOUT_HASH, Lane, decode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::config::RingConfig;

/// First bytes of an arena.
pub(super) const MAGIC: [u8; 8] = *b"RECRING\0";
/// First bytes of the twin of an arena: see [`Twin`](super::Twin).
pub(super) const TWIN_MAGIC: [u8; 8] = *b"RECTWIN\0";
/// Version of this layout; the records' own is [`LAYOUT_HASH`].
pub(super) const VERSION: u32 = 1;
/// What a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;
/// Bytes before the first segment.
pub(super) const HEADER_BYTES: usize = 4096;
/// Bytes of a segment before its records.
pub(super) const SEGMENT_HEADER_BYTES: usize = size_of::<SegmentHeader>();
/// What records start at a multiple of.
pub(super) const RECORD_ALIGN: usize = 8;
/// The shortest record: a header alone.
pub(super) const RECORD_BYTES_MIN: usize = size_of::<Header>();
/// By how much a record may come behind one of its CPU with a higher number: an interrupt takes one in between.
const DISORDER_MAX: u64 = 16;
/// Number of lanes.
pub(super) const LANES: usize = Lane::ALL.len();

/// The beginning of an arena.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct ArenaHeader {
    /// [`MAGIC`].
    pub(super) magic: [u8; 8],
    /// [`VERSION`].
    pub(super) version: u32,
    /// Process id of the agent that wrote it.
    pub(super) pid: u32,
    /// [`LAYOUT_HASH`] of the agent that wrote it.
    pub(super) layout_hash: u64,
    /// The boot it was written in: "2c0f…-…" without the dashes, as bytes.
    pub(super) boot_id: [u8; 16],
    /// Bytes of a segment, its header included.
    pub(super) segment_bytes: u32,
    /// Entries in `lanes`.
    pub(super) lane_count: u32,
    /// The lanes, by number.
    pub(super) lanes: [LaneEntry; LANES],
    /// When it was made, in nanoseconds since boot; 0 if not known, here and below.
    pub(super) made_boot_ns: u64,
    /// The same by the wall clock, in nanoseconds since 1970.
    pub(super) made_unix_ns: u64,
    /// Of a twin: when the last flush of it began; 0 if none has, and in an arena.
    pub(super) copied_boot_ns: u64,
    /// The same by the wall clock.
    pub(super) copied_unix_ns: u64,
    /// Of a twin: what [`header_checksum`] returns; 0 in an arena.
    pub(super) checksum: u64,
}

/// What a lane owns and what it has forgotten.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct LaneEntry {
    /// Number of its first segment.
    pub(super) first_segment: u32,
    /// Number of its segments.
    pub(super) segments: u32,
    /// Time of the newest record ever evicted, in nanoseconds since boot; 0 if none was.
    pub(super) evicted_until_boot_ns: u64,
    /// Records evicted.
    pub(super) evicted_records: u64,
    /// Bytes evicted.
    pub(super) evicted_bytes: u64,
    /// Records refused.
    pub(super) dropped_records: u64,
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct SegmentHeader {
    /// Which use of this lane's segments this is, from 1; 0 if never used.
    pub(super) generation: u64,
    /// Bytes of whole records that follow the header.
    pub(super) committed: u64,
    /// Time of the oldest record, in nanoseconds since boot.
    pub(super) first_boot_ns: u64,
    /// Time of the newest record, in nanoseconds since boot.
    pub(super) last_boot_ns: u64,
    /// Number of records.
    pub(super) records: u64,
    /// Lane it belongs to.
    pub(super) lane: u32,
    /// Its number.
    pub(super) index: u32,
    /// Of a twin, once it holds records: what [`vouch`] returns. Zero in an arena.
    pub(super) vouched: [u64; 2],
}

const _: () = {
    assert!(size_of::<ArenaHeader>() <= HEADER_BYTES);
    assert!(size_of::<ArenaHeader>() <= SECTOR_BYTES);
    assert!(size_of::<SegmentHeader>() == 64, "one cache line");
    assert!(HEADER_BYTES.is_multiple_of(SEGMENT_HEADER_BYTES));
    assert!(SEGMENT_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(
        HEADER_LEN_OFFSET + size_of::<u32>() <= RECORD_BYTES_MIN,
        "the length lies in the shortest record"
    );
};

const HEADER_LEN_OFFSET: usize = offset_of!(Header, len);

impl ArenaHeader {
    /// Returns the header of a new arena; `lanes` holds first segment and number of segments.
    pub(super) fn new(config: &RingConfig, boot_id: [u8; 16], lanes: [(u32, u32); LANES]) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            pid: std::process::id(),
            layout_hash: LAYOUT_HASH,
            boot_id,
            segment_bytes: config.segment_bytes,
            lane_count: LANES as u32,
            lanes: lanes.map(|(first_segment, segments)| LaneEntry {
                first_segment,
                segments,
                evicted_until_boot_ns: 0,
                evicted_records: 0,
                evicted_bytes: 0,
                dropped_records: 0,
            }),
            made_boot_ns: config.made.map_or(0, |made| made.boot_ns),
            made_unix_ns: config.made.map_or(0, |made| made.unix_ns),
            copied_boot_ns: 0,
            copied_unix_ns: 0,
            checksum: 0,
        }
    }
}

impl ArenaHeader {
    /// Tells whether it is that of a twin.
    pub(super) fn is_twin(&self) -> bool {
        self.magic == TWIN_MAGIC || self.checksum != 0
    }
}

impl SegmentHeader {
    /// Tells whether it is that of a twin's segment which has held records.
    pub(super) fn is_vouched(&self) -> bool {
        self.vouched[0] >> 32 == CHECKSUM_MARK >> 32
    }
}

/// Returns the bytes of the record that `bytes` begin with, by the length in its header.
///
/// `None` if that length cannot be: shorter than a header, or beyond the end of `bytes`.
pub(super) fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.get(HEADER_LEN_OFFSET..)?.first_chunk()?;
    let len = usize::try_from(u32::from_ne_bytes(*len)).ok()?;
    if len < RECORD_BYTES_MIN {
        return None;
    }
    bytes.get(..len)
}

/// Returns when the record happened, in nanoseconds since boot, if `bytes` are one whole record.
pub(super) fn boot_ns(bytes: &[u8]) -> Option<u64> {
    if first_record(bytes)?.len() != bytes.len() {
        return None;
    }
    let boot_ns = bytes.get(offset_of!(Header, boot_ns)..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*boot_ns))
}

/// Returns how many bytes of records `bytes` begin with, which nothing vouches for: as long as each is possible and, of its
/// CPU, follows those before it. What an earlier use of the segment left behind them does not.
pub(super) fn salvage(bytes: &[u8]) -> usize {
    let mut newest: HashMap<u16, u64> = HashMap::new();
    let mut end = 0;
    for record in Records::new(bytes) {
        let Some(header) = decode::<Header>(record).filter(|header| header.kind != 0) else {
            break;
        };
        let newest = newest.entry(header.cpu).or_insert(header.seq);
        if header.seq.saturating_add(DISORDER_MAX) < *newest {
            break;
        }
        *newest = header.seq.max(*newest);
        end += record.len().next_multiple_of(RECORD_ALIGN);
    }
    end.min(bytes.len())
}

/// Marks a checksum, so that one which happens to be 0 is told from none.
const CHECKSUM_MARK: u64 = 0x5457_494e << 32;

/// Returns the checksum of a twin's header.
pub(super) fn header_checksum(header: &ArenaHeader) -> u64 {
    let fields = &header.as_bytes()[..offset_of!(ArenaHeader, checksum)];
    CHECKSUM_MARK | u64::from(crc32fast::hash(fields))
}

/// Returns the checksum of a twin's segment that holds `committed` bytes of records, of which `records` is the hash: of them, and
/// of all that tells what they are.
pub(super) fn segment_checksum(mut records: Hasher, header: &SegmentHeader, committed: u64) -> u32 {
    records.update(&header.generation.to_ne_bytes());
    records.update(&committed.to_ne_bytes());
    records.update(&header.lane.to_ne_bytes());
    records.update(&header.index.to_ne_bytes());
    records.finalize()
}

/// Returns the words in the header of a twin's segment that vouch for what it holds, by its checksum, and for what it held
/// before: the length and its checksum.
pub(super) fn vouch(checksum: u32, (committed, before): (u32, u32)) -> [u64; 2] {
    let now = CHECKSUM_MARK | u64::from(checksum);
    [now, u64::from(committed) << 32 | u64::from(before)]
}

/// Returns how many bytes of `records`, which are all that there is room for in a twin's segment, its header vouches for.
pub(super) fn vouched(header: &SegmentHeader, records: &[u8]) -> Option<usize> {
    let [now, before] = header.vouched;
    let is_right = |committed: u64, checksum: u64| {
        let committed = usize::try_from(committed).ok()?;
        let mut hasher = Hasher::new();
        hasher.update(records.get(..committed)?);
        let found = segment_checksum(hasher, header, committed as u64);
        (checksum == CHECKSUM_MARK | u64::from(found)).then_some(committed)
    };
    let before = (before >> 32, CHECKSUM_MARK | (before & u64::from(u32::MAX)));
    is_right(header.committed, now).or_else(|| is_right(before.0, before.1))
}

/// Returns where a word of the lane's [`LaneEntry`] lies in the arena.
pub(super) fn lane_word(lane: Lane, offset: usize) -> usize {
    offset_of!(ArenaHeader, lanes) + lane as usize * size_of::<LaneEntry>() + offset
}

/// The records in committed bytes, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads `committed`, which starts with a record.
    pub(super) fn new(committed: &'a [u8]) -> Self {
        Self { rest: committed }
    }

    /// Returns how many bytes the records take that are one behind the other from the start.
    pub(super) fn whole_bytes(mut self) -> usize {
        let all = self.rest.len();
        while self.next().is_some() {}
        all - self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let record = first_record(self.rest)?;
        self.rest = self
            .rest
            .get(record.len().next_multiple_of(RECORD_ALIGN)..)
            .unwrap_or_default();
        Some(record)
    }
}
