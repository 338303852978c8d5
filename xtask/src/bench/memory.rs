//! What an event takes: in memory and in the dump, beside perf, ftrace and JSON for the same exits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::{Agent, Tools, sidecar};
use super::peer::{self, RING_KIB, TRACEPOINTS};
use super::table::Table;
use super::tracefs::Instance;
use crate::exec::answer;

const EXITS: u64 = 100_000;
const EXECS: u64 = 3_000;
const CRASHES: u64 = 300;
/// For the exits that are measured beside peers.
const SAME_EXITS: u64 = 50_000;
const RATE: u64 = 1_000;
const WATCHED: Duration = Duration::from_secs(10);
const MIB: f64 = 1_048_576.0;

/// Measures all of it.
pub fn run(tools: &Tools, table: &mut Table) -> Result<()> {
    ring(tools, table)?;
    let exit = events(tools, || tools.flood(EXITS).map(drop))?;
    add(table, "exit event", exit.each("lifecycle"));
    let exec = events(tools, || tools.micro("exec", EXECS).map(drop))?;
    add(table, "exec event", exec.beside("lifecycle", EXECS, &exit));
    let crash = events(tools, || {
        for _ in 0..CRASHES {
            tools.workload(&["segv-write", "0x1234"]).output()?;
        }
        Ok(())
    })?;
    add(
        table,
        "fatal signal",
        crash.beside("failure", CRASHES, &exec),
    );
    let samples = events(tools, || {
        std::thread::sleep(WATCHED);
        Ok(())
    })?;
    add(table, "sample or note", samples.each("sample"));
    beside_peers(tools, table)
}

fn add(table: &mut Table, what: &str, (memory, dump): (f64, f64)) {
    table.add("memory", format!("{what} in memory"), "bytes", vec![memory]);
    table.add("memory", format!("{what} in the dump"), "bytes", vec![dump]);
}

/// Measures what the agent has, and how much of it a second of exits takes.
fn ring(tools: &Tools, table: &mut Table) -> Result<()> {
    let agent = Agent::start(tools, &["--before", "1h"])?;
    let lanes = ["failure", "lifecycle", "sample"];
    let sum = |number: &str| -> Result<f64> {
        lanes.into_iter().map(|lane| agent.lane(lane, number)).sum()
    };
    let arena = sum("capacity_bytes")? / MIB;
    table.add("memory", "arena", "MiB", vec![arena]);
    let before = sum("used_bytes")?;
    tools.pace(RATE, 1, WATCHED)?;
    let mib = (sum("used_bytes")? - before) / MIB;
    let history = WATCHED.as_secs_f64() / mib;
    let what = format!("history at {RATE} exits/s, all events");
    table.add("memory", what, "s/MiB", vec![history]);
    let resident = agent.memory_kib("VmRSS")? / 1024.0;
    table.add("memory", "resident, with the arena", "MiB", vec![resident]);
    Ok(())
}

/// What events took.
struct Events {
    /// Used and records, by lane.
    lanes: Vec<(&'static str, f64, f64)>,
    dump_bytes: f64,
    dump_events: f64,
}

/// Lets `run` make events, and dumps them. The window begins after an empty dump: what every dump has is not theirs.
fn events(tools: &Tools, run: impl FnOnce() -> Result<()>) -> Result<Events> {
    let mut agent = Agent::start(
        tools,
        &[
            "--before",
            "1h",
            "--after",
            "0ms",
            "--evidence",
            "false",
            "--cooldown",
            "1h",
        ],
    )?;
    let mut dumped = || -> Result<(f64, f64)> {
        agent.trigger()?;
        loop {
            // A crash makes dumps too.
            let dump = agent.next_dump()?;
            let sidecar = sidecar(&dump)?;
            if sidecar["incident"]["rule"] == "manual" {
                let events = sidecar["events"].as_f64().context("it counts events")?;
                return Ok((fs::metadata(&dump)?.len() as f64, events));
            }
        }
    };
    let (empty_bytes, empty_events) = dumped()?;
    run()?;
    let (bytes, events) = dumped()?;
    let mut lanes = Vec::new();
    for lane in ["failure", "lifecycle", "sample"] {
        let (used, records) = (
            agent.lane(lane, "used_bytes")?,
            agent.lane(lane, "records")?,
        );
        lanes.push((lane, used, records));
    }
    Ok(Events {
        lanes,
        dump_bytes: bytes - empty_bytes,
        dump_events: events - empty_events,
    })
}

impl Events {
    /// Returns what one event of a lane took in memory, and one of all in the dump.
    fn each(&self, lane: &str) -> (f64, f64) {
        let (used, records) = self.lane(lane);
        (used / records, self.dump_bytes / self.dump_events)
    }

    /// Returns the same for `count` events that came with others: what is left when those took as much as in `others`.
    fn beside(&self, lane: &str, count: u64, others: &Self) -> (f64, f64) {
        let count = count as f64;
        let (used, records) = self.lane(lane);
        let (other_used, other_dump) = others.each(lane);
        let rest = records - count;
        // A lane of its own is all theirs.
        let rest_used = if rest > 0.0 { rest * other_used } else { 0.0 };
        let in_dump = self.dump_bytes - (self.dump_events - count) * other_dump;
        ((used - rest_used) / count, in_dump / count)
    }

    fn lane(&self, lane: &str) -> (f64, f64) {
        let found = self.lanes.iter().find(|(name, ..)| *name == lane);
        found.map_or((0.0, 0.0), |(_, used, records)| (*used, *records))
    }
}

/// Lets the agent, perf and ftrace record the same exits, and compares what they store.
fn beside_peers(tools: &Tools, table: &mut Table) -> Result<()> {
    let mut agent = Agent::start(
        tools,
        &["--before", "1h", "--after", "0ms", "--evidence", "false"],
    )?;
    let perf = peer::perf(&[], &tools.scratch);
    let ftrace = Instance::start(TRACEPOINTS, RING_KIB);
    tools.flood(SAME_EXITS)?;
    let per_exit = |bytes: f64| vec![bytes / SAME_EXITS as f64];
    let size = |path: &Path| -> Result<f64> { Ok(fs::metadata(path)?.len() as f64) };

    agent.trigger()?;
    let dump = agent.next_dump()?;
    let unit = "bytes";
    table.add(
        "memory",
        "the same exits: dump",
        unit,
        per_exit(size(&dump)?),
    );
    let mut export = Command::new(&tools.agent);
    export.arg("export").arg(&dump).args(["--format", "jsonl"]);
    let json = answer(export.stderr(Stdio::null()))
        .context("export")?
        .len();
    table.add(
        "memory",
        "the same exits: JSON Lines",
        unit,
        per_exit(json as f64),
    );

    let what = "the same exits: perf.data";
    let stored = perf.and_then(|mut perf| {
        perf.interrupt()?;
        size(&tools.scratch.join("perf.data"))
    });
    match stored {
        Ok(bytes) => table.add("memory", what, unit, per_exit(bytes)),
        Err(error) => table.add_missing("memory", what, format!("{error:#}")),
    }
    let what = "the same exits: trace.dat";
    let file = tools.scratch.join("trace.dat");
    let stored = ftrace.and_then(|ftrace| {
        ftrace.extract(&file)?;
        size(&file)
    });
    match stored {
        Ok(bytes) => table.add("memory", what, unit, per_exit(bytes)),
        Err(error) => table.add_missing("memory", what, format!("{error:#}")),
    }
    Ok(())
}
