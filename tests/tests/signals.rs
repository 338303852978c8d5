//! Signals that end a process without a fault of its own: who sent them; and faults that end nothing.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use recorder_tests::{Agent, Dump, Ended, Need, Program, Workload, cpu, host, ready};
use rustix::process::Signal;

/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// Demands that no dump is about this process.
#[track_caller]
fn expect_no_incident(agent: &Agent, pid: u32) {
    for dump in agent.dumps() {
        let incident = dump.incident();
        assert_ne!(incident.get("subject.pid"), Some(&pid.into()), "{incident}");
    }
}

/// Lets a workload named "assassin" kill `victim`. Returns what is known of both.
#[track_caller]
fn assassinate(victim: Workload, signal: i32, uid: u32) -> (Ended, Ended) {
    let assassin = Program::named("assassin");
    let target = victim.pid().to_string();
    let mut kill = assassin.command(["kill", &signal.to_string(), &target]);
    let killer = Workload::start(kill.uid(uid).gid(uid)).wait();
    (victim.wait(), killer)
}

#[track_caller]
fn check_sender(dump: &Dump, victim: &Ended, killer: &Ended, name: &str) {
    let fatal = dump.only("signal.fatal", victim.pid());
    victim.expect_start(fatal);
    fatal.expect("body.signal.number", victim.signal());
    fatal.expect("body.signal.name", name);
    fatal.expect("body.code.number", 0);
    fatal.expect("body.code.name", "SI_USER");
    for field in ["pid", "comm", "uid"] {
        fatal.expect_same(&format!("body.sender.{field}"), &killer.facts, field);
    }
    assert!(!fatal.is_true("body.sender.kernel"), "{fatal}");
    fatal.expect_absent("body.fault_address");
    let exit = dump.only("process.exit", victim.pid());
    exit.expect("body.signal.number", victim.signal());
    exit.expect("body.signal.name", name);
    exit.expect_same("cause", fatal, "order");
}

#[test]
fn the_sender_of_a_kill_is_named() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    for (signal, name) in [(9, "SIGKILL"), (15, "SIGTERM")] {
        let victim = Program::workload().start(["sleep"]);
        let (victim, killer) = assassinate(victim, signal, 0);
        assert_eq!(victim.signal(), Some(signal));
        let dump = agent.trigger(name);
        check_sender(&dump, &victim, &killer, name);
        expect_no_incident(&agent, victim.pid());
    }
}

#[test]
fn the_sender_is_an_unprivileged_user() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("victim");
    let victim = Workload::start(program.command(["sleep"]).uid(NOBODY).gid(NOBODY));
    let (victim, killer) = assassinate(victim, 9, NOBODY);
    let dump = agent.trigger("killed by nobody");
    check_sender(&dump, &victim, &killer, "SIGKILL");
    let fatal = dump.only("signal.fatal", victim.pid());
    fatal.expect("body.process.comm", "victim");
    fatal.expect("body.process.uid", NOBODY);
    fatal.expect("body.sender.uid", NOBODY);
}

#[test]
fn a_process_of_many_threads_is_killed_once() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let victim = Program::workload().start(["sleep-in-threads", "8"]);
    let (victim, killer) = assassinate(victim, 9, 0);
    let dump = agent.trigger("many threads, one kill");
    check_sender(&dump, &victim, &killer, "SIGKILL");
}

#[test]
fn threads_that_end_with_their_process_are_not_killed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let exited = Program::workload().run(["exit-in-threads", "5", "8"]);
    let executed = Program::workload().run(["exec-from-thread", "6"]);
    let dump = agent.trigger("threads ended");
    for ended in [exited, executed] {
        let fatal = dump.about("signal.fatal", ended.pid());
        assert!(fatal.is_empty(), "{fatal:#?}");
        let exit = dump.only("process.exit", ended.pid());
        exit.expect("body.exit_code", ended.exit_code());
        exit.expect_absent("body.signal");
        exit.expect_absent("cause");
    }
}

#[test]
fn a_fault_that_a_handler_takes_is_no_incident() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["handled-segv", "1000"]);
    assert_eq!(ended.exit_code(), Some(0));
    let dump = agent.trigger("1000 faults, all handled");
    let fatal = dump.about("signal.fatal", ended.pid());
    assert!(fatal.is_empty(), "{fatal:#?}");
    dump.only("process.exit", ended.pid())
        .expect("body.exit_code", 0);
    expect_no_incident(&agent, ended.pid());
}

#[test]
fn a_fault_that_a_handler_raises_again_is_the_original_one() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["reraise", "0x99"]);
    let dump = agent.dump_of(ended.pid());
    let fatal = dump.only("signal.fatal", ended.pid());
    ended.expect_subject(fatal);
    assert!(fatal.is_true("body.reraised"), "{fatal}");
    fatal.expect("body.signal.name", "SIGSEGV");
    fatal.expect("body.code.name", "SEGV_MAPERR");
    assert_eq!(fatal.address("body.fault_address"), 0x99, "{fatal}");
    // Not where raise() was called, but where it all began.
    assert_eq!(
        fatal.address("body.ip"),
        ended.facts.address("ip"),
        "{fatal}"
    );
    assert_eq!(
        fatal.register(cpu::SECOND),
        ended.facts.address("mark"),
        "{fatal}"
    );
    assert_eq!(fatal.register(cpu::FIRST), 0x99, "{fatal}");
    fatal.expect_same("body.instruction_bytes", &ended.facts, "code");
}

#[test]
fn a_fault_that_happens_again_without_its_handler() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["reexecute", "0x99"]);
    let dump = agent.dump_of(ended.pid());
    let fatal = dump.only("signal.fatal", ended.pid());
    ended.expect_subject(fatal);
    fatal.expect("body.code.name", "SEGV_MAPERR");
    assert_eq!(fatal.address("body.fault_address"), 0x99, "{fatal}");
    assert_eq!(
        fatal.address("body.ip"),
        ended.facts.address("ip"),
        "{fatal}"
    );
}

#[test]
fn a_segv_that_another_process_sends_has_a_sender_and_no_fault() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let victim = Program::workload().start(["sleep"]);
    let (victim, killer) = assassinate(victim, Signal::SEGV.as_raw(), 0);
    let dump = agent.dump_of(victim.pid());
    check_sender(&dump, &victim, &killer, "SIGSEGV");
}

#[test]
fn the_first_thing_a_newcomer_tries() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -SEGV $$"]).stderr(Stdio::null());
    let mut shell = shell.spawn().expect("there is a shell");
    let pid = shell.id();
    shell.wait().expect("the shell is our child");
    let crashed = Instant::now();
    let dump = agent.dump_of(pid);
    let took = crashed.elapsed();
    // `after` is 300 ms here. An emulated machine promises nothing of time.
    let promised = Duration::from_millis(300) + Duration::from_secs(1);
    assert!(
        took <= promised || host::guest::is_one(),
        "{took:?} from crash to dump, {promised:?} promised"
    );
    dump.only("signal.fatal", pid)
        .expect("body.sender.pid", pid);
    let mut show = agent.recorder(["show"]);
    let shown = recorder_tests::output(show.arg(dump.path())).expect_code(0);
    for part in ["SIGSEGV", "sh", &pid.to_string()] {
        assert!(shown.text().contains(part), "no {part} in {shown}");
    }
}
