//! What the probes attempted and lost, and what the kernel skipped.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use aya::maps::{MapData, MapError, PerCpuArray};
use recorder_ebpf::abi::{Lane, LaneStats};

/// The counters of the probes, readable at any time from any thread.
pub struct Counters {
    pub(super) map: PerCpuArray<MapData, Stats>,
    pub(super) programs: Vec<(String, OwnedFd)>,
}

/// [`LaneStats`] as aya wants it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Stats(pub(super) LaneStats);

// SAFETY: LaneStats is plain integers without padding; zerocopy's derives on it prove so.
unsafe impl aya::Pod for Stats {}

impl Counters {
    /// Returns the counters of a lane, by CPU. The sample lane has none: nothing of it comes from the kernel.
    pub fn lane(&self, lane: Lane) -> Result<Vec<LaneStats>, MapError> {
        if lane == Lane::Sample {
            return Ok(Vec::new());
        }
        let values = self.map.get(&(lane as u32), 0)?;
        Ok(values.iter().map(|stats| stats.0).collect())
    }

    /// Returns how often the kernel ran none of a program because the same CPU was already inside it, by program.
    pub fn skipped(&self) -> Vec<(String, u64)> {
        self.programs
            .iter()
            .filter_map(|(name, fd)| Some((name.clone(), skipped(fd.as_raw_fd())?)))
            .collect()
    }
}

/// Kernels before 5.12 do not say.
fn skipped(program: RawFd) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}
