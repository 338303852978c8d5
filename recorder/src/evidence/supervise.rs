//! The process around a collector: `recorder evidence supervise`.
//!
//! It is the parent of the collector and the reaper of everything that the collector leaves behind, however it detached
//! itself; nothing of it outlives the supervisor but what hangs in the kernel with a SIGKILL pending. It copies the output up
//! to its limit, and ends the collector at its time limit, at a flood, or when the agent closes its end of the pipe, which it
//! also does by dying.
//!
//! ```text
//! agent ── job ──► supervisor ──► collector ──► whatever it starts
//!        ◄─ outcome ─┤  ▲ stdout, stderr │
//!      spool file ◄──┘  └────────────────┘
//! ```

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, kill_process,
    kill_process_group, pidfd_open, setrlimit, wait,
};

use super::job::{End, Job, Outcome};

/// Longest stderr that is kept.
const STDERR_BYTES: usize = 2048;
/// Longest job.
const JOB_BYTES_MAX: u64 = 1 << 20;
/// Bytes copied at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// How long killed processes are waited for.
const KILL_PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks at what is left.
const KILL_TICK: Duration = Duration::from_millis(2);
/// Of ten, the priority that collectors give up.
const NICENESS: i32 = 10;
/// Collectors are the first to go when memory runs out, whatever protects the agent.
const OOM_SCORE_ADJ: &str = "900";

/// Runs one collector, as standard input says.
///
/// # Errors
///
/// If nothing can be read from or written to the agent.
pub fn run() -> io::Result<()> {
    let stdin = io::stdin().lock();
    let mut line = String::new();
    let mut limited = stdin.take(JOB_BYTES_MAX);
    limited.read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line)?;
    let outcome = supervise(&job);
    let mut out = io::stderr().lock();
    serde_json::to_writer(&mut out, &outcome)?;
    out.flush()
}

fn supervise(job: &Job) -> Outcome {
    let start = Instant::now();
    contain(job);
    let mut outcome = match start_collector(job) {
        Ok(running) => running.watch(job, start),
        Err(error) => Outcome {
            not_started: Some(error.to_string()),
            ..Outcome::default()
        },
    };
    outcome.duration_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    outcome
}

/// Sets the limits, for this process and all that descend from it. What the host does not allow is left out.
fn contain(job: &Job) {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"evidence");
    let limit = |resource, value: u64| {
        let maximum = getrlimit(resource).maximum;
        let value = Some(maximum.map_or(value, |maximum| maximum.min(value)));
        let limits = Rlimit {
            current: value,
            maximum: value,
        };
        let _ = setrlimit(resource, limits);
    };
    limit(Resource::Core, 0);
    limit(Resource::Data, job.memory_bytes);
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let _ = rustix::process::nice(NICENESS);
    idle_io();
}

/// Asks for the disk only when nobody else does.
fn idle_io() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes three numbers and changes only the priority of this process.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE);
    }
}

struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn start_collector(job: &Job) -> io::Result<Running> {
    let (program, arguments) = job
        .command
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&job.environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some((uid, gid)) = job.user {
        // Supplementary groups are dropped with the uid.
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
    // Waited for by `reap`, as everything else that becomes a child of this process.
    Ok(Running {
        pid,
        pidfd: pidfd_open(pid, PidfdFlags::empty())?,
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    })
}

impl Running {
    fn watch(mut self, job: &Job, start: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let mut stderr = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        let deadline = start + Duration::from_millis(job.timeout_ms);
        outcome.ended = loop {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break Some(End::Timeout);
            };
            let ready = self.wait(left);
            if ready.stdout
                && let Some(end) = self.copy(&mut block, job.max_bytes, &mut outcome)
            {
                break Some(end);
            }
            if ready.stderr {
                self.take_stderr(&mut block, &mut stderr);
            }
            // What it had put out is taken first.
            if ready.exited && !ready.stdout && !ready.stderr {
                break None;
            }
            if ready.unwanted {
                break Some(End::Unwanted);
            }
        };
        self.end(&mut outcome);
        // Nobody holds the pipe any more: what is still in it is soon read.
        while outcome.ended.is_none() && self.wait(Duration::ZERO).stdout {
            outcome.ended = self.copy(&mut block, job.max_bytes, &mut outcome);
        }
        outcome.stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        outcome
    }

    /// Waits until there is something to do.
    fn wait(&self, patience: Duration) -> Ready {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![
            PollFd::from_borrowed_fd(stdin, PollFlags::empty()),
            PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN),
        ];
        let pipes: [Option<BorrowedFd<'_>>; 2] = [
            self.stdout.as_ref().map(|fd| fd.as_fd()),
            self.stderr.as_ref().map(|fd| fd.as_fd()),
        ];
        for pipe in pipes.into_iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(pipe, PollFlags::IN));
        }
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || is_ready.next().unwrap_or(false);
        Ready {
            unwanted: next(),
            exited: next(),
            stdout: pipes[0].is_some() && next(),
            stderr: pipes[1].is_some() && next(),
        }
    }

    /// Copies output; returns why no more of it is wanted.
    fn copy(&mut self, block: &mut [u8], max_bytes: u64, outcome: &mut Outcome) -> Option<End> {
        let count = match self
            .stdout
            .as_ref()
            .map(|pipe| rustix::io::read(pipe, &mut *block))
        {
            Some(Ok(count @ 1..)) => count,
            Some(Err(rustix::io::Errno::INTR)) => return None,
            _ => {
                self.stdout = None;
                return None;
            }
        };
        let room = usize::try_from(max_bytes - outcome.bytes).unwrap_or(usize::MAX);
        let kept = count.min(room);
        // Not through a buffer: what is written is there, even if this process ends.
        let mut rest = &block[..kept];
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), rest) {
                Ok(written) if written > 0 => {
                    outcome.bytes += written as u64;
                    rest = &rest[written..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return Some(End::NoSpace),
            }
        }
        (kept < count).then_some(End::Flood)
    }

    fn take_stderr(&mut self, block: &mut [u8], stderr: &mut Vec<u8>) {
        match self
            .stderr
            .as_ref()
            .map(|pipe| rustix::io::read(pipe, &mut *block))
        {
            Some(Ok(count @ 1..)) => {
                let room = STDERR_BYTES.saturating_sub(stderr.len());
                stderr.extend_from_slice(&block[..count.min(room)]);
            }
            Some(Err(rustix::io::Errno::INTR)) => {}
            _ => self.stderr = None,
        }
    }

    /// Kills the collector and all that descends from it, and waits for them.
    fn end(&self, outcome: &mut Outcome) {
        // The collector has not been waited for, so nobody else can have its number.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            while let Some((pid, status)) = reap() {
                if pid == self.pid {
                    outcome.exit_code = status.exit_status();
                    outcome.signal = status.terminating_signal();
                } else if status.terminating_signal() == Some(Signal::KILL.as_raw()) {
                    outcome.killed += 1;
                }
            }
            let left = children();
            if left.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                outcome.stuck = true;
                return;
            }
            for child in left {
                // A child that has not been waited for keeps its number; what it leaves becomes a child in turn.
                let _ = kill_process(child, Signal::KILL);
            }
            std::thread::sleep(KILL_TICK);
        }
    }
}

/// What there is to do.
struct Ready {
    unwanted: bool,
    exited: bool,
    stdout: bool,
    stderr: bool,
}

/// Takes in one child that has ended.
fn reap() -> Option<(Pid, WaitStatus)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ended) => return ended,
            Err(_) => return None,
        }
    }
}

/// Returns the children of this process.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let list = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let pids = match list {
        Ok(list) => list
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
        // Some kernels do not have the list.
        Err(_) => all_with_parent(own),
    };
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

fn all_with_parent(parent: u32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before may hold anything but ends with the last parenthesis: "1 (name) S 0".
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        after.split(' ').nth(1) == Some(parent.to_string().as_str())
    })
    .collect()
}
