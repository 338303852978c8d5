//! Kernel time for each event, by the kernel's own statistics of BPF programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent::{Agent, Tools};
use super::peer::Peer;
use super::table::Table;
use crate::exec::answer;

/// The switch of the statistics.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
const OURS: &str = "recorder";
const EXITS: u64 = 50_000;
const EXECS: u64 = 2_000;
const CRASHES: u64 = 200;

const READS: u64 = 2_000;
const PEERS: [Peer; 7] = [
    Peer::Snoop("exitsnoop"),
    Peer::Snoop("execsnoop"),
    Peer::Snoop("sigsnoop"),
    Peer::Snoop("biosnoop"),
    Peer::BpftraceExit,
    Peer::BpftraceExec,
    Peer::BpftraceSignal,
];

/// Runs the same events past the agent's probes and past each peer.
pub fn run(tools: &Tools, table: &mut Table) -> Result<()> {
    let _statistics = Statistics::on()?;
    let known = programs()?;
    {
        let _agent = Agent::start(tools, &["--cooldown", "1h"])?;
        let ours = new_programs(&known)?;
        measure(tools, OURS, &ours, table)?;
    }
    for peer in PEERS {
        // Another peer's programs may still be on their way out.
        let known = programs()?;
        let watcher = peer.start(&tools.scratch);
        let theirs = new_programs(&known)?;
        match watcher {
            Ok(_) if theirs.is_empty() => {
                table.add_missing("probes", peer.name(), "it has loaded no program");
            }
            Ok(_watcher) => measure(tools, peer.name(), &theirs, table)?,
            Err(error) => table.add_missing("probes", peer.name(), format!("{error:#}")),
        }
    }
    Ok(())
}

/// Runs each workload once and says what the programs took for each event of it.
fn measure(tools: &Tools, who: &str, programs: &BTreeSet<u64>, table: &mut Table) -> Result<()> {
    for (what, count, workload) in [
        ("exit", EXITS, Workload::Exits),
        ("exec", EXECS, Workload::Execs),
        ("crash", CRASHES, Workload::Crashes),
        ("read from disk", READS, Workload::Reads),
    ] {
        let before = times(programs)?;
        let mut nothing_ran = true;
        workload.run(tools, count)?;
        for (program, after) in times(programs)? {
            let before = before.get(&program).cloned().unwrap_or_default();
            let runs = after.runs - before.runs;
            // What ran for something else now and then says nothing about this event.
            if runs * 2 < count {
                continue;
            }
            nothing_ran = false;
            let each = (after.nanoseconds - before.nanoseconds) as f64 / runs as f64;
            let name = after.name;
            table.add("probes", format!("{who}: {name}, {what}"), "ns", vec![each]);
        }
        if nothing_ran && who == OURS {
            table.add(
                "probes",
                format!("{who}: nothing runs, {what}"),
                "ns",
                vec![0.0],
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Workload {
    Exits,
    Execs,
    Crashes,
    /// Single blocks of a file, past the page cache.
    Reads,
}

impl Workload {
    fn run(self, tools: &Tools, count: u64) -> Result<()> {
        match self {
            Self::Exits => tools.flood(count).map(drop),
            Self::Execs => {
                for _ in 0..count {
                    quiet(&mut Command::new("/bin/true"))?;
                }
                Ok(())
            }
            Self::Crashes => {
                for _ in 0..count {
                    quiet(&mut tools.workload(&["segv-write", "0x1234"]))?;
                }
                Ok(())
            }
            Self::Reads => {
                let file = tools.scratch.join("blocks");
                fs::write(&file, vec![1; 4096 * usize::try_from(count)?])?;
                let mut read = Command::new("dd");
                read.arg(format!("if={}", file.display()));
                quiet(read.args(["of=/dev/null", "bs=4096", "iflag=direct"]))?;
                fs::remove_file(file).context("remove the blocks")
            }
        }
    }
}

fn quiet(command: &mut Command) -> Result<()> {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop).context("run a workload")
}

/// What a program has used so far.
#[derive(Clone, Default)]
pub struct Time {
    /// Its name.
    pub name: String,
    /// How long it ran in all.
    pub nanoseconds: u64,
    /// How often it ran.
    pub runs: u64,
}

/// Returns the ids of all programs.
pub fn programs() -> Result<BTreeSet<u64>> {
    Ok(list()?
        .iter()
        .filter_map(|program| program["id"].as_u64())
        .collect())
}

/// Returns the ids of the programs that have come since.
pub fn new_programs(known: &BTreeSet<u64>) -> Result<BTreeSet<u64>> {
    Ok(programs()?.difference(known).copied().collect())
}

/// Returns what these programs have used so far, by id.
pub fn times(ids: &BTreeSet<u64>) -> Result<BTreeMap<u64, Time>> {
    let mut times = BTreeMap::new();
    for program in list()? {
        let Some(id) = program["id"].as_u64().filter(|id| ids.contains(id)) else {
            continue;
        };
        let number = |name: &str| program[name].as_u64().unwrap_or(0);
        times.insert(
            id,
            Time {
                name: program["name"].as_str().unwrap_or("?").to_owned(),
                nanoseconds: number("run_time_ns"),
                runs: number("run_cnt"),
            },
        );
    }
    Ok(times)
}

fn list() -> Result<Vec<Value>> {
    let text = answer(Command::new("bpftool").args(["--json", "prog", "show"]))
        .context("bpftool cannot list the programs")?;
    serde_json::from_str(&text).context("bpftool writes JSON")
}

/// The kernel's statistics, switched on while this lives.
pub struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches them on.
    pub fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.before.trim());
    }
}
