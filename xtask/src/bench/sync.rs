//! What it costs to have the ring on disk: bytes and CPU time, with and without, in turns.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::agent::{Agent, Tools};
use super::cost::during;
use super::table::Table;

/// Exits a second.
const RATE: u64 = 1_000;
/// How long each turn takes.
const TIME: Duration = Duration::from_secs(6);
/// How the ring is kept, in turns.
const VARIANTS: [(&str, &[&str]); 3] = [
    ("in memory alone", &[]),
    ("flushed each second", &["--ring-sync", "1s"]),
    ("flushed each 100 ms", &["--ring-sync", "100ms"]),
];

/// Measures all of it.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let name = "sync";
    let mut cpu = VARIANTS.map(|_| Vec::new());
    let mut written = VARIANTS.map(|_| Vec::new());
    let mut flush = VARIANTS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (number, (_, arguments)) in VARIANTS.iter().enumerate() {
            let agent = Agent::start(tools, arguments)?;
            let before = written_bytes(agent.pid())?;
            let cpus = std::thread::available_parallelism()?.get() as u64;
            let used = during(agent.pid(), || tools.pace(RATE, cpus, TIME).map(drop))?;
            let bytes = written_bytes(agent.pid())? - before;
            cpu[number].push(used.cpu_percent);
            written[number].push(bytes / TIME.as_secs_f64() / 1024.0);
            if let Some(took) = agent.status()?["twin"]["took_ns"].as_f64() {
                flush[number].push(took / 1e6);
            }
        }
    }
    let each = VARIANTS.into_iter().zip(cpu).zip(written).zip(flush);
    for ((((how, _), cpu), written), flush) in each {
        let at = format!("at {RATE} exits/s, ring {how}");
        table.add(name, format!("CPU of one core {at}"), "%", cpu);
        table.add(name, format!("written {at}"), "KiB/s", written);
        if !flush.is_empty() {
            table.add(name, format!("one flush {at}"), "ms", flush);
        }
    }
    Ok(())
}

/// Returns how many bytes a process has had written to disks.
fn written_bytes(pid: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).context("it still runs")?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"));
    let bytes = line.context("the kernel counts what is written")?;
    Ok(bytes.trim().parse()?)
}
