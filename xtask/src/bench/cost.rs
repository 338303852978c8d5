//! What the agent costs by being there: start, memory, CPU time and wake-ups by rate of events, beside sar and atop.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::{Agent, Tools, milliseconds};
use super::peer::Process;
use super::table::Table;

/// How long it is watched doing nothing, and beside others that take samples.
const IDLE: Duration = Duration::from_secs(20);
/// How long it is watched at each rate.
const BUSY: Duration = Duration::from_secs(5);
/// Exits a second; what the machine does not manage is as fast as it can.
const RATES: [u64; 2] = [1_000, 50_000];
/// Processes after which its memory is looked at again.
const EXITS: u64 = 100_000;
/// Where Debian keeps the collector of sar.
const COLLECTOR: &str = "/usr/lib/sysstat/sadc";

/// Measures all of it.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..rounds {
        starts.push(milliseconds(Agent::start(tools, &[])?.started_in));
    }
    table.add("agent", "start to recording", "ms", starts);

    let agent = Agent::start(tools, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = during(agent.pid(), || {
        std::thread::sleep(IDLE);
        Ok(())
    })?;
    idle.add("recorder while little happens", table);
    table.add(
        "agent",
        "memory beside the ring",
        "KiB",
        vec![agent.memory_kib("RssAnon")?],
    );
    tools.flood(EXITS)?;
    table.add(
        "agent",
        format!("memory beside the ring after {EXITS} processes"),
        "KiB",
        vec![agent.memory_kib("RssAnon")?],
    );
    agent.trigger()?;
    table.add(
        "agent",
        "memory beside the ring, with a dump of them written",
        "KiB",
        vec![agent.memory_kib("RssAnon")?],
    );
    let cpus = std::thread::available_parallelism()?.get() as u64;
    for rate in RATES {
        let mut exits = 0.0;
        let pushed = agent.lane("lifecycle", "pushed")?;
        let busy = during(agent.pid(), || {
            exits = tools.pace(rate, cpus, BUSY)?;
            Ok(())
        })?;
        // Of a flood from one cgroup its limit may leave something out.
        let recorded = agent.lane("lifecycle", "pushed")? - pushed;
        let each = |count: f64| count / BUSY.as_secs_f64();
        let (exits, recorded) = (each(exits), each(recorded));
        let what = format!("recorder at {exits:.0} exits/s ({recorded:.0} records/s)");
        busy.add(&what, table);
    }
    drop(agent);
    samplers(tools, table)
}

/// Lets the agent, sar's collector and atop take samples each second of the same time, of everything they know.
fn samplers(tools: &Tools, table: &mut Table) -> Result<()> {
    let agent = Agent::start(tools, &[])?;
    let file = |name: &str| tools.scratch.join(name).display().to_string();
    let (sar, atop) = (file("sar.data"), file("atop.data"));
    let started = [
        (
            "sar's sadc, samples of 1 s",
            Process::start(COLLECTOR, &["-S", "ALL", "1", &sar], &tools.scratch),
        ),
        (
            "atop, samples of 1 s",
            Process::start("atop", &["-w", &atop, "1"], &tools.scratch),
        ),
    ];
    let mut watched = vec![("recorder, samples of 1 s", agent.pid())];
    for (what, process) in &started {
        match process {
            Ok(process) => watched.push((what, process.pid())),
            Err(error) => table.add_missing("agent", *what, format!("{error:#}")),
        }
    }
    let pids = watched.iter().map(|(_, pid)| *pid);
    let before: Result<Vec<Usage>> = pids.clone().map(Usage::of).collect();
    let before = before?;
    std::thread::sleep(IDLE);
    for ((what, pid), before) in watched.iter().zip(before) {
        Usage::of(*pid)?.since(&before, IDLE).add(what, table);
    }
    for (_, process) in started {
        // Not killed: atop puts back what it has set.
        process.map_or(Ok(()), |mut process| process.interrupt())?;
    }
    Ok(())
}

/// What a process has used so far.
struct Usage {
    cpu_ns: f64,
    wakeups: f64,
}

/// What it used in a second.
pub struct Rate {
    /// CPU time in all, in nanoseconds.
    pub cpu_ns: f64,
    /// The same, of one core.
    pub cpu_percent: f64,
    wakeups: f64,
}

impl Usage {
    /// Adds up its threads.
    fn of(pid: u32) -> Result<Self> {
        let mut usage = Self {
            cpu_ns: 0.0,
            wakeups: 0.0,
        };
        for thread in fs::read_dir(format!("/proc/{pid}/task")).context("it still runs")? {
            let path = thread?.path();
            // A thread that ended meanwhile is left out.
            let Ok(times) = fs::read_to_string(path.join("schedstat")) else {
                continue;
            };
            let Ok(status) = fs::read_to_string(path.join("status")) else {
                continue;
            };
            let first = times.split_whitespace().next().unwrap_or_default();
            usage.cpu_ns += first.parse::<f64>().context("schedstat has the CPU time")?;
            usage.wakeups += voluntary_switches(&status).context("status counts switches")?;
        }
        Ok(usage)
    }

    fn since(&self, before: &Self, time: Duration) -> Rate {
        Rate {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            cpu_percent: (self.cpu_ns - before.cpu_ns) / time.as_nanos() as f64 * 100.0,
            wakeups: (self.wakeups - before.wakeups) / time.as_secs_f64(),
        }
    }
}

impl Rate {
    fn add(&self, what: &str, table: &mut Table) {
        let cpu = format!("CPU of one core, {what}");
        table.add("agent", cpu, "%", vec![self.cpu_percent]);
        let wakeups = format!("wake-ups, {what}");
        table.add("agent", wakeups, "1/s", vec![self.wakeups]);
    }
}

/// Returns what a process used while `run` ran.
pub fn during(pid: u32, run: impl FnOnce() -> Result<()>) -> Result<Rate> {
    let (before, start) = (Usage::of(pid)?, std::time::Instant::now());
    run()?;
    Ok(Usage::of(pid)?.since(&before, start.elapsed()))
}

/// Each is a sleep that something ended.
fn voluntary_switches(status: &str) -> Option<f64> {
    let line = (status.lines()).find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_voluntary_switches() {
        let status = "Name:\tsh\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(voluntary_switches(status), Some(17.0));
        assert_eq!(voluntary_switches("Name:\tsh\n"), None);
    }
}
