//! The second walk: every record of the dump, in the order of time.
//!
//! A lane's records are nearly in order already: they were committed to one kernel ring by all CPUs, each soon after it had
//! read the clock. So blocks are sorted one at a time, and what is not later than everything in the blocks to come, which
//! the [survey](super::survey) found out, is final. Memory is 24 bytes for each record of a block and of whatever is out
//! of order beyond it; nothing is copied.

use recorder_ebpf::abi::{self, Header, Lane};

use super::{
    Frozen, LANES,
    survey::{BLOCK_RECORDS, Span, Survey},
};

/// A record in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) boot_ns: u64,
    pub(super) lane: Lane,
    pub(super) record: &'a [u8],
}

/// Yields the records of all lanes by time; of those with equal times the failure lane's first.
pub(super) struct Timeline<'a> {
    lanes: [LaneOrder<'a>; LANES],
}

impl<'a> Timeline<'a> {
    pub(super) fn new(frozen: &'a dyn Frozen, spans: &[Span; LANES], survey: &'a Survey) -> Self {
        Self {
            lanes: Lane::ALL.map(|lane| LaneOrder {
                lane,
                span: spans[lane as usize],
                records: frozen.records(lane),
                earliest_after: &survey.lanes[lane as usize].earliest_after,
                pending: Vec::new(),
                next: 0,
                final_until: 0,
            }),
        }
    }
}

impl<'a> Iterator for Timeline<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let mut earliest: Option<(usize, u64)> = None;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(boot_ns) = lane.peek()
                && earliest.is_none_or(|(_, other)| boot_ns < other)
            {
                earliest = Some((index, boot_ns));
            }
        }
        let (index, _) = earliest?;
        Some(self.lanes[index].take())
    }
}

struct LaneOrder<'a> {
    lane: Lane,
    span: Span,
    records: Box<dyn Iterator<Item = &'a [u8]> + 'a>,
    /// Of the blocks not read yet and the one read last.
    earliest_after: &'a [u64],
    /// Sorted; final from `next` to `final_until`.
    pending: Vec<(u64, &'a [u8])>,
    next: usize,
    final_until: usize,
}

impl<'a> LaneOrder<'a> {
    fn peek(&mut self) -> Option<u64> {
        while self.next == self.final_until {
            let (later, rest) = self.earliest_after.split_first()?;
            self.earliest_after = rest;
            self.pending.drain(..self.next);
            self.read_block();
            // Stable, so that equal times keep the order in which they were committed.
            self.pending.sort_by_key(|(boot_ns, _)| *boot_ns);
            self.next = 0;
            self.final_until = self
                .pending
                .partition_point(|(boot_ns, _)| boot_ns <= later);
        }
        Some(self.pending[self.next].0)
    }

    fn read_block(&mut self) {
        for record in self.records.by_ref().take(BLOCK_RECORDS) {
            if let Some(header) = abi::decode::<Header>(record)
                && self.span.contains(header.boot_ns)
            {
                self.pending.push((header.boot_ns, record));
            }
        }
    }

    /// Takes what `peek` showed.
    fn take(&mut self) -> Entry<'a> {
        let (boot_ns, record) = self.pending[self.next];
        self.next += 1;
        Entry {
            boot_ns,
            lane: self.lane,
            record,
        }
    }
}
