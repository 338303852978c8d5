//! The agent's answer to "how are you".

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recorder_ebpf::abi::{EventKind, Lane};

use crate::api::{CpuStatus, DumpStatus, IncidentStatus, LaneStatus, SampleStatus, Status};
use crate::config::{RecordConfig, saturating_ns};
use crate::dump::Probe;
use crate::event::ClockPair;
use crate::ingest::{State, now_boot_ns};
use crate::kernel::Counters;
use crate::sample::SampleCounters;

/// Makes a status of what the data plane says and what does not change.
pub(super) struct StatusMaker {
    pub(super) start: ClockPair,
    pub(super) config: RecordConfig,
    pub(super) dumps_dir: PathBuf,
    pub(super) probes: Vec<Probe>,
    pub(super) counters: Arc<Counters>,
    pub(super) samples: Arc<SampleCounters>,
    pub(super) dumps: Arc<Mutex<DumpStatus>>,
}

impl StatusMaker {
    pub(super) fn status(&self, state: State) -> Status {
        let incidents = state.incidents;
        let dumps = self.dumps.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            state: "recording".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_unix_ns: self.start.unix_ns,
            dumps_dir: self.dumps_dir.display().to_string(),
            before_ns: saturating_ns(self.config.before),
            after_ns: saturating_ns(self.config.after),
            probes: self.probes.clone(),
            skipped: self
                .counters
                .skipped()
                .into_iter()
                .filter(|(_, times)| *times > 0)
                .collect(),
            lanes: Lane::ALL.map(|lane| of_lane(lane, &state)).into(),
            incidents: IncidentStatus {
                open: incidents.open,
                opened: incidents.opened_total,
                joined: incidents.joined_total,
                suppressed: incidents.suppressed_total,
                overflow: incidents.overflow_total,
                limited: incidents.limited_total,
                news_dropped: state.news_dropped,
            },
            rules: state.rules.clone(),
            samples: of_samples(&self.samples, self.config.sample_interval),
            dumps: dumps.clone(),
        }
    }
}

fn of_samples(counters: &SampleCounters, interval: Duration) -> SampleStatus {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    SampleStatus {
        interval_ns: saturating_ns(interval),
        taken: count(&counters.samples),
        processes: count(&counters.processes),
        missed: count(&counters.missed),
        dropped: count(&counters.dropped),
        cpu_ns: count(&counters.cpu_ns),
        log_lines: count(&counters.lines),
        log_filtered: count(&counters.filtered),
        log_lost: count(&counters.lost),
        log_left_out: count(&counters.left_out),
    }
}

fn of_lane(lane: Lane, state: &State) -> LaneStatus {
    let stats = state.ring.lane(lane);
    let committed = &state.committed[lane as usize];
    let cpus = state
        .counters
        .iter()
        .filter(|counted| counted.lane == lane && counted.stats.attempted > 0)
        .map(|counted| {
            let lost = counted.stats.lost_total();
            let committed = committed
                .get(usize::from(counted.cpu))
                .copied()
                .unwrap_or(0);
            CpuStatus {
                cpu: counted.cpu,
                attempted: counted.stats.attempted,
                committed,
                lost,
                lost_by_kind: lost_by_kind(&counted.stats.lost),
                in_flight: counted.stats.attempted.saturating_sub(lost + committed),
            }
        })
        .collect();
    LaneStatus {
        lane: lane.name().to_owned(),
        capacity_bytes: stats.capacity_bytes,
        used_bytes: stats.used_bytes,
        pinned_bytes: stats.pinned_bytes,
        records: stats.records,
        pushed: stats.pushed,
        evicted: stats.evicted,
        dropped: stats.dropped,
        span_ns: stats
            .oldest_boot_ns
            .map(|oldest| now_boot_ns().saturating_sub(oldest)),
        cpus,
    }
}

fn lost_by_kind(lost: &[u64]) -> BTreeMap<String, u64> {
    EventKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, *lost.get(kind as usize)?)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.name().to_owned(), count))
        .collect()
}
