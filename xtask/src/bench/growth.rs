//! How the cost grows: with CPUs, processes, cgroups and rules. With the size of the window it is measured by `latency`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::agent::{Agent, Tools};
use super::cost::during;
use super::probes::{self, Statistics};
use super::table::Table;

/// How long the agent is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// After what it has learned what there was before it.
const SETTLES: Duration = Duration::from_secs(10);
/// Exits a second, from one CPU, while rules are many.
const RATE: u64 = 10_000;
/// Exits of a storm on each CPU.
const EXITS: u64 = 60_000;
const PROCESSES: [usize; 3] = [0, 1_000, 10_000];
const CGROUPS: [usize; 3] = [0, 1_000, 10_000];
const RULES: [usize; 4] = [0, 10, 100, 1_000];

/// Measures all of it.
pub fn run(tools: &Tools, table: &mut Table) -> Result<()> {
    cpus(tools, table)?;
    processes(tools, table)?;
    cgroups(tools, table)?;
    for (what, event, condition) in [
        (
            "on exits",
            "process.exit",
            r#"process.comm == "nobody" && exit_code == 7"#,
        ),
        ("on what does not happen", "io.error", "bytes > 0"),
    ] {
        for count in RULES {
            rules(tools, what, event, condition, count, table)?;
        }
    }
    Ok(())
}

/// What grows with CPUs: the time for a record where several write to one ring, and the one thread that reads it.
fn cpus(tools: &Tools, table: &mut Table) -> Result<()> {
    let most = std::thread::available_parallelism()?.get();
    for cpus in 1..=most {
        let _statistics = Statistics::on()?;
        let known = probes::programs()?;
        let agent = Agent::start(tools, &["--limit-processes-per-second", "0"])?;
        let ours = probes::new_programs(&known)?;
        let exit = || -> Result<(u64, u64)> {
            let times = probes::times(&ours)?;
            let exit = times.into_values().find(|time| time.name == "process_exit");
            let exit = exit.context("it has a probe of exits")?;
            Ok((exit.runs, exit.nanoseconds))
        };
        let (runs, ns) = exit()?;
        let pushed = agent.lane("lifecycle", "pushed")?;
        let spent = during(agent.pid(), || {
            std::thread::scope(|scope| {
                let storms: Vec<_> = (0..cpus)
                    .map(|_| scope.spawn(|| tools.flood(EXITS)))
                    .collect();
                storms
                    .into_iter()
                    .try_for_each(|storm| super::agent::joined(storm).map(drop))
            })
        })?;
        let (runs_after, ns_after) = exit()?;
        let records = agent.lane("lifecycle", "pushed")? - pushed;
        let on = format!("{cpus} CPUs at once");
        let each = (ns_after - ns) as f64 / (runs_after - runs) as f64;
        table.add(
            "growth",
            format!("process_exit, an exit, {on}"),
            "ns",
            vec![each],
        );
        let reader = spent.cpu_ns / records;
        table.add(
            "growth",
            format!("agent, a record, {on}"),
            "ns",
            vec![reader],
        );
        if cpus == most {
            let sustained = 1e9 / reader;
            table.add(
                "growth",
                "records a second that one reader keeps up with",
                "1/s",
                vec![sustained],
            );
        }
    }
    Ok(())
}

/// What grows with living processes: a sample, and the memory for their names.
fn processes(tools: &Tools, table: &mut Table) -> Result<()> {
    for count in PROCESSES {
        let crowd = Crowd::new(tools, count)?;
        let what = format!("{count} more processes");
        watch(tools, &[], &what, table)?;
        drop(crowd);
    }
    Ok(())
}

/// What grows with cgroups: the memory for their names.
fn cgroups(tools: &Tools, table: &mut Table) -> Result<()> {
    for count in CGROUPS {
        match Cgroups::new(count) {
            Ok(cgroups) => {
                watch(tools, &[], &format!("{count} more cgroups"), table)?;
                drop(cgroups);
            }
            Err(error) => {
                table.add_missing(
                    "growth",
                    format!("{count} more cgroups"),
                    format!("{error:#}"),
                );
            }
        }
    }
    Ok(())
}

/// What an agent takes that has nothing to do but samples.
fn watch(tools: &Tools, arguments: &[&str], what: &str, table: &mut Table) -> Result<()> {
    let agent = Agent::start(tools, arguments)?;
    let started = super::agent::milliseconds(agent.started_in);
    std::thread::sleep(SETTLES);
    let idle = during(agent.pid(), || {
        std::thread::sleep(WATCHED);
        Ok(())
    })?;
    table.add("growth", format!("start, {what}"), "ms", vec![started]);
    table.add(
        "growth",
        format!("CPU of one core, {what}"),
        "%",
        vec![idle.cpu_percent],
    );
    let memory = agent.memory_kib("RssAnon")?;
    table.add(
        "growth",
        format!("memory beside the ring, {what}"),
        "KiB",
        vec![memory],
    );
    Ok(())
}

/// What an exit takes an agent that has so many rules.
fn rules(
    tools: &Tools,
    what: &str,
    event: &str,
    condition: &str,
    count: usize,
    table: &mut Table,
) -> Result<()> {
    let file = tools.scratch.join("rules.toml");
    let rules = (0..count).map(|number| {
        format!("[[rule]]\nname = \"rule-{number}\"\nevent = \"{event}\"\nwhen = '{condition}'\n\n")
    });
    fs::write(&file, rules.collect::<String>())?;
    let config = file.display().to_string();
    let agent = Agent::start(
        tools,
        &["--config", &config, "--limit-processes-per-second", "0"],
    )?;
    let pushed = agent.lane("lifecycle", "pushed")?;
    let spent = during(agent.pid(), || tools.pace(RATE, 1, WATCHED).map(drop))?;
    let records = agent.lane("lifecycle", "pushed")? - pushed;
    let what = format!("agent, a record, {count} rules {what}");
    table.add("growth", what, "ns", vec![spent.cpu_ns / records]);
    Ok(())
}

/// Processes that do nothing, ended when dropped.
struct Crowd(Option<Child>);

impl Crowd {
    fn new(tools: &Tools, count: usize) -> Result<Self> {
        if count == 0 {
            return Ok(Self(None));
        }
        let mut child = tools
            .workload(&["crowd", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run the workload")?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        let crowd = Self(Some(child));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        ensure!(line.contains("crowd"), "the crowd is not there: {line:?}");
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It ends its children, then itself, when nobody can write to it any more.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Cgroups without processes, removed when dropped.
struct Cgroups {
    top: PathBuf,
    made: usize,
}

impl Cgroups {
    fn new(count: usize) -> Result<Self> {
        let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let unified = unified.into_iter().map(Path::new);
        let mut unified = unified.filter(|path| path.join("cgroup.controllers").exists());
        let top = unified
            .next()
            .context("no unified cgroup hierarchy is mounted here")?;
        let top = top.join(format!("recorder-bench-{}", std::process::id()));
        fs::create_dir(&top).with_context(|| format!("make cgroup {}", top.display()))?;
        let mut cgroups = Self { top, made: 0 };
        for number in 0..count {
            fs::create_dir(cgroups.top.join(number.to_string()))?;
            cgroups.made += 1;
        }
        Ok(cgroups)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for number in 0..self.made {
            let _ = fs::remove_dir(self.top.join(number.to_string()));
        }
        let _ = fs::remove_dir(&self.top);
    }
}
