//! A running agent with directories of its own.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::host::guest::patience;
use crate::{Dump, Json, Output, host, output, recorder};

/// Longest an agent may take to record, to write a dump after its window has ended, or to stop.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--before`.
    pub before: &'static str,
    /// `--after`.
    pub after: &'static str,
    /// `--cooldown`.
    pub cooldown: &'static str,
    /// Further arguments.
    pub more: Vec<OsString>,
    /// Variables of its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Words of a command that it is started through, which becomes it; none to start it as it is.
    pub through: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // An emulated machine takes longer to be asked for a dump, and to clear away what died.
            before: if host::guest::is_one() { "20s" } else { "5s" },
            after: if host::guest::is_one() { "3s" } else { "300ms" },
            // Two failures of one kind are two dumps, unless a test is about just that.
            cooldown: "1ms",
            more: Vec::new(),
            environment: Vec::new(),
            through: Vec::new(),
        }
    }
}

impl Options {
    /// Returns the default options and `more` arguments.
    pub fn with<I: IntoIterator<Item: Into<OsString>>>(more: I) -> Self {
        Self {
            more: more.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// A running agent; stopped when dropped, and if that is because a test failed, everything it said is shown.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    directory: PathBuf,
    own_directory: Option<TempDir>,
    stdout: Lines,
    stderr: Lines,
}

impl Agent {
    /// Starts an agent and waits until it records.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts an agent with options and waits until it records.
    #[track_caller]
    pub fn start_with(options: &Options) -> Self {
        let directory = TempDir::with_prefix("recorder-agent-").expect("there is room for tests");
        let mut agent = Self::start_in(directory.path(), options);
        agent.own_directory = Some(directory);
        agent
    }

    /// Starts an agent with its directories below one of the test's, and waits until it records.
    #[track_caller]
    pub fn start_in(directory: &Path, options: &Options) -> Self {
        let agent = Self::begin_in(directory, options);
        agent.stdout.wait_for("an agent that records", |lines| {
            lines
                .iter()
                .find(|line| line.starts_with("recording"))
                .cloned()
        });
        agent
    }

    /// Starts an agent with its directories below one of the test's, and waits for nothing.
    #[track_caller]
    pub fn begin_in(directory: &Path, options: &Options) -> Self {
        let mut command = run_command(directory, options);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is a pipe"));
        Self {
            child,
            directory: directory.to_owned(),
            own_directory: None,
            stdout,
            stderr,
        }
    }

    /// Returns where the dumps of agents are whose directories are below this one.
    pub fn dumps_in(directory: &Path) -> PathBuf {
        state_directory(directory).join("dumps")
    }

    /// Returns the `--run-dir` of agents whose directories are below this one.
    pub fn run_directory_in(directory: &Path) -> PathBuf {
        run_directory(directory)
    }

    /// Returns the command that starts an agent with its directories below one of the test's: for one that refuses to start.
    pub fn command_in(directory: &Path, options: &Options) -> Command {
        run_command(directory, options)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its `--state-dir`.
    pub fn state_directory(&self) -> PathBuf {
        state_directory(&self.directory)
    }

    /// Returns its `--run-dir`.
    pub fn run_directory(&self) -> PathBuf {
        run_directory(&self.directory)
    }

    /// Returns where its dumps are.
    pub fn dumps_directory(&self) -> PathBuf {
        self.state_directory().join("dumps")
    }

    /// Returns what it said on stdout so far.
    pub fn said(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Returns its notes on stderr so far.
    pub fn notes(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// Waits until it has said this on stderr.
    #[track_caller]
    pub fn wait_for_note(&self, text: &str) {
        self.stderr.wait_for(text, |lines| {
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Returns a command of the recorder that works with this agent's directories.
    pub fn recorder<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = recorder(arguments);
        command
            .env("RECORDER_STATE_DIR", self.state_directory())
            .env("RECORDER_RUN_DIR", self.run_directory());
        command
    }

    /// Runs a command of the recorder with this agent's directories.
    #[track_caller]
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Output {
        output(&mut self.recorder(arguments))
    }

    /// Returns what `recorder status --json` says, whether all is well or not.
    #[track_caller]
    pub fn status(&self) -> Json {
        let output = self.run(["status", "--json"]);
        let status = output.json();
        let code = match status.str("state") {
            "recording" => 0,
            "degraded" => 3,
            _ => 1,
        };
        output.expect_code(code);
        status
    }

    /// Asks `recorder trigger` for a dump and waits for it.
    #[track_caller]
    pub fn trigger(&self, reason: &str) -> Dump {
        self.run(["trigger", "--reason", reason]).expect_code(0);
        self.dump_where(&format!("reason {reason:?}"), |incident| {
            incident.get("reason") == Some(&reason.into())
        })
    }

    /// Waits for the dump of the incident whose subject is this process.
    #[track_caller]
    pub fn dump_of(&self, pid: u32) -> Dump {
        self.dump_where(&format!("process {pid}"), |incident| {
            incident.get("subject.pid") == Some(&pid.into())
        })
    }

    /// Waits for a dump whose incident is the one that `is_wanted`.
    #[track_caller]
    pub fn dump_where(&self, what: &str, is_wanted: impl Fn(&Json) -> bool) -> Dump {
        self.stdout.wait_for(&format!("a dump of {what}"), |lines| {
            let dumps = lines.iter().filter_map(|line| dump_path(line));
            // It may be gone: removed for a budget, moved to where it belongs, on a disk that has failed since.
            let mut dumps = dumps.filter_map(|path| Dump::try_open(path).ok());
            dumps.find(|dump| is_wanted(&dump.incident()))
        })
    }

    /// Returns the dumps that it has announced and that are still there.
    #[track_caller]
    pub fn dumps(&self) -> Vec<Dump> {
        let said = self.said();
        let paths = said.iter().filter_map(|line| dump_path(line));
        paths.filter(|path| path.exists()).map(Dump::open).collect()
    }

    /// Waits until `recorder status --json` is as it should be.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, is_wanted: impl Fn(&Json) -> bool) -> Json {
        let start = Instant::now();
        loop {
            let status = self.status();
            if is_wanted(&status) {
                return status;
            }
            assert!(
                start.elapsed() < patience(TIME_MAX),
                "no status with {what}:\n{status}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::workload::kill(self.pid(), signal);
    }

    /// Asks it to stop with SIGTERM and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.stop_with(Signal::TERM)
    }

    /// Asks it to stop with a signal and waits until it has.
    #[track_caller]
    pub fn stop_with(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < patience(TIME_MAX) {
            if let Some(status) = self.child.try_wait().expect("the agent is our child") {
                // What it said last may still be on its way.
                self.stdout.wait_for_end();
                self.stderr.wait_for_end();
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the agent does not end within {TIME_MAX:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(directory) = self.own_directory.take() {
                eprintln!(
                    "the agent's files are kept in {}",
                    directory.keep().display()
                );
            }
            eprintln!("its stdout:\n  {}", self.stdout.so_far().join("\n  "));
            eprintln!("its stderr:\n  {}", self.stderr.so_far().join("\n  "));
        }
        if let Ok(None) = self.child.try_wait() {
            // A test may have stopped it with SIGSTOP; what it would still write nobody reads.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the command that starts an agent with its directories below `directory`.
pub(crate) fn run_command(directory: &Path, options: &Options) -> Command {
    let mut command = recorder(["run"]);
    command
        .arg("--state-dir")
        .arg(state_directory(directory))
        .arg("--run-dir")
        .arg(run_directory(directory))
        .args(["--before", options.before])
        .args(["--after", options.after])
        .args(["--cooldown", options.cooldown])
        .args(&options.more)
        .envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
    match options.through.split_first() {
        Some((program, words)) => through(program, words, &command),
        None => command,
    }
}

/// Returns a command that is started through another one.
fn through(program: &OsStr, words: &[OsString], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer
        .args(words)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

fn state_directory(directory: &Path) -> PathBuf {
    directory.join("state")
}

fn run_directory(directory: &Path) -> PathBuf {
    directory.join("run")
}

/// Returns the path in the line that announces a dump.
fn dump_path(line: &str) -> Option<&Path> {
    line.strip_prefix("dump ")?
        .split_whitespace()
        .next()
        .map(Path::new)
}

/// Lines of a pipe, collected by a thread as they come.
#[derive(Clone, Debug)]
struct Lines {
    shared: Arc<(Mutex<Collected>, Condvar)>,
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    is_over: bool,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self {
            shared: Arc::default(),
        };
        let writer = lines.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // An error is an end, too.
            while pipe.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches('\n').to_owned();
                writer.change(|collected| collected.lines.push(text));
                line.clear();
            }
            writer.change(|collected| collected.is_over = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Collected)) {
        let (collected, changed) = &*self.shared;
        change(&mut collected.lock().expect("no thread panics with the lock"));
        changed.notify_all();
    }

    fn so_far(&self) -> Vec<String> {
        let (collected, _) = &*self.shared;
        let collected = collected.lock().expect("no thread panics with the lock");
        collected.lines.clone()
    }

    /// Waits until `find` finds something in the lines.
    #[track_caller]
    fn wait_for<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let (collected, changed) = &*self.shared;
        let start = Instant::now();
        loop {
            let seen = {
                let collected = collected.lock().expect("no thread panics with the lock");
                (collected.lines.clone(), collected.is_over)
            };
            // Without the lock: `find` may panic.
            if let Some(found) = find(&seen.0) {
                return found;
            }
            assert!(!seen.1, "the agent ended without {what}");
            let left = patience(TIME_MAX).checked_sub(start.elapsed());
            let left = left.unwrap_or_else(|| panic!("no {what} within {TIME_MAX:?}"));
            let lock = collected.lock().expect("no thread panics with the lock");
            let is_unchanged =
                |now: &mut Collected| now.lines.len() == seen.0.len() && !now.is_over;
            drop(changed.wait_timeout_while(lock, left, is_unchanged));
        }
    }

    fn wait_for_end(&self) {
        let (collected, changed) = &*self.shared;
        let lock = collected.lock().expect("no thread panics with the lock");
        drop(changed.wait_timeout_while(lock, patience(TIME_MAX), |now| !now.is_over));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_announced_by_its_path() {
        let line = "dump /d/x.mcap nginx[812] died of SIGSEGV";
        assert_eq!(dump_path(line), Some(Path::new("/d/x.mcap")));
        assert_eq!(dump_path("dumping"), None);
        assert_eq!(dump_path("dump "), None);
    }

    #[test]
    fn lines_are_waited_for_until_their_end() {
        let lines = Lines::of(b"one\ntwo\xff\n".as_slice());
        let found = lines.wait_for("two", |lines| {
            lines.iter().position(|line| line.starts_with("two"))
        });
        assert_eq!(found, 1);
        lines.wait_for_end();
        assert_eq!(lines.so_far().len(), 2);
    }

    #[test]
    #[should_panic(expected = "ended without a third line")]
    fn what_never_comes_is_not_waited_for() {
        Lines::of("one\ntwo\n".as_bytes()).wait_for("a third line", |lines| lines.get(2).cloned());
    }
}
