//! What processes of the recorder have given up, as the kernel says of them while they run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use recorder_tests::fixture::golden;
use recorder_tests::host::guest::patience;
use recorder_tests::host::{has_landlock, public_directory};
use recorder_tests::{Agent, Need, Options, Screen, output, ready, recorder};
use tempfile::TempDir;

/// Longest that a process may take to get to its sandbox.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns what the kernel says of a process under a name of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {status}"));
    line.trim_start_matches(':').trim().to_owned()
}

#[track_caller]
fn expect_confined(pid: u32, what: &str) {
    let start = Instant::now();
    // 2: there is a filter of system calls.
    while status(pid, "Seccomp") != "2" {
        assert!(
            start.elapsed() < patience(PATIENCE),
            "{what} is not confined"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1", "{what}");
}

/// Writes a dump with so many events that no pipe takes what a command says of it.
fn long(directory: &Path) -> PathBuf {
    let bytes = fs::read(&golden()[0]).expect("it is readable");
    let path = directory.join("long.mcap");
    let file = File::create(&path).expect("there is room");
    let mut writer = mcap::Writer::new(BufWriter::new(file)).expect("there is room");
    for _ in 0..2000 {
        for message in mcap::MessageStream::new(&bytes).expect("it is whole") {
            writer.write(&message.expect("it is whole")).expect("room");
        }
    }
    writer.finish().expect("there is room");
    path
}

/// Starts a command whose output nobody takes, so that it stays until it is ended.
fn held(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("it is there")
}

#[test]
fn what_reads_a_dump_is_confined() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-sandbox-").expect("there is room");
    let path = long(directory.path());
    let commands: [&[&str]; 5] = [
        &["show", "--all"],
        &["export"],
        &["export", "--format", "otlp"],
        &["merge"],
        &["report", "--html"],
    ];
    for command in commands {
        let mut reader = held(recorder(command).arg(&path));
        expect_confined(reader.id(), &command.join(" "));
        let mut some = [0; 1];
        let said = reader
            .stdout
            .as_mut()
            .expect("it is a pipe")
            .read(&mut some);
        assert_eq!(said.expect("it is ours"), 1, "{command:?}");
        reader.kill().expect("it is ours");
        reader.wait().expect("it is ours");
    }
    let mut served = held(recorder(["serve", "--listen", "127.0.0.1:0"]).arg(directory.path()));
    expect_confined(served.id(), "serve");
    served.kill().expect("it is ours");
    served.wait().expect("it is ours");
}

#[test]
fn the_agent_and_what_it_starts_keep_what_they_need() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-sandbox-").expect("there is room");
    let config = directory.path().join("recorder.toml");
    let collector = "[[collector]]\nname = \"own-status.txt\"\ncommand = [\"/bin/cat\", \"/proc/self/status\"]\n";
    fs::write(&config, collector).expect("there is room");
    let options = Options::with([OsString::from("--config"), config.into()]);
    let agent = Agent::start_with(&options);
    expect_confined(agent.pid(), "the agent");
    // BPF, SYSLOG, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE, SYS_ADMIN, DAC_OVERRIDE, CHOWN, FOWNER, SETUID, SETGID, KILL.
    let kept = [39, 34, 19, 2, 40, 21, 1, 0, 3, 7, 6, 5].map(|bit| 1_u64 << bit);
    let kept: u64 = kept.iter().sum();
    for task in fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs") {
        let task = task.expect("it runs").path();
        let own = fs::read_to_string(task.join("status")).unwrap_or_default();
        for name in ["CapPrm", "CapEff", "CapBnd"] {
            let line = own.lines().find_map(|line| line.strip_prefix(name));
            // A thread may have ended.
            let Some(line) = line else { continue };
            let held = u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("hex");
            assert_eq!(held & !kept, 0, "{name} of {}: {held:x}", task.display());
        }
    }
    let dump = agent.trigger("what collectors may do");
    let mut extract = agent.recorder(["extract"]);
    let told = directory.path().join("evidence");
    output(extract.arg(dump.path()).arg("-o").arg(&told)).expect_code(0);
    let collected = fs::read_to_string(told.join("own-status.txt")).expect("it was collected");
    assert!(collected.contains("NoNewPrivs:\t1"), "{collected}");
    let line = collected
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(line.expect("it is there").trim(), 16).expect("hex");
    assert_eq!(held & !kept, 0, "{held:x}");
}

/// Returns how many filters of system calls each thread of a process has, by its name.
fn filters(pid: u32) -> Vec<(String, u32)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_task = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned())
        };
        Some((
            of("Name:")?,
            of("Seccomp_filters:")?.parse().expect("a number"),
        ))
    };
    tasks
        .filter_map(|task| of_task(task.expect("it runs").path()))
        .collect()
}

#[test]
fn every_thread_of_the_agent_but_the_starter_gives_up_more_than_the_agent() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    agent.trigger("all threads are there");
    let filters = filters(agent.pid());
    for name in ["data", "samples", "dumps", "names", "builds", "desk"] {
        assert!(
            filters.iter().any(|(found, _)| found == name),
            "{name}: {filters:?}"
        );
    }
    for (name, count) in &filters {
        let expected = if name == "starter" { 1 } else { 2 };
        assert_eq!(*count, expected, "{name}: {filters:?}");
    }
}

#[test]
fn the_agent_writes_nowhere_but_to_its_own_directories() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::Landlock]) {
        return;
    }
    let [directory, elsewhere] = [0, 1].map(|_| public_directory());
    let agent = Agent::start_in(directory.path(), &Options::default());
    agent.trigger("while it is its own");
    fs::rename(agent.state_directory(), directory.path().join("kept")).expect("ours");
    std::os::unix::fs::symlink(elsewhere.path(), agent.state_directory()).expect("ours");
    let dump = agent.trigger("it leads elsewhere");
    let run = agent.run_directory().join("dumps");
    assert_eq!(dump.path().parent(), Some(run.as_path()));
    let refused = dump.metadata("recorder.delivery");
    assert!(refused.str("0.error").contains("denied"), "{refused}");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("ours").count(), 0);
    // What is its own again is taken again.
    fs::remove_file(agent.state_directory()).expect("ours");
    fs::rename(directory.path().join("kept"), agent.state_directory()).expect("ours");
    let dump = agent.trigger("it is its own again");
    assert_eq!(
        dump.path().parent(),
        Some(agent.dumps_directory().as_path())
    );
}

#[test]
fn the_viewer_is_confined_and_gives_the_terminal_back() {
    if !ready(&[Need::Agent, Need::Command("script")]) {
        return;
    }
    let golden = golden().remove(0);
    let mut screen = Screen::recorder(&["view", &golden.display().to_string()], (80, 24), &[]);
    screen.shows("q end");
    let pids = screen.pids_of("recorder");
    assert_eq!(pids.len(), 1, "{pids:?}");
    expect_confined(pids[0].parse().expect("a process id"), "view");
    screen.press("q");
    screen.ended(0);
}

#[test]
fn an_output_goes_where_it_is_asked_for_and_a_missing_place_is_said() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-sandbox-").expect("there is room");
    let golden = golden().remove(0);
    let mut export = recorder(["export", "-o", "events.jsonl"]);
    export.current_dir(directory.path()).arg(&golden);
    output(&mut export).expect_code(0);
    assert!(directory.path().join("events.jsonl").exists());
    let missing = directory.path().join("missing/events.jsonl");
    let mut export = recorder(["export", "-o"]);
    export.arg(&missing).arg(&golden);
    let said = output(&mut export).expect_code(1);
    assert!(said.stderr.contains("missing/events.jsonl"), "{said}");
}

#[test]
fn doctor_says_what_readers_give_up() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let checks = output(&mut recorder(["doctor", "--json"])).json_lines();
    let check = checks.iter().find(|check| check.str("check") == "readers");
    let check = check.expect("it is judged");
    let (state, found) = match has_landlock() {
        true => ("pass", "their output alone"),
        false => ("warn", "this kernel has no Landlock"),
    };
    check.expect("state", state);
    assert!(check.str("found").contains(found), "{check}");
}
