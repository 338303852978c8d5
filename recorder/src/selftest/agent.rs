//! An agent of the test's own, where none runs.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::api::{Client, Status};
use crate::kernel;

/// How long it may take to record, and to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const TICK: Duration = Duration::from_millis(20);
/// What differs from the defaults: short windows, and little memory.
const ARGUMENTS: [&str; 14] = [
    "--environment",
    "selftest",
    "--before",
    "5s",
    "--after",
    "500ms",
    "--cooldown",
    "0s",
    "--failure-bytes",
    "2MiB",
    "--lifecycle-bytes",
    "4MiB",
    "--sample-bytes",
    "2MiB",
];

/// A running agent with a directory of its own; stopped, and the directory removed, when dropped.
pub(super) struct OwnAgent {
    child: Child,
    directory: PathBuf,
    keep: bool,
}

impl OwnAgent {
    /// Starts one and waits until it records.
    pub(super) fn start() -> Result<(Self, Status)> {
        kernel::check()?;
        let directory = private_directory().context("cannot make a directory for the test")?;
        let config = directory.join("recorder.toml");
        let child = fs::write(&config, "").and_then(|()| {
            Command::new(std::env::current_exe()?)
                .args(["selftest", "agent", "--"])
                .arg("--config")
                .arg(&config)
                .arg("--state-dir")
                .arg(directory.join("state"))
                .arg("--run-dir")
                .arg(directory.join("run"))
                .args(ARGUMENTS)
                .env_remove("NOTIFY_SOCKET")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
        });
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                return Err(error).context("cannot start an agent for the test");
            }
        };
        // From here on both are cleaned up.
        let mut agent = Self {
            child,
            directory,
            keep: false,
        };
        let status = agent.wait_until_it_records()?;
        Ok((agent, status))
    }

    fn wait_until_it_records(&mut self) -> Result<Status> {
        let client = self.client();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(status) = client.status() {
                return Ok(status);
            }
            if self.child.try_wait()?.is_some() {
                let mut notes = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    stderr.read_to_string(&mut notes)?;
                }
                let last = notes.lines().last().unwrap_or("it says nothing");
                bail!("the agent of the test ended at once: {last}");
            }
            std::thread::sleep(TICK);
        }
        bail!("the agent of the test does not record after {PATIENCE:?}")
    }

    /// Returns a client of it.
    pub(super) fn client(&self) -> Client {
        Client::new(self.directory.join("run/control.sock"))
    }

    /// Returns its directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves its directory there.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }

    fn stop(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.stop();
        if !self.keep {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Becomes the agent of a test; ends with the test.
///
/// # Errors
///
/// If the program is not there any more.
pub fn become_agent(arguments: &[std::ffi::OsString]) -> io::Result<std::convert::Infallible> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new(std::env::current_exe()?)
        .arg("run")
        .args(arguments)
        .exec())
}

/// Makes a directory that nobody else can look into, with a name that nobody can guess to be there first.
fn private_directory() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let name = format!("recorder-selftest-{}", uuid::Uuid::now_v7().simple());
    let path = base.join(name);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}
