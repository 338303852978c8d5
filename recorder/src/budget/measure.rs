//! What recording costs: CPU time by thread, time of the probes, memory.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use recorder_ebpf::abi::Lane;

use crate::ingest::now_boot_ns;
use crate::kernel::{Counters, Measuring, Runs};

use super::contract::Share;

/// Threads whose time is what recording costs. What the others take has limits of its own, or is for who asks.
pub const RECORDING: [&str; 5] = ["data", "samples", "look", "builds", "budget"];
/// Programs that run for every process, and that leaving something out makes cheaper.
const PROCESSES: [&str; 2] = ["process_exec", "process_exit"];
/// What the probes are taken to need for a record while the kernel measures nothing, in nanoseconds: between what an exit and
/// what an exec takes, see docs/performance.md.
const RECORD_NS: u64 = 1_000;
/// Runs in a slice from which on their average says something.
const RUNS_MIN: u64 = 16;
/// How long the kernel measures the probes at a time: it measures all of the host's, and that costs as well.
pub const SLICE: Duration = Duration::from_millis(100);

/// Arenas that may be left by threads of the start.
const ARENAS: usize = 4;

/// What a thread has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// CPU time since it began, in nanoseconds.
    pub cpu_ns: u64,
}

/// Looks after which the threads are listed again: they are as good as always the same.
const LIST_EVERY: u32 = 16;

/// Reads the clocks of the agent's threads.
#[derive(Debug, Default)]
pub struct Threads {
    /// By id: a name is read once, but that of the main thread.
    known: BTreeMap<i32, Thread>,
    /// Looks since they were listed.
    looks: u32,
}

impl Threads {
    /// Looks at every thread; returns the CPU time of those that record since the look before, in nanoseconds.
    pub fn look(&mut self) -> u64 {
        if self.looks.is_multiple_of(LIST_EVERY) {
            self.list();
        }
        self.looks = self.looks.wrapping_add(1);
        let mut spent_ns = 0;
        // One whose clock is gone has ended.
        self.known.retain(|id, thread| {
            let now_ns = cpu_ns(*id);
            if let Some(now_ns) = now_ns {
                if RECORDING.contains(&thread.name.as_str()) {
                    spent_ns += now_ns.saturating_sub(thread.cpu_ns);
                }
                thread.cpu_ns = now_ns;
            }
            now_ns.is_some()
        });
        spent_ns
    }

    /// Finds out which threads there are.
    fn list(&mut self) {
        let main = name_of(std::process::id().cast_signed()).unwrap_or_default();
        let mut before = std::mem::take(&mut self.known);
        let entries = fs::read_dir("/proc/self/task").into_iter().flatten();
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            // One that has just begun still has the name of the one that began it.
            let known = before.remove(&id).filter(|thread| thread.name != main);
            let thread = known.or_else(|| {
                let (name, cpu_ns) = (name_of(id)?, cpu_ns(id)?);
                Some(Thread { name, cpu_ns })
            });
            // Without a name it has ended.
            if let Some(thread) = thread {
                self.known.insert(id, thread);
            }
        }
    }

    /// Returns what there was at the last look; threads of one name are added up.
    pub fn by_name(&self) -> Vec<Thread> {
        let mut names: BTreeMap<&str, u64> = BTreeMap::new();
        for thread in self.known.values() {
            *names.entry(&thread.name).or_default() += thread.cpu_ns;
        }
        let thread = |(name, cpu_ns): (&str, u64)| Thread {
            name: name.to_owned(),
            cpu_ns,
        };
        names.into_iter().map(thread).collect()
    }
}

fn name_of(id: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns the CPU time of a thread of this process, in nanoseconds.
fn cpu_ns(thread: i32) -> Option<u64> {
    // The clock of a thread by its id: `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`.
    // https://github.com/torvalds/linux/blob/v6.12/include/linux/posix-timers_types.h#L19
    let clock = !thread << 3 | 4 | 2;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one `timespec`, which is there.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}

/// Returns the memory that is the agent's own, in bytes: neither the ring, which is shared, nor files.
pub fn memory_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_ascii_whitespace().skip(1).map(str::parse);
    match (pages.next(), pages.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => {
            let pages: u64 = u64::saturating_sub(resident, shared);
            pages * rustix::param::page_size() as u64
        }
        _ => 0,
    }
}

/// Has each large block be a mapping of its own for as long as the process lives: one that grows leaves no hole, and one that is freed
/// goes back at once. By itself the C library learns from the first of them to keep the next.
pub fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two numbers.
    unsafe {
        // What it begins with; to set it ends the learning.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Gives memory back that nobody uses.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes one number and touches only memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives memory back that threads have used which are gone: after the start, mostly that of the kernel's type information.
///
/// [`give_back_memory`] leaves the ends of their arenas, which shorten themselves when a block of some length is freed.
pub fn give_back_arenas() {
    let all_started = Mutex::new(());
    let freed_by_one = || {
        let block = black_box(Vec::<u8>::with_capacity(96 << 10));
        // Threads that are there together have an arena each.
        drop(all_started.lock());
        drop(block);
    };
    thread::scope(|scope| {
        let _starting = all_started.lock();
        for _ in 0..ARENAS {
            // What cannot be given back is kept.
            if thread::Builder::new()
                .spawn_scoped(scope, freed_by_one)
                .is_err()
            {
                break;
            }
        }
    });
}

/// What the probes took while they were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Of one core.
    pub cpu: Share,
    /// Average time of a run of the dearest probe of processes, in nanoseconds.
    pub dearest_ns: Option<u64>,
    /// Every program that ran.
    pub programs: Vec<(String, Runs)>,
}

/// A slice of time in which the kernel measures.
pub struct Slice {
    began_boot_ns: u64,
    before: Vec<(String, Runs)>,
    /// `None` if the kernel refuses: it wants `CAP_SYS_ADMIN`. Somebody else may have it measure.
    _measuring: Option<Measuring>,
}

impl Slice {
    /// Begins one.
    pub fn begin(counters: &Counters) -> Self {
        let measuring = Measuring::start().ok();
        Self {
            began_boot_ns: now_boot_ns(),
            before: counters.runs(),
            _measuring: measuring,
        }
    }

    /// Ends it.
    pub fn end(self, counters: &Counters) -> Probes {
        let after = counters.runs();
        probes(&self.before, after, now_boot_ns() - self.began_boot_ns)
    }
}

/// Returns about what a number of records took the probes, of one core.
pub fn estimate(records: u64, elapsed_ns: u64) -> Share {
    Share::of(records.saturating_mul(RECORD_NS), elapsed_ns)
}

/// Returns how many records of processes the probes began; none if the kernel does not say.
pub fn records(counters: &Counters) -> u64 {
    let cpus = counters.lane(Lane::Lifecycle).unwrap_or_default();
    cpus.iter().map(|stats| stats.attempted).sum()
}

fn probes(before: &[(String, Runs)], after: Vec<(String, Runs)>, elapsed_ns: u64) -> Probes {
    let mut probes = Probes::default();
    let mut sum_ns = 0;
    for (name, now) in after {
        let then = before.iter().find(|(known, _)| *known == name);
        let then = then.map_or_else(Runs::default, |(_, runs)| *runs);
        let runs = Runs {
            count: now.count.saturating_sub(then.count),
            ns: now.ns.saturating_sub(then.ns),
        };
        if runs.count == 0 {
            continue;
        }
        sum_ns += runs.ns;
        if PROCESSES.contains(&name.as_str()) && runs.count >= RUNS_MIN {
            probes.dearest_ns = probes.dearest_ns.max(Some(runs.ns / runs.count));
        }
        probes.programs.push((name, runs));
    }
    probes.cpu = Share::of(sum_ns, elapsed_ns);
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_is_told_by_its_name() {
        let burn = || {
            let began = std::time::Instant::now();
            let mut threads = Threads::default();
            threads.look();
            let mut spent_ns = 0;
            while spent_ns < 5_000_000 {
                assert!(began.elapsed() < Duration::from_secs(60), "{threads:?}");
                spent_ns += threads.look();
            }
            threads.by_name()
        };
        let thread = thread::Builder::new().name("samples".into());
        let threads = thread.spawn(burn).expect("a thread").join();
        let threads = threads.expect("it ends");
        let own = threads.iter().find(|thread| thread.name == "samples");
        assert!(own.expect("it is there").cpu_ns >= 5_000_000, "{threads:?}");
    }

    #[test]
    fn own_memory_grows_by_what_is_allocated_and_not_by_what_is_shared() {
        let before = memory_bytes();
        assert!(before > 0);
        let own = black_box(vec![1_u8; 32 << 20]);
        let with_own = memory_bytes();
        assert!(with_own >= before + (16 << 20), "{before} {with_own}");
        drop(own);
    }

    #[test]
    fn what_ran_in_a_slice_is_the_difference_and_few_runs_are_no_average() {
        let runs = |count, ns| Runs { count, ns };
        let of = |name: &str, runs: Runs| (name.to_owned(), runs);
        let before = [
            of("process_exec", runs(10, 9_000)),
            of("signal_sent", runs(5, 5)),
        ];
        let after = vec![
            of("process_exec", runs(110, 109_000)),
            of("process_exit", runs(8, 80_000)),
            of("signal_sent", runs(5, 5)),
            of("signal_fatal", runs(20, 800_000)),
        ];
        let probes = probes(&before, after, 98_000_000);
        // 100 µs, 80 µs and 800 µs of 98 ms.
        assert_eq!(probes.cpu, Share(10_000));
        // Eight exits are too few, and a failure is never too dear.
        assert_eq!(probes.dearest_ns, Some(1_000));
        assert_eq!(probes.programs.len(), 3);
    }
}
