//! Starts the processes that fail, and waits for their end.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::cgroup::MemoryCgroup;
use super::fail::{Failure, MEMORY_BYTES, NOT_ALLOWED};

/// How long a failing process may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at it.
const TICK: Duration = Duration::from_millis(2);

/// A failure that was provoked, or was not.
pub(super) struct Failing {
    pub(super) failure: Failure,
    /// Number of the disk that failed: "7:0".
    pub(super) device: Option<String>,
    pub(super) outcome: Outcome,
}

/// What became of it.
pub(super) enum Outcome {
    /// It happened.
    Provoked {
        /// What.
        what: String,
        at: Instant,
        since: SystemTime,
    },
    /// The host does not allow it.
    Skipped(String),
    /// It did not happen though it should.
    Broken(String),
}

impl Failing {
    pub(super) fn skipped(failure: Failure, why: String) -> Self {
        Self {
            failure,
            device: None,
            outcome: Outcome::Skipped(why),
        }
    }
}

/// Provokes a failure in a process with this name.
pub(super) fn provoke(failure: Failure, name: &str) -> Failing {
    let cgroup = match failure {
        Failure::Memory => match MemoryCgroup::new(name, MEMORY_BYTES) {
            Ok(cgroup) => Some(cgroup),
            Err(why) => return Failing::skipped(failure, why),
        },
        Failure::Crash | Failure::Disk => None,
    };
    let (at, since) = (Instant::now(), SystemTime::now());
    let (device, outcome) = match run(failure, name, cgroup.as_ref()) {
        Err(error) => (None, Outcome::Broken(format!("cannot fail: {error}"))),
        Ok(Ended {
            status,
            said,
            notes,
        }) if status.code() == Some(NOT_ALLOWED.into()) => {
            drop(said);
            (None, Outcome::Skipped(notes))
        }
        Ok(Ended {
            status,
            said,
            notes,
        }) => {
            let what = what(failure, status, &said);
            let outcome = match what {
                Some(what) => Outcome::Provoked { what, at, since },
                None => Outcome::Broken(format!("it did not fail: {status}; {notes}")),
            };
            (Some(said).filter(|said| !said.is_empty()), outcome)
        }
    };
    Failing {
        failure,
        device,
        outcome,
    }
}

/// Says what happened, if that is what should.
fn what(failure: Failure, status: ExitStatus, said: &str) -> Option<String> {
    match failure {
        Failure::Crash => {
            (status.signal() == Some(libc::SIGSEGV)).then(|| "a process crashed".to_owned())
        }
        Failure::Memory => (status.signal() == Some(libc::SIGKILL))
            .then(|| "a cgroup ran out of memory".to_owned()),
        Failure::Disk => status
            .success()
            .then(|| format!("a write to loop device {said} failed")),
    }
}

struct Ended {
    status: ExitStatus,
    said: String,
    notes: String,
}

fn run(failure: Failure, name: &str, cgroup: Option<&MemoryCgroup>) -> io::Result<Ended> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(["selftest", "fail", failure.name(), name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let entered = cgroup.map_or(Ok(()), |cgroup| cgroup.enter(child.id()));
    if let (Ok(()), Some(mut stdin)) = (&entered, child.stdin.take()) {
        // It waits for a byte; who does not is dead.
        let _ = stdin.write_all(b"\n");
    }
    let status = match entered {
        Ok(()) => wait(&mut child)?,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    let (mut said, mut notes) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.read_to_string(&mut said)?;
        stderr.read_to_string(&mut notes)?;
    }
    let line = |text: String| text.lines().last().unwrap_or_default().to_owned();
    Ok(Ended {
        status,
        said: line(said),
        notes: line(notes),
    })
}

/// Waits for a process, and ends it if it takes too long.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(TICK);
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("it takes longer than {PATIENCE:?}"),
    ))
}
