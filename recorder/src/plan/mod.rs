//! What window the budgets give on this host, and what a wanted one would cost.
//!
//! A lane holds what its budget divided by the host's rate gives. While an incident is open its window pins half of a lane at
//! most, and the other half goes on recording: so the window that a lane promises is half of what it holds.

mod measure;

use std::time::Duration;

use recorder_ebpf::abi::Lane;
use serde::Serialize;

use crate::api::Status;

pub use measure::measure;

/// Smallest lane, and the step in which lanes grow, in bytes.
const LANE_STEP: u64 = 1 << 20;
/// What an event takes in a dump, in bytes, where no dump of this host says.
const EVENT_BYTES_ASSUMED: f64 = 14.0;

/// How fast records come into one lane.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Records in a second.
    pub records_per_second: f64,
    /// Bytes in a second, as the ring keeps them.
    pub bytes_per_second: f64,
}

/// How fast records come, by the number of the lane.
pub type Rates = [Rate; Lane::ALL.len()];

/// Returns the rates between two answers of the running agent, `seconds` apart; of each lane the one since its start, if that
/// is higher: a quiet moment is no measure.
pub fn rates_of_agent(
    first: &Status,
    second: &Status,
    seconds: f64,
    seconds_since_start: f64,
) -> Rates {
    Lane::ALL.map(|lane| {
        let of = |status: &Status| {
            let mut lanes = status.lanes.iter();
            lanes.find(|status| status.lane == lane.name()).cloned()
        };
        let (Some(first), Some(second)) = (of(first), of(second)) else {
            return Rate {
                records_per_second: 0.0,
                bytes_per_second: 0.0,
            };
        };
        let now = second.pushed.saturating_sub(first.pushed) as f64 / seconds.max(0.001);
        let ever = second.pushed as f64 / seconds_since_start.max(1.0);
        let records_per_second = now.max(ever);
        let record_bytes = second.used_bytes as f64 / (second.records.max(1)) as f64;
        Rate {
            records_per_second,
            bytes_per_second: records_per_second * record_bytes,
        }
    })
}

/// What dumps of this host are like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DumpShape {
    /// Bytes for each event.
    pub bytes_per_event: f64,
    /// Bytes whatever the window holds: its description and the evidence.
    pub fixed_bytes: u64,
    /// Dumps that this was learnt from; none if it is assumed.
    pub dumps: u64,
}

impl DumpShape {
    /// Returns the shape of dumps of which are known: events, bytes for these, further bytes.
    pub fn of(dumps: &[(u64, u64, u64)]) -> Self {
        let events: u64 = dumps.iter().map(|(events, ..)| events).sum();
        let bytes: u64 = dumps.iter().map(|(_, bytes, _)| bytes).sum();
        let fixed: u64 = dumps.iter().map(|(.., fixed)| fixed).sum();
        let number = dumps.len() as u64;
        match events {
            0 => Self {
                bytes_per_event: EVENT_BYTES_ASSUMED,
                fixed_bytes: 0,
                dumps: 0,
            },
            events => Self {
                bytes_per_event: bytes as f64 / events as f64,
                fixed_bytes: fixed / number.max(1),
                dumps: number,
            },
        }
    }

    fn dump_bytes(&self, rates: &Rates, window: Duration) -> u64 {
        let records: f64 = rates.iter().map(|rate| rate.records_per_second).sum();
        let events = records * window.as_secs_f64() * self.bytes_per_event;
        // Saturates.
        (events as u64).saturating_add(self.fixed_bytes)
    }
}

/// What the budgets are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budgets {
    /// Bytes of each lane, by its number.
    pub lane_bytes: [u64; Lane::ALL.len()],
    /// Largest dump.
    pub max_dump_bytes: u64,
    /// Most bytes of all dumps.
    pub dumps_max_bytes: u64,
    /// Most dumps.
    pub dumps_max_count: u64,
}

/// A lane's part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LanePlan {
    /// How fast its records come.
    #[serde(flatten)]
    pub rate: Rate,
    /// Its budget.
    pub budget_bytes: u64,
    /// How far back it reaches at this rate, in seconds; absent if nothing comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_seconds: Option<f64>,
    /// The window before an incident that is whole in every dump, in seconds; absent if nothing comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<f64>,
    /// Budget that the wanted window takes.
    pub wanted_bytes: u64,
}

/// What the budgets give, and what a window would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// By the number of the lane.
    pub lanes: [LanePlan; Lane::ALL.len()],
    /// The window that every lane gives before an incident, in seconds; absent if nothing comes at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<f64>,
    /// The window that is wanted, in seconds.
    pub wanted_seconds: f64,
    /// Whether the budgets give it.
    pub is_enough: bool,
    /// Memory that it would take.
    pub wanted_memory_bytes: u64,
    /// What a dump of it would take, whatever the largest dump may be.
    pub dump_bytes: u64,
    /// Dumps of it that the budget holds.
    pub dumps: u64,
    /// What dumps are like.
    pub dump_shape: DumpShape,
}

impl Plan {
    /// Makes the plan for a window of `before` and `after` an incident.
    pub fn new(
        rates: &Rates,
        budgets: &Budgets,
        shape: DumpShape,
        before: Duration,
        after: Duration,
    ) -> Self {
        let lanes = Lane::ALL.map(|lane| {
            let rate = rates[lane as usize];
            let budget_bytes = budgets.lane_bytes[lane as usize];
            let holds_seconds =
                (rate.bytes_per_second > 0.0).then(|| budget_bytes as f64 / rate.bytes_per_second);
            LanePlan {
                rate,
                budget_bytes,
                holds_seconds,
                window_seconds: holds_seconds.map(|seconds| seconds / 2.0),
                wanted_bytes: lane_bytes(rate, before, after),
            }
        });
        let windows = lanes.iter().filter_map(|lane| lane.window_seconds);
        let window_seconds = windows.reduce(f64::min);
        let dump_bytes = shape.dump_bytes(rates, before + after);
        let kept = dump_bytes.min(budgets.max_dump_bytes).max(1);
        Self {
            window_seconds,
            wanted_seconds: before.as_secs_f64(),
            is_enough: lanes
                .iter()
                .all(|lane| lane.wanted_bytes <= lane.budget_bytes)
                && dump_bytes <= budgets.max_dump_bytes,
            wanted_memory_bytes: lanes
                .iter()
                .fold(0, |sum, lane| lane.wanted_bytes.saturating_add(sum)),
            dump_bytes,
            dumps: (budgets.dumps_max_bytes / kept).min(budgets.dumps_max_count),
            dump_shape: shape,
            lanes,
        }
    }
}

/// Returns the budget that gives a window: twice what comes before the incident, and all of the window in seven eighths.
fn lane_bytes(rate: Rate, before: Duration, after: Duration) -> u64 {
    let before = before.as_secs_f64();
    let seconds = (2.0 * before).max((before + after.as_secs_f64()) * 8.0 / 7.0);
    // Saturates.
    let bytes = (rate.bytes_per_second * seconds).ceil() as u64;
    bytes
        .max(LANE_STEP)
        .checked_next_multiple_of(LANE_STEP)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: Budgets = Budgets {
        lane_bytes: [8 << 20, 48 << 20, 8 << 20],
        max_dump_bytes: 64 << 20,
        dumps_max_bytes: 1 << 30,
        dumps_max_count: 100,
    };

    fn rates(lifecycle: f64) -> Rates {
        let rate = |records: f64, bytes: f64| Rate {
            records_per_second: records,
            bytes_per_second: records * bytes,
        };
        [rate(0.0, 0.0), rate(lifecycle, 128.0), rate(1.0, 4096.0)]
    }

    fn plan(lifecycle: f64, seconds: u64) -> Plan {
        let shape = DumpShape::of(&[]);
        let (before, after) = (Duration::from_secs(seconds), Duration::from_secs(5));
        Plan::new(&rates(lifecycle), &BUDGETS, shape, before, after)
    }

    #[test]
    fn a_lane_promises_half_of_what_it_holds() {
        let plan = plan(4096.0, 60);
        let lifecycle = plan.lanes[Lane::Lifecycle as usize];
        assert_eq!(lifecycle.holds_seconds, Some(96.0));
        assert_eq!(lifecycle.window_seconds, Some(48.0));
        assert_eq!(plan.window_seconds, Some(48.0));
        assert_eq!(lifecycle.wanted_bytes, 60 << 20);
        assert!(!plan.is_enough);
        let quiet = plan.lanes[Lane::Failure as usize];
        assert_eq!((quiet.holds_seconds, quiet.wanted_bytes), (None, 1 << 20));
    }

    #[test]
    fn a_window_that_is_given_is_said_to_be() {
        let plan = plan(100.0, 600);
        assert!(plan.is_enough, "{plan:?}");
        assert_eq!(plan.dumps, 100);
        // 605 s of 101 events, 14 bytes each.
        assert_eq!(plan.dump_bytes, 855_470);
    }

    #[test]
    fn a_dump_that_would_be_cut_is_not_enough() {
        let mut budgets = BUDGETS;
        budgets.lane_bytes = [4 << 30; 3];
        budgets.dumps_max_bytes = 128 << 20;
        let (before, after) = (Duration::from_secs(60), Duration::from_secs(5));
        let rates = rates(100_000.0);
        let plan = Plan::new(&rates, &budgets, DumpShape::of(&[]), before, after);
        assert!(!plan.is_enough);
        assert_eq!(plan.dumps, 2, "each is cut to the largest");
    }

    #[test]
    fn dumps_of_this_host_say_what_events_take() {
        let shape = DumpShape::of(&[(1000, 10_000, 500), (3000, 50_000, 1500)]);
        assert_eq!((shape.bytes_per_event, shape.fixed_bytes), (15.0, 1000));
        assert_eq!(DumpShape::of(&[(0, 0, 500)]).dumps, 0);
    }

    #[test]
    fn nothing_overflows() {
        let rate = Rate {
            records_per_second: f64::MAX,
            bytes_per_second: f64::MAX,
        };
        let day = Duration::from_secs(86_400);
        let plan = Plan::new(&[rate; 3], &BUDGETS, DumpShape::of(&[]), day, day);
        assert_eq!(plan.lanes[0].wanted_bytes, u64::MAX);
        assert!(!plan.is_enough);
    }
}
