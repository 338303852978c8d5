//! The commands as people and scripts meet them: exit codes, messages, and JSON that parses.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use recorder_tests::host::{allow_everyone, public_directory};
use recorder_tests::{Agent, Need, Program, output, ready, recorder};
use tempfile::TempDir;

/// A user who owns nothing.
const NOBODY: u32 = 65534;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const PROBLEMS: i32 = 3;
const NOT_PERMITTED: i32 = 4;
const UNREACHABLE: i32 = 69;

/// Tells whether the kernel's type information has a tracepoint.
fn has_tracepoint(name: &str) -> bool {
    let types = std::fs::read("/sys/kernel/btf/vmlinux").expect("the test needs Need::Btf");
    let name = format!("\0btf_trace_{name}\0");
    types
        .windows(name.len())
        .any(|bytes| bytes == name.as_bytes())
}

/// Returns a copy of the recorder that any user may execute, as a command of this user.
fn as_nobody(directory: &Path, arguments: &[&str]) -> Command {
    let copy = directory.join("recorder");
    let program = recorder([""; 0]).get_program().to_owned();
    std::fs::copy(program, &copy).expect("there is room");
    allow_everyone(&copy);
    let mut command = Command::new(copy);
    command.args(arguments).uid(NOBODY).gid(NOBODY);
    for name in ["CONFIG", "STATE_DIR", "RUN_DIR"] {
        command.env_remove(format!("RECORDER_{name}"));
    }
    command
}

#[track_caller]
fn expect_one_sentence(stderr: &str) {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(
        !stderr.contains("panicked") && !stderr.contains("Backtrace"),
        "{stderr}"
    );
}

#[test]
fn help_and_version_are_results() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let help = output(&mut recorder(["--help"])).expect_code(DONE);
    for command in [
        "run", "status", "trigger", "list", "show", "export", "verify", "doctor",
    ] {
        assert!(help.text().contains(command), "no {command} in {help}");
        let own = output(&mut recorder([command, "--help"])).expect_code(DONE);
        assert!(own.text().contains("Usage"), "{own}");
    }
    assert!(
        output(&mut recorder(["--version"]))
            .expect_code(DONE)
            .text()
            .starts_with("recorder ")
    );
}

#[test]
fn what_is_no_command_is_a_usage_error() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let wrong: [&[&str]; 8] = [
        &["--no-such-flag"],
        &["no-such-command"],
        &["run", "--before", "soon"],
        &["run", "--after", "-1s"],
        &["run", "--lifecycle-bytes", "many"],
        &["run", "--failure-bytes", "1"],
        &["export", "--format", "no-such-format", "latest"],
        &["show", "--around", "here", "latest"],
    ];
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
    for arguments in wrong {
        let mut command = recorder(arguments);
        // Should it start against all expectation, then not in the host's own directories.
        command
            .env("RECORDER_STATE_DIR", directory.path().join("state"))
            .env("RECORDER_RUN_DIR", directory.path().join("run"));
        let refused = output(&mut command).expect_code(USAGE);
        assert!(refused.stdout.is_empty(), "{refused}");
        assert!(!refused.stderr.is_empty(), "{refused}");
    }
}

#[test]
fn a_dump_that_is_not_there_is_named() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
    for arguments in [
        &["show", "0123abcd"][..],
        &["show", "latest"],
        &["export", "--format", "jsonl", "0123abcd"],
        &["verify", "0123abcd"],
        &["show", "/no/such/dump.mcap"],
    ] {
        let mut command = recorder(arguments);
        command.env("RECORDER_STATE_DIR", directory.path());
        let refused = output(&mut command).expect_code(FAILED);
        assert!(refused.stdout.is_empty(), "{refused}");
        let asked = arguments.last().expect("they end with the dump");
        assert!(
            refused.stderr.contains(asked) || *asked == "latest",
            "{refused}"
        );
        expect_one_sentence(&refused.stderr);
    }
}

#[test]
fn what_is_no_dump_is_said_to_be_none() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
    let path = directory.path().join("no-dump.mcap");
    for bytes in [
        &b""[..],
        b"not MCAP at all",
        &[0xff; 100_000],
        b"\x89MCAP0\r\n",
    ] {
        std::fs::write(&path, bytes).expect("the directory is ours");
        for command in [&["show"][..], &["export", "--format", "jsonl"], &["verify"]] {
            let refused = output(recorder(command).arg(&path));
            assert!(matches!(refused.code, Some(FAILED | PROBLEMS)), "{refused}");
            assert!(!refused.stderr.contains("panicked"), "{refused}");
        }
    }
}

#[test]
fn nobody_answers_where_no_agent_runs() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["trigger"],
        &["trigger", "--json"],
    ] {
        let mut command = recorder(arguments);
        let refused =
            output(command.arg("--run-dir").arg(directory.path())).expect_code(UNREACHABLE);
        assert!(refused.stdout.is_empty(), "{refused}");
        expect_one_sentence(&refused.stderr);
    }
}

#[test]
fn no_dumps_are_an_empty_list() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
    let mut list = recorder(["list", "--json"]);
    let listed = output(list.env("RECORDER_STATE_DIR", directory.path())).expect_code(DONE);
    assert!(listed.json_lines().is_empty(), "{listed}");
}

#[test]
fn every_result_has_a_json_form() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    let path = dump.path().to_str().expect("a plain path");

    let status = agent.status();
    status.expect_recording();
    assert!(status.number("started_unix_ns") > 0, "{status}");
    assert!(status.number("incidents.opened") >= 1, "{status}");
    assert!(status.number("dumps.written") >= 1, "{status}");
    status.expect("dumps.failed", 0);
    let events: Vec<_> = status
        .all("probes")
        .iter()
        .map(|probe| probe.str("event").to_owned())
        .collect();
    for event in [
        "process.exec",
        "process.exit",
        "signal.fatal",
        "oom.kill",
        "io.error",
        "fs.writeback_error",
    ] {
        assert!(
            events.iter().any(|found| found == event),
            "no {event} in\n{status}"
        );
    }
    for probe in status.all("probes") {
        let state = probe.str("state");
        assert!(
            matches!(state, "attached" | "fallback" | "unavailable"),
            "{probe}"
        );
        if state == "unavailable" {
            // Nothing that this kernel has is left unrecorded.
            for reason in probe.str("detail").split("; ") {
                let name = reason.strip_prefix("this kernel has no tracepoint ");
                let name = name.unwrap_or_else(|| panic!("{probe}"));
                assert!(!has_tracepoint(name), "{probe}");
            }
        }
        // Nothing degrades without a reason.
        assert!(
            state == "attached" || !probe.str("detail").is_empty(),
            "{probe}"
        );
    }

    let listed = agent.run(["list", "--json"]).expect_code(DONE).json_lines();
    let id = dump.incident().str("id").to_owned();
    let mentions = |entry: &recorder_tests::Json| entry.to_string().contains(&id);
    assert!(listed.iter().any(mentions), "{id} is not in {listed:#?}");

    // By path, by the beginning of its id, and as the latest.
    let latest = agent.run(["show", "--json", "latest"]).expect_code(DONE);
    assert!(!latest.json_lines().is_empty(), "{latest}");
    let prefix = &id[..id.len() - 4];
    for name in [path, prefix] {
        let shown = agent
            .run(["show", "--json", name])
            .expect_code(DONE)
            .json_lines();
        let fatal =
            |event: &&recorder_tests::Json| event.get("type") == Some(&"signal.fatal".into());
        assert!(
            shown.iter().any(|event| fatal(&event)),
            "{name}: {shown:#?}"
        );
        let exported = agent
            .run(["export", "--format", "jsonl", name])
            .expect_code(DONE);
        assert_eq!(exported.json_lines().len(), dump.events().len(), "{name}");
        agent
            .run(["verify", "--json", name])
            .expect_code(DONE)
            .json_lines();
    }
}

#[test]
fn events_are_filtered() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let other = Program::named("other").run(["exit", "0"]);
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    let path = dump.path().to_str().expect("a plain path");
    let show = |filter: &[&str]| {
        let shown = agent.run([&["show", "--json", path], filter].concat());
        let mut shown = shown.expect_code(DONE).json_lines();
        // A sample names everybody who lived while it was taken, if it happened to be then.
        shown.retain(|event| event.get("type") != Some(&"sample.process".into()));
        shown
    };
    let pid = ended.pid().to_string();
    let own = show(&["--pid", &pid]);
    assert_eq!(own.len(), 3, "exec, fatal signal and exit: {own:#?}");
    let fatal = show(&["--pid", &pid, "--type", "signal.fatal"]);
    assert_eq!(fatal.len(), 1, "{fatal:#?}");
    let others = show(&["--comm", "other"]);
    assert!(
        others
            .iter()
            .any(|event| event.get("body.process.pid") == Some(&other.pid().into()))
    );
    assert!(
        others
            .iter()
            .all(|event| event.get("body.process.comm") == Some(&"other".into())),
        "{others:#?}"
    );
    // The fatal signal is the middle of what is around.
    let around = show(&["--around", "1ms", "--type", "signal.fatal"]);
    assert!(
        around
            .iter()
            .any(|event| event.get("order") == fatal[0].get("order")),
        "{around:#?}"
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    Program::workload().run(["flood", "5000"]);
    let dump = agent.trigger("more than a pipe holds");
    for arguments in [&["export", "--format", "jsonl"][..], &["show", "--json"]] {
        let mut command = agent.recorder(arguments);
        let child = command
            .arg(dump.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("the recorder is there");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it writes something");
        let done = child.wait_with_output().expect("it is our child");
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(DONE), "{arguments:?}: {stderr}");
        assert!(
            !stderr.contains("roken pipe") && !stderr.contains("panicked"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn the_doctor_sees_everybody() {
    if !ready(&[Need::Root, Need::Agent]) {
        return;
    }
    let directory = public_directory();
    let root = output(&mut recorder(["doctor", "--json"]));
    let nobody = output(&mut as_nobody(directory.path(), &["doctor", "--json"]));
    for examined in [&root, &nobody] {
        assert!(matches!(examined.code, Some(DONE | PROBLEMS)), "{examined}");
        let lines = examined.json_lines();
        let checks = match lines.as_slice() {
            [whole] if whole.get("checks").is_some() => whole.all("checks"),
            checks => checks.to_vec(),
        };
        assert!(checks.len() > 2, "{examined}");
        let state = |check: &recorder_tests::Json| {
            let state = check
                .get("state")
                .or_else(|| check.get("status"))
                .or_else(|| check.get("verdict"));
            state
                .and_then(|state| state.as_str())
                .unwrap_or_else(|| panic!("no state in\n{check}"))
                .to_owned()
        };
        let mut has_failed = false;
        for check in &checks {
            let state = state(check);
            assert!(
                matches!(state.as_str(), "pass" | "warn" | "fail"),
                "{check}"
            );
            has_failed |= state == "fail";
            // What is wrong comes with what to do.
            assert!(
                state == "pass" || !check.str("remedy").is_empty(),
                "{check}"
            );
        }
        assert_eq!(examined.code == Some(PROBLEMS), has_failed, "{examined}");
    }
    // Who may not load programs cannot record.
    assert_eq!(nobody.code, Some(PROBLEMS), "{nobody}");
    let shown = output(&mut as_nobody(directory.path(), &["doctor"])).expect_code(PROBLEMS);
    assert!(shown.text().contains("fail"), "{shown}");
}

#[test]
fn an_agent_without_privileges_says_so_in_one_sentence() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent]) {
        return;
    }
    let directory = public_directory();
    let [state, run] = ["state", "run"].map(|name| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).expect("the directory is ours");
        // The directories are not what it lacks.
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("this is root");
        path
    });
    let mut command = as_nobody(directory.path(), &["run"]);
    command
        .arg("--state-dir")
        .arg(state)
        .arg("--run-dir")
        .arg(run);
    let refused = output(&mut command).expect_code(NOT_PERMITTED);
    assert!(refused.stdout.is_empty(), "{refused}");
    expect_one_sentence(&refused.stderr);
    assert!(refused.stderr.contains("root"), "{refused}");
}
