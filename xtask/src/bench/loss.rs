//! Records lost while processes come and go as fast as the machine makes them, with a dump always in flight.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::agent::{Agent, Tools};
use super::table::Table;

/// Processes of each storm; there is one storm for each CPU.
const EXITS: u64 = 300_000;

/// Runs a storm on every CPU at once and reads what the probes counted.
pub fn run(tools: &Tools, table: &mut Table) -> Result<()> {
    let agent = Agent::start(tools, &["--after", "100ms", "--before", "1h"])?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let storms: Vec<_> = (0..cpus)
            .map(|_| scope.spawn(|| tools.flood(EXITS)))
            .collect();
        while storms.iter().any(|storm| !storm.is_finished()) {
            agent.ask(&["trigger", "--reason", "bench"])?;
            std::thread::sleep(Duration::from_millis(150));
        }
        storms.into_iter().try_for_each(|storm| match storm.join() {
            Ok(done) => done.map(drop),
            Err(_) => bail!("a storm panicked"),
        })
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let status = agent.status()?;
    let lanes = status["lanes"].as_array().context("the status has lanes")?;
    let sum = |name: &str| -> f64 {
        let cpus = lanes.iter().filter_map(|lane| lane["cpus"].as_array());
        cpus.flatten().filter_map(|cpu| cpu[name].as_f64()).sum()
    };
    let dropped: f64 = (lanes.iter())
        .filter_map(|lane| lane["dropped"].as_f64())
        .sum();
    let dumps = status["dumps"]["written"]
        .as_u64()
        .map(|written| written as f64);
    let what = format!("records a second on {cpus} CPUs, with dumps in flight");
    table.add("loss", what, "1/s", vec![sum("attempted") / elapsed]);
    table.add("loss", "records attempted", "", vec![sum("attempted")]);
    table.add("loss", "records lost", "", vec![sum("lost")]);
    table.add("loss", "records dropped", "", vec![dropped]);
    table.add(
        "loss",
        "dumps written meanwhile",
        "",
        vec![dumps.unwrap_or(0.0)],
    );
    let failed = &status["dumps"]["failed"];
    if failed.as_u64() != Some(0) {
        bail!("{failed} dumps failed: {}", status["dumps"]["last_error"]);
    }
    Ok(())
}
