//! An agent to measure, and the workloads that it watches.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::exec::answer;

/// From one dump asked for to the next, where one is to be in flight all the time.
const BETWEEN_DUMPS: Duration = Duration::from_millis(150);

/// The programs of a benchmark.
pub struct Tools {
    /// The agent.
    pub agent: PathBuf,
    /// What provokes failures.
    pub workload: PathBuf,
    /// A directory for what is only of use while this runs.
    pub scratch: PathBuf,
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
        elapsed(&mut self.workload(&["flood", &count.to_string()]))
    }

    /// Does ordinary work of one kind `count` times; returns how long that took, in nanoseconds.
    pub fn micro(&self, what: &str, count: u64) -> Result<f64> {
        elapsed(&mut self.workload(&["micro", what, &count.to_string()]))
    }

    /// Starts `rate` processes a second that end at once, on the first `cpus` CPUs, one source on each; returns how many.
    pub fn pace(&self, rate: u64, cpus: u64, time: Duration) -> Result<f64> {
        let share = (rate / cpus).to_string();
        let milliseconds = time.as_millis().to_string();
        let source = |cpu: u64| -> Result<f64> {
            let mut command = Command::new("taskset");
            command
                .args(["--cpu-list", &cpu.to_string()])
                .arg(&self.workload)
                .args(["pace", &share, &milliseconds]);
            fact(&mut command, "exits")
        };
        let source = &source;
        std::thread::scope(|scope| {
            let sources: Vec<_> = (0..cpus)
                .map(|cpu| scope.spawn(move || source(cpu)))
                .collect();
            sources.into_iter().map(joined).sum()
        })
    }
}

/// Returns what a thread returned.
pub fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn elapsed(workload: &mut Command) -> Result<f64> {
    fact(workload, "elapsed_ns")
}

/// Runs a workload; returns a number of its last line.
fn fact(workload: &mut Command, name: &str) -> Result<f64> {
    let output = answer(workload).context("the workload did not end well")?;
    let last = output.lines().last().unwrap_or_default();
    let facts: Value = serde_json::from_str(last).context("the workload says what it did")?;
    facts[name]
        .as_f64()
        .with_context(|| format!("{name} is a number"))
}

/// A running agent with directories of its own; ended when dropped.
pub struct Agent<'a> {
    tools: &'a Tools,
    child: Child,
    stdout: BufReader<ChildStdout>,
    directory: PathBuf,
    /// In memory, as the one of a host is.
    run: PathBuf,
    /// From the start of its process to the line that says it records.
    pub started_in: Duration,
}

impl<'a> Agent<'a> {
    /// Starts one and waits until it records.
    pub fn start(tools: &'a Tools, arguments: &[&str]) -> Result<Self> {
        let directory = tools.scratch.join("agent");
        let run = Path::new("/dev/shm").join(format!("recorder-bench-{}", std::process::id()));
        for directory in [&directory, &run] {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let start = Instant::now();
        let mut child = Command::new(&tools.agent)
            .arg("run")
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--run-dir")
            .arg(&run)
            // As many dumps as are asked for.
            .args(["--limit-dumps-per-hour", "0", "--limit-bytes-per-day", "0"])
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
            run,
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

    /// Returns its status, also that of an agent which says that something is not as it should be.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(&self.tools.agent)
            .args(["status", "--json", "--run-dir"])
            .arg(&self.run)
            .output()?;
        match output.status.code() {
            Some(0 | 3) => Ok(serde_json::from_slice(&output.stdout)?),
            _ => bail!(
                "recorder status: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }

    /// Makes a dump begin, as one does by hand, but without a process of its own for that.
    pub fn trigger(&self) -> Result<()> {
        let mut socket = UnixStream::connect(self.run.join("control.sock"))?;
        let body = r#"{"reason":"bench"}"#;
        write!(
            socket,
            "POST /v1/trigger HTTP/1.1\r\nHost: recorder\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut response = String::new();
        socket.read_to_string(&mut response)?;
        ensure!(response.starts_with("HTTP/1.1 200"), "{response}");
        Ok(())
    }

    /// Keeps a dump in flight while `run` runs.
    pub fn dumping<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let dumps = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.trigger()?;
                    std::thread::sleep(BETWEEN_DUMPS);
                }
                Ok(())
            });
            let result = run();
            done.store(true, Ordering::Relaxed);
            joined(dumps)?;
            result
        })
    }

    /// Returns a memory figure of its process in KiB: "RssAnon".
    pub fn memory_kib(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .with_context(|| format!("no {name} in the status of the agent"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Returns a number of one lane from its status.
    pub fn lane(&self, lane: &str, number: &str) -> Result<f64> {
        let status = self.status()?;
        let lanes = status["lanes"].as_array().context("the status has lanes")?;
        let lane = lanes.iter().find(|one| one["lane"] == lane);
        let lane = lane.with_context(|| format!("the status has no such lane as {number}"))?;
        lane[number]
            .as_f64()
            .with_context(|| format!("{number} is a number"))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // By the id of our own child; what it would still write nobody reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// Reads the sidecar of a dump.
pub fn sidecar(dump: &Path) -> Result<Value> {
    let path = dump.with_extension("json");
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
}

/// Returns a duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
