//! `recorder selftest`: failures on purpose, and the dumps that must follow.
//!
//! | step | failure | confined to |
//! |---|---|---|
//! | crash | a write to an address that is never mapped | a process of its own, without a core dump |
//! | memory | an OOM kill | a process alone in a cgroup of its own |
//! | disk | a write that fails | a loop device over memory that has no name, gone with the process that made it |
//!
//! The failing processes are this program again, under a name that nothing else has: the dumps are found by it, whatever else
//! fails on the host meanwhile, and no cooldown of an earlier test holds for them.

mod agent;
mod cgroup;
#[expect(unsafe_code, reason = "crashes, and configures a loop device")]
mod fail;
mod failing;
mod proof;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::api::{Client, ClientError, Status, TriggerRequest};
use crate::config::Paths;
use crate::dump::ProbeState;
use agent::OwnAgent;
use failing::Failing;
use proof::Search;

pub use agent::become_agent;
pub use fail::Failure;

/// What the failing processes and the cgroup are called, before what tells one test from another.
const NAME: &str = "selftest-";
/// How long a dump may take after its window has ended.
const WRITE_PATIENCE: Duration = Duration::from_secs(6);
/// Between two looks at the directory of dumps.
const TICK: Duration = Duration::from_millis(50);

/// How to test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Test an agent of the test's own although one runs.
    pub own: bool,
    /// Keep the dumps.
    pub keep: bool,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it must.
    Pass,
    /// The host does not allow the failure.
    Skip,
    /// The failure was provoked, and no sound dump tells of it.
    Fail,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// "agent", "crash", "memory", "disk".
    pub step: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The dump that tells of the failure; it is removed afterwards unless dumps are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump: Option<PathBuf>,
    /// From the failure to the sound dump, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ns: Option<u64>,
}

impl Step {
    fn new(step: &'static str, state: State, found: String) -> Self {
        Self {
            step,
            state,
            found,
            dump: None,
            took_ns: None,
        }
    }
}

/// Provokes every failure and looks for the dumps.
///
/// # Errors
///
/// If there is no agent to test: none runs and none can be started, or this user may not talk to it.
pub fn run(paths: &Paths, options: Options) -> Result<Vec<Step>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // What the test has made is removed before it ends.
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot await signals")?;
    }
    let (own, client, status) = find_agent(paths, options)?;
    let mut steps = vec![Step::new(
        "agent",
        State::Pass,
        describe(own.as_ref(), &status),
    )];
    let test = Test {
        name: name(),
        client,
        status,
        interrupted,
    };
    let searches = test.search()?;
    steps.extend(searches.iter().map(Search::judge));
    let dumps = Path::new(&test.status.dumps_dir);
    if options.keep {
        proof::tag(dumps, &test.name, &searches).context("cannot tag the test's dumps")?;
        if let Some(own) = own {
            own.keep();
        }
    } else {
        proof::remove(dumps, &test.name, &searches).context("cannot remove the test's dumps")?;
    }
    Ok(steps)
}

/// Returns the agent to test: the one that runs, or one of the test's own.
fn find_agent(paths: &Paths, options: Options) -> Result<(Option<OwnAgent>, Client, Status)> {
    if !options.own {
        let client = Client::new(paths.control_socket());
        match client.status() {
            Ok(status) => return Ok((None, client, status)),
            Err(ClientError::Unreachable(..)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (agent, status) = OwnAgent::start()?;
    let client = agent.client();
    Ok((Some(agent), client, status))
}

fn describe(own: Option<&OwnAgent>, status: &Status) -> String {
    match own {
        Some(own) => format!("one of the test's own, in {}", own.directory().display()),
        None => format!(
            "the one that runs, process {}, dumps in {}",
            status.pid, status.dumps_dir
        ),
    }
}

/// Returns a name for this test alone: what differs is letters, because numbers in a name do not make it another program's.
fn name() -> String {
    let mut number = u64::from(std::process::id()) ^ (crate::ingest::now_boot_ns() << 8);
    let mut name = NAME.to_owned();
    for _ in 0..6 {
        name.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    name
}

/// A test of one agent.
struct Test {
    name: String,
    client: Client,
    status: Status,
    interrupted: Arc<AtomicBool>,
}

impl Test {
    /// Provokes all failures at once, and waits for their dumps.
    fn search(&self) -> Result<Vec<Search>> {
        let mut searches: Vec<Search> = Failure::ALL
            .into_iter()
            .map(|failure| Search::new(self.provoke(failure)))
            .collect();
        let dumps = Path::new(&self.status.dumps_dir);
        let window = Duration::from_nanos(self.status.after_ns);
        self.wait(dumps, &mut searches, window + WRITE_PATIENCE)?;
        if searches.iter().any(Search::is_lost) {
            // No rule makes a dump of it, or the limits hold one back; it was recorded all the same.
            let asked = self.client.trigger(&TriggerRequest {
                reason: Some(self.name.clone()),
                ..TriggerRequest::default()
            });
            match asked {
                Ok(_) => self.wait(dumps, &mut searches, window + WRITE_PATIENCE)?,
                Err(error) => searches
                    .iter_mut()
                    .for_each(|search| search.give_up(&error.to_string())),
            }
        }
        Ok(searches)
    }

    fn provoke(&self, failure: Failure) -> Failing {
        let event = failure.event();
        let mut probes = self.status.probes.iter();
        let probe = probes.find(|probe| probe.event == event);
        if let Some(probe) = probe.filter(|probe| probe.state == ProbeState::Unavailable) {
            let why = probe.detail.clone().unwrap_or_default();
            return Failing::skipped(failure, format!("{event} is not recorded here: {why}"));
        }
        failing::provoke(failure, &self.name)
    }

    fn wait(&self, dumps: &Path, searches: &mut [Search], patience: Duration) -> Result<()> {
        let start = Instant::now();
        while searches.iter().any(Search::is_open) && start.elapsed() < patience {
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            proof::look(dumps, &self.name, searches)
                .with_context(|| format!("cannot read {}", dumps.display()))?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}
