//! `cargo xtask bench`: what recording costs, side by side with what people would use instead.
//!
//! Every comparison is paired and interleaved in one run: absolute times differ between machines and hours, ratios within
//! one run hold. Needs root. Failures are provoked only in processes of its own.

mod agent;
mod catalog;
mod host;
mod latency;
mod loss;
mod probes;
mod processes;
mod readers;
mod storm;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::exec::{cargo, exec, is_root};
use crate::packages::{self, Need, Present};
use crate::{build, paths};
use agent::Tools;
use table::Table;

/// What the comparisons need.
const NEEDS: [Need; 2] = [
    Need {
        present: Present::Program("bpftool"),
        package: "bpftool",
        reason: "it reads the kernel's own run times of BPF programs",
    },
    Need {
        present: Present::Program("exitsnoop"),
        package: "libbpf-tools",
        reason: "exitsnoop, execsnoop and sigsnoop are what the probes are compared with",
    },
];

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Which benchmarks to run; all of them if none is named
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// How many pairs of runs a comparison takes
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Write the results to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Kernel time for each event, of each probe, beside exitsnoop, execsnoop and sigsnoop
    Probes,
    /// How much a storm of processes is slowed down, beside exitsnoop and execsnoop
    Storm,
    /// From a crash to the frozen window and to the durable dump
    Latency,
    /// Start, memory, idle CPU, bytes for each event
    Agent,
    /// Records lost in a storm on every CPU
    Loss,
    /// A look at every process, beside reading /proc
    Processes,
    /// Lists, trends and ids over 10,000 incidents
    Catalog,
    /// Events a second of show, report, verify and every export, beside babeltrace2
    Readers,
}

const ALL: [Benchmark; 8] = [
    Benchmark::Probes,
    Benchmark::Storm,
    Benchmark::Latency,
    Benchmark::Agent,
    Benchmark::Loss,
    Benchmark::Processes,
    Benchmark::Catalog,
    Benchmark::Readers,
];

/// Runs `cargo xtask bench`.
pub fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("benchmarks load BPF programs: run this as root");
    }
    packages::provide(&NEEDS)?;
    let tools = Tools {
        agent: build::agent()?,
        workload: workload()?,
    };
    let mut table = Table::new(host::describe());
    let chosen = match options.benchmarks.as_slice() {
        [] => &ALL[..],
        some => some,
    };
    for benchmark in chosen {
        match benchmark {
            Benchmark::Probes => probes::run(&tools, &mut table)?,
            Benchmark::Storm => storm::run(&tools, options.rounds, &mut table)?,
            Benchmark::Latency => latency::run(&tools, options.rounds, &mut table)?,
            Benchmark::Agent => agent::run(&tools, options.rounds, &mut table)?,
            Benchmark::Loss => loss::run(&tools, &mut table)?,
            Benchmark::Processes => processes::run(options.rounds, &mut table)?,
            Benchmark::Catalog => catalog::run(&tools, options.rounds, &mut table)?,
            Benchmark::Readers => readers::run(&tools, options.rounds, &mut table)?,
        }
    }
    print!("{}", table.text());
    if let Some(path) = &options.json {
        fs::write(path, table.json()).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Builds the program that provokes failures and returns its path.
fn workload() -> Result<PathBuf> {
    let mut build = cargo("build");
    build
        .args([
            "--package",
            "recorder-tests",
            "--bin",
            "workload",
            "--release",
        ])
        .arg("--target-dir")
        .arg(paths::target());
    exec(&mut build)?;
    Ok(paths::target().join("release/workload"))
}
