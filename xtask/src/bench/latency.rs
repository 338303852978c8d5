//! From a crash to the frozen window, and to the durable dump.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent::{Agent, Tools, milliseconds};
use super::table::Table;

/// Measures both with an almost empty ring, and the second with a full window too.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let options = ["--after", "0ms", "--cooldown", "1ms", "--before", "1h"];
    let mut agent = Agent::start(tools, &options)?;
    let mut frozen = Vec::new();
    let mut durable = Vec::new();
    for _ in 0..rounds * 3 {
        let (freeze, write) = crash(tools, &mut agent)?;
        frozen.push(freeze);
        durable.push(write);
        std::thread::sleep(Duration::from_millis(5));
    }
    table.add(
        "latency",
        "crash in the kernel to frozen window",
        "ms",
        frozen,
    );
    table.add(
        "latency",
        "crash to durable dump, small window",
        "ms",
        durable,
    );

    tools.flood(FULL)?;
    let mut durable = Vec::new();
    for _ in 0..rounds {
        durable.push(crash(tools, &mut agent)?.1);
    }
    let status = agent.status()?;
    let used: f64 = (status["lanes"].as_array().into_iter().flatten())
        .filter_map(|lane| lane["used_bytes"].as_f64())
        .sum();
    let what = format!(
        "crash to durable dump, ring of {:.0} MiB",
        used / f64::from(1 << 20)
    );
    table.add("latency", what, "ms", durable);
    Ok(())
}

/// Processes that fill the lifecycle lane.
const FULL: u64 = 500_000;

/// Lets a process crash; returns how many milliseconds later the window was frozen and the dump durable.
fn crash(tools: &Tools, agent: &mut Agent<'_>) -> Result<(f64, f64)> {
    tools.workload(&["segv-write", "0x1234"]).output()?;
    let dump = agent.next_dump()?;
    let sidecar: Value = serde_json::from_slice(&fs::read(dump.with_extension("json"))?)?;
    let number = |path: &str| {
        let value = sidecar.pointer(path).and_then(Value::as_u64);
        value.with_context(|| format!("{path} in the sidecar of {}", dump.display()))
    };
    let died = number("/incident/trigger/boot_ns")?;
    let frozen = number("/clocks/freeze/boot_ns")?;
    let wall = number("/clocks/freeze/unix_ns")? - (frozen - died);
    // Both files had their names by then, and the directory was flushed: that is when the agent says so.
    let crashed = SystemTime::UNIX_EPOCH + Duration::from_nanos(wall);
    let durable = SystemTime::now().duration_since(crashed)?;
    Ok((
        milliseconds(Duration::from_nanos(frozen - died)),
        milliseconds(durable),
    ))
}
