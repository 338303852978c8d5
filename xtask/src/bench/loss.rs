//! Records lost by rate of events and by CPUs, with a dump always in flight; beside exitsnoop and bpftrace, which say so too.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::agent::{Agent, Tools};
use super::peer::{self, Process};
use super::table::Table;

/// Exits a second; the last one is as fast as the machine makes them.
const RATES: [u64; 4] = [1_000, 10_000, 50_000, 10_000_000];
const TIME: Duration = Duration::from_secs(5);

/// Goes through all rates on one CPU and on two.
pub fn run(tools: &Tools, table: &mut Table) -> Result<()> {
    for cpus in 1..=std::thread::available_parallelism()?.get().min(2) as u64 {
        for rate in RATES {
            let asked = match rate {
                10_000_000 => "as fast as can be".to_owned(),
                _ => format!("{rate}/s asked for"),
            };
            let run = Run { cpus, rate, asked };
            run.recorder(tools, table)?;
            run.peer("exitsnoop", tools, table);
            run.peer("bpftrace", tools, table);
        }
    }
    Ok(())
}

struct Run {
    cpus: u64,
    rate: u64,
    asked: String,
}

impl Run {
    fn of(&self, who: &str) -> String {
        let cpus = if self.cpus == 1 { "CPU" } else { "CPUs" };
        format!("{who}, {} {cpus}, {}", self.cpus, self.asked)
    }

    fn add(&self, who: &str, exits: f64, lost: f64, table: &mut Table) {
        let rate = exits / TIME.as_secs_f64();
        let what = format!("{}: lost of {exits:.0} ({rate:.0}/s)", self.of(who));
        table.add("loss", what, "events", vec![lost]);
    }

    /// Counts what the probes could not pass on, what was skipped, and what the ring did not take.
    fn recorder(&self, tools: &Tools, table: &mut Table) -> Result<()> {
        let agent = Agent::start(tools, &["--after", "100ms", "--before", "1h"])?;
        let exits = agent.dumping(|| tools.pace(self.rate, self.cpus, TIME))?;
        let status = agent.status()?;
        let failed = &status["dumps"]["failed"];
        if failed.as_u64() != Some(0) {
            bail!("{failed} dumps failed: {}", status["dumps"]["last_error"]);
        }
        let Losses { lost, throttled } = Losses::of(&status)?;
        self.add("recorder", exits, lost, table);
        if throttled > 0.0 {
            // What its own limit for one cgroup left out, and counted: part of how it gets through a flood.
            let what = format!("{}: left out by its limit", self.of("recorder"));
            table.add("loss", what, "events", vec![throttled]);
        }
        Ok(())
    }

    /// Counts what a peer says it lost. It writes into a file, as one has it do for later.
    fn peer(&self, name: &'static str, tools: &Tools, table: &mut Table) {
        let measured = || -> Result<(f64, f64)> {
            let mut process = match name {
                "bpftrace" => peer::bpftrace(peer::EXIT, &tools.scratch)?,
                _ => Process::start(name, &[], &tools.scratch)?,
            };
            let exits = tools.pace(self.rate, self.cpus, TIME)?;
            process.interrupt()?;
            let said = process.errors() + &process.output()?;
            Ok((exits, said.lines().filter_map(said_lost).sum()))
        };
        match measured() {
            Ok((exits, lost)) => self.add(name, exits, lost, table),
            Err(error) => table.add_missing("loss", self.of(name), format!("{error:#}")),
        }
    }
}

/// What the status of the agent says was not recorded.
struct Losses {
    /// For want of room, or because a probe could not run.
    lost: f64,
    /// By a limit for one cgroup.
    throttled: f64,
}

impl Losses {
    fn of(status: &Value) -> Result<Self> {
        let sum = |counts: &Value| -> f64 {
            let counts = counts.as_object().into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_f64()).sum()
        };
        let mut losses = Self {
            lost: sum(&status["skipped"]),
            throttled: 0.0,
        };
        for lane in status["lanes"].as_array().context("the status has lanes")? {
            losses.lost += lane["dropped"].as_f64().context("a lane counts drops")?;
            for cpu in lane["cpus"].as_array().into_iter().flatten() {
                losses.lost += cpu["lost"].as_f64().context("a CPU counts losses")?;
                losses.throttled += sum(&cpu["throttled_by_kind"]);
            }
        }
        Ok(losses)
    }
}

/// Returns the number in "Lost 12 events" (bpftrace) and in "lost 12 events on CPU #1" (libbpf-tools).
fn said_lost(line: &str) -> Option<f64> {
    let line = line.to_ascii_lowercase();
    let (_, rest) = line.split_once("lost ")?;
    let (number, rest) = rest.split_once(' ')?;
    rest.starts_with("events").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_peers_say_of_their_losses() {
        assert_eq!(said_lost("Lost 12 events"), Some(12.0));
        assert_eq!(said_lost("lost 7 events on CPU #1"), Some(7.0));
        assert_eq!(said_lost("workload 12 lost 0"), None);
    }

    #[test]
    fn adds_up_every_kind_of_loss() {
        let status = json!({
            "skipped": { "process.exit": 1 },
            "lanes": [
                { "dropped": 2, "cpus": [{ "lost": 4 }, { "lost": 8, "throttled_by_kind": { "process.exit": 5 } }] },
                { "dropped": 16, "cpus": [] },
            ],
        });
        let losses = Losses::of(&status).expect("all is there");
        assert_eq!((losses.lost, losses.throttled), (31.0, 5.0));
    }
}
