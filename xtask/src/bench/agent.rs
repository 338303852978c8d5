//! An agent to measure, and what it costs by being there: start, memory, idle CPU, bytes for each event.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::table::Table;
use crate::exec::answer;

/// How long the agent is watched doing nothing.
const IDLE: Duration = Duration::from_secs(20);
/// Processes whose records fill the lane that is measured.
const EXITS: u64 = 100_000;

/// The programs of a benchmark.
pub struct Tools {
    /// The agent.
    pub agent: PathBuf,
    /// What provokes failures.
    pub workload: PathBuf,
}

impl Tools {
    /// Returns a command of the workload.
    pub fn workload(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.workload);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts `count` processes that end at once, one after the other; returns how long that took, in nanoseconds.
    pub fn flood(&self, count: u64) -> Result<f64> {
        let output = answer(&mut self.workload(&["flood", &count.to_string()]))
            .context("the flood did not end well")?;
        let last = output.lines().last().unwrap_or_default();
        let facts: Value = serde_json::from_str(last).context("the flood says how long it took")?;
        facts["elapsed_ns"]
            .as_f64()
            .context("elapsed_ns is a number")
    }
}

/// A running agent with directories of its own; ended when dropped.
pub struct Agent<'a> {
    tools: &'a Tools,
    child: Child,
    stdout: BufReader<ChildStdout>,
    directory: PathBuf,
    /// From the start of its process to the line that says it records.
    pub started_in: Duration,
}

impl<'a> Agent<'a> {
    /// Starts one and waits until it records.
    pub fn start(tools: &'a Tools, arguments: &[&str]) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("recorder-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let start = Instant::now();
        let mut child = Command::new(&tools.agent)
            .arg("run")
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--run-dir")
            .arg(directory.join("run"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", tools.agent.display()))?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        let mut agent = Self {
            tools,
            child,
            stdout: BufReader::new(stdout),
            directory,
            started_in: Duration::ZERO,
        };
        let line = agent.line()?;
        agent.started_in = start.elapsed();
        if !line.starts_with("recording") {
            bail!("the agent says {line:?} instead of recording");
        }
        Ok(agent)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line that it prints.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the agent ended");
        }
        Ok(line)
    }

    /// Returns the path of the next dump that it announces.
    pub fn next_dump(&mut self) -> Result<PathBuf> {
        loop {
            let line = self.line()?;
            if let Some(rest) = line.strip_prefix("dump ") {
                let path = rest.split_whitespace().next().unwrap_or_default();
                return Ok(PathBuf::from(path));
            }
        }
    }

    /// Runs a command that talks to it.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        answer(&mut self.command(arguments))
            .with_context(|| format!("recorder {}", arguments.join(" ")))
    }

    /// Returns its status, also that of an agent which says that something is not as it should be.
    pub fn status(&self) -> Result<Value> {
        let output = self.command(&["status", "--json"]).output()?;
        match output.status.code() {
            Some(0 | 3) => Ok(serde_json::from_slice(&output.stdout)?),
            _ => bail!(
                "recorder status: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tools.agent);
        command
            .args(arguments)
            .arg("--run-dir")
            .arg(self.directory.join("run"));
        command
    }

    /// Returns a memory figure of its process in KiB: "RssAnon".
    fn memory_kib(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .with_context(|| format!("no {name} in the status of the agent"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Returns the CPU time of all its threads in nanoseconds.
    fn cpu_ns(&self) -> Result<f64> {
        let mut total = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().unwrap_or_default();
            total += first.parse::<f64>()?;
        }
        Ok(total)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // By the id of our own child; what it would still write nobody reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Measures start, memory, idle CPU and bytes for each event.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..rounds {
        starts.push(milliseconds(Agent::start(tools, &[])?.started_in));
    }
    table.add("agent", "start to recording", "ms", starts);

    let agent = Agent::start(tools, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let before = agent.cpu_ns()?;
    std::thread::sleep(IDLE);
    let used = (agent.cpu_ns()? - before) / IDLE.as_nanos() as f64 * 100.0;
    table.add(
        "agent",
        "CPU of one core while little happens",
        "%",
        vec![used],
    );
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
    drop(agent);
    bytes_for_each_event(tools, table)
}

fn bytes_for_each_event(tools: &Tools, table: &mut Table) -> Result<()> {
    let mut agent = Agent::start(tools, &["--after", "100ms", "--before", "1h"])?;
    tools.flood(EXITS)?;
    let status = agent.status()?;
    let lanes = status["lanes"].as_array().context("the status has lanes")?;
    let lane = lanes
        .iter()
        .find(|lane| lane["lane"] == "lifecycle")
        .context("the status has the lifecycle lane")?;
    let number = |name: &str| lane[name].as_f64().context("it is a number");
    let in_memory = number("used_bytes")? / number("records")?;
    table.add("agent", "exit event in memory", "bytes", vec![in_memory]);
    agent.ask(&["trigger", "--reason", "bench"])?;
    let dump = agent.next_dump()?;
    let events = events(&dump)?;
    let bytes = fs::metadata(&dump)?.len() as f64;
    table.add(
        "agent",
        "exit event in the dump",
        "bytes",
        vec![bytes / events],
    );
    Ok(())
}

/// Returns how many events a dump has.
fn events(dump: &Path) -> Result<f64> {
    let sidecar: Value = serde_json::from_slice(&fs::read(dump.with_extension("json"))?)?;
    sidecar["events"]
        .as_f64()
        .context("the sidecar counts events")
}

/// Returns a duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
