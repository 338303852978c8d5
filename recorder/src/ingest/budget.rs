//! Whether the flight ring is large enough for the window at the rate that is measured.

use recorder_ebpf::abi::Lane;

use crate::config::Bytes;
use crate::ring::{LaneStats, RingStats};

/// How often the budgets are looked at, in nanoseconds.
const INTERVAL_NS: u64 = 10_000_000_000;

/// Looks at the budgets from time to time, and warns once for each lane that is too small.
#[derive(Debug)]
pub(super) struct BudgetWatch {
    before_ns: u64,
    next_boot_ns: u64,
    warned: [bool; Lane::ALL.len()],
}

impl BudgetWatch {
    pub(super) fn new(before_ns: u64, now_boot_ns: u64) -> Self {
        Self {
            before_ns,
            next_boot_ns: now_boot_ns + INTERVAL_NS,
            warned: [false; Lane::ALL.len()],
        }
    }

    /// Returns a warning if a lane has turned out too small.
    pub(super) fn check(
        &mut self,
        now_boot_ns: u64,
        stats: impl FnOnce() -> RingStats,
    ) -> Option<String> {
        if now_boot_ns < self.next_boot_ns {
            return None;
        }
        self.next_boot_ns = now_boot_ns + INTERVAL_NS;
        let stats = stats();
        for lane in Lane::ALL {
            let warned = &mut self.warned[lane as usize];
            if *warned {
                continue;
            }
            if let Some(warning) = shortage(lane, stats.lane(lane), self.before_ns, now_boot_ns) {
                *warned = true;
                return Some(warning);
            }
        }
        None
    }
}

/// Says so if the lane has overwritten records that the window would want.
fn shortage(lane: Lane, stats: &LaneStats, before_ns: u64, now_boot_ns: u64) -> Option<String> {
    let oldest = stats.oldest_boot_ns?;
    let held_ns = now_boot_ns.saturating_sub(oldest).max(1);
    // While an incident is open a window holds half of a lane at most.
    if stats.evicted == 0 || held_ns / 2 >= before_ns {
        return None;
    }
    let rate = u128::from(stats.used_bytes) * 1_000_000_000 / u128::from(held_ns);
    let wanted = u128::from(stats.used_bytes) * 2 * u128::from(before_ns) / u128::from(held_ns);
    // Rounded up to whole MiB, with an eighth more for the unsteadiness of rates.
    let wanted = (wanted + wanted / 8).div_ceil(1 << 20) << 20;
    Some(format!(
        "the {name} lane holds {held:.1} s at {rate} KiB/s, but the window wants {before:.0} s before an incident: \
         set --{name}-bytes to {wanted} or --before to {possible:.0}s",
        name = lane.name(),
        held = held_ns as f64 / 1e9,
        rate = rate / 1024,
        before = before_ns as f64 / 1e9,
        wanted = Bytes(u64::try_from(wanted).unwrap_or(u64::MAX))
            .to_string()
            .replace(' ', ""),
        possible = (held_ns as f64 / 2e9).floor().max(1.0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn stats(evicted: u64, held_s: u64) -> LaneStats {
        LaneStats {
            capacity_bytes: 48 << 20,
            used_bytes: 48 << 20,
            evicted,
            oldest_boot_ns: Some(1000 * SECOND - held_s * SECOND),
            ..LaneStats::default()
        }
    }

    #[test]
    fn a_lane_that_overwrites_too_early_is_named_with_the_figure_to_change() {
        let warning = shortage(Lane::Lifecycle, &stats(1, 30), 60 * SECOND, 1000 * SECOND)
            .expect("30 s are no 60 s");
        assert!(warning.contains("--lifecycle-bytes to 216MiB"), "{warning}");
        assert!(warning.contains("--before to 15s"), "{warning}");
    }

    #[test]
    fn a_lane_that_holds_enough_or_has_overwritten_nothing_is_fine() {
        let now = 1000 * SECOND;
        assert_eq!(
            shortage(Lane::Lifecycle, &stats(1, 130), 60 * SECOND, now),
            None
        );
        assert_eq!(
            shortage(Lane::Lifecycle, &stats(0, 3), 60 * SECOND, now),
            None
        );
    }

    #[test]
    fn each_lane_warns_once() {
        let mut watch = BudgetWatch::new(60 * SECOND, 0);
        let small = || RingStats {
            lanes: [LaneStats::default(), stats(1, 30), LaneStats::default()],
        };
        assert_eq!(watch.check(SECOND, small), None, "too early");
        assert!(watch.check(1000 * SECOND, small).is_some());
        assert_eq!(watch.check(2000 * SECOND, small), None, "said already");
    }
}
