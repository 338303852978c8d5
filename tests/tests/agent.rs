//! The life of an agent: alone in its directories, frugal with the disk, and orderly at its end.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::{Agent, Need, Options, Program, output, ready};
use rustix::process::Signal;

#[test]
fn a_second_agent_is_refused() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let mut agent = Agent::start();
    let mut second = agent.recorder(["run"]);
    let refused = output(&mut second);
    assert!(!matches!(refused.code, None | Some(0)), "{refused}");
    assert!(refused.stdout.is_empty(), "{refused}");
    let run = agent.run_directory();
    assert!(
        refused.stderr.contains(run.to_str().expect("a plain path")),
        "{refused}"
    );
    assert!(!refused.stderr.contains("panicked"), "{refused}");
    // The first one has not noticed.
    agent.status().expect_recording();
    agent.trigger("still there");
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn an_agent_starts_where_another_was_killed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let first = Agent::start_in(directory.path(), &Options::default());
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = first.dump_of(crash.pid());
    first.signal(Signal::KILL);
    drop(first);
    // A dump that it was writing as it died.
    let leftover = dump.path().with_file_name(".leftover.mcap.tmp");
    fs::write(&leftover, b"half a dump").expect("the directory is ours");
    let mut second = Agent::start_in(directory.path(), &Options::default());
    second.status().expect_recording();
    let lost = second.dump_where("the first one's ring", |incident| {
        incident.get("rule") == Some(&"recorder-died".into())
    });
    lost.only("signal.fatal", crash.pid());
    let listed = second.run(["list", "--json"]).expect_code(0).json_lines();
    assert_eq!(listed.len(), 2, "{listed:#?}");
    assert_eq!(second.stop().code(), Some(0));
}

#[test]
fn what_the_agent_keeps_is_private() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let socket = fs::metadata(agent.run_directory().join("control.sock")).expect("it listens");
    assert!(socket.file_type().is_socket());
    assert_eq!(
        socket.permissions().mode() & 0o007,
        0,
        "others may talk to it"
    );
    let dumps = fs::metadata(agent.dumps_directory()).expect("it has dumps");
    assert_eq!(dumps.permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_end_of_the_agent_finishes_its_dumps() {
    if !ready(&Need::RECORDING) {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start_with(&Options {
            after: "60s",
            ..Options::default()
        });
        let crash = Program::workload().run(["segv-write", "0x1234"]);
        agent.wait_for_status("an open incident", |status| {
            status.count("incidents.open") > 0
        });
        let asked = Instant::now();
        assert_eq!(agent.stop_with(signal).code(), Some(0));
        assert!(
            asked.elapsed() < patience(Duration::from_secs(5)),
            "{:?}",
            asked.elapsed()
        );
        let dump = agent.dump_of(crash.pid());
        dump.only("signal.fatal", crash.pid());
        agent.run(["verify", "latest"]).expect_code(0);
        // Nobody answers any more.
        agent.run(["status"]).expect_code(69);
    }
}

#[test]
fn the_directory_of_dumps_has_a_budget_by_count() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        after: "50ms",
        ..Options::with(["--dumps-max-count", "3"])
    });
    let mut paths = Vec::new();
    for number in 0..6 {
        paths.push(agent.trigger(&format!("number {number}")).path().to_owned());
        assert!(count_dumps(&agent) <= 3);
    }
    // The oldest go first, with what belongs to them, and never the newest.
    assert!(paths[5].exists() && paths[5].with_extension("json").exists());
    for path in &paths[..3] {
        assert!(
            !path.exists() && !path.with_extension("json").exists(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_directory_of_dumps_has_a_budget_by_bytes() {
    if !ready(&Need::RECORDING) {
        return;
    }
    const MAX: u64 = 1 << 20;
    let agent = Agent::start_with(&Options {
        before: "60s",
        after: "50ms",
        ..Options::with(["--dumps-max-bytes", "1MiB", "--max-dump-bytes", "512KiB"])
    });
    Program::workload().run(["flood", "20000"]);
    for number in 0..6 {
        let dump = agent.trigger(&format!("number {number}"));
        assert!(dump.path().exists());
        let bytes = bytes_of_dumps(&agent);
        assert!(bytes <= MAX, "{bytes} bytes after dump {number}");
    }
}

fn count_dumps(agent: &Agent) -> usize {
    let entries = fs::read_dir(agent.dumps_directory()).expect("it has dumps");
    let names = entries.map(|entry| entry.expect("it is readable").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".mcap"))
        .count()
}

fn bytes_of_dumps(agent: &Agent) -> u64 {
    let entries = fs::read_dir(agent.dumps_directory()).expect("it has dumps");
    // What was there a moment ago may be gone.
    entries
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum()
}
