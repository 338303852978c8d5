//! What a look at every process costs: through the task iterator, beside `/proc`.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::table::Table;
use crate::build::OBJECT_VARIABLE;
use crate::exec::{answer, cargo, exec};
use crate::paths;

/// Processes beside those that are there anyway.
const PROCESSES: u64 = 1000;

/// Measures both ways in turns, by the example that does so.
pub fn run(rounds: usize, table: &mut Table) -> Result<()> {
    let mut build = cargo("build");
    build
        .args([
            "--package",
            "recorder",
            "--example",
            "processes",
            "--release",
        ])
        .arg("--target-dir")
        .arg(paths::target())
        .env(OBJECT_VARIABLE, paths::bpf_object());
    exec(&mut build)?;
    let mut example = Command::new(paths::target().join("release/examples/processes"));
    example.args([PROCESSES.to_string(), rounds.to_string()]);
    let output = answer(&mut example).context("the processes could not be listed")?;
    let result: Value = serde_json::from_str(&output).context("the example prints JSON")?;
    let microseconds = |name: &str| -> Vec<f64> {
        let values = result[name].as_array().into_iter().flatten();
        values.filter_map(|ns| Some(ns.as_f64()? / 1e3)).collect()
    };
    let (iterator, proc) = (microseconds("iterator_ns"), microseconds("proc_ns"));
    let ratios = iterator.iter().zip(&proc).map(|(one, other)| other / one);
    let ratios: Vec<f64> = ratios.collect();
    let name = "processes";
    let count = &result["processes_by_iterator"];
    let what = |how: &str| format!("a look at {count} processes {how}");
    table.add(name, what("through the task iterator"), "us", iterator);
    table.add(name, what("in /proc/PID/{stat,statm,io}"), "us", proc);
    table.add(name, "/proc against the iterator", "times", ratios);
    Ok(())
}
