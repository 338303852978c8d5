//! What the probes attempted and lost, and what the kernel skipped.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::{fs, io};

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

    /// Returns how often each program ran, and how long, whenever that was measured since it was loaded.
    pub fn runs(&self) -> Vec<(String, Runs)> {
        let of = |(name, fd): &(String, OwnedFd)| {
            let info = info(fd.as_raw_fd())?;
            let runs = Runs {
                count: field(&info, "run_cnt:")?,
                ns: field(&info, "run_time_ns:")?,
            };
            Some((name.clone(), runs))
        };
        self.programs.iter().filter_map(of).collect()
    }
}

/// How often a program ran while it was measured, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How often.
    pub count: u64,
    /// How long, in nanoseconds.
    pub ns: u64,
}

/// While it lives, the kernel measures the programs of all of the host, which costs each run some 20 ns.
#[derive(Debug)]
pub struct Measuring(#[expect(dead_code, reason = "held for its drop")] OwnedFd);

impl Measuring {
    /// Starts.
    ///
    /// # Errors
    ///
    /// If the kernel refuses: it wants `CAP_SYS_ADMIN`.
    pub fn start() -> io::Result<Self> {
        let measuring = aya::sys::enable_stats(aya::sys::Stats::RunTime);
        measuring.map(Self).map_err(|error| error.io_error)
    }
}

/// Kernels before 5.12 do not say.
fn skipped(program: RawFd) -> Option<u64> {
    field(&info(program)?, "recursion_misses:")
}

fn info(program: RawFd) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()
}

fn field(info: &str, name: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}
