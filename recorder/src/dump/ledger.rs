//! What the dump covers and what it lacks.

use std::collections::BTreeMap;

use recorder_ebpf::abi::{self, EventKind, Header, KIND_SLOTS, Lane, LaneStats};

use super::{
    Coverage, CpuCoverage, CpuLoss, CpuStats, DumpInput, Filtered, LANES, LaneCoverage, LaneLoss,
    LossLedger, Shortfall, Skipped, Throttled, Verdict,
    survey::{CpuSurvey, LaneSurvey, Span, Survey},
};
use crate::ring::LaneWindow;

/// Both accounts of one dump.
pub(super) struct Ledger {
    pub(super) coverage: Coverage,
    pub(super) loss: LossLedger,
    /// What may have taken the missing records of each lane.
    pub(super) suspects: [Suspects; LANES],
}

/// What may have taken a missing record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspects {
    /// A full kernel ring.
    pub(super) lost: bool,
    /// The flight ring, which refused it.
    pub(super) dropped: bool,
    /// The flight ring, which overwrote it; of records up to this time.
    pub(super) evicted_until_boot_ns: Option<u64>,
}

impl Suspects {
    /// Returns the one reason that there can be for a gap that begins at this time, else "unknown".
    pub(super) fn reason(&self, since_boot_ns: u64) -> &'static str {
        let evicted = self
            .evicted_until_boot_ns
            .is_some_and(|until_boot_ns| since_boot_ns < until_boot_ns);
        match (self.lost, self.dropped, evicted) {
            (true, false, false) => "lost",
            (false, true, false) => "dropped",
            (false, false, true) => "evicted",
            _ => "unknown",
        }
    }
}

impl Ledger {
    pub(super) fn new(input: &DumpInput<'_>, survey: &Survey, spans: &[Span; LANES]) -> Self {
        let accounts = Lane::ALL.map(|lane| Account {
            lane,
            survey: &survey.lanes[lane as usize],
            window: input.frozen.lane(lane),
            span: spans[lane as usize],
            stats: input
                .kernel
                .iter()
                .filter(|stats| stats.lane == lane)
                .collect(),
        });
        let throttled: Vec<Throttled> = input
            .throttled
            .iter()
            .filter(|group| {
                group.until_boot_ns >= input.incident.window_start_boot_ns
                    && group.since_boot_ns <= input.incident.window_end_boot_ns
            })
            .cloned()
            .collect();
        let losses = accounts.each_ref().map(Account::loss);
        let coverage = Coverage {
            window_start_boot_ns: input.incident.window_start_boot_ns,
            window_end_boot_ns: input.incident.window_end_boot_ns,
            lanes: accounts
                .iter()
                .zip(&losses)
                .map(|(account, loss)| account.coverage(input, loss, &throttled))
                .collect(),
        };
        let verdict = verdict(&accounts, &losses, &coverage, input.skipped);
        Self {
            suspects: accounts.each_ref().map(Account::suspects),
            coverage,
            loss: LossLedger {
                verdict,
                lanes: losses.into(),
                throttled,
                skipped: input.skipped.to_vec(),
            },
        }
    }

    /// Returns how many records of a CPU are missing inside the window.
    pub(super) fn missing(&self, lane: Lane) -> impl Iterator<Item = (u16, u64)> {
        let cpus = &self.loss.lanes[lane as usize].cpus;
        cpus.iter().map(|cpu| (cpu.cpu, cpu.missing))
    }
}

/// All that is known of one lane.
struct Account<'a> {
    lane: Lane,
    survey: &'a LaneSurvey,
    window: LaneWindow,
    span: Span,
    stats: Vec<&'a CpuStats>,
}

impl Account<'_> {
    fn suspects(&self) -> Suspects {
        Suspects {
            lost: self.stats.iter().any(|stats| stats.stats.lost_total() > 0),
            dropped: self.window.dropped > 0,
            evicted_until_boot_ns: self.window.complete_after_boot_ns,
        }
    }

    fn loss(&self) -> LaneLoss {
        let mut cpus: BTreeMap<u16, CpuLoss> = BTreeMap::new();
        let none = CpuSurvey::default();
        for stats in &self.stats {
            if stats.stats.attempted > 0
                || stats.stats.lost_total() > 0
                || stats.stats.throttled_total() > 0
                || stats.stats.filtered_total() > 0
            {
                let found = self.survey.cpus.get(usize::from(stats.cpu));
                let loss = self.cpu_loss(stats.cpu, found.unwrap_or(&none), Some(&stats.stats));
                cpus.insert(stats.cpu, loss);
            }
        }
        for (cpu, found) in self.survey.cpus() {
            cpus.entry(cpu)
                .or_insert_with(|| self.cpu_loss(cpu, found, None));
        }
        LaneLoss {
            lane: self.lane.name().into(),
            dropped: self.window.dropped,
            evicted_until_boot_ns: self.window.evicted_until_boot_ns,
            cpus: cpus.into_values().collect(),
        }
    }

    fn cpu_loss(&self, cpu: u16, found: &CpuSurvey, stats: Option<&LaneStats>) -> CpuLoss {
        let lost = stats.map_or(0, LaneStats::lost_total);
        // What was attempted after the newest record and did not come. Where nothing was ever lost it is still on its way.
        let behind = match (stats, found.newest_sequence(), found.sequence_after) {
            (Some(stats), Some(newest), None) if lost > 0 || self.window.dropped > 0 => {
                stats.attempted.saturating_sub(newest).saturating_sub(1)
            }
            _ => 0,
        };
        let nothing_found = found.newest_sequence().is_none() && found.sequence_after.is_none();
        let inside = if found.records > 0 { behind } else { 0 };
        CpuLoss {
            cpu,
            attempted: stats.map(|stats| stats.attempted),
            lost: stats.map(|stats| by_type(&stats.lost)).unwrap_or_default(),
            throttled: stats
                .map(|stats| by_type(&stats.throttled))
                .unwrap_or_default(),
            filtered: stats
                .map(|stats| by_type(&stats.filtered))
                .unwrap_or_default(),
            missing: found.missing().saturating_add(inside),
            missing_beside: found.missing_beside()
                + (behind - inside)
                + if nothing_found { lost } else { 0 },
        }
    }

    fn coverage(
        &self,
        input: &DumpInput<'_>,
        loss: &LaneLoss,
        throttled: &[Throttled],
    ) -> LaneCoverage {
        let asked_from = input.incident.window_start_boot_ns;
        let mut shortfalls = Vec::new();
        let began = input.clocks.start.boot_ns;
        if began > asked_from {
            shortfalls.push(Shortfall::NotRecording {
                until_boot_ns: began,
            });
        }
        if let Some(until_boot_ns) = self.window.complete_after_boot_ns
            && until_boot_ns >= asked_from
        {
            shortfalls.push(if self.window.cut_by_budget {
                Shortfall::WindowBudget { until_boot_ns }
            } else {
                Shortfall::Evicted { until_boot_ns }
            });
        }
        if self.span.from > asked_from {
            shortfalls.push(Shortfall::DumpSize {
                records: input
                    .frozen
                    .records(self.lane)
                    .filter_map(abi::decode::<Header>)
                    .filter(|header| (asked_from..self.span.from).contains(&header.boot_ns))
                    .count() as u64,
                until_boot_ns: self.span.from,
            });
        }
        let missing = loss.cpus.iter().map(|cpu| cpu.missing).sum();
        let suspects = self.suspects();
        let explained = shortfalls.iter().any(Shortfall::is_eviction);
        if missing > 0 && (suspects.lost || suspects.dropped || !explained) {
            shortfalls.push(Shortfall::Lost { records: missing });
        }
        let left_out: u64 = throttled
            .iter()
            .filter(|group| group.lane == self.lane.name())
            .map(|group| group.records)
            .sum();
        if left_out > 0 {
            shortfalls.push(Shortfall::Throttled { records: left_out });
        }
        let is_inside = |filtered: &&Filtered| {
            filtered.lane == self.lane.name()
                && filtered.records > 0
                && filtered.since_boot_ns <= input.incident.window_end_boot_ns
                && filtered
                    .until_boot_ns
                    .is_none_or(|until_boot_ns| until_boot_ns >= asked_from)
        };
        let filtered = input.filtered.iter().filter(is_inside).cloned();
        shortfalls.extend(filtered.map(Shortfall::Filtered));
        LaneCoverage {
            lane: self.lane.name().into(),
            records: self.survey.records,
            complete: shortfalls.is_empty(),
            shortfalls,
            cpus: self.cpu_coverage(),
        }
    }

    fn cpu_coverage(&self) -> Vec<CpuCoverage> {
        self.survey
            .cpus()
            .filter(|(_, found)| found.records > 0)
            .map(|(cpu, found)| CpuCoverage {
                cpu,
                records: found.records,
                first_boot_ns: found.first_boot_ns,
                last_boot_ns: found.last_boot_ns,
                first_sequence: found.first_sequence,
                last_sequence: found.last_sequence,
                missing: found.missing(),
            })
            .collect()
    }
}

fn by_type(counts: &[u64; KIND_SLOTS]) -> BTreeMap<String, u64> {
    let name = |kind: usize| {
        let known = u8::try_from(kind).ok().and_then(EventKind::from_number);
        known.map_or_else(|| format!("kind {kind}"), |kind| kind.name().into())
    };
    counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (name(kind), *count))
        .collect()
}

fn verdict(
    accounts: &[Account<'_>; LANES],
    losses: &[LaneLoss; LANES],
    coverage: &Coverage,
    skipped: &[Skipped],
) -> Verdict {
    // What was not recorded yet is no loss of this recording.
    let lacks = |shortfall: &Shortfall| !matches!(shortfall, Shortfall::NotRecording { .. });
    let mut shortfalls = coverage.lanes.iter().flat_map(|lane| &lane.shortfalls);
    if shortfalls.any(lacks) {
        return Verdict::Lossy;
    }
    let blind = accounts
        .iter()
        .any(|account| account.lane != Lane::Sample && account.stats.is_empty());
    let mut cpus = losses.iter().flat_map(|lane| &lane.cpus);
    if blind || !skipped.is_empty() || cpus.any(|cpu| cpu.missing_beside > 0) {
        return Verdict::Unknown;
    }
    Verdict::Complete
}
