//! Agents that died: what their rings held is there afterwards, by the next agent or by hand.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use recorder_tests::{
    Agent, Dump, Json, Need, Options, Program, output, ready, recorder, wait_for,
};
use rustix::process::Signal;

/// Runs `recorder recover` on a ring, into a directory.
fn recover(ring: &Path, directory: &Path) -> recorder_tests::Output {
    let mut command = recorder(["recover", "--json", "-o"]);
    output(command.arg(directory).arg(ring))
}

/// Opens the dump that was recovered, which must be whole.
#[track_caller]
fn recovered(answer: &Json) -> Dump {
    let path = PathBuf::from(answer.str("path"));
    output(recorder(["verify"]).arg(&path)).expect_code(0);
    Dump::open(&path)
}

#[test]
fn a_ring_is_recovered_by_hand_while_it_is_written_and_after_a_death() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let out = tempfile::tempdir().expect("there is room for tests");
    let agent = Agent::start();
    let ring = agent.run_directory().join("ring");
    let exit = Program::workload().run(["exit", "37"]);
    // Whatever has been frozen is in the ring.
    agent.trigger("the exit is in the ring");
    let answer = recover(&ring, out.path())
        .expect_code(0)
        .expect_note("is in use");
    let answer = answer.json();
    answer.expect("recovery.in_use", true);
    answer.expect("recovery.pid", agent.pid());
    let dump = recovered(&answer);
    dump.only("process.exit", exit.pid())
        .expect("body.exit_code", 37);
    agent.status().expect_recording();

    agent.signal(Signal::KILL);
    let kept = out.path().join("ring");
    wait_for("the death of the agent", || {
        !Path::new(&format!("/proc/{}/maps", agent.pid())).exists()
            || fs::read(format!("/proc/{}/maps", agent.pid())).is_ok_and(|maps| maps.is_empty())
    });
    fs::copy(&ring, &kept).expect("there is room");
    let before = fs::read(&kept).expect("it is there");
    let answer = recover(&kept, out.path()).expect_code(0).json();
    answer.expect("recovery.in_use", false);
    answer.expect("incident.rule", "recorder-died");
    let dump = recovered(&answer);
    dump.only("process.exit", exit.pid());
    dump.metadata("recorder.recovery")
        .expect("ring", kept.to_str().expect("plain"));
    assert_eq!(before, fs::read(&kept).expect("it is there"));

    for (name, at, bytes, flaw) in damages() {
        fs::write(&kept, &before).expect("ours");
        let file = fs::File::options().write(true).open(&kept).expect("ours");
        file.write_all_at(&bytes, at).expect("ours");
        let answer = recover(&kept, out.path()).expect_code(3);
        let answer = answer.expect_note(flaw).json();
        let dump = recovered(&answer);
        assert!(answer.str("recovery.flaws.0").contains(flaw), "{name}");
        if name == "other records" {
            let unknown = dump.matching("recorder.unknown", "kind", &2.into());
            assert!(!unknown.is_empty(), "exits are kept as bytes");
        } else {
            dump.only("process.exit", exit.pid());
        }
    }
    fs::write(&kept, &before[..before.len() / 2]).expect("ours");
    let answer = recover(&kept, out.path()).expect_code(3);
    recovered(&answer.expect_note("missing at its end").json());

    for (name, bytes) in [("empty", &b""[..]), ("text", &[b'x'; 100_000])] {
        fs::write(&kept, bytes).expect("ours");
        let refused = recover(&kept, out.path()).expect_code(1);
        let refused = refused.expect_note("not a ring");
        assert!(refused.stdout.is_empty(), "{name}: {refused}");
    }
    recover(out.path(), out.path())
        .expect_code(1)
        .expect_note("not a ring");
    recover(&out.path().join("none"), out.path())
        .expect_code(1)
        .expect_note("there is no ring");
}

/// What is written where, and how it is told: name, place, bytes, words.
fn damages() -> [(&'static str, u64, Vec<u8>, &'static str); 5] {
    let nine = 9_u32.to_ne_bytes().to_vec();
    [
        ("another version", 8, nine, "version 9"),
        ("other records", 16, vec![7; 8], "kept as bytes"),
        ("another magic", 0, vec![0; 8], "does not begin"),
        ("no header", 0, vec![0; 4096], "header is damaged"),
        (
            "a segment without a header",
            4096,
            vec![0xff; 64],
            "segment 0",
        ),
    ]
}

#[test]
fn the_next_agent_keeps_a_damaged_ring_too() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let first = Agent::start_in(directory.path(), &Options::default());
    let exit = Program::workload().run(["exit", "38"]);
    first.trigger("the exit is in the ring");
    first.signal(Signal::KILL);
    let ring = first.run_directory().join("ring");
    drop(first);
    let file = fs::File::options().write(true).open(&ring).expect("ours");
    file.write_all_at(&[0xff; 64], 4096).expect("ours");
    let second = Agent::start_in(directory.path(), &Options::default());
    let dump = second.dump_where("the damaged ring", |incident| {
        incident.get("rule") == Some(&"recorder-died".into())
    });
    dump.only("process.exit", exit.pid());
    let recovery = dump.metadata("recorder.recovery");
    assert!(recovery.str("flaws.0").contains("segment 0"), "{recovery}");
}

#[test]
fn a_start_that_is_cut_short_leaves_the_ring_that_it_found_to_the_next() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let first = Agent::start_in(directory.path(), &Options::default());
    let exit = Program::workload().run(["exit", "39"]);
    first.trigger("the exit is in the ring");
    first.signal(Signal::KILL);
    let (run, dumps, pid) = (first.run_directory(), first.dumps_directory(), first.pid());
    drop(first);
    // As an agent leaves it that has found a ring and dies before there is a dump of it.
    fs::rename(run.join("ring"), run.join("ring.old")).expect("ours");
    fs::write(dumps.join(".tmp-x-recorder-died-1.mcap"), "half").expect("ours");
    let second = Agent::start_in(directory.path(), &Options::default());
    let dump = second.dump_where("the first one's ring", |incident| {
        incident.get("subject.pid") == Some(&pid.into())
    });
    dump.only("process.exit", exit.pid());
    second.wait_for_note("unfinished");
    wait_for("the old ring is gone", || !run.join("ring.old").exists());
    // A note that is being written has such a name for a moment, too.
    wait_for("nothing unfinished", || leftovers(&dumps).is_empty());
}

/// Returns the names of unfinished files.
fn leftovers(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let names = entries.map(|entry| entry.expect("ours").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".tmp-")).collect()
}
