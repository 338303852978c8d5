//! Evidence: collectors that do as they should, and collectors that do everything else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::host::{FileSystem, MemoryCgroup};
use recorder_tests::{
    Agent, Dump, Json, Need, Options, Program, Workload, output, python_script, ready, recorder,
    wait_for,
};
use rustix::process::Signal;
use tempfile::TempDir;

/// A directory with a configuration.
struct Configured(TempDir);

impl Configured {
    fn new(collectors: &str) -> Self {
        let directory = TempDir::with_prefix("recorder-evidence-").expect("there is room");
        fs::write(directory.path().join("recorder.toml"), collectors).expect("ours");
        Self(directory)
    }

    fn options(&self, more: &[&str]) -> Options {
        let config = self.0.path().join("recorder.toml");
        let config = config.to_str().expect("a plain path");
        Options::with(["--config", config].iter().chain(more))
    }
}

/// Returns what became of a collector.
#[track_caller]
fn report(dump: &Dump, name: &str) -> Json {
    let evidence = dump.metadata("recorder.evidence");
    let reports = evidence.all("collectors");
    let report = reports.iter().find(|one| one.str("name") == name);
    report
        .unwrap_or_else(|| panic!("nothing of {name} in {evidence}"))
        .clone()
}

/// Returns what a collector put out.
#[track_caller]
fn evidence(dump: &Dump, name: &str) -> String {
    let mut command = recorder(["extract"]);
    command.arg(dump.path()).args([name, "--output", "-"]);
    output(&mut command).expect_code(0).text().to_owned()
}

/// Returns whether a process with this among its arguments is left.
fn is_left(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    let mut command_lines =
        processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    command_lines.any(|line| {
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}

#[test]
fn a_shell_script_and_a_python_program_are_told_of_the_incident() {
    if !ready(&[&Need::RECORDING[..], &[Need::Python]].concat()) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-evidence-").expect("there is room");
    let script = directory.path().join("collect.sh");
    let text = "printf 'pid %s rule %s event %s\\n' \"$RECORDER_PID\" \"$RECORDER_RULE\" \"$RECORDER_EVENT\"\n\
                echo \"$1|$TOKEN|$RECORDER_STATE_DIR\"; echo warned >&2";
    fs::write(&script, text).expect("ours");
    let program = directory.path().join("collect.py");
    let text = "import json, os\nprint(json.dumps(dict(os.environ)))\n";
    fs::write(&program, text).expect("ours");
    let python = python_script("read_dump.py", [""; 0]);
    let python = Path::new(python.get_program());
    let configured = Configured::new(&format!(
        "[[collector]]\nname = \"shell.txt\"\ncommand = [\"/bin/sh\", {script:?}, \"a b\"]\nrules = [\"fatal-signal\"]\n\
         environment = {{ TOKEN = \"t0p-secret\" }}\n\
         [[collector]]\nname = \"python.json\"\ncommand = [{python:?}, {program:?}]\n\
         [[collector]]\nname = \"not-for-this\"\ncommand = [\"true\"]\nrules = [\"io-error\"]\n\
         [[collector]]\nname = \"switched-off\"\ncommand = [\"true\"]\nenabled = false\n"
    ));
    let agent = Agent::start_with(&configured.options(&[]));
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());

    let shell = report(&dump, "shell.txt");
    shell.expect("state", "done");
    shell.expect("exit_code", 0);
    shell.expect("stderr", "warned");
    shell.expect("command.2", "a b");
    shell.expect_within("started_after_ns", 0..=1_000_000_000);
    shell.expect_within("duration_ns", 1..=1_000_000_000);
    let expected = format!(
        "pid {} rule fatal-signal event signal.fatal\na b|t0p-secret|\n",
        ended.pid()
    );
    assert_eq!(evidence(&dump, "shell.txt"), expected);
    shell.expect("bytes", expected.len());

    report(&dump, "python.json").expect("state", "done");
    let environment = Json::parse(&evidence(&dump, "python.json"));
    environment.expect("RECORDER_PID", ended.pid().to_string());
    environment.expect("RECORDER_INCIDENT", dump.incident().str("id"));
    environment.expect("RECORDER_COMM", ended.facts.str("comm"));
    environment.expect_absent("TOKEN");
    environment.expect_absent("RECORDER_CONFIG");

    let all = dump.metadata("recorder.evidence");
    let names: Vec<String> = all
        .all("collectors")
        .iter()
        .map(|one| one.str("name").to_owned())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name == "not-for-this" || name == "switched-off"),
        "{names:?}"
    );
    // The configuration in the dump does not give the secret away.
    let config = dump.metadata("recorder.config").to_string();
    assert!(
        config.contains("TOKEN") && !config.contains("t0p-secret"),
        "{config}"
    );

    // A stranger reads it all.
    let read = output(&mut python_script("read_attachments.py", [dump.path()]));
    let read = read.expect_code(0).json();
    let attachment = &read.value()["attachments"]["shell.txt"];
    assert_eq!(attachment["text"], expected.as_str());
    assert_eq!(attachment["media_type"], "text/plain");
    let attachments = read.value()["attachments"].as_object().expect("an object");
    read.expect("stated", attachments.len());
    assert!(
        attachments["memory.txt"]["text"]
            .as_str()
            .expect("text")
            .contains("MemAvailable")
    );
}

#[test]
fn collectors_that_misbehave_are_contained_and_reported() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let configured = Configured::new(
        "[[collector]]\nname = \"hangs\"\ncommand = [\"sh\", \"-c\", \"echo so far; trap '' TERM; sleep 86401\"]\ntimeout = \"300ms\"\n\
         [[collector]]\nname = \"floods\"\ncommand = [\"yes\", \"86402\"]\nmax_bytes = \"64KiB\"\n\
         [[collector]]\nname = \"forks\"\ncommand = [\"sh\", \"-c\", \"setsid sleep 86403 & (setsid setsid sleep 86404 &) ; sleep 0.2; echo left\"]\n\
         [[collector]]\nname = \"crashes\"\ncommand = [\"sh\", \"-c\", \"echo before; kill -SEGV $$\"]\n\
         [[collector]]\nname = \"crashes-below\"\ncommand = [\"sh\", \"-c\", \"sh -c 'kill -ABRT $$'; exit 3\"]\n\
         [[collector]]\nname = \"missing\"\ncommand = [\"/nonexistent/program\"]\n\
         [[collector]]\nname = \"greedy\"\ncommand = [\"awk\", \"BEGIN { x = 1; while (1) x = x x }\"]\nmemory = \"64MiB\"\n",
    );
    // The exits of collectors are not watched either.
    let agent = Agent::start_with(&configured.options(&[
        "--watch",
        "sh",
        "--watch",
        "yes",
        "--evidence-grace",
        "60s",
    ]));
    let dump = agent.trigger("misbehaving");

    let hangs = report(&dump, "hangs");
    hangs.expect("state", "timed_out");
    hangs.expect("truncated", true);
    let longest = patience(Duration::from_secs(1)).as_nanos() as i128;
    hangs.expect_within("duration_ns", 300_000_000..=longest);
    assert_eq!(evidence(&dump, "hangs"), "so far\n");
    let floods = report(&dump, "floods");
    floods.expect("state", "over_limit");
    floods.expect("bytes", 64 << 10);
    floods.expect("truncated", true);
    let forks = report(&dump, "forks");
    forks.expect("state", "done");
    forks.expect("killed", 2);
    assert_eq!(evidence(&dump, "forks"), "left\n");
    let crashes = report(&dump, "crashes");
    crashes.expect("state", "crashed");
    crashes.expect("signal", 11);
    assert_eq!(evidence(&dump, "crashes"), "before\n");
    let below = report(&dump, "crashes-below");
    below.expect("state", "failed");
    below.expect("exit_code", 3);
    let missing = report(&dump, "missing");
    missing.expect("state", "not_started");
    assert!(missing.str("detail").contains("No such file"), "{missing}");
    let greedy = report(&dump, "greedy");
    greedy.expect("state", "failed");
    assert!(greedy.str("stderr").contains("out of memory"), "{greedy}");
    for number in ["86401", "86402", "86403", "86404"] {
        assert!(!is_left(number), "{number}");
    }

    // What they did is on record, and none of it was an incident.
    let again = agent.trigger("what they did");
    let crashed = again.matching("signal.fatal", "signal.name", &"SIGSEGV".into());
    assert!(
        !crashed.is_empty(),
        "the crash of the collector is an event"
    );
    agent.status().expect("incidents.opened", 2);
    assert_eq!(agent.dumps().len(), 2);

    let shown = output(recorder(["show"]).arg(dump.path())).expect_code(0);
    for line in [
        "hangs",
        "timed out",
        "forks",
        "2 processes that it left were killed",
        "signal 11",
    ] {
        assert!(shown.text().contains(line), "no {line} in {shown}");
    }
}

#[test]
fn secrets_of_a_command_are_hidden_and_it_runs_as_the_user_it_is_for() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let configured = Configured::new(
        "[[collector]]\nname = \"who\"\nuser = \"nobody\"\ncommand = [\"sh\", \"-c\", \"id -u; id -G; id -gn; echo $2\", \"sh\", \"--password\", \"hunter-two\"]\n\
         [[collector]]\nname = \"nobody-there\"\nuser = \"no-such-user\"\ncommand = [\"true\"]\n",
    );
    let agent = Agent::start_with(&configured.options(&[]));
    let dump = agent.trigger("who");
    let who = report(&dump, "who");
    who.expect("state", "done");
    who.expect("command.4", "--password");
    who.expect("command.5", "**********");
    let said = evidence(&dump, "who");
    let lines: Vec<&str> = said.lines().collect();
    // The command itself has its secret; what is told of it does not.
    assert!(
        matches!(lines[..], ["65534", "65534", "nogroup", "hunter-two"]),
        "{said}"
    );
    let config = dump.metadata("recorder.config");
    assert!(!config.to_string().contains("hunter-two"), "{config}");
    assert!(config.to_string().contains("--password"), "{config}");
    let missing = report(&dump, "nobody-there");
    missing.expect("state", "not_started");
    assert!(missing.str("detail").contains("no user"), "{missing}");
    // As the report of the incident shows it.
    let told = output(recorder(["report"]).arg(dump.path())).expect_code(0);
    for name in ["who", "nobody-there"] {
        assert!(told.text().contains(name), "no {name} in {told}");
    }
}

#[test]
fn no_end_of_a_collector_is_an_incident() {
    if !ready(&[&Need::RECORDING[..], &[Need::MemoryCgroup]].concat()) {
        return;
    }
    let configured = Configured::new(
        "[[collector]]\nname = \"hog\"\nmemory = \"1GiB\"\ntimeout = \"60s\"\ncommand = [\"awk\", \"BEGIN { x = 1; while (1) x = x x }\"]\n\
         [[collector]]\nname = \"inside\"\ncommand = [\"unshare\", \"--pid\", \"--fork\", \"sh\", \"-c\", \"sh -c 'kill -SEGV $$'; (setsid sh -c 'sleep 0.1; kill -ABRT $$' &) ; sleep 0.3; echo done\"]\n",
    );
    let agent = Agent::start_with(&configured.options(&[
        "--watch",
        "sh",
        "--watch",
        "awk",
        "--evidence-grace",
        "60s",
    ]));
    // The agent and what it starts: there is room for all of it but the hog.
    let cgroup = MemoryCgroup::with_limit(192 << 20);
    fs::write(cgroup.processes(), agent.pid().to_string()).expect("it is ours");
    // Where the memory of who died is slow to come back the kernel kills again: these, and nobody who is looked at.
    let processes = cgroup.processes();
    let processes = processes.to_str().expect("a plain path");
    let spare = ["hog", processes, "1000", "anonymous", "1048576"];
    let spare: Vec<Workload> = (0..4).map(|_| Program::workload().start(spare)).collect();
    let dump = agent.trigger("collectors that die");
    drop(spare);
    let hog = report(&dump, "hog");
    hog.expect("state", "crashed");
    hog.expect("signal", 9);
    assert_eq!(evidence(&dump, "inside"), "done\n");
    assert!(cgroup.kills() >= 1, "the hog was killed for memory");
    let again = agent.trigger("what they did");
    for (kind, field, value) in [
        ("oom.kill", "process.comm", "awk"),
        ("signal.fatal", "signal.name", "SIGSEGV"),
        ("signal.fatal", "signal.name", "SIGABRT"),
    ] {
        let events = again.matching(kind, field, &value.into());
        assert!(!events.is_empty(), "no {kind} of {value}");
    }
    // But for the two asked for, there are at most those of who is no collector.
    let opened = agent.status().number("incidents.opened");
    wait_for("the dumps of all incidents", || {
        agent.dumps().len() as i128 == opened
    });
    let is_spare = |dump: &&Dump| dump.incident().get("subject.comm") == Some(&"workload".into());
    let spare = agent.dumps().iter().filter(is_spare).count();
    assert_eq!(opened, 2 + spare as i128, "{}", agent.status());
    // The agent leaves the cgroup, which is removed.
    drop(agent);
}

#[test]
fn what_is_known_of_a_living_process_is_in_the_dump() {
    if !ready(&[&Need::RECORDING[..], &[Need::MemoryCgroup]].concat()) {
        return;
    }
    let agent = Agent::start();
    let subject = Program::workload().start(["sleep-in-threads", "3"]);
    let cgroup = MemoryCgroup::with_limit(64 << 20);
    fs::write(cgroup.processes(), subject.pid().to_string()).expect("the cgroup takes it");
    let pid = subject.pid();
    let trigger = agent.run(["trigger", "--reason", "stuck", "--pid", &pid.to_string()]);
    trigger.expect_code(0);
    let dump = agent.dump_of(pid);
    dump.incident()
        .expect_same("subject.comm", &subject.facts(), "comm");

    let process = report(&dump, "process.txt");
    process.expect("state", "done");
    let text = evidence(&dump, "process.txt");
    for part in [
        &format!("==> /proc/{pid}/status <==") as &str,
        "Max open files",
        &format!("==> /proc/{pid}/fd <=="),
        "[stack]",
        "VmRSS",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(
        text.matches("/stack <==").count(),
        4,
        "of every thread: {text}"
    );
    assert!(
        text.contains("do_syscall_64") || text.contains("el0_svc"),
        "{text}"
    );
    assert!(!text.contains("/environ"), "{text}");
    let text = evidence(&dump, "cgroup.txt");
    assert!(
        text.contains(&cgroup.path().display().to_string()),
        "{text}"
    );
    assert!(text.contains(&(64 << 20).to_string()), "its limit: {text}");
    let absent = agent.run(["trigger", "--pid", "4194304"]);
    absent.expect_code(1).expect_note("no process 4194304");
    subject.signal(Signal::KILL);
    drop(subject);
}

#[test]
fn a_process_that_is_gone_is_absent_and_its_cgroup_is_not() {
    if !ready(&[&Need::RECORDING[..], &[Need::MemoryCgroup]].concat()) {
        return;
    }
    let agent = Agent::start();
    let cgroup = MemoryCgroup::with_limit(32 << 20);
    let processes = cgroup.processes();
    let processes = processes.to_str().expect("a plain path");
    let ended = Program::workload()
        .start(["hog", processes, "0", "anonymous"])
        .wait();
    let dump = agent.dump_of(ended.pid());
    let text = evidence(&dump, "cgroup.txt");
    assert!(
        text.contains(&cgroup.path().display().to_string()),
        "{text}"
    );
    assert!(text.contains(&(32 << 20).to_string()), "its limit: {text}");

    // It may be caught on its way out, where little is left of it; mostly it is gone.
    for _ in 0..5 {
        let ended = Program::workload().run(["segv-write", "0x1234"]);
        let dump = agent.dump_of(ended.pid());
        let process = report(&dump, "process.txt");
        if process.str("state") == "absent" {
            assert!(process.str("detail").contains("has ended"), "{process}");
            process.expect_absent("attachment");
            return;
        }
        process.expect("state", "done");
    }
    panic!("five processes were still there");
}

#[test]
fn a_dump_waits_for_evidence_no_longer_than_it_may() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let configured = Configured::new(
        "[[collector]]\nname = \"slow\"\ncommand = [\"sh\", \"-c\", \"echo so far; sleep 86405; echo never\"]\ntimeout = \"60s\"\n",
    );
    let grace = format!("{}ms", patience(Duration::from_secs(1)).as_millis());
    let agent = Agent::start_with(&Options {
        after: "300ms",
        ..configured.options(&["--evidence-grace", &grace])
    });
    let start = Instant::now();
    let dump = agent.trigger("slow");
    let elapsed = start.elapsed();
    assert!(elapsed < patience(Duration::from_secs(3)), "{elapsed:?}");
    let slow = report(&dump, "slow");
    slow.expect("state", "late");
    slow.expect("truncated", true);
    assert_eq!(evidence(&dump, "slow"), "so far\n");
    assert!(!is_left("86405"));
}

#[test]
fn collectors_end_with_an_agent_that_is_killed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let configured = Configured::new(
        "[[collector]]\nname = \"orphan\"\ncommand = [\"sh\", \"-c\", \"setsid sleep 86406 & sleep 86407\"]\ntimeout = \"60s\"\n",
    );
    let agent = Agent::start_with(&configured.options(&[]));
    agent.run(["trigger"]).expect_code(0);
    let wait_for = |what: bool| {
        wait_for(&format!("one of them is left: {what}"), || {
            (is_left("86406") || is_left("86407")) == what
        });
    };
    wait_for(true);
    agent.signal(Signal::KILL);
    wait_for(false);
}

#[test]
fn evidence_can_be_switched_off() {
    if !ready(&Need::RECORDING) {
        return;
    }
    for off in [
        &["--evidence", "false"][..],
        &["--evidence-builtin", "none"],
    ] {
        let agent = Agent::start_with(&Options::with(off));
        let dump = agent.trigger("nothing beside the events");
        let evidence = dump.metadata("recorder.evidence");
        assert!(evidence.all("collectors").is_empty(), "{evidence}");
        let list = output(recorder(["extract"]).arg(dump.path())).expect_code(0);
        assert_eq!(list.text(), "");
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_costs_nothing_that_was_captured() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-evidence-").expect("there is room");
    let state = directory.path().join("state");
    fs::create_dir(&state).expect("ours");
    let disk = FileSystem::in_memory(16 << 20).mount(&state);
    let (filler, full) = (disk.path("filler"), directory.path().join("full"));
    let begun = directory.path().join("begun");
    // The first fills the disk once the second has begun, waits, and makes room again; the second writes before and after.
    let fill = format!(
        "while [ ! -e {begun} ]; do sleep 0.02; done; cat /dev/zero > {filler}; touch {full}; sleep 1; rm {filler}",
        begun = begun.display(),
        filler = filler.display(),
        full = full.display()
    );
    let write = format!(
        "echo before; touch {begun}; while [ ! -e {full} ]; do sleep 0.02; done; head -c 200000 /dev/zero; echo after",
        begun = begun.display(),
        full = full.display()
    );
    let configured = Configured::new(&format!(
        "[[collector]]\nname = \"fills\"\ncommand = [\"sh\", \"-c\", {fill:?}]\nmax_bytes = \"256KiB\"\n\
         [[collector]]\nname = \"writes\"\ncommand = [\"sh\", \"-c\", {write:?}]\nmax_bytes = \"256KiB\"\n"
    ));
    let options = configured.options(&[
        "--evidence-builtin",
        "memory",
        // Two at once: one writes what it knows of memory, and then what there is no room for.
        "--evidence-parallel",
        "2",
        "--evidence-grace",
        "10s",
        "--dumps-keep-free",
        "0",
        "--max-dump-bytes",
        "4MiB",
        "--dumps-max-bytes",
        "8MiB",
    ]);
    let agent = Agent::start_in(directory.path(), &options);
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    report(&dump, "fills").expect("stderr", "cat: write error: No space left on device");
    let writes = report(&dump, "writes");
    writes.expect("state", "over_limit");
    writes.expect("detail", "the file system was full");
    writes.expect("truncated", true);
    assert!(evidence(&dump, "writes").starts_with("before\n"));
    assert!(evidence(&dump, "memory.txt").contains("MemTotal"));
    dump.only("signal.fatal", ended.pid());
    output(recorder(["verify"]).arg(dump.path())).expect_code(0);
}

#[test]
fn extracting_replaces_nothing_and_leaves_no_directory() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let dump = agent.trigger("to be extracted");
    let directory = TempDir::with_prefix("recorder-evidence-").expect("there is room");
    let into = directory.path().join("new");
    let extract = |more: &[&str]| {
        let mut command = recorder(["extract"]);
        command
            .arg(dump.path())
            .args(more)
            .arg("--output")
            .arg(&into);
        output(&mut command)
    };
    let written = extract(&[]).expect_code(0);
    let names: Vec<&str> = written
        .text()
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .collect();
    assert!(names.contains(&"memory.txt"), "{written}");
    let memory = into.join("memory.txt");
    fs::write(&memory, "mine").expect("ours");
    extract(&["memory.txt"])
        .expect_code(1)
        .expect_note("--force");
    assert_eq!(fs::read_to_string(&memory).expect("it is there"), "mine");
    fs::remove_file(&memory).expect("ours");
    let target = directory.path().join("target");
    symlink(&target, &memory).expect("ours");
    extract(&["memory.txt"]).expect_code(1);
    extract(&["memory.txt", "--force"]).expect_code(0);
    assert!(!target.exists() && memory.is_file());
    extract(&["memori.txt"])
        .expect_code(1)
        .expect_note("did you mean \"memory.txt\"?");
    let listed = output(recorder(["extract", "--json"]).arg(dump.path())).expect_code(0);
    assert!(
        listed
            .json_lines()
            .iter()
            .any(|line| line.str("name") == "memory.txt")
    );
}
