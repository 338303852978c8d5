//! The first walk over the frozen records: what is there, and in what order.

use recorder_ebpf::abi::{self, Header, Lane};

use super::{Frozen, LANES};

/// Records that are brought into order at a time.
pub(super) const BLOCK_RECORDS: usize = 4096;

/// A span of time, both ends included, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Span {
    pub(super) fn contains(&self, boot_ns: u64) -> bool {
        (self.from..=self.to).contains(&boot_ns)
    }
}

/// What was found, by lane.
pub(super) struct Survey {
    pub(super) lanes: [LaneSurvey; LANES],
}

/// What was found of a lane.
#[derive(Default)]
pub(super) struct LaneSurvey {
    /// By CPU.
    pub(super) cpus: Vec<CpuSurvey>,
    /// For each block of [`BLOCK_RECORDS`], the earliest time in all later ones.
    pub(super) earliest_after: Vec<u64>,
    /// Records in the span.
    pub(super) records: u64,
}

/// What was found of one CPU. Sequence numbers need not ascend: one probe can interrupt another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuSurvey {
    /// Records in the span; the next four fields are theirs.
    pub(super) records: u64,
    pub(super) first_boot_ns: u64,
    pub(super) last_boot_ns: u64,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    /// Highest sequence number before the span.
    pub(super) sequence_before: Option<u64>,
    /// Lowest sequence number after the span.
    pub(super) sequence_after: Option<u64>,
}

impl CpuSurvey {
    fn add(&mut self, header: &Header, span: Span) {
        let sequence = header.seq;
        if header.boot_ns < span.from {
            self.sequence_before = self.sequence_before.max(Some(sequence));
        } else if header.boot_ns > span.to {
            let after = self.sequence_after.unwrap_or(u64::MAX);
            self.sequence_after = Some(after.min(sequence));
        } else if self.records == 0 {
            self.records = 1;
            self.first_boot_ns = header.boot_ns;
            self.last_boot_ns = header.boot_ns;
            self.first_sequence = sequence;
            self.last_sequence = sequence;
        } else {
            self.records += 1;
            self.first_boot_ns = self.first_boot_ns.min(header.boot_ns);
            self.last_boot_ns = self.last_boot_ns.max(header.boot_ns);
            self.first_sequence = self.first_sequence.min(sequence);
            self.last_sequence = self.last_sequence.max(sequence);
        }
    }

    /// Returns how many sequence numbers between the first and the last have no record.
    pub(super) fn missing(&self) -> u64 {
        if self.records == 0 {
            return 0;
        }
        let span = (self.last_sequence - self.first_sequence).saturating_add(1);
        span.saturating_sub(self.records)
    }

    /// Returns how many are missing between the span and the records on either side of it.
    pub(super) fn missing_beside(&self) -> u64 {
        let gap = |low: u64, high: u64| high.saturating_sub(low).saturating_sub(1);
        let (before, after) = (self.sequence_before, self.sequence_after);
        if self.records == 0 {
            return before
                .zip(after)
                .map_or(0, |(before, after)| gap(before, after));
        }
        before.map_or(0, |before| gap(before, self.first_sequence))
            + after.map_or(0, |after| gap(self.last_sequence, after))
    }

    /// Returns the highest sequence number of all that was frozen.
    pub(super) fn newest_sequence(&self) -> Option<u64> {
        // A sequence number after the span is the lowest there; one more than it may have come since.
        let inside = (self.records > 0).then_some(self.last_sequence);
        inside.max(self.sequence_before)
    }
}

impl Survey {
    /// Walks over everything frozen.
    pub(super) fn new(frozen: &dyn Frozen, spans: &[Span; LANES]) -> Self {
        Self {
            lanes: Lane::ALL.map(|lane| LaneSurvey::new(frozen, lane, spans[lane as usize])),
        }
    }
}

impl LaneSurvey {
    fn new(frozen: &dyn Frozen, lane: Lane, span: Span) -> Self {
        let mut survey = Self::default();
        let mut block_records = 0;
        let mut earliest = u64::MAX;
        let mut blocks = Vec::new();
        for record in frozen.records(lane) {
            if let Some(header) = abi::decode::<Header>(record) {
                earliest = earliest.min(header.boot_ns);
                survey.cpu(header.cpu).add(&header, span);
                survey.records += u64::from(span.contains(header.boot_ns));
            }
            block_records += 1;
            if block_records == BLOCK_RECORDS {
                blocks.push(earliest);
                (block_records, earliest) = (0, u64::MAX);
            }
        }
        blocks.push(earliest);
        survey.earliest_after = earliest_after(blocks);
        survey
    }

    fn cpu(&mut self, cpu: u16) -> &mut CpuSurvey {
        let index = usize::from(cpu);
        if self.cpus.len() <= index {
            self.cpus.resize(index + 1, CpuSurvey::default());
        }
        &mut self.cpus[index]
    }

    /// Returns every CPU that left a record, in the span or beside it.
    pub(super) fn cpus(&self) -> impl Iterator<Item = (u16, &CpuSurvey)> {
        let none = CpuSurvey::default();
        (0..=u16::MAX)
            .zip(&self.cpus)
            .filter(move |(_, cpu)| **cpu != none)
    }
}

/// Turns the earliest time in each block into the earliest in all blocks after it.
fn earliest_after(mut blocks: Vec<u64>) -> Vec<u64> {
    let mut earliest = u64::MAX;
    for block in blocks.iter_mut().rev() {
        (*block, earliest) = (earliest, earliest.min(*block));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_of_later_blocks() {
        assert_eq!(earliest_after(vec![5, 9, 7, 8]), [7, 7, 8, u64::MAX]);
        assert_eq!(earliest_after(vec![1]), [u64::MAX]);
    }

    fn cpu(records: u64, first_sequence: u64, last_sequence: u64) -> CpuSurvey {
        CpuSurvey {
            records,
            first_sequence,
            last_sequence,
            ..CpuSurvey::default()
        }
    }

    #[test]
    fn missing_sequence_numbers() {
        assert_eq!(cpu(0, 0, 0).missing(), 0);
        assert_eq!(cpu(4, 0, 3).missing(), 0);
        assert_eq!(cpu(4, 10, 19).missing(), 6);
        // One probe interrupted another and repeated its number.
        assert_eq!(cpu(5, 0, 3).missing(), 0);
        assert_eq!(cpu(1, u64::MAX, u64::MAX).missing(), 0);
        assert_eq!(cpu(2, 0, u64::MAX).missing(), u64::MAX - 2);
    }

    #[test]
    fn missing_beside_the_span() {
        let mut survey = cpu(4, 10, 13);
        assert_eq!(survey.missing_beside(), 0);
        survey.sequence_before = Some(9);
        survey.sequence_after = Some(14);
        assert_eq!(survey.missing_beside(), 0);
        survey.sequence_before = Some(7);
        survey.sequence_after = Some(17);
        assert_eq!(survey.missing_beside(), 2 + 3);
        survey.records = 0;
        assert_eq!(survey.missing_beside(), 9);
    }
}
