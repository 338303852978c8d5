//! The agent as a service: what it tells the service manager, and when it falls silent.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::{Agent, Need, Options, Program, output, ready, recorder};
use rustix::process::Signal;
use tempfile::TempDir;

/// Returns the time after which the watchdog would bite.
fn watchdog() -> Duration {
    patience(Duration::from_millis(600))
}

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().expect("there is room for tests");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("ours");
        Self { socket, directory }
    }

    fn options(&self) -> Options {
        let path = self.directory.path().join("notify");
        let watchdog = watchdog().as_micros().to_string();
        Options {
            environment: vec![
                ("NOTIFY_SOCKET".into(), path.into()),
                ("WATCHDOG_USEC".into(), watchdog.into()),
            ],
            ..Options::default()
        }
    }

    /// Returns the next message, if one comes in time.
    fn next(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).expect("not zero");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(len) => Some(String::from_utf8_lossy(&buffer[..len]).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message with this line.
    #[track_caller]
    fn expect(&self, line: &str, patience: Duration) -> String {
        self.expect_where(line, |one| one.starts_with(line), patience)
    }

    /// Waits for a message with a line that is wanted.
    #[track_caller]
    fn expect_where(
        &self,
        what: &str,
        is_wanted: impl Fn(&str) -> bool,
        patience: Duration,
    ) -> String {
        let start = Instant::now();
        let mut seen = Vec::new();
        while let Some(left) = patience
            .checked_sub(start.elapsed())
            .filter(|left| !left.is_zero())
        {
            let Some(message) = self.next(left) else {
                break;
            };
            if message.lines().any(&is_wanted) {
                return message;
            }
            seen.push(message);
        }
        panic!("no {what} within {patience:?}: {seen:#?}");
    }

    /// Returns what comes during a time.
    fn listen(&self, time: Duration) -> Vec<String> {
        let start = Instant::now();
        let mut messages = Vec::new();
        while let Some(left) = time
            .checked_sub(start.elapsed())
            .filter(|left| !left.is_zero())
        {
            messages.extend(self.next(left));
        }
        messages
    }
}

/// One thread of another process, stopped alone.
struct StoppedThread(libc::pid_t);

impl StoppedThread {
    /// Stops the thread with this name.
    fn of(pid: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let task = tasks.flatten().find(|task| {
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            comm.trim_end() == name
        });
        let tid = task.expect("it has the thread").file_name();
        let tid: libc::pid_t = tid.to_string_lossy().parse().expect("a number");
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the two requests take no memory of ours.
        let stopped = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) == 0
        };
        assert!(stopped, "{}", io::Error::last_os_error());
        // SAFETY: a null status is allowed: nobody wants it.
        let waited = unsafe { libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(waited, tid);
        Self(tid)
    }

    fn go_on(self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request takes no memory of ours.
        let done = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

/// Whether a message says that all is recorded, but what the kernel skipped: see `Json::skipped`.
fn is_recording(message: &str) -> bool {
    let whole = message.contains("STATUS=recording; ") && message.contains("; nothing lost");
    whole || message.contains("STATUS=degraded; ") && message.contains(" events not seen")
}

#[test]
fn it_is_ready_when_it_records_and_pings_only_while_records_are_taken() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let manager = Manager::new();
    let mut agent = Agent::start_with(&manager.options());
    let first = manager.expect("READY=1", patience(Duration::from_secs(10)));
    assert!(first.contains("WATCHDOG=1"), "{first}");
    assert!(is_recording(&first), "{first}");
    manager.expect("WATCHDOG=1", watchdog());
    manager.expect("WATCHDOG=1", watchdog());

    // The control plane goes on, the thread that takes records does not.
    let stopped = StoppedThread::of(agent.pid(), "data");
    let silence = manager.listen(watchdog() * 3);
    // One ping may have been on its way.
    let pings = silence
        .iter()
        .filter(|message| message.contains("WATCHDOG=1"));
    assert!(pings.count() <= 1, "{silence:#?}");
    let last = silence.last().expect("it says something");
    assert!(last.starts_with("STATUS=not recording"), "{last}");
    stopped.go_on();
    let again = manager.expect("WATCHDOG=1", watchdog() * 3);
    assert!(is_recording(&again), "{again}");
    assert!(!again.contains("READY=1"), "{again}");
    // A reload is told at its beginning and at its end, whether it is asked for or signalled.
    agent.run(["reload"]).expect_code(0);
    let reloading = manager.expect("RELOADING=1", patience(Duration::from_secs(5)));
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.expect("READY=1", patience(Duration::from_secs(5)));
    agent.signal(Signal::HUP);
    manager.expect("RELOADING=1", patience(Duration::from_secs(5)));
    manager.expect("READY=1", patience(Duration::from_secs(5)));

    let crash = Program::workload().run(["segv-write", "0x1234"]);
    agent.dump_of(crash.pid());
    let counts = "; 1 incidents, 1 dumps; ";
    let has_counts = |line: &str| line.starts_with("STATUS=") && line.contains(counts);
    let last = manager.expect_where(counts, has_counts, patience(Duration::from_secs(2)));
    assert!(is_recording(&last), "{last}");
    assert_eq!(agent.stop().code(), Some(0));
    manager.expect("STOPPING=1", patience(Duration::from_secs(2)));
}

#[test]
fn the_window_outlives_its_agent_however_that_ends() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let options = Options::default();
    let mut agent = Agent::start_in(directory.path(), &options);
    let mut pid = agent.pid();
    for (rule, signal) in [
        ("recorder-restart", Signal::TERM),
        ("recorder-died", Signal::KILL),
    ] {
        let program = Program::named("left-behind");
        let exit = program.run(["exit", "7"]);
        // It must have left the kernel ring.
        agent.wait_for_status("all records taken", |status| {
            let cpus = status.all("lanes.1.cpus");
            cpus.iter().all(|cpu| cpu.number("in_flight") == 0)
        });
        agent.stop_with(signal);
        agent = Agent::start_in(directory.path(), &options);
        let kept = agent.dump_where(rule, |incident| incident.get("rule") == Some(&rule.into()));
        let incident = kept.incident();
        incident.expect("subject.pid", pid);
        kept.only("process.exit", exit.pid())
            .expect("body.exit_code", 7);
        let exec = kept.only("process.exec", exit.pid());
        exec.expect("body.process.comm", "left-behind");
        // What the probes had lost by then, nobody knows.
        kept.sidecar().expect("verdict", "unknown");
        let path = kept.path().to_str().expect("a plain path").to_owned();
        agent.run(["verify", &path]).expect_code(0);
        pid = agent.pid();
    }
}

#[test]
fn what_it_prints_for_shells_and_readers_is_well_formed() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let bash = output(&mut recorder(["completions", "bash"])).expect_code(0);
    assert!(bash.text().contains("selftest"), "{bash}");
    let directory = TempDir::new().expect("there is room for tests");
    let mut man = recorder(["man", "--output-dir"]);
    output(man.arg(directory.path())).expect_code(0);
    for page in [
        "man1/recorder.1",
        "man1/recorder-show.1",
        "man5/recorder.toml.5",
        "man5/recorder-dump.5",
    ] {
        let text = fs::read_to_string(directory.path().join(page)).expect("it was written");
        assert!(text.contains(".SH NAME"), "{page}");
    }
    assert!(!directory.path().join("man1/recorder-evidence.1").exists());
    output(&mut recorder(["man", "nothing"])).expect_code(1);
}
