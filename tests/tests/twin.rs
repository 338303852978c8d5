//! The copy of the ring on disk: what it holds, when it is used, and a disk that refuses it. Machines that die are in `power`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use recorder_tests::{Agent, Need, Options, Program, host, output, ready, recorder, wait_for};
use rustix::process::Signal;

fn options() -> Options {
    Options::with(["--ring-sync", "100ms"])
}

/// Waits until what is in the ring now is in its copy.
#[track_caller]
fn wait_for_flush(agent: &Agent) {
    // The one that runs may have begun before.
    let flushes = agent.status().number("twin.flushes") + 1;
    agent.wait_for_status("two flushes", |status| {
        status.number("twin.flushes") > flushes
    });
}

/// Returns the rules of all dumps.
fn rules(agent: &Agent) -> Vec<String> {
    let rule = |dump: &recorder_tests::Dump| dump.incident().str("rule").to_owned();
    agent.dumps().iter().map(rule).collect()
}

/// Starts an agent and waits until it has written whatever it has found.
fn next(directory: &Path) -> Agent {
    let agent = Agent::start_in(directory, &Options::default());
    agent.trigger("whatever was found is written");
    agent
}

#[test]
fn the_copy_on_disk_is_recovered_where_the_ring_is_gone() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = host::public_directory();
    let out = tempfile::tempdir().expect("there is room for tests");
    let first = Agent::start_in(directory.path(), &options());
    let exit = Program::workload().run(["exit", "39"]);
    // Whatever has been frozen is in the ring.
    first.trigger("the exit is in the ring");
    wait_for_flush(&first);
    let twin = first.state_directory().join("ring");
    let ring = first.run_directory().join("ring");
    let (of_twin, of_ring) = (fs::metadata(&twin), fs::metadata(&ring));
    let (of_twin, of_ring) = (of_twin.expect("it is there"), of_ring.expect("it is there"));
    assert_eq!(of_twin.mode() & 0o777, 0o600);
    assert_eq!(of_twin.len(), of_ring.len());
    let status = first.status();
    status.expect_recording();
    status.expect("twin.path", twin.to_str().expect("plain"));
    status.expect("twin.interval_ns", 100_000_000);
    status.expect("twin.failures", 0);
    assert!(status.number("twin.bytes") > 0 && status.number("twin.flushed_unix_ns") > 0);
    let text = first.run(["status"]).expect_code(0);
    assert!(text.text().contains("\ntwin     of the ring in "), "{text}");

    let mut recover = recorder(["recover", "--json", "-o"]);
    let answer = output(recover.arg(out.path()).arg(&twin))
        .expect_code(0)
        .expect_note("is in use");
    let answer = answer.json();
    answer.expect("recovery.in_use", true);
    answer.expect("recovery.pid", first.pid());
    let dump = recorder_tests::Dump::open(Path::new(answer.str("path")));
    dump.only("process.exit", exit.pid())
        .expect("body.exit_code", 39);

    // As if the host had lost what is in memory; only that this is the same boot.
    first.signal(Signal::KILL);
    drop(first);
    fs::remove_file(&ring).expect("it is there");
    let second = next(directory.path());
    assert_eq!(
        rules(&second)
            .iter()
            .filter(|rule| *rule == "recorder-died")
            .count(),
        1
    );
    let dump = second.dump_where("the copy", |incident| {
        incident.get("rule") == Some(&"recorder-died".into())
    });
    dump.only("process.exit", exit.pid());
    dump.metadata("recorder.recovery")
        .expect("ring", twin.to_str().expect("plain"));
    wait_for("nothing is left of it", || {
        let files = fs::read_dir(second.state_directory()).expect("it is there");
        let names = files.flatten().map(|file| file.file_name());
        !names
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("ring"))
    });
    assert!(second.status().get("twin").is_none());
}

#[test]
fn a_recorder_that_was_stopped_or_whose_ring_is_there_leaves_nothing_to_recover_on_disk() {
    if !ready(&Need::RECORDING) {
        return;
    }
    for (signal, is_ring_kept, found) in [
        (Signal::TERM, false, None),
        (Signal::TERM, true, Some("recorder-restart")),
        (Signal::KILL, true, Some("recorder-died")),
    ] {
        let directory = host::public_directory();
        let mut first = Agent::start_in(directory.path(), &options());
        let ring = first.run_directory().join("ring");
        wait_for_flush(&first);
        first.stop_with(signal);
        assert!(first.state_directory().join("ring").exists());
        drop(first);
        if !is_ring_kept {
            fs::remove_file(&ring).expect("it is there");
        }
        let second = next(directory.path());
        let mut rules = rules(&second);
        rules.retain(|rule| rule != "manual");
        assert_eq!(
            rules,
            found.map(str::to_owned).into_iter().collect::<Vec<_>>()
        );
        if found.is_some() {
            let dump = second.dump_where("what it found", |incident| {
                incident.str("rule").starts_with("recorder-")
            });
            let recovery = dump.metadata("recorder.recovery");
            assert!(recovery.str("ring").ends_with("run/ring"), "{recovery}");
        }
    }
}

#[test]
fn a_disk_that_refuses_the_copy_holds_up_nothing() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = host::public_directory();
    // Nothing can take its place.
    fs::create_dir_all(directory.path().join("state/ring/x")).expect("ours");
    let agent = Agent::start_in(directory.path(), &options());
    agent.wait_for_note("the ring is not copied to");
    let status = agent.wait_for_status("the failure", |status| status.number("twin.failures") > 0);
    assert!(status.get("twin.last_error").is_some(), "{status}");
    status.expect("state", "degraded");
    let reasons = status.all("reasons");
    let is_named = |reason: &recorder_tests::Json| reason.str("code") == "ring-not-on-disk";
    assert!(reasons.iter().any(is_named), "{status}");
    let doctor = agent.run(["doctor"]);
    assert!(
        doctor.text().contains("the ring is not copied to"),
        "{doctor}"
    );
    agent.trigger("it records");
}
