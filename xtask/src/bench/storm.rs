//! How much slower a storm of processes is while something watches it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::agent::{Agent, Tools};
use super::table::Table;
use crate::exec::find;

/// Processes of one storm.
const EXITS: u64 = 20_000;
/// The peers that watch processes, started together: one for each end of a process, as the agent watches both.
const PEERS: [&str; 2] = ["exitsnoop", "execsnoop"];

/// Runs storms in turn: nobody watches, the agent does, the peers do.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    tools.flood(EXITS)?;
    let mut off = Vec::new();
    let (mut on, mut peers) = (Vec::new(), Vec::new());
    let (mut slower, mut slower_peers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // The unwatched storm before and after a watched one: its mean is what drifts as the watched one does.
        let before = tools.flood(EXITS)?;
        let watched = {
            let _agent = Agent::start(tools, &[])?;
            tools.flood(EXITS)?
        };
        let between = tools.flood(EXITS)?;
        let by_peers = {
            let _peers = start_peers()?;
            tools.flood(EXITS)?
        };
        let after = tools.flood(EXITS)?;
        off.push(between / EXITS as f64);
        on.push(watched / EXITS as f64);
        peers.push(by_peers / EXITS as f64);
        slower.push((watched / f64::midpoint(before, between) - 1.0) * 100.0);
        slower_peers.push((by_peers / f64::midpoint(between, after) - 1.0) * 100.0);
    }
    let each = "ns";
    table.add("storm", "vfork + exit, nobody watches", each, off);
    table.add("storm", "vfork + exit, recorder", each, on);
    table.add("storm", "vfork + exit, exitsnoop + execsnoop", each, peers);
    table.add("storm", "slowed by recorder", "%", slower);
    table.add(
        "storm",
        "slowed by exitsnoop + execsnoop",
        "%",
        slower_peers,
    );
    Ok(())
}

/// Becomes the program that is its first argument.
const MOUNT_AND_RUN: &str = r#"
    [ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
    exec "$0"
"#;

/// A program that watches until it is dropped.
pub struct Watcher(Child);

impl Watcher {
    /// Starts a peer whose output nobody reads.
    pub fn start(name: &str) -> Result<Self> {
        let program = find(name).with_context(|| format!("{name} is installed"))?;
        // In a mount namespace of its own: it wants the tracepoints' files, which not every host mounts.
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", MOUNT_AND_RUN])
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("run {name}"))?;
        // It says nothing when it is ready.
        std::thread::sleep(Duration::from_millis(1500));
        if let Some(status) = child.try_wait()? {
            bail!("{name} does not run here: {status}");
        }
        Ok(Self(child))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_peers() -> Result<Vec<Watcher>> {
    PEERS.into_iter().map(Watcher::start).collect()
}
