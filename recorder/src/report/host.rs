//! What the host was like before, at and after the trigger, from samples.

use serde::Serialize;

use crate::event::proto::{Pressure, SampleSystem};

/// Points of a series; samples that come closer together are averaged.
pub const POINTS_MAX: usize = 64;
/// Most samples that are kept.
const SAMPLES_MAX: usize = 7200;

/// A measure of the host over the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// What is measured: "CPU busy".
    pub name: &'static str,
    /// "percent", "bytes", "bytes_per_second", "threads", "load".
    pub unit: &'static str,
    /// Average before the trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
    /// The last value up to the trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// Average after the trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<f64>,
    /// Lowest value.
    pub lowest: f64,
    /// Highest value.
    pub highest: f64,
    /// Values by time from the trigger in nanoseconds, in the order of time.
    pub points: Vec<(i64, f64)>,
}

/// A measure, and how it is taken out of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What is measured: "CPU busy".
    pub name: &'static str,
    /// "percent", "bytes", "bytes_per_second", "threads", "load".
    pub unit: &'static str,
    /// Takes it out of a sample that has it.
    pub take: fn(&SampleSystem) -> Option<f64>,
}

pub(super) const RUNNABLE: &str = "threads that run or wait for a CPU";
pub(super) const MEMORY_PRESSURE: &str = "memory pressure, some";
pub(super) const IO_PRESSURE: &str = "I/O pressure, some";
pub(super) const MEMORY_AVAILABLE: &str = "memory available";

/// Every measure.
pub const MEASURES: &[Measure] = &[
    measure("CPU busy", "percent", |sample| {
        let cpu = sample.cpu.as_ref()?;
        Some((100.0 - cpu.idle_percent? - cpu.iowait_percent()).max(0.0))
    }),
    measure("CPU waiting for I/O", "percent", |sample| {
        sample.cpu.as_ref()?.iowait_percent
    }),
    measure("CPU taken by the hypervisor", "percent", |sample| {
        sample.cpu.as_ref()?.steal_percent
    }),
    measure("load, 1 min", "load", |sample| sample.load.as_ref()?.load1),
    measure(RUNNABLE, "threads", |sample| {
        float(sample.load.as_ref()?.runnable)
    }),
    measure(MEMORY_AVAILABLE, "bytes", |sample| {
        float(sample.memory.as_ref()?.available_bytes)
    }),
    measure("swap used", "bytes", |sample| {
        let memory = sample.memory.as_ref()?;
        let total = memory.swap_total_bytes.filter(|total| *total > 0)?;
        float(Some(total.saturating_sub(memory.swap_free_bytes?)))
    }),
    measure("CPU pressure, some", "percent", |sample| {
        pressure(sample, "cpu")
    }),
    measure(MEMORY_PRESSURE, "percent", |sample| {
        pressure(sample, "memory")
    }),
    measure(IO_PRESSURE, "percent", |sample| pressure(sample, "io")),
    measure("busiest disk", "percent", |sample| {
        let busy = sample.disks.iter().filter_map(|disk| disk.busy_percent);
        busy.reduce(f64::max)
    }),
    measure("disks, read and written", "bytes_per_second", |sample| {
        let each = sample.disks.iter().map(|disk| {
            let (read, written) = (disk.read_bytes_per_second?, disk.write_bytes_per_second?);
            float(Some(read.saturating_add(written)))
        });
        each.flatten().reduce(|sum, one| sum + one)
    }),
    measure("network, received and sent", "bytes_per_second", |sample| {
        let each = sample.interfaces.iter().map(|one| {
            let (in_, out) = (
                one.receive_bytes_per_second?,
                one.transmit_bytes_per_second?,
            );
            float(Some(in_.saturating_add(out)))
        });
        each.flatten().reduce(|sum, one| sum + one)
    }),
    measure("processes started", "per_second", |sample| {
        float(sample.load.as_ref()?.forks_per_second)
    }),
];

const fn measure(
    name: &'static str,
    unit: &'static str,
    take: fn(&SampleSystem) -> Option<f64>,
) -> Measure {
    Measure { name, unit, take }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn float(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

/// Returns the share of the interval that at least one task lost for want of a resource.
fn pressure(sample: &SampleSystem, resource: &str) -> Option<f64> {
    let is_it = |one: &&Pressure| one.resource() == resource;
    let some = sample.pressure.iter().find(is_it)?.some.as_ref()?;
    match (float(some.stalled_ns), float(sample.interval_ns)) {
        (Some(stalled), Some(interval)) if interval > 0.0 => {
            Some((100.0 * stalled / interval).min(100.0))
        }
        _ => some.avg10_percent,
    }
}

/// Collects samples.
#[derive(Default)]
pub(super) struct Samples {
    /// Values of each measure.
    values: Vec<Vec<(i64, f64)>>,
    samples: usize,
}

impl Samples {
    /// Takes in a sample, at its time from the trigger.
    pub(super) fn take(&mut self, offset_ns: i64, sample: &SampleSystem) {
        if self.samples == SAMPLES_MAX {
            return;
        }
        self.samples += 1;
        self.values.resize(MEASURES.len(), Vec::new());
        for (measure, values) in MEASURES.iter().zip(&mut self.values) {
            let value = (measure.take)(sample).filter(|value| value.is_finite());
            values.extend(value.map(|value| (offset_ns, value)));
        }
    }

    pub(super) fn finish(self) -> Vec<Series> {
        MEASURES
            .iter()
            .zip(self.values)
            .filter_map(|(measure, values)| series(measure, &values))
            .collect()
    }
}

fn series(measure: &Measure, values: &[(i64, f64)]) -> Option<Series> {
    let numbers = || values.iter().map(|(_, value)| *value);
    let before = || values.iter().filter(|(at, _)| *at <= 0);
    Some(Series {
        name: measure.name,
        unit: measure.unit,
        before: average(before().map(|(_, value)| *value)),
        at: before().next_back().map(|(_, value)| *value),
        after: average(
            values
                .iter()
                .filter(|(at, _)| *at > 0)
                .map(|(_, value)| *value),
        ),
        lowest: numbers().reduce(f64::min)?,
        highest: numbers().reduce(f64::max)?,
        points: thinned(values),
    })
}

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// Averages neighbours, so that no more than [`POINTS_MAX`] points are left.
fn thinned(values: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let together = values.len().div_ceil(POINTS_MAX).max(1);
    values
        .chunks(together)
        .filter_map(|chunk| {
            let value = average(chunk.iter().map(|(_, value)| *value))?;
            chunk.last().map(|(at, _)| (*at, value))
        })
        .collect()
}
