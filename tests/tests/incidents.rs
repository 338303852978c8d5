//! What makes an incident, what joins one, and what is only counted.

use std::time::Duration;

use recorder_tests::host::guest;
use recorder_tests::{Agent, Dump, Ended, Need, Options, Program, ready};
use rustix::process::Signal;

const CRASHES: usize = 100;

/// Returns the dumps about processes of this name so far.
fn dumps_about(agent: &Agent, comm: &str) -> Vec<Dump> {
    let mut dumps = agent.dumps();
    dumps.retain(|dump| dump.incident().get("subject.comm") == Some(&comm.into()));
    dumps
}

#[track_caller]
fn dump_about(agent: &Agent, comm: &str) -> Dump {
    agent.dump_where(comm, |incident| {
        incident.get("subject.comm") == Some(&comm.into())
    })
}

#[test]
fn a_hundred_crashes_are_one_dump_with_a_count() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        // All crash within it.
        cooldown: if guest::is_one() { "9s" } else { "3s" },
        ..Options::default()
    });
    let program = Program::named("crash-loop");
    let crash = || program.run(["segv-write", "0x1234"]);
    let crashes: Vec<Ended> = (0..CRASHES).map(|_| crash()).collect();
    assert!(
        crashes
            .iter()
            .all(|ended| ended.signal() == Some(libc::SIGSEGV))
    );

    let first = dump_about(&agent, "crash-loop");
    // Its window is over, and its cooldown is not.
    crash();
    first.incident().expect("subject.pid", crashes[0].pid());
    first.incident().expect("suppressed_before", 0);
    let followers = first.incident().number("followers");
    let followers = usize::try_from(followers).expect("no more than crashed");
    let suppressed = CRASHES - followers;
    // Every follower is inside.
    let inside = crashes
        .iter()
        .filter(|ended| !first.about("signal.fatal", ended.pid()).is_empty());
    assert_eq!(inside.count(), 1 + followers);
    let status = agent.status();
    assert!(
        status.number("incidents.joined") >= followers as i128,
        "{status}"
    );
    assert!(
        status.number("incidents.suppressed") >= suppressed as i128,
        "{status}"
    );
    assert_eq!(dumps_about(&agent, "crash-loop").len(), 1);

    // After the cooldown it is news again, and the next dump says what was left out.
    std::thread::sleep(guest::patience(Duration::from_millis(3500)));
    let last = crash();
    let second = agent.dump_of(last.pid());
    second.incident().expect("suppressed_before", suppressed);
    second
        .incident()
        .expect_same("fingerprint", &first.incident(), "fingerprint");
    assert_eq!(dumps_about(&agent, "crash-loop").len(), 2);
    // And its end is told, in the ring as well.
    let id = first.incident().str("id").to_owned();
    let told = format!("{suppressed} more in ");
    let said = agent.said();
    let storm = said.iter().find(|line| line.starts_with("storm "));
    let storm = storm.unwrap_or_else(|| panic!("no storm in {said:?}"));
    assert!(storm.contains(&told) && storm.contains(&id), "{storm}");
    let notes = second.matching("recorder.note", "kind", &"storm".into());
    assert_eq!(notes.len(), 1);
}

#[test]
fn two_different_failures_are_two_dumps() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        cooldown: "60s",
        ..Options::default()
    });
    let write = Program::workload().run(["segv-write", "0x1234"]);
    let divide = Program::workload().run(["fpe"]);
    let (first, second) = (agent.dump_of(write.pid()), agent.dump_of(divide.pid()));
    assert_ne!(first.path(), second.path());
    assert_ne!(
        first.incident().str("fingerprint"),
        second.incident().str("fingerprint")
    );
    assert_ne!(first.incident().str("id"), second.incident().str("id"));
    // They were less than `after` apart: each window has both.
    for dump in [&first, &second] {
        dump.only("signal.fatal", write.pid());
        dump.only("signal.fatal", divide.pid());
    }
}

#[test]
fn a_rule_may_have_a_window_of_its_own() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--rule-window", "fatal-signal=2s/1ms"]));
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let incident = agent.dump_of(crash.pid()).incident();
    let trigger = incident.number("trigger.boot_ns");
    incident.expect("window_start_boot_ns", (trigger - 2_000_000_000) as u64);
    incident.expect("window_end_boot_ns", (trigger + 1_000_000) as u64);
    let dump = agent.trigger("another rule");
    let before = dump.metadata("recorder.config").number("before_ns");
    let asked = dump.incident();
    let asked_at = asked.number("trigger.boot_ns");
    assert!(before > 2_000_000_000, "not that of the other rule");
    asked.expect("window_start_boot_ns", (asked_at - before) as u64);
}

#[test]
fn only_a_watched_name_may_not_exit_abnormally() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--watch", "watched-daemon"]));
    let watched = Program::named("watched-daemon");
    let fine = watched.run(["exit", "0"]);
    let stranger = Program::named("other-daemon").run(["exit", "3"]);
    let failed = watched.run(["exit", "3"]);
    let dump = agent.dump_of(failed.pid());
    let incident = dump.incident();
    incident.expect("trigger.type", "process.exit");
    incident.expect("subject.comm", "watched-daemon");
    assert!(
        incident.str("summary").contains("watched-daemon"),
        "{incident}"
    );
    let exit = dump.only("process.exit", failed.pid());
    exit.expect("body.exit_code", 3);
    failed.expect_subject(exit);
    // The others are in the window, and no more than that.
    for other in [fine, stranger] {
        dump.only("process.exit", other.pid())
            .expect("body.exit_code", other.exit_code());
        let all = agent.dumps();
        let about = all
            .iter()
            .find(|dump| dump.incident().get("subject.pid") == Some(&other.pid().into()));
        assert!(about.is_none(), "{about:?}");
    }
}

#[test]
fn a_watched_name_that_is_killed_is_an_incident() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--watch", "watched-daemon"]));
    let victim = Program::named("watched-daemon").start(["sleep"]);
    let target = victim.pid().to_string();
    let killer = Program::workload().run(["kill", "9", &target]);
    let victim = victim.wait();
    let dump = agent.dump_of(victim.pid());
    let exit = dump.only("process.exit", victim.pid());
    let fatal = dump.cause(exit);
    fatal.expect("body.signal.name", "SIGKILL");
    fatal.expect("body.sender.pid", killer.pid());
}

#[test]
fn people_ask_for_dumps() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["exit", "7"]);
    let dump = agent.trigger("looks odd");
    let incident = dump.incident();
    incident.expect("reason", "looks odd");
    incident.expect("followers", 0);
    dump.only("process.exit", ended.pid());

    let before = agent.dumps().len();
    agent.signal(Signal::USR1);
    let dump = agent.dump_where("SIGUSR1", |found| {
        found.get("rule") == incident.get("rule") && found.get("id") != incident.get("id")
    });
    assert!(agent.dumps().len() > before);
    dump.only("process.exit", ended.pid());

    let asked = agent
        .run(["trigger", "--reason", "again", "--json"])
        .expect_code(0)
        .json();
    let id = asked
        .get("id")
        .or_else(|| asked.get("incident.id"))
        .or_else(|| asked.get("incident"));
    let id = id.unwrap_or_else(|| panic!("no id in\n{asked}")).clone();
    agent.dump_where("the id that trigger returned", |found| {
        found.get("id") == Some(&id)
    });
}

#[test]
fn a_second_question_within_the_cooldown_is_answered_too() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        cooldown: "60s",
        ..Options::default()
    });
    agent.trigger("first");
    agent.trigger("second");
}
