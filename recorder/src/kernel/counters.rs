//! What the probes attempted and lost, and what the kernel skipped.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::{fs, io, mem};

use aya::maps::{Array, MapData, MapError, PerCpuArray};
use recorder_ebpf::abi::{Lane, LaneStats, TURNS_MAX, Turns};

/// The counters of the probes, readable at any time from any thread.
pub struct Counters {
    pub(super) map: PerCpuArray<MapData, Stats>,
    pub(super) programs: Vec<(String, OwnedFd)>,
    pub(super) taken: Array<MapData, u64>,
    pub(super) seen: Mutex<Seen>,
}

/// The programs of each tracepoint that may have two, the first of them first.
const TURNS: [(Turns, [&str; 2]); TURNS_MAX] = [
    (Turns::Exec, ["process_exec", "process_exec_second"]),
    (Turns::Exit, ["process_exit", "process_exit_second"]),
];

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

    /// Returns how often the kernel did not run a program because the same CPU was already inside it, by program; and remembers
    /// it. Where a second program stands behind the first, what either of them was run for is not skipped.
    pub fn skipped(&self, now_boot_ns: u64) -> Vec<(String, u64)> {
        self.look(now_boot_ns, 0).1
    }

    /// Returns how often that may have been since a time: since which one for certain, at most that one, and by program.
    pub fn skipped_since(&self, boot_ns: u64, now_boot_ns: u64) -> (u64, Vec<(String, u64)>) {
        self.look(now_boot_ns, boot_ns)
    }

    fn look(&self, now_boot_ns: u64, since_boot_ns: u64) -> (u64, Vec<(String, u64)>) {
        // Before what was skipped is read: of that, what is taken from here on is not known to be.
        let taken = TURNS.map(|(at, _)| self.taken.get(&(at as u32), 0).unwrap_or(0));
        // Kernels before 5.12 do not say.
        let times = |(_, fd): &(String, OwnedFd)| skipped(fd.as_raw_fd()).unwrap_or(0);
        let times: Vec<u64> = self.programs.iter().map(times).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = seen
            .at(since_boot_ns)
            .unwrap_or_else(|| (0, vec![0; times.len()]));
        seen.add(now_boot_ns, &times);
        drop(seen);
        let both = times.iter().zip(before);
        let of_programs = self.programs.iter().zip(both);
        let skipped = of_programs.map(|((name, _), (all, before))| Skips {
            program: name,
            all: *all,
            lately: all.saturating_sub(before),
        });
        (since, unseen(skipped.collect(), taken))
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

/// How often a program was skipped.
struct Skips<'a> {
    program: &'a str,
    /// Since it was attached.
    all: u64,
    /// In the time that is asked for.
    lately: u64,
}

/// Returns how often no program looked, by the first at each tracepoint, of which there may be two: at most as often as either
/// was skipped, and no more often in any time than ever: the first was skipped and the second did not take it.
fn unseen(mut skipped: Vec<Skips<'_>>, taken: [u64; TURNS_MAX]) -> Vec<(String, u64)> {
    for ((_, programs), taken) in TURNS.into_iter().zip(taken) {
        let of = |program| skipped.iter().position(|skips| skips.program == program);
        if let [Some(first), Some(second)] = programs.map(of) {
            let ever = skipped[first].all.saturating_sub(taken);
            let second = mem::take(&mut skipped[second].lately);
            skipped[first].lately = skipped[first].lately.min(second).min(ever);
        }
    }
    let named = skipped.into_iter().filter(|skips| skips.lately > 0);
    named
        .map(|skips| (skips.program.to_owned(), skips.lately))
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
    fn what_either_of_two_programs_was_run_for_is_not_skipped() {
        let unseen = |skipped: &[(&'static str, u64, u64)], taken| {
            let skips = skipped.iter().map(|&(program, all, lately)| Skips {
                program,
                all,
                lately,
            });
            unseen(skips.collect(), taken)
        };
        let of = |first, second| {
            [
                ("process_exit", 9, first),
                ("process_exit_second", 9, second),
            ]
        };
        let exit = |times| vec![("process_exit".to_owned(), times)];
        assert_eq!(unseen(&of(3, 0), [0, 0]), []);
        assert_eq!(unseen(&of(0, 3), [0, 0]), []);
        assert_eq!(unseen(&of(3, 2), [0, 0]), exit(2));
        assert_eq!(
            unseen(&of(3, 2), [0, 8]),
            exit(1),
            "of the nine that it ever skipped"
        );
        assert_eq!(unseen(&of(3, 2), [9, 9]), []);
        // Where there is one, it is as it was.
        assert_eq!(unseen(&[("process_exit", 9, 3)], [0, 0]), exit(3));
        assert_eq!(
            unseen(&[("signal_sent", 9, 3)], [9, 9]),
            [("signal_sent".to_owned(), 3)]
        );
    }

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
        for time in 0..2 * CHANGES_MAX as u64 {
            seen.add(1000 + time, &[time, 2]);
        }
        assert_eq!(seen.0.len(), CHANGES_MAX);
        assert_eq!(seen.at(400), None, "forgotten, and so since the start");
    }
}
