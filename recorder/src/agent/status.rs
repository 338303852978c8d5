//! The agent's answer to "how are you".

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recorder_ebpf::abi::{EventKind, Lane, Saving};
use rustix::time::{ClockId, clock_gettime};

use super::space::Space;
use crate::api::{
    CpuStatus, DumpStatus, Health, IncidentStatus, LaneStatus, LiveStatus, SampleStatus, Status,
    TwinStatus, Usage,
};
use crate::budget::{self, BudgetStatus};
use crate::config::{RecordConfig, saturating_ns};
use crate::dump::Probe;
use crate::event::ClockPair;
use crate::health::{Watch, Word};
use crate::ingest::{State, now_boot_ns, now_pair};
use crate::kernel::Counters;
use crate::live::{Live, LiveCounters};
use crate::notify::Notifier;
use crate::reserve;
use crate::sample::SampleCounters;

/// Makes a status of what the data plane says and what does not change.
pub(super) struct StatusMaker {
    pub(super) start: ClockPair,
    pub(super) config: RecordConfig,
    pub(super) dumps_dir: PathBuf,
    pub(super) space: Space,
    pub(super) probes: Vec<Probe>,
    pub(super) counters: Arc<Counters>,
    pub(super) samples: Arc<SampleCounters>,
    pub(super) dumps: Arc<Mutex<DumpStatus>>,
    pub(super) live: Live,
    pub(super) notifier: Notifier,
    pub(super) watch: Mutex<Watch>,
    pub(super) contract: Arc<budget::Shared>,
    pub(super) twin: Option<Arc<Mutex<TwinStatus>>>,
}

impl StatusMaker {
    /// Makes a status, and judges it: how long ago a loss was is known only if this is called now and then.
    pub(super) fn status(&self, state: State) -> Status {
        let mut status = self.gather(state);
        let now = now_pair();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = watch.judge(&status, now.boot_ns, now.unix_ns);
        status.health = Health {
            state: match reasons.is_empty() {
                true => Word::Recording,
                false => Word::Degraded,
            },
            reasons,
        };
        status
    }

    fn gather(&self, state: State) -> Status {
        let incidents = state.incidents;
        // Before the lock: a disk may not answer.
        let space = self.space.now();
        let dumps = self.dumps.lock().unwrap_or_else(PoisonError::into_inner);
        let dumps = DumpStatus {
            // Those that nobody has taken yet, and those that nobody could write.
            waiting: state.waiting + dumps.waiting,
            space,
            reserve: reserve::usage(),
            ..dumps.clone()
        };
        Status {
            health: Health::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_unix_ns: self.start.unix_ns,
            dumps_dir: self.dumps_dir.display().to_string(),
            before_ns: saturating_ns(self.config.before),
            after_ns: saturating_ns(self.config.after),
            probes: self.probes.clone(),
            skipped: self.counters.skipped(now_boot_ns()).into_iter().collect(),
            lanes: Lane::ALL.map(|lane| of_lane(lane, &state)).into(),
            events: by_kind(&state.events),
            throttled: state.throttled,
            budget: BudgetStatus {
                records: by_saving(&state.left_out),
                ..self.contract.status()
            },
            filtered: state.filtered,
            incidents: IncidentStatus {
                open: incidents.open,
                opened: incidents.opened_total,
                joined: incidents.joined_total,
                suppressed: incidents.suppressed_total,
                overflow: incidents.overflow_total,
                limited: incidents.limited_total,
                news_dropped: state.news_dropped,
                opened_by_rule: state.opened,
            },
            rule_errors: state.rules.iter().map(|rule| rule.errors).sum(),
            rules: state.rules.clone(),
            samples: of_samples(&self.samples, self.config.sample_interval),
            dumps,
            notify: self.notifier.status(),
            live: of_live(self.live.counters()),
            usage: usage(),
            twin: self
                .twin
                .as_ref()
                .map(|twin| twin.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

fn of_live(counters: &LiveCounters) -> LiveStatus {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    LiveStatus {
        readers: count(&counters.readers),
        delivered: count(&counters.delivered),
        lost: count(&counters.lost),
        missed: count(&counters.missed),
    }
}

/// Returns what this process uses; what the kernel does not say is 0.
fn usage() -> Usage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(cpu.tv_sec).unwrap_or(0);
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    Usage {
        cpu_ns: seconds * 1_000_000_000 + u64::try_from(cpu.tv_nsec).unwrap_or(0),
        resident_bytes: pages.unwrap_or(0) * rustix::param::page_size() as u64,
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
        .filter(|counted| {
            let filtered = counted.stats.filtered_total();
            counted.lane == lane && counted.stats.attempted + filtered > 0
        })
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
                lost_by_kind: by_kind(&counted.stats.lost),
                throttled_by_kind: by_kind(&counted.stats.throttled),
                filtered_by_kind: by_kind(&counted.stats.filtered),
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

/// Names what was left out, of which there is any.
fn by_saving(counts: &[u64; Saving::ALL.len()]) -> BTreeMap<String, u64> {
    let counts = Saving::ALL.into_iter().zip(*counts);
    counts
        .filter(|(_, count)| *count > 0)
        .map(|(saving, count)| (saving.name().to_owned(), count))
        .collect()
}

/// Names the counts of those kinds that have any.
fn by_kind(counts: &[u64]) -> BTreeMap<String, u64> {
    EventKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, *counts.get(kind as usize)?)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.name().to_owned(), count))
        .collect()
}
