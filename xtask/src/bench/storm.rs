//! How much slower a storm of processes is while something watches it.

use anyhow::Result;

use super::agent::{Agent, Tools};
use super::peer::{Peer, Watcher};
use super::table::Table;
use super::turns;

/// Processes of one storm.
const EXITS: u64 = 20_000;
/// Programs of one storm.
const EXECS: u64 = 1_500;
/// Processes before it, so that whoever watches has begun: they are to be there for years, not for a second.
const BEFORE: u64 = 5_000;

/// Who watches. Peers that see one end of a process only are started together, as the agent watches both.
const WATCHERS: [(&str, &[Peer]); 6] = [
    ("recorder", &[]),
    (
        "exitsnoop + execsnoop",
        &[Peer::Snoop("exitsnoop"), Peer::Snoop("execsnoop")],
    ),
    (
        "bpftrace (exit and exec)",
        &[Peer::BpftraceExit, Peer::BpftraceExec],
    ),
    (Peer::Perf.name(), &[Peer::Perf]),
    (Peer::Ftrace.name(), &[Peer::Ftrace]),
    (Peer::Accounting.name(), &[Peer::Accounting]),
];

/// Runs storms in turn: nobody watches, the agent does, nobody, a peer does, and so on.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let mut watchers = Vec::new();
    for watcher in WATCHERS {
        let (name, peers) = watcher;
        match start(tools, peers) {
            Ok(_) => watchers.push(watcher),
            Err(error) => {
                table.add_missing("storm", name, format!("{error:#}"));
            }
        }
    }
    let turns = turns::take(rounds, &watchers, |watcher| {
        let storm = || -> Result<Vec<f64>> {
            tools.flood(BEFORE)?;
            let exec = tools.micro("exec", EXECS)? / EXECS as f64 / 1e3;
            let exit = tools.flood(EXITS)? / EXITS as f64 / 1e3;
            Ok(vec![exec, exit])
        };
        match watcher {
            None => storm(),
            Some((_, [])) => {
                let _agent = Agent::start(tools, &[])?;
                storm()
            }
            Some((_, peers)) => {
                let _peers = start(tools, peers)?;
                storm()
            }
        }
    })?;
    let names: Vec<&str> = watchers.iter().map(|(name, _)| *name).collect();
    let storms = [("fork + exec + exit", "us"), ("vfork + exit", "us")];
    turns.add(table, "storm", &storms, &names);
    Ok(())
}

fn start(tools: &Tools, peers: &[Peer]) -> Result<Vec<Box<dyn Watcher>>> {
    peers
        .iter()
        .map(|peer| peer.start(&tools.scratch))
        .collect()
}
