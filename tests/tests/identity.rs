//! Who a process was: named in the dump though it, its parent and its cgroup are gone.

use std::io::{PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use recorder_tests::host::guest::{is_one as is_guest, patience};
use recorder_tests::host::{MemoryCgroup, NamedCgroup, public_directory};
use recorder_tests::{Agent, Event, Json, Need, Options, Program, Workload, ready, recorder};
use rustix::process::Signal;

/// A container that is created, crashes and is removed within this time is named.
const SHORT_LIFE: Duration = Duration::from_millis(50);
/// Longer than the agent takes to look at processes that no record shows.
const LOOKED_AT: Duration = Duration::from_secs(7);

fn own_path() -> String {
    let path = std::env::current_exe().expect("procfs is mounted");
    path.to_str().expect("a plain path").to_owned()
}

/// The processes before the subject, nearest first.
fn parents(event: &Event) -> Vec<Json> {
    event.all("body.process.parents")
}

#[test]
fn a_process_older_than_the_agent_is_named_with_its_parents() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let program = Program::named("older");
    let build_id = program.build_id();
    let sleeper = program.start(["sleep"]);
    let agent = Agent::start();
    // Build IDs are read soon after, by a thread of their own.
    std::thread::sleep(patience(Duration::from_millis(300)));
    let pid = sleeper.pid();
    sleeper.signal(Signal::SEGV);
    sleeper.wait();
    // Nothing of it is left but the dump.
    let path = program.path().to_str().map(str::to_owned);
    drop(program);
    let dump = agent.dump_of(pid);
    for event in [
        dump.only("signal.fatal", pid),
        dump.only("process.exit", pid),
    ] {
        event.expect("body.process.exe", path.clone());
        event.expect("body.process.exe_build_id", build_id.clone());
        event.expect("body.process.user", "root");
        event.expect("body.process.ns_pid", pid);
        event.expect("body.process.ppid", std::process::id());
    }
    let parents = parents(dump.only("signal.fatal", pid));
    parents[0].expect("pid", std::process::id());
    parents[0].expect("exe", own_path());
    assert!(parents.len() > 1, "{parents:#?}");
}

#[test]
fn an_executable_has_its_real_path_and_not_the_one_it_was_called_by() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("real \u{1b}[31m name");
    let directory = public_directory();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(program.path(), &link).expect("ours");
    let called = Program::at(&link).run(["exit", "7"]);
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 5\n").expect("ours");
    recorder_tests::host::allow_everyone(&script);
    let mut relative = Command::new("./script");
    let mut child = relative
        .current_dir(directory.path())
        .spawn()
        .expect("it is a script");
    let script_pid = child.id();
    child.wait().expect("it ends");
    let dump = agent.trigger("real paths");
    let shell = std::fs::canonicalize("/bin/sh").expect("there is a shell");
    for (pid, filename, exe) in [
        (called.pid(), link.to_str(), program.path().to_str()),
        (script_pid, Some("./script"), shell.to_str()),
    ] {
        let exec = dump.only("process.exec", pid);
        exec.expect("body.filename", filename);
        exec.expect("body.process.exe", exe);
        let exit = dump.only("process.exit", pid);
        exit.expect("body.process.exe", exe);
    }
}

#[test]
fn a_container_that_lives_for_50_ms_is_named() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let agent = Agent::start();
    let program = Program::workload();
    // An emulated machine has to be given more for the same.
    let short_life = match is_guest() {
        true => SHORT_LIFE * 10,
        false => SHORT_LIFE,
    };
    // A busy machine may take longer than the promise is about: then once more.
    for attempt in 0..10_u32 {
        let id = format!("{:032x}{:032x}", std::process::id(), attempt);
        let born = Instant::now();
        let cgroup = NamedCgroup::new(&format!("docker-{id}.scope"));
        let (path, number) = (cgroup.name(), cgroup.id());
        let mut entrance = std::fs::OpenOptions::new()
            .write(true)
            .open(cgroup.processes())
            .expect("it is ours");
        let mut command = program.command(["abort"]);
        // SAFETY: the closure makes one system call, on a descriptor that is open.
        unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
        let ended = Workload::start(&mut command).wait();
        drop(cgroup);
        let life = born.elapsed();
        if life > short_life {
            println!("it lived for {life:?}");
            continue;
        }
        println!("created, crashed and removed in {life:?}");
        let pid = ended.pid();
        let dump = agent.dump_of(pid);
        for kind in ["process.exec", "signal.fatal", "process.exit"] {
            let event = dump.only(kind, pid);
            event.expect("body.process.cgroup_id", number);
            event.expect("body.process.cgroup", path.clone());
            event.expect("body.process.container_id", id.clone());
            event.expect("body.process.runtime", "docker");
            event.expect("body.process.unit", format!("docker-{id}.scope"));
            event.expect("body.process.exe", program.path().to_str());
            event.expect("body.process.exe_build_id", program.build_id());
            event.expect_absent("body.process.pod_uid");
        }
        for kind in ["cgroup.mkdir", "cgroup.rmdir"] {
            let change = dump.matching(kind, "container_id", &id.clone().into());
            assert_eq!(change.len(), 1, "{kind}");
            change[0].expect("body.id", number);
            change[0].expect("body.hierarchy", 0);
            change[0].expect("body.process.pid", std::process::id());
        }
        return;
    }
    panic!("this machine takes longer than {short_life:?} for a process");
}

/// Starts a workload inside a cgroup.
fn start_inside(cgroup: &NamedCgroup, program: &Program, arguments: &[&str]) -> Workload {
    start_through(&cgroup.processes(), program, arguments)
}

fn start_through(entrance: &Path, program: &Program, arguments: &[&str]) -> Workload {
    let mut entrance = std::fs::OpenOptions::new()
        .write(true)
        .open(entrance)
        .expect("it is ours");
    let mut command = program.command(arguments);
    // SAFETY: the closure makes one system call, on a descriptor that is open.
    unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
    Workload::start(&mut command)
}

#[test]
fn an_exit_has_its_unit_where_nobody_mounts_the_unified_hierarchy() {
    /// Takes it out of the agent's sight; a host that has its controllers there has no other.
    const WITHOUT: &str = r#"
        if grep -q ' - cgroup cgroup [^ ]*memory' /proc/self/mountinfo; then
            for mount in $(awk '/ - cgroup2 / {print $5}' /proc/self/mountinfo); do umount "$mount" || exit; done
        fi
        exec "$@"
    "#;
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup]) {
        return;
    }
    let agent = Agent::start_with(&Options {
        through: ["unshare", "--mount", "sh", "-c", WITHOUT, "sh"]
            .map(Into::into)
            .into(),
        ..Options::default()
    });
    let unit = format!("recorder-{}-unified.service", std::process::id());
    let cgroup = MemoryCgroup::named(&unit, 64 << 20);
    let program = Program::named("placed");
    let left = start_through(&cgroup.processes(), &program, &["exit", "3"]).wait();
    let crashed = start_through(&cgroup.processes(), &program, &["segv-write", "0x1234"]).wait();
    let dump = agent.dump_of(crashed.pid());
    for (topic, pid) in [
        ("process.exec", left.pid()),
        ("process.exit", left.pid()),
        ("signal.fatal", crashed.pid()),
        ("process.exit", crashed.pid()),
    ] {
        let event = dump.only(topic, pid);
        event.expect("body.process.unit", unit.clone());
        event.expect("body.process.cgroup_id", cgroup.id());
    }
}

#[test]
fn the_units_of_a_victim_and_of_its_killer_are_named() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let agent = Agent::start();
    let own = std::process::id();
    let unit = |name: &str| format!("recorder-{own}-{name}.service");
    let (victims, killers) = (unit("victim"), unit("killer"));
    let (inside, beside) = (NamedCgroup::new(&victims), NamedCgroup::new(&killers));
    let (program, assassin) = (Program::named("victim"), Program::named("assassin"));
    let victim = start_inside(&inside, &program, &["sleep"]);
    let target = victim.pid().to_string();
    let killer = start_inside(&beside, &assassin, &["kill", "11", &target]).wait();
    let victim = victim.wait();
    let dump = agent.dump_of(victim.pid());
    let (exe, killed_by) = (program.path().to_str(), assassin.path().to_str());
    // In the file beside the dump, and in the dump.
    for subject in [
        dump.sidecar().at("incident.subject"),
        dump.metadata("recorder.incident").at("subject"),
    ] {
        subject.expect("unit", victims.clone());
        subject.expect("cgroup", inside.name());
        subject.expect("exe", exe);
        subject.expect("exe_build_id", program.build_id());
    }
    let fatal = dump.only("signal.fatal", victim.pid());
    fatal.expect("body.process.unit", victims.clone());
    fatal.expect("body.sender.pid", killer.pid());
    fatal.expect("body.sender.unit", killers.clone());
    fatal.expect("body.sender.cgroup", beside.name());
    fatal.expect("body.sender.exe", killed_by);
    let certificates = dump.sidecar().all("deaths.certificates");
    let certificate = certificates
        .iter()
        .find(|certificate| certificate.get("process.pid") == Some(&victim.pid().into()))
        .expect("it died");
    certificate.expect("process.unit", victims.clone());
    certificate.expect("process.exe_build_id", program.build_id());
    certificate.expect("sender.unit", killers.clone());
    certificate.expect("sender.exe", killed_by);

    // A request that does not end it: signal.sent.
    let stubborn = start_inside(&inside, &program, &["stubborn", "handle"]);
    let target = stubborn.pid().to_string();
    start_inside(&beside, &assassin, &["kill", "15", &target]).wait();
    stubborn.signal(Signal::KILL);
    let stubborn = stubborn.wait();
    let dump = agent.trigger("asked");
    let sent = dump.only("signal.sent", stubborn.pid());
    sent.expect("body.process.unit", victims);
    sent.expect("body.process.exe", exe);
    sent.expect("body.sender.unit", killers);
    sent.expect("body.sender.exe", killed_by);
}

/// Forks a child that executes nothing, does `first` and aborts. Returns its pid.
fn fork_and_abort(first: impl FnOnce()) -> i32 {
    // SAFETY: the child calls nothing that another thread may hold a lock of.
    match unsafe { libc::fork() } {
        0 => {
            first();
            // SAFETY: the call takes two numbers.
            unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
            // SAFETY: it does not return.
            unsafe { libc::abort() }
        }
        child => child,
    }
}

fn wait_for(child: i32) {
    // SAFETY: a null status is allowed; the child is ours.
    let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert_eq!(waited, child, "it ended");
}

#[test]
fn a_child_that_executes_nothing_runs_its_parents_program() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let child = fork_and_abort(|| {});
    wait_for(child);
    let pid = u32::try_from(child).expect("pids are positive");
    let dump = agent.dump_of(pid);
    for kind in ["signal.fatal", "process.exit"] {
        dump.only(kind, pid).expect("body.process.exe", own_path());
        let build_id = Program::at(own_path().as_ref()).build_id();
        let named = dump.only(kind, pid);
        named.expect("body.process.exe_build_id", build_id);
    }
}

#[test]
fn a_build_id_is_that_of_the_file_that_ran_and_not_of_the_one_that_replaced_it() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("upgraded");
    let build_id = program.build_id();
    let before = program.start(["sleep"]);
    std::thread::sleep(patience(Duration::from_millis(300)));
    // An upgrade: another file at the same path, while the old one runs.
    let new = program.path().with_extension("new");
    let other = recorder([""; 0]);
    std::fs::copy(other.get_program(), &new).expect("there is room for tests");
    std::fs::rename(&new, program.path()).expect("it is ours");
    let after = Command::new(program.path()).arg("--version").output();
    assert!(after.expect("it runs").status.success());
    // Until the agent has read it: what nobody could read in time is absent.
    std::thread::sleep(patience(Duration::from_millis(500)));
    let new_build_id = program.build_id();
    assert_ne!(new_build_id, build_id);
    before.signal(Signal::SEGV);
    let before = before.wait();
    // Nobody can read either file any more.
    let path = program.path().to_str().expect("a plain path").to_owned();
    drop(program);
    let dump = agent.dump_of(before.pid());
    for kind in ["process.exec", "signal.fatal", "process.exit"] {
        let event = dump.only(kind, before.pid());
        event.expect("body.process.exe", path.clone());
        event.expect("body.process.exe_build_id", build_id.clone());
    }
    let exe = serde_json::Value::from(path);
    for kind in ["process.exec", "process.exit"] {
        let ran = dump.matching(kind, "process.exe", &exe);
        assert_eq!(ran.len(), 2, "{kind}: {ran:#?}");
        let event = ran
            .iter()
            .find(|event| event.number("body.process.pid") != i128::from(before.pid()));
        event
            .expect("the new one ran too")
            .expect("body.process.exe_build_id", new_build_id.clone());
    }
}

#[test]
fn a_program_that_only_a_mount_namespace_has_has_its_build_id() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let directory = public_directory();
    let program = Program::workload();
    let build_id = program.build_id();
    // Mounts a file system that only it sees, and executes from there. Nothing outside ever has this file.
    let script = "mount -t tmpfs none \"$1\" && cp \"$2\" \"$1/inner\" && \"$1/inner\" sleep & sleep 1; kill -SEGV $!; wait";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(directory.path()).arg(program.path());
    let output = command.output().expect("util-linux is there");
    println!("{}", String::from_utf8_lossy(&output.stderr));
    let dump = agent.dump_where("inner", |incident| incident.str("subject.comm") == "inner");
    let pid = u32::try_from(dump.incident().number("subject.pid")).expect("a pid");
    for kind in ["process.exec", "signal.fatal", "process.exit"] {
        let event = dump.only(kind, pid);
        let inner = directory.path().join("inner");
        event.expect("body.process.exe", inner.to_str());
        event.expect("body.process.exe_build_id", build_id.clone());
    }
}

/// Reads the pid that a process writes into the pipe.
fn read_pid(mut pipe: PipeReader) -> u32 {
    let mut bytes = [0; 4];
    pipe.read_exact(&mut bytes).expect("somebody writes it");
    u32::from_ne_bytes(bytes)
}

#[test]
fn a_daemon_whose_parent_is_gone_is_named_once_it_was_looked_at() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    for (lifetime, is_named) in [(LOOKED_AT, true), (Duration::from_millis(100), false)] {
        let (reader, mut writer) = std::io::pipe().expect("there are descriptors");
        // SAFETY: the child calls nothing that another thread may hold a lock of.
        let middle = unsafe { libc::fork() };
        if middle == 0 {
            fork_and_abort(|| {
                let _ = writer.write_all(&std::process::id().to_ne_bytes());
                std::thread::sleep(lifetime);
            });
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        wait_for(middle);
        let pid = read_pid(reader);
        let dump = agent.dump_of(pid);
        let fatal = dump.only("signal.fatal", pid);
        if is_named {
            fatal.expect("body.process.exe", own_path());
        } else if fatal.number("body.process.ppid") != i128::from(std::process::id()) {
            // Whoever took it in did not fork it: its program is not known, and not guessed.
            fatal.expect_absent("body.process.exe");
        }
    }
}

#[test]
fn a_process_in_a_pid_namespace_has_both_numbers() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("inside");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(program.path());
    let mut child = command
        .args(["exit", "3"])
        .spawn()
        .expect("util-linux is there");
    child.wait().expect("it ends");
    let dump = agent.trigger("a pid namespace");
    let name = serde_json::Value::from("inside");
    let exits = dump.matching("process.exit", "process.comm", &name);
    assert_eq!(exits.len(), 1, "{exits:#?}");
    exits[0].expect("body.process.ns_pid", 1);
    exits[0].expect("body.process.exe", program.path().to_str());
    exits[0].expect("body.process.ppid", child.id());
    assert!(exits[0].number("body.process.pid") > 1);
}

#[test]
fn secrets_in_arguments_are_not_in_the_dump() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let secrets = ["hunter-two", "url-secret", "own-secret"];
    let agent = Agent::start_with(&Options::with(["--redact-word", "ticket"]));
    let program = Program::workload();
    let shown = program.run(["args", "--port", "80"]);
    let hidden = program.run([
        "args",
        "--password=hunter-two",
        "--db-token",
        "hunter-two",
        "https://me:url-secret@host/path",
        "--ticket-no=own-secret",
    ]);
    let dump = agent.trigger("secrets");
    let exec = dump.only("process.exec", shown.pid());
    assert!(!exec.is_true("body.redacted"), "{exec}");
    exec.expect("body.argv.3", "80");
    let exec = dump.only("process.exec", hidden.pid());
    assert!(exec.is_true("body.redacted"), "{exec}");
    for (at, expected) in [
        "args",
        "--password=**********",
        "--db-token",
        "**********",
        "https://me:**********@host/path",
        "--ticket-no=**********",
    ]
    .into_iter()
    .enumerate()
    {
        exec.expect(&format!("body.argv.{}", at + 1), expected);
    }
    // Not in the ring either, which outlives the agent. What is elsewhere in memory is the kernel's ring alone.
    let ring = std::fs::read(agent.run_directory().join("ring")).expect("the agent keeps it there");
    for secret in secrets {
        let found = ring
            .windows(secret.len())
            .any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "{secret} is in the ring");
    }
    assert!(
        ring.windows(10).any(|bytes| bytes == b"--db-token"),
        "and the arguments are"
    );
}
