//! From a crash to the frozen window, to the durable dump, and to the first line that says what happened.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::agent::{Agent, Tools, joined, milliseconds, sidecar};
use super::table::Table;

/// Budgets for records of processes.
const RINGS_MIB: [u64; 4] = [16, 64, 256, 1024];
/// An exit takes no less than this in memory.
const EXIT_BYTES: u64 = 128;

/// Measures with a ring that is almost empty, then with rings of several sizes.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let mut agent = start(tools, 48)?;
    measure(tools, &mut agent, rounds * 3, "empty ring of 48 MiB", table)?;
    drop(agent);
    for mib in RINGS_MIB {
        let mut agent = start(tools, mib)?;
        fill(tools, (mib << 20).div_ceil(EXIT_BYTES))?;
        let held = agent.lane("lifecycle", "used_bytes")? / f64::from(1 << 20);
        let what = format!("{held:.0} MiB in a ring of {mib} MiB");
        let dump = measure(tools, &mut agent, rounds, &what, table)?;
        let first: Result<Vec<f64>> = (0..rounds).map(|_| first_line(tools, &dump)).collect();
        let what = format!("first line of show, dump of {what}");
        table.add("latency", what, "ms", first?);
    }
    Ok(())
}

fn start(tools: &Tools, mib: u64) -> Result<Agent<'_>> {
    let lifecycle = format!("{mib}MiB");
    let options = [
        "--after",
        "0ms",
        "--cooldown",
        "1ms",
        "--before",
        "1h",
        "--max-dump-bytes",
        "1GiB",
        "--dumps-max-bytes",
        "4GiB",
    ];
    let options = [&options[..], &["--lifecycle-bytes", &lifecycle]].concat();
    Agent::start(tools, &options)
}

/// Lets processes come and go on two CPUs.
fn fill(tools: &Tools, exits: u64) -> Result<()> {
    std::thread::scope(|scope| {
        let floods = [(); 2].map(|()| scope.spawn(|| tools.flood(exits / 2)));
        floods
            .into_iter()
            .try_for_each(|flood| joined(flood).map(drop))
    })
}

/// Lets processes crash, one after the other; returns the last dump.
fn measure(
    tools: &Tools,
    agent: &mut Agent<'_>,
    crashes: usize,
    what: &str,
    table: &mut Table,
) -> Result<PathBuf> {
    let (mut frozen, mut durable) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..crashes {
        let (freeze, write, dump) = crash(tools, agent)?;
        frozen.push(freeze);
        durable.push(write);
        last = Some(dump);
        std::thread::sleep(Duration::from_millis(5));
    }
    let name = "latency";
    table.add(
        name,
        format!("crash to frozen window, {what}"),
        "ms",
        frozen,
    );
    table.add(
        name,
        format!("frozen window to durable dump, {what}"),
        "ms",
        durable,
    );
    last.context("there is at least one round")
}

/// Lets a process crash; returns how many milliseconds later the window was frozen, how many after that the dump was
/// durable, and the dump.
fn crash(tools: &Tools, agent: &mut Agent<'_>) -> Result<(f64, f64, PathBuf)> {
    tools.workload(&["segv-write", "0x1234"]).output()?;
    let dump = agent.next_dump()?;
    // Both files had their names by then, and the directory was flushed: that is when the agent says so.
    let now = SystemTime::now();
    let sidecar = sidecar(&dump)?;
    let number = |path: &str| {
        let value = sidecar.pointer(path).and_then(Value::as_u64);
        value.with_context(|| format!("{path} in the sidecar of {}", dump.display()))
    };
    let died = number("/incident/trigger/boot_ns")?;
    let frozen = number("/clocks/freeze/boot_ns")?;
    let frozen_at =
        SystemTime::UNIX_EPOCH + Duration::from_nanos(number("/clocks/freeze/unix_ns")?);
    Ok((
        milliseconds(Duration::from_nanos(frozen - died)),
        milliseconds(now.duration_since(frozen_at)?),
        dump,
    ))
}

/// Returns how many milliseconds `show` takes for its first line.
fn first_line(tools: &Tools, dump: &Path) -> Result<f64> {
    let begin = Instant::now();
    let mut show = Command::new(&tools.agent)
        .arg("show")
        .arg(dump)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("run show")?;
    let mut stdout = BufReader::new(show.stdout.take().context("its stdout is a pipe")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let time = milliseconds(begin.elapsed());
    // The rest, so that it does not end with a broken pipe.
    std::io::copy(&mut stdout, &mut std::io::sink())?;
    ensure!(
        show.wait()?.success() && !line.is_empty(),
        "show says nothing"
    );
    Ok(time)
}
