//! Starts workloads, and knows what became of them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use object::Object;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::Json;
use crate::command::workload_path;

/// Nanoseconds of one tick of `/proc/PID/stat`: its clock has 100 of them in a second on every kernel.
const TICK_NS: u64 = 10_000_000;

/// The workload program, perhaps under another name.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl Program {
    /// Returns the program as it was built.
    pub fn workload() -> Self {
        let path = workload_path();
        assert!(path.exists(), "{} was not built", path.display());
        Self {
            path,
            _directory: None,
        }
    }

    /// Returns a copy with this name, which any user may execute. What it runs as is told apart by this name.
    pub fn named(name: &str) -> Self {
        let directory = crate::host::public_directory();
        let path = directory.path().join(name);
        // Not by this process: what another of its threads forks meanwhile would hold the copy open for writing, and
        // a file that is open for writing cannot be executed.
        let copied = Command::new("cp").arg(workload_path()).arg(&path).status();
        assert!(copied.expect("coreutils is there").success(), "no copy");
        Self {
            path,
            _directory: Some(directory),
        }
    }

    /// Returns the program at `path`, which the caller keeps.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _directory: None,
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its GNU build ID, in hex.
    pub fn build_id(&self) -> String {
        let bytes = std::fs::read(&self.path).expect("the workload was built");
        let file = object::File::parse(bytes.as_slice()).expect("the workload is an ELF file");
        let id = file.build_id().expect("its notes are well-formed");
        let id = id.expect("the build script asks for a build ID");
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns a command that runs it.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(&self.path);
        command.args(arguments);
        command
    }

    /// Starts it.
    #[track_caller]
    pub fn start<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Workload {
        Workload::start(&mut self.command(arguments))
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Ended {
        self.start(arguments).wait()
    }
}

/// A running workload that has said what it knows.
#[derive(Debug)]
pub struct Workload {
    /// What it said first.
    pub facts: Json,
    started: Timestamp,
    child: Child,
    stdout: BufReader<ChildStdout>,
    is_over: bool,
}

impl Workload {
    /// Starts `command`, which runs a workload, and reads the first line of what it knows.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let started = Timestamp::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut workload = Self {
            facts: Json::new(serde_json::Value::Null),
            started,
            child,
            stdout: BufReader::new(stdout),
            is_over: false,
        };
        workload.facts = workload.line();
        workload
    }

    /// Reads one more line of what it knows.
    #[track_caller]
    pub fn line(&mut self) -> Json {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.expect("workloads print UTF-8");
        Json::parse(&line)
    }

    /// Returns what it said first.
    pub fn facts(&self) -> Json {
        self.facts.clone()
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for its end and returns all that is known.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let mut lines = Vec::new();
        for line in (&mut self.stdout).lines() {
            lines.push(Json::parse(&line.expect("workloads print UTF-8")));
        }
        let (status, usage) = wait4(self.pid());
        self.is_over = true;
        Ended {
            facts: self.facts.clone(),
            lines,
            started: self.started,
            ended: Timestamp::now(),
            status,
            usage,
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        if !self.is_over {
            // It may have ended, which is as good.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A workload that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What it said first.
    pub facts: Json,
    /// What it said after that.
    pub lines: Vec<Json>,
    /// Just before it started.
    pub started: Timestamp,
    /// Just after it was waited for.
    pub ended: Timestamp,
    /// Its wait status: exit code << 8, or signal, and 0x80 if it dumped core.
    pub status: i32,
    /// What it used, its waited-for children included.
    pub usage: libc::rusage,
}

impl Ended {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.facts.number("pid")).expect("process ids are small")
    }

    /// Returns the code it exited with, if it exited.
    pub fn exit_code(&self) -> Option<i32> {
        libc::WIFEXITED(self.status).then(|| libc::WEXITSTATUS(self.status))
    }

    /// Returns the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        libc::WIFSIGNALED(self.status).then(|| libc::WTERMSIG(self.status))
    }

    /// Returns the time it used the CPU.
    pub fn cpu_time(&self) -> Duration {
        let time = |time: libc::timeval| {
            let microseconds = time.tv_sec * 1_000_000 + time.tv_usec;
            Duration::from_micros(microseconds.unsigned_abs())
        };
        time(self.usage.ru_utime) + time(self.usage.ru_stime)
    }

    /// Demands that `event` is about this process: its pid, its thread, its name, its owner, its start; and that it
    /// happened while the process was there.
    #[track_caller]
    pub fn expect_subject(&self, event: &Json) {
        for name in ["pid", "tid", "comm", "uid", "gid"] {
            event.expect_same(&format!("body.process.{name}"), &self.facts, name);
        }
        self.expect_start(event);
        let at = event.time("timestamp");
        assert!(
            self.started <= at && at <= self.ended,
            "not between {} and {}:\n{event}",
            self.started,
            self.ended
        );
    }

    /// Demands that `event` knows when this process started.
    #[track_caller]
    pub fn expect_start(&self, event: &Json) {
        let start_ns = event.number("body.process.start_boot_ns");
        let start_ticks = self.facts.number("start_ticks");
        assert_eq!(
            start_ns / i128::from(TICK_NS),
            start_ticks,
            "start in ticks:\n{event}"
        );
    }
}

/// Sends `signal` to a process that this test started and has not waited for.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.expect("process ids are positive");
    rustix::process::kill_process(pid, signal).expect("the process is ours and not waited for");
}

/// Ends all processes that this one started and has not waited for, as it will not come to drop them.
pub(crate) fn kill_children() {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    for thread in threads.flatten() {
        let children = std::fs::read_to_string(thread.path().join("children"));
        for pid in children.unwrap_or_default().split_ascii_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                // One that has just ended is as good.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Waits for a child: for its whole wait status, and for what it used.
fn wait4(pid: u32) -> (i32, libc::rusage) {
    let pid = i32::try_from(pid).expect("process ids are small");
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage: numbers only.
    let mut usage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to whole, writable values that outlive the call.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, pid, "the child is ours and not waited for");
    (status, usage)
}
