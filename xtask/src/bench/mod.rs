//! `cargo xtask bench`: what recording costs, side by side with what people would use instead.
//!
//! Every comparison is paired and interleaved in one run: absolute times differ between machines and hours, ratios within
//! one run hold. Needs root. Failures are provoked only in processes of its own.

mod agent;
mod catalog;
mod cost;
mod document;
mod growth;
mod host;
mod latency;
mod loss;
mod memory;
mod micro;
mod peer;
mod probes;
mod processes;
mod readers;
mod storm;
mod sync;
mod table;
mod tracefs;
mod turns;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::exec::{cargo, exec, is_root};
use crate::packages;
use crate::{build, paths};
use agent::Tools;
use table::Table;

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Which benchmarks to run; all of them if none is named
    #[arg(value_enum)]
    benchmarks: Vec<Benchmark>,
    /// How many pairs of runs a comparison takes
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the results to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the results into this document too, in place of those of an earlier run
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// Kernel time for each event, of each probe, beside libbpf-tools and bpftrace
    Probes,
    /// How much a storm of processes is slowed down, beside libbpf-tools, bpftrace, perf, ftrace and process accounting
    Storm,
    /// How much ordinary work and a build are slowed down, also while dumps are written
    Micro,
    /// From a crash to the frozen window, to the durable dump and to the first line of `show`, by size of the ring
    Latency,
    /// Start, CPU time and wake-ups of the agent by rate of events, beside sar and atop
    Agent,
    /// Bytes for each event, in memory and in the dump, beside perf, ftrace and JSON
    Memory,
    /// Bytes and CPU time of a ring that is copied to disk
    Sync,
    /// Records lost by rate of events and CPUs, with dumps in flight, beside exitsnoop and bpftrace
    Loss,
    /// How the cost grows with CPUs, processes, cgroups and rules
    Growth,
    /// A look at every process, beside reading /proc
    Processes,
    /// Lists, trends and ids over 10,000 incidents
    Catalog,
    /// Events a second of show, report, verify and every export, beside perf script, trace-cmd and babeltrace2
    Readers,
}

/// Runs `cargo xtask bench`.
pub fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("benchmarks load BPF programs: run this as root");
    }
    tracefs::provide()?;
    for need in &peer::PACKAGES {
        if let Err(error) = packages::provide(std::slice::from_ref(need)) {
            eprintln!("note: {error:#}; going on without");
        }
    }
    let scratch = Scratch::new()?;
    let tools = Tools {
        agent: build::agent()?,
        workload: workload()?,
        scratch: scratch.0.clone(),
    };
    let mut table = Table::new(host::describe());
    let chosen = match options.benchmarks.as_slice() {
        [] => Benchmark::value_variants(),
        some => some,
    };
    for benchmark in chosen {
        match benchmark {
            Benchmark::Probes => probes::run(&tools, &mut table)?,
            Benchmark::Storm => storm::run(&tools, options.rounds, &mut table)?,
            Benchmark::Micro => micro::run(&tools, options.rounds, &mut table)?,
            Benchmark::Latency => latency::run(&tools, options.rounds, &mut table)?,
            Benchmark::Agent => cost::run(&tools, options.rounds, &mut table)?,
            Benchmark::Memory => memory::run(&tools, &mut table)?,
            Benchmark::Sync => sync::run(&tools, options.rounds, &mut table)?,
            Benchmark::Loss => loss::run(&tools, &mut table)?,
            Benchmark::Growth => growth::run(&tools, &mut table)?,
            Benchmark::Processes => processes::run(options.rounds, &mut table)?,
            Benchmark::Catalog => catalog::run(&tools, options.rounds, &mut table)?,
            Benchmark::Readers => readers::run(&tools, options.rounds, &mut table)?,
        }
    }
    print!("{}", table.text());
    if let Some(path) = &options.json {
        fs::write(path, table.json()).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &options.update {
        document::update(path, &table.texts())?;
    }
    Ok(())
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("recorder-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
