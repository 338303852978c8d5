//! What the probes attempted and lost, and what the kernel skipped.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use aya::maps::{MapData, MapError, PerCpuArray};
use recorder_ebpf::abi::{Lane, LaneStats};

/// The counters of the probes, readable at any time from any thread.
pub struct Counters {
    pub(super) map: PerCpuArray<MapData, Stats>,
    pub(super) programs: Vec<(String, OwnedFd)>,
    pub(super) seen: Mutex<Seen>,
}

/// Most changes of what was skipped that are remembered.
const CHANGES_MAX: usize = 64;

/// What was seen to be skipped, program by program, and when.
#[derive(Debug, Default)]
pub(super) struct Seen(VecDeque<Look>);

#[derive(Debug)]
struct Look {
    /// When it was first so, and last, in nanoseconds since boot.
    since_boot_ns: u64,
    until_boot_ns: u64,
    times: Vec<u64>,
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

    /// Returns how often the kernel did not run a program because the same CPU was already inside it, by program; and remembers it.
    pub fn skipped(&self, now_boot_ns: u64) -> Vec<(String, u64)> {
        let times = self.look(now_boot_ns, 0).1;
        self.named(times)
    }

    /// Returns how often that may have been since a time: since which one for certain, at most that one, and by program.
    pub fn skipped_since(&self, boot_ns: u64, now_boot_ns: u64) -> (u64, Vec<(String, u64)>) {
        let (since, times) = self.look(now_boot_ns, boot_ns);
        (since, self.named(times))
    }

    fn look(&self, now_boot_ns: u64, since_boot_ns: u64) -> (u64, Vec<u64>) {
        // Kernels before 5.12 do not say.
        let times = |(_, fd): &(String, OwnedFd)| skipped(fd.as_raw_fd()).unwrap_or(0);
        let times: Vec<u64> = self.programs.iter().map(times).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.at(since_boot_ns);
        seen.add(now_boot_ns, &times);
        match before {
            Some((since, before)) => (since, less(&times, &before)),
            None => (0, times),
        }
    }

    fn named(&self, times: Vec<u64>) -> Vec<(String, u64)> {
        let names = self.programs.iter().map(|(name, _)| name.clone());
        names.zip(times).filter(|(_, times)| *times > 0).collect()
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

impl Seen {
    fn add(&mut self, boot_ns: u64, times: &[u64]) {
        match self.0.back_mut() {
            // Somebody else may have looked later and been sooner here.
            Some(last) if last.times == times => {
                last.until_boot_ns = last.until_boot_ns.max(boot_ns)
            }
            Some(last) if last.until_boot_ns >= boot_ns => {}
            Some(_) | None => {
                if self.0.len() == CHANGES_MAX {
                    self.0.pop_front();
                }
                self.0.push_back(Look {
                    since_boot_ns: boot_ns,
                    until_boot_ns: boot_ns,
                    times: times.to_vec(),
                });
            }
        }
    }

    /// Returns what was last seen up to a time, and when.
    fn at(&self, boot_ns: u64) -> Option<(u64, Vec<u64>)> {
        let mut looks = self.0.iter().rev();
        let look = looks.find(|look| look.since_boot_ns <= boot_ns)?;
        Some((look.until_boot_ns.min(boot_ns), look.times.clone()))
    }
}

fn less(times: &[u64], before: &[u64]) -> Vec<u64> {
    let both = times.iter().zip(before);
    both.map(|(times, before)| times.saturating_sub(*before))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_since_a_time_is_never_too_little() {
        let mut seen = Seen::default();
        assert_eq!(seen.at(u64::MAX), None, "nobody has looked");
        seen.add(100, &[0, 1]);
        seen.add(200, &[0, 1]);
        seen.add(300, &[2, 1]);
        assert_eq!(seen.at(99), None, "since the start, then");
        assert_eq!(seen.at(150), Some((150, vec![0, 1])));
        // Whenever it was between 200 and 300: it may have been after 250.
        assert_eq!(seen.at(250), Some((200, vec![0, 1])));
        assert_eq!(seen.at(300), Some((300, vec![2, 1])));
        // One that looked before the last and comes after it.
        seen.add(250, &[1, 1]);
        assert_eq!(seen.at(400), Some((300, vec![2, 1])));
        assert_eq!(less(&[3, 1], &[2, 1]), [1, 0]);
        for time in 0..2 * CHANGES_MAX as u64 {
            seen.add(1000 + time, &[time, 2]);
        }
        assert_eq!(seen.0.len(), CHANGES_MAX);
        assert_eq!(seen.at(400), None, "forgotten, and so since the start");
    }
}
