//! The processes that use most, by the kernel's task iterator.

use std::cmp::Reverse;
use std::fs;
use std::io;

use recorder_ebpf::abi::LiveProcess;
use rustix::param::page_size;

use super::list::Refill;
use super::rate::{advance, hundredths, per_second};
use super::text::{lines, number, set, words};
use crate::event::proto::{ProcessUsage, SampleProcess};
use crate::kernel::TaskIterator;

/// Processes of each order: by CPU, by memory, by I/O.
const TOP: usize = 10;
/// The same when memory ran out.
const TOP_MEMORY: usize = 20;
/// Most processes whose use is remembered; what the others did in an interval is not known.
const PROCESSES_MAX: usize = 1 << 16;
/// How many times the CPU time of a pass lies between two of them at least: hosts with very many processes are sampled less
/// often, not at their cost.
const REST: u64 = 500;

/// What a process had used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    start_boot_ns: u64,
    cpu_ns: u64,
    read_bytes: u64,
    write_bytes: u64,
    pid: u32,
}

impl Used {
    fn of(process: &LiveProcess) -> Self {
        Self {
            start_boot_ns: process.start_boot_ns,
            cpu_ns: process.user_ns.saturating_add(process.system_ns),
            read_bytes: process.read_bytes,
            write_bytes: process.write_bytes,
            pid: process.tgid,
        }
    }
}

/// A process and what it used in the interval; `None` if that is not known.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    process: LiveProcess,
    spent: Option<Used>,
}

/// Ranks processes, and knows what they had used in the pass before.
#[derive(Debug)]
pub(super) struct Ranking {
    before: Vec<Used>,
    now: Vec<Used>,
    last_boot_ns: Option<u64>,
    tops: [Top; 3],
    union: Vec<Candidate>,
    sample: SampleProcess,
}

/// The processes with the highest keys.
#[derive(Debug, Default)]
struct Top {
    most: usize,
    /// Descending by key.
    entries: Vec<(u64, Candidate)>,
}

impl Top {
    fn clear(&mut self, most: usize) {
        self.most = most;
        self.entries.clear();
    }

    fn offer(&mut self, key: u64, candidate: &Candidate) {
        let is_full = self.entries.len() == self.most;
        if key == 0 || is_full && self.entries.last().is_none_or(|(least, _)| key <= *least) {
            return;
        }
        if is_full {
            self.entries.pop();
        }
        let place = self.entries.partition_point(|(other, _)| *other >= key);
        self.entries.insert(place, (key, *candidate));
    }
}

/// A pass over the processes in the making.
pub(super) struct Pass<'a> {
    ranking: &'a mut Ranking,
    now_boot_ns: u64,
    /// Where in `before` the next process is looked for: both are in the order of pids.
    place: usize,
    processes: u32,
}

impl Ranking {
    pub(super) fn new() -> Self {
        Self {
            before: Vec::new(),
            now: Vec::new(),
            last_boot_ns: None,
            tops: Default::default(),
            union: Vec::new(),
            sample: SampleProcess::default(),
        }
    }

    /// Begins a pass.
    pub(super) fn pass(&mut self, now_boot_ns: u64, for_memory: bool) -> Pass<'_> {
        let [cpu, memory, io] = &mut self.tops;
        cpu.clear(if for_memory { 0 } else { TOP });
        memory.clear(if for_memory { TOP_MEMORY } else { TOP });
        io.clear(if for_memory { 0 } else { TOP });
        self.now.clear();
        Pass {
            ranking: self,
            now_boot_ns,
            place: 0,
            processes: 0,
        }
    }
}

impl<'a> Pass<'a> {
    /// Takes in the next process, in the order of pids.
    pub(super) fn take(&mut self, process: &LiveProcess) {
        self.processes += 1;
        let ranking = &mut *self.ranking;
        let used = Used::of(process);
        while ranking
            .before
            .get(self.place)
            .is_some_and(|before| before.pid < used.pid)
        {
            self.place += 1;
        }
        let before = ranking
            .before
            .get(self.place)
            .filter(|before| before.pid == used.pid && before.start_boot_ns == used.start_boot_ns);
        let is_new = ranking
            .last_boot_ns
            .is_some_and(|last| process.start_boot_ns >= last);
        let none = Used::default();
        let spent = before.or(is_new.then_some(&none)).and_then(|before| {
            Some(Used {
                cpu_ns: advance(before.cpu_ns, used.cpu_ns)?,
                read_bytes: advance(before.read_bytes, used.read_bytes)?,
                write_bytes: advance(before.write_bytes, used.write_bytes)?,
                ..used
            })
        });
        if ranking.now.len() < PROCESSES_MAX {
            ranking.now.push(used);
        }
        let candidate = Candidate {
            process: *process,
            spent,
        };
        let spent = spent.unwrap_or_default();
        let [cpu, memory, io] = &mut ranking.tops;
        cpu.offer(spent.cpu_ns, &candidate);
        memory.offer(process.rss_pages, &candidate);
        io.offer(
            spent.read_bytes.saturating_add(spent.write_bytes),
            &candidate,
        );
    }

    /// Ends a pass of its time: the next one's use counts from here.
    pub(super) fn finish(self) -> &'a SampleProcess {
        let ranking = self.fill();
        std::mem::swap(&mut ranking.0.before, &mut ranking.0.now);
        ranking.0.last_boot_ns = Some(ranking.1);
        ranking.0.sample.reason = None;
        &ranking.0.sample
    }

    /// Ends a pass for a reason: the next one counts from where it would have.
    pub(super) fn finish_for(self, reason: &str) -> &'a SampleProcess {
        let (ranking, _) = self.fill();
        set(&mut ranking.sample.reason, reason.as_bytes());
        for usage in &mut ranking.sample.top {
            details(usage);
        }
        &ranking.sample
    }

    fn fill(self) -> (&'a mut Ranking, u64) {
        let ranking = self.ranking;
        let interval_ns = ranking
            .last_boot_ns
            .map(|last| self.now_boot_ns.saturating_sub(last));
        ranking.union.clear();
        for (_, candidate) in ranking.tops.iter().flat_map(|top| &top.entries) {
            let pid = candidate.process.tgid;
            if ranking.union.iter().all(|other| other.process.tgid != pid) {
                ranking.union.push(*candidate);
            }
        }
        ranking.union.sort_unstable_by_key(|candidate| {
            let spent = candidate.spent.unwrap_or_default();
            Reverse((spent.cpu_ns, candidate.process.rss_pages))
        });
        let sample = &mut ranking.sample;
        sample.interval_ns = interval_ns;
        sample.processes = Some(self.processes);
        let mut list = Refill::new(&mut sample.top, 3 * TOP);
        for candidate in &ranking.union {
            if let Some(slot) = list.next() {
                usage(slot, candidate, interval_ns);
            }
        }
        list.finish();
        (ranking, self.now_boot_ns)
    }
}

fn usage(slot: &mut ProcessUsage, candidate: &Candidate, interval_ns: Option<u64>) {
    let live = &candidate.process;
    let known = |number: u32| (number != 0).then_some(number);
    let mut process = slot.process.take().unwrap_or_default();
    process.pid = Some(live.tgid);
    process.start_boot_ns = Some(live.start_boot_ns);
    process.ppid = Some(live.parent_tgid);
    process.uid = Some(live.uid);
    process.gid = Some(live.gid);
    process.ns_pid = known(live.ns_tgid);
    process.cgroup_id = (live.cgroup_id != 0).then_some(live.cgroup_id);
    let comm = live.comm.split(|byte| *byte == 0).next();
    set(&mut process.comm, comm.unwrap_or_default());
    let rate = |amount: fn(&Used) -> u64| {
        Some(per_second(amount(candidate.spent.as_ref()?), interval_ns?))
    };
    let cpu = || {
        let spent = candidate.spent.as_ref()?.cpu_ns;
        Some(hundredths(
            spent as f64 * 100.0 / interval_ns?.max(1) as f64,
        ))
    };
    *slot = ProcessUsage {
        process: Some(process),
        cpu_percent: cpu(),
        cpu_ns: Some(live.user_ns.saturating_add(live.system_ns)),
        rss_bytes: live.rss_pages.checked_mul(page_size() as u64),
        threads: Some(live.threads),
        read_bytes_per_second: rate(|spent| spent.read_bytes),
        write_bytes_per_second: rate(|spent| spent.write_bytes),
        read_bytes: Some(live.read_bytes),
        write_bytes: Some(live.write_bytes),
        ..ProcessUsage::default()
    };
}

/// Adds what only `/proc` tells of a process; nothing if it has gone.
fn details(usage: &mut ProcessUsage) {
    let Some(pid) = usage.process.as_ref().and_then(|process| process.pid) else {
        return;
    };
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let score = read("oom_score_adj");
    // Another may have its pid by now; what is read before is then not its own.
    if start_ticks(&read("stat"))
        != usage
            .process
            .as_ref()
            .map(|process| ticks(process.start_boot_ns()))
    {
        return;
    }
    let kib = |name: &[u8]| {
        let line = lines(&status).find_map(|line| line.strip_prefix(name))?;
        number(words(line).next()?)?.checked_mul(1024)
    };
    usage.anon_rss_bytes = kib(b"RssAnon:");
    usage.swap_bytes = kib(b"VmSwap:");
    usage.oom_score_adj = std::str::from_utf8(score.trim_ascii())
        .ok()
        .and_then(|score| score.parse().ok());
}

/// Returns when a process started, from `/proc/PID/stat`: its name may hold anything, so count from its end.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    words(&stat[end + 1..]).nth(19).and_then(number)
}

fn ticks(boot_ns: u64) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let tick_ns = 1_000_000_000 / per_second;
    boot_ns / tick_ns
}

/// Samples the processes through the iterator.
#[derive(Debug)]
pub(super) struct Processes {
    tasks: TaskIterator,
    ranking: Ranking,
    /// When the next pass may be.
    next_boot_ns: u64,
}

impl Processes {
    pub(super) fn new(tasks: TaskIterator) -> Self {
        Self {
            tasks,
            ranking: Ranking::new(),
            next_boot_ns: 0,
        }
    }

    /// Returns the processes that used most since the pass before; `Ok(None)` if that one cost too much for another now.
    ///
    /// # Errors
    ///
    /// What the iterator says.
    pub(super) fn sample(&mut self, now_boot_ns: u64) -> io::Result<Option<&SampleProcess>> {
        if now_boot_ns < self.next_boot_ns {
            return Ok(None);
        }
        let start = super::thread_cpu_ns();
        let mut pass = self.ranking.pass(now_boot_ns, false);
        self.tasks.read(|process| pass.take(process))?;
        let spent = super::thread_cpu_ns().saturating_sub(start);
        self.next_boot_ns = now_boot_ns.saturating_add(spent.saturating_mul(REST));
        Ok(Some(pass.finish()))
    }

    /// Returns the processes that have most memory, for a reason.
    ///
    /// # Errors
    ///
    /// What the iterator says.
    pub(super) fn by_memory(
        &mut self,
        now_boot_ns: u64,
        reason: &str,
    ) -> io::Result<&SampleProcess> {
        let mut pass = self.ranking.pass(now_boot_ns, true);
        self.tasks.read(|process| pass.take(process))?;
        Ok(pass.finish_for(reason))
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::ring::allocations_of_this_thread;

    const SECOND: u64 = 1_000_000_000;

    fn process(pid: u32, cpu_ms: u64, rss_pages: u64, io_bytes: u64) -> LiveProcess {
        let mut process = LiveProcess::new_zeroed();
        process.tgid = pid;
        process.start_boot_ns = u64::from(pid);
        process.user_ns = cpu_ms * 1_000_000;
        process.rss_pages = rss_pages;
        process.write_bytes = io_bytes;
        process.comm[..2].copy_from_slice(b"p\xff");
        process
    }

    fn sample<'a>(
        ranking: &'a mut Ranking,
        now: u64,
        processes: &[LiveProcess],
    ) -> &'a SampleProcess {
        let mut pass = ranking.pass(now, false);
        processes.iter().for_each(|process| pass.take(process));
        pass.finish()
    }

    fn pids(sample: &SampleProcess) -> Vec<u32> {
        let pid = |usage: &ProcessUsage| usage.process.as_ref().and_then(|process| process.pid);
        sample.top.iter().filter_map(pid).collect()
    }

    #[test]
    fn each_order_has_its_own_and_nobody_is_there_twice() {
        let mut ranking = Ranking::new();
        let idle = |pid| process(pid, 5, 0, 0);
        let mut processes: Vec<_> = (1..1000).map(idle).collect();
        assert!(pids(sample(&mut ranking, SECOND, &processes)).is_empty());
        processes[500] = process(501, 755, 0, 0);
        processes[600] = process(601, 5, 9, 0);
        processes[700] = process(701, 5, 0, 4096);
        processes[800] = process(801, 255, 8, 512);
        let sample = sample(&mut ranking, 2 * SECOND, &processes);
        assert_eq!(pids(sample), [501, 801, 601, 701]);
        assert_eq!(sample.processes, Some(999));
        assert_eq!(sample.interval_ns, Some(SECOND));
        assert_eq!(sample.top[0].cpu_percent, Some(75.0));
        assert_eq!(sample.top[3].write_bytes_per_second, Some(4096));
        let named = sample.top[0].process.as_ref().expect("each has one");
        assert_eq!(named.comm(), "p\u{fffd}");
    }

    #[test]
    fn the_first_sample_knows_memory_alone() {
        let mut ranking = Ranking::new();
        let processes = [process(1, 5000, 3, 100), process(2, 9000, 7, 0)];
        let sample = sample(&mut ranking, SECOND, &processes);
        assert_eq!(pids(sample), [2, 1]);
        assert_eq!(sample.top[0].cpu_percent, None);
        assert_eq!(sample.top[0].cpu_ns, Some(9 * SECOND));
    }

    #[test]
    fn a_pid_that_is_another_process_now_is_not_compared() {
        let mut ranking = Ranking::new();
        sample(&mut ranking, SECOND, &[process(7, 100, 1, 0)]);
        let mut other = process(7, 300, 1, 0);
        other.start_boot_ns = SECOND + 1;
        let new = sample(&mut ranking, 2 * SECOND, &[other]);
        assert_eq!(
            new.top[0].cpu_percent,
            Some(30.0),
            "it is new: all is of this interval"
        );
        // One that is older than the last sample and was not in it: who knows.
        let mut late = process(8, 300, 1, 0);
        late.start_boot_ns = SECOND;
        let unknown = sample(&mut ranking, 3 * SECOND, &[other, late]);
        let late = unknown
            .top
            .iter()
            .find(|usage| usage.process.as_ref().map(|p| p.pid()) == Some(8));
        assert_eq!(late.expect("it has memory").cpu_percent, None);
    }

    #[test]
    fn accounts_that_go_back_are_not_known() {
        let mut ranking = Ranking::new();
        sample(&mut ranking, SECOND, &[process(7, 100, 1, 50)]);
        let back = sample(&mut ranking, 2 * SECOND, &[process(7, 99, 1, 50)]);
        assert_eq!(back.top[0].cpu_percent, None);
    }

    #[test]
    fn a_pass_for_memory_leaves_the_next_interval_whole() {
        let mut ranking = Ranking::new();
        let before: Vec<_> = (1..100).map(|pid| process(pid, 0, pid.into(), 0)).collect();
        sample(&mut ranking, SECOND, &before);
        let now: Vec<_> = (1..100)
            .map(|pid| process(pid, 500, pid.into(), 0))
            .collect();
        let mut pass = ranking.pass(2 * SECOND, true);
        now.iter().for_each(|process| pass.take(process));
        let table = pass.finish_for("oom.kill");
        assert_eq!(table.top.len(), TOP_MEMORY);
        assert_eq!((pids(table)[0], table.reason()), (99, "oom.kill"));
        let next = sample(&mut ranking, 3 * SECOND, &now);
        assert_eq!(next.top[0].cpu_percent, Some(25.0));
        assert_eq!(next.reason, None);
    }

    #[test]
    fn ranking_allocates_nothing_in_the_long_run() {
        let mut ranking = Ranking::new();
        let processes: Vec<_> = (1..500).map(|pid| process(pid, 9, pid.into(), 1)).collect();
        for now in 1..4 {
            sample(&mut ranking, now * SECOND, &processes);
        }
        let before = allocations_of_this_thread();
        sample(&mut ranking, 4 * SECOND, &processes);
        assert_eq!(allocations_of_this_thread(), before);
    }

    #[test]
    fn starts_are_read_past_any_name() {
        let stat = b"7 (a) R 1 ) (x) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1 1\n";
        assert_eq!(start_ticks(stat), Some(4321));
        for cut in 0..stat.len() {
            start_ticks(&stat[..cut]);
        }
    }

    #[test]
    fn details_are_those_of_the_same_process_alone() {
        let stat = fs::read("/proc/self/stat").expect("this process lives");
        let start = start_ticks(&stat).expect("the kernel's form")
            * (SECOND / rustix::param::clock_ticks_per_second());
        let own = |start_boot_ns| ProcessUsage {
            process: Some(crate::event::proto::Process {
                pid: Some(std::process::id()),
                start_boot_ns: Some(start_boot_ns),
                ..Default::default()
            }),
            ..ProcessUsage::default()
        };
        let mut usage = own(start);
        details(&mut usage);
        assert!(usage.anon_rss_bytes.is_some_and(|bytes| bytes > 0));
        assert!(usage.oom_score_adj.is_some());
        let mut usage = own(start + SECOND);
        details(&mut usage);
        assert_eq!(usage.oom_score_adj, None);
    }
}
