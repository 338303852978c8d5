//! Death certificates: each exit joined to what is behind it, in words, in the file beside the dump and in `show`.

use std::process::Command;

use recorder_tests::host::MemoryCgroup;
use recorder_tests::{Agent, Dump, Ended, Json, Need, Program, Workload, output, ready};

/// Returns the certificate of a process in the file beside the dump; there must be one.
#[track_caller]
fn certificate(dump: &Dump, pid: u32) -> Json {
    let sidecar = dump.sidecar();
    let certificates = sidecar
        .get("deaths.certificates")
        .expect("deaths are listed");
    let certificates = certificates.as_array().expect("certificates are a list");
    let mut found = certificates
        .iter()
        .filter(|certificate| certificate["process"]["pid"] == pid);
    match (found.next(), found.next()) {
        (Some(one), None) => Json::new(one.clone()),
        (one, _) => panic!("{one:?} is not the one certificate of {pid} in\n{sidecar}"),
    }
}

/// Demands what a certificate says, that `show` says the same, and that its cause is the event that `export` links.
#[track_caller]
fn expect(dump: &Dump, pid: u32, verdict: &str, text: &str) -> Json {
    let found = certificate(dump, pid);
    found.expect("verdict", verdict);
    found.expect("text", text);
    let exit = dump.only("process.exit", pid);
    found.expect_same("order", exit, "order");
    assert_eq!(found.get("cause"), exit.get("cause"), "{found}");
    let mut show = recorder_tests::recorder(["show"]);
    let shown = output(show.arg(dump.path())).expect_code(0);
    assert!(shown.text().contains(text), "{text}\n{shown}");
    found
}

/// Returns "comm\[pid\]" of a workload.
fn name(of: &Ended) -> String {
    format!("{}[{}]", of.facts.str("comm"), of.pid())
}

#[test]
fn an_oom_kill_in_a_memory_cgroup() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup]) {
        return;
    }
    let agent = Agent::start();
    let cgroup = MemoryCgroup::with_limit(32 << 20);
    let processes = cgroup.processes();
    let processes = processes.to_str().expect("a plain path");
    let victim = Program::workload().run(["hog", processes, "500", "anonymous"]);
    let dump = agent.dump_of(victim.pid());
    let found = certificate(&dump, victim.pid());
    found.expect("verdict", "oom_kill");
    found.expect("status", 137);
    let text = found.str("text");
    let begins = "Exit 137, OOM: the kernel killed it for memory, 3";
    assert!(text.starts_with(begins), "{text}");
    assert!(text.contains("MiB resident, in memory cgroup "), "{text}");
    // It asked for the memory itself.
    assert!(!text.contains("when"), "{text}");
    let oom = dump.only("oom.kill", victim.pid());
    found.expect_same("cause", oom, "order");
    dump.sidecar().expect("deaths.verdicts.oom_kill", 1);
}

#[test]
fn faults_of_their_own() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let workload = Program::workload();
    let segv = workload.run(["segv-write", "0x10"]);
    let found = certificate(&agent.dump_of(segv.pid()), segv.pid());
    found.expect("verdict", "fault");
    let text = found.str("text");
    let begins =
        "Exit 139: SIGSEGV (SEGV_MAPERR), write to 0x10: nothing is mapped at that address";
    assert!(text.starts_with(begins), "{text}");

    let assert = workload.run(["assert"]);
    let dump = agent.dump_of(assert.pid());
    let text = "Exit 134: SIGABRT by its own abort() or failed assertion";
    expect(&dump, assert.pid(), "abort", text);
}

#[test]
fn a_call_that_a_filter_forbids() {
    if !ready(&[&Need::RECORDING[..], &[Need::FilterSignals]].concat()) {
        return;
    }
    let agent = Agent::start();
    let forbidden = Program::workload().run(["forbidden-call"]);
    let dump = agent.dump_of(forbidden.pid());
    let text = format!(
        "Exit 159: SIGSYS: a seccomp filter forbids system call {}",
        libc::SYS_getppid
    );
    expect(&dump, forbidden.pid(), "seccomp", &text);
}

#[test]
fn a_kill_by_a_named_sender() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let victim = Program::workload().start(["sleep"]);
    let target = victim.pid().to_string();
    let killer = Program::named("assassin").run(["kill", "9", &target]);
    let victim = victim.wait();
    let dump = agent.trigger("a kill");
    let text = format!("Exit 137, not OOM: SIGKILL from {}", name(&killer));
    let found = expect(&dump, victim.pid(), "killed", &text);
    found.expect("sender.pid", killer.pid());
    found.expect("sender.comm", "assassin");
    found.expect_absent("asked");
}

#[test]
fn a_supervisor_that_asks_and_then_kills() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    for (how, reception) in [
        ("handle", "handled"),
        ("ignore", "ignored"),
        ("block", "blocked"),
    ] {
        let victim = Program::workload().start(["stubborn", how]);
        let target = victim.pid().to_string();
        let supervisor = Program::named("supervisor").run(["stop", "120", &target]);
        let victim = victim.wait();
        let dump = agent.trigger(how);
        let found = certificate(&dump, victim.pid());
        found.expect("verdict", "killed");
        found.expect("asked.signal", "SIGTERM");
        found.expect("asked.by.pid", supervisor.pid());
        found.expect("asked.reception", reception);
        found.expect_within("asked.before_ns", 120_000_000..=1_000_000_000);
        let text = format!(
            "Exit 137, not OOM: SIGKILL from {} {} ms after its SIGTERM ({reception})",
            name(&supervisor),
            found.number("asked.before_ns") / 1_000_000,
        );
        expect(&dump, victim.pid(), "killed", &text);
        // exit <- signal.fatal <- signal.sent
        let fatal = dump.cause(dump.only("process.exit", victim.pid()));
        fatal.expect("body.asked.reception", reception);
        let sent = dump.cause(fatal);
        sent.expect("type", "signal.sent");
        victim.expect_start(sent);
        sent.expect("body.process.pid", victim.pid());
        sent.expect("body.signal.name", "SIGTERM");
        sent.expect("body.code.name", "SI_USER");
        sent.expect("body.reception", reception);
        for field in ["pid", "comm", "uid"] {
            sent.expect_same(&format!("body.sender.{field}"), &supervisor.facts, field);
        }
    }
}

#[test]
fn a_request_older_than_the_window_is_still_known() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let options = recorder_tests::Options {
        before: "1s",
        ..recorder_tests::Options::default()
    };
    let agent = Agent::start_with(&options);
    let victim = Program::workload().start(["stubborn", "ignore"]);
    let target = victim.pid().to_string();
    let supervisor = Program::named("supervisor").run(["stop", "1500", &target]);
    let victim = victim.wait();
    let dump = agent.trigger("an old request");
    assert!(dump.about("signal.sent", victim.pid()).is_empty());
    let found = certificate(&dump, victim.pid());
    found.expect("asked.by.pid", supervisor.pid());
    found.expect_within("asked.before_ns", 1_500_000_000..=3_000_000_000);
}

#[test]
fn a_child_that_asked_to_end_with_its_parent() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let parent = Program::named("parent").run(["orphan"]);
    let child = u32::try_from(parent.facts.number("child")).expect("process ids are small");
    // It is nobody's to wait for: init's, some time.
    let dump = loop {
        let dump = agent.trigger("an orphan");
        if !dump.about("process.exit", child).is_empty() {
            break dump;
        }
    };
    let text = format!(
        "Exit 137, not OOM: its parent {} ended, and it had asked for SIGKILL then (PR_SET_PDEATHSIG)",
        name(&parent)
    );
    expect(&dump, child, "parent_died", &text);
    let fatal = dump.cause(dump.only("process.exit", child));
    let exit = dump.only("process.exit", parent.pid());
    fatal.expect_same("cause", exit, "order");
}

#[test]
fn timeout_ends_what_takes_too_long() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let mut timeout = Command::new("timeout");
    let mut timeout = timeout
        .args(["1", "sleep", "100"])
        .spawn()
        .expect("coreutils are there");
    let pid = timeout.id();
    assert_eq!(timeout.wait().expect("it is ours").code(), Some(124));
    let dump = agent.trigger("timeout");
    let exits = dump.matching("process.exit", "process.ppid", &pid.into());
    let [sleep] = exits.as_slice() else {
        panic!("{exits:#?}");
    };
    let sleep = u32::try_from(sleep.number("body.process.pid")).expect("process ids are small");
    let text = format!("Exit 143: SIGTERM from its parent timeout[{pid}]");
    expect(&dump, sleep, "killed", &text);
}

/// Waits for a watched process and returns its dump.
#[track_caller]
fn watched(ended: &Ended, agent: &Agent) -> Dump {
    agent.dump_of(ended.pid())
}

#[test]
fn codes_of_their_own() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&recorder_tests::Options::with(["--watch", "service"]));
    let service = Program::named("service");
    let three = service.run(["exit", "3"]);
    let dump = watched(&three, &agent);
    let own = "Exit 3 by its own exit()";
    expect(&dump, three.pid(), "exit_failure", own);
    let as_killed = service.run(["exit", "137"]);
    let dump = watched(&as_killed, &agent);
    let own = "Exit 137 by its own exit(), not a signal";
    expect(&dump, as_killed.pid(), "exit_failure", own);

    let asked: Workload = service.start(["obey", "143"]);
    let target = asked.pid().to_string();
    let killer = Program::named("manager").run(["kill", "15", &target]);
    let asked = asked.wait();
    assert_eq!(asked.exit_code(), Some(143));
    let dump = watched(&asked, &agent);
    let found = certificate(&dump, asked.pid());
    let text = found.str("text");
    let ends = format!(" after SIGTERM from {}", name(&killer));
    assert!(
        text.starts_with("Exit 143 by its own exit(), not a signal, ") && text.ends_with(&ends),
        "{text}"
    );
    let sent = dump.cause(dump.only("process.exit", asked.pid()));
    sent.expect("type", "signal.sent");
}

#[test]
fn a_shell_that_passes_on_what_its_child_died_of() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&recorder_tests::Options::with(["--watch", "sh"]));
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", "sh -c 'kill -9 $$'; exit $?"]).spawn();
    let mut shell = shell.expect("every host has a shell");
    let pid = shell.id();
    assert_eq!(shell.wait().expect("it is ours").code(), Some(137));
    let dump = agent.trigger("a shell");
    let exit = dump.only("process.exit", pid);
    let child = dump.cause(exit);
    child.expect("body.process.ppid", pid);
    child.expect("body.signal.name", "SIGKILL");
}
