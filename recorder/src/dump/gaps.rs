//! Losses, in their place among the events.

use std::collections::BTreeMap;

use recorder_ebpf::abi::Lane;

use super::ledger::Ledger;
use crate::event::{Body, Event, proto};

/// Watches the sequence numbers of the CPUs that the ledger says lack records.
///
/// No more is reported than the ledger counts: where one probe interrupted another, numbers come out of order.
pub(super) struct Gaps<'a> {
    ledger: &'a Ledger,
    cpus: BTreeMap<(Lane, u16), CpuGaps>,
}

struct CpuGaps {
    /// Records missing and not reported yet.
    missing: u64,
    /// Highest sequence number so far, and the time of the last record.
    last: Option<(u64, u64)>,
}

impl<'a> Gaps<'a> {
    pub(super) fn new(ledger: &'a Ledger) -> Self {
        let cpus = Lane::ALL.into_iter().flat_map(|lane| {
            ledger
                .missing(lane)
                .filter(|(_, missing)| *missing > 0)
                .map(move |(cpu, missing)| ((lane, cpu), missing))
        });
        Self {
            ledger,
            cpus: cpus
                .map(|(key, missing)| {
                    let last = None;
                    (key, CpuGaps { missing, last })
                })
                .collect(),
        }
    }

    /// Returns the loss between this event and the one before it on its lane and CPU.
    pub(super) fn before(&mut self, event: &Event) -> Option<Event> {
        if self.cpus.is_empty() {
            return None;
        }
        let gaps = self.cpus.get_mut(&(event.lane, event.cpu))?;
        let (sequence, since_boot_ns) = match gaps.last {
            Some(last) => last,
            None => {
                gaps.last = Some((event.sequence, event.boot_ns));
                return None;
            }
        };
        gaps.last = Some((sequence.max(event.sequence), event.boot_ns));
        let gap = event.sequence.saturating_sub(sequence).saturating_sub(1);
        let count = gap.min(gaps.missing);
        gaps.missing -= count;
        (count > 0).then(|| {
            let key = (event.lane, event.cpu);
            loss(
                self.ledger,
                key,
                (sequence + 1, count),
                (since_boot_ns, event.boot_ns),
            )
        })
    }

    /// Returns what is missing behind the last event of each CPU, up to the end of the window.
    pub(super) fn at_end(self, end_boot_ns: u64) -> Vec<Event> {
        let ledger = self.ledger;
        self.cpus
            .into_iter()
            .filter_map(|(key, gaps)| {
                let (sequence, since_boot_ns) = gaps.last.filter(|_| gaps.missing > 0)?;
                Some(loss(
                    ledger,
                    key,
                    (sequence.saturating_add(1), gaps.missing),
                    (since_boot_ns, end_boot_ns.max(since_boot_ns)),
                ))
            })
            .collect()
    }
}

fn loss(
    ledger: &Ledger,
    (lane, cpu): (Lane, u16),
    (sequence, count): (u64, u64),
    (since_boot_ns, until_boot_ns): (u64, u64),
) -> Event {
    Event {
        boot_ns: until_boot_ns,
        sequence,
        lane,
        cpu,
        body: Body::Loss(proto::Loss {
            lane: Some(lane.name().into()),
            cpu: Some(cpu.into()),
            count: Some(count),
            reason: Some(ledger.suspects[lane as usize].reason(since_boot_ns).into()),
            since_boot_ns: Some(since_boot_ns),
            until_boot_ns: Some(until_boot_ns),
        }),
    }
}
