//! Rates by probes of our own, where no agent runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use recorder_ebpf::abi::Lane;

use super::{Rate, Rates};
use crate::ingest::samples;
use crate::kernel::{self, Kernel};
use crate::sample::{SampleConfig, Samples};

/// How often the kernel rings are emptied.
const PAUSE: Duration = Duration::from_millis(20);
/// The ring keeps records at multiples of this.
const ALIGN: usize = 8;

/// Records for a while, keeps nothing, and returns how fast records came.
///
/// # Errors
///
/// If the probes cannot be loaded.
pub fn measure(config: SampleConfig, time: Duration) -> Result<Rates> {
    kernel::check()?;
    let Kernel {
        mut rings,
        tasks,
        attachment,
        ..
    } = Kernel::load(kernel::Rates::ANY)?;
    let (outlet, inlet) = samples().context("cannot sample the host")?;
    let samples = Samples::new(config, outlet, tasks);
    let sampler = thread::Builder::new()
        .name("samples".to_owned())
        .spawn(move || samples.run())
        .context("cannot start thread samples")?;
    let mut counted = [(0_u64, 0_u64); Lane::ALL.len()];
    let mut count = |lane: Lane, record: &[u8]| {
        let (records, bytes) = &mut counted[lane as usize];
        *records += 1;
        *bytes += record.len().next_multiple_of(ALIGN) as u64;
    };
    let start = Instant::now();
    while start.elapsed() < time {
        thread::sleep(PAUSE.min(time.saturating_sub(start.elapsed())));
        while let Some(record) = rings.failure.next() {
            count(Lane::Failure, &record);
        }
        // Not for ever, on a host that makes them faster than they are taken.
        let round = Instant::now();
        while round.elapsed() < PAUSE
            && let Some(record) = rings.lifecycle.next()
        {
            count(Lane::Lifecycle, &record);
        }
        while let Some(record) = inlet.next() {
            count(Lane::Sample, &record);
            inlet.give_back(record);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(attachment);
    drop(inlet);
    // It ends with the inlet; a panic of it has said so itself.
    let _ = sampler.join();
    Ok(counted.map(|(records, bytes)| Rate {
        records_per_second: records as f64 / seconds,
        bytes_per_second: bytes as f64 / seconds,
    }))
}
