//! Rules of one's own: every example of docs/rules.md, on real failures.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use recorder_tests::host::{FailingDisk, MemoryCgroup, NamedCgroup};
use recorder_tests::{
    Agent, Dump, Ended, Json, Need, Options, Program, Workload, output, ready, recorder, skip,
    wait_for,
};
use rustix::process::Signal;
use tempfile::TempDir;

const USAGE: i32 = 2;
const PROBLEMS: i32 = 3;

/// An agent with a configuration file.
struct Ruled {
    agent: Agent,
    config: PathBuf,
    _directory: TempDir,
}

fn ruled(rules: &str, more: &[&str]) -> Ruled {
    let directory = TempDir::with_prefix("recorder-rules-").expect("there is room");
    let config = directory.path().join("recorder.toml");
    fs::write(&config, rules).expect("ours");
    let mut options = vec!["--config".into(), config.clone().into_os_string()];
    // A slow machine would have no samples to judge.
    options.extend(["--budget-cpu", "0%"].iter().chain(more).map(Into::into));
    let agent = Agent::start_with(&Options {
        cooldown: "60s",
        ..Options::with(options)
    });
    Ruled {
        agent,
        config,
        _directory: directory,
    }
}

impl Ruled {
    #[track_caller]
    fn dump_by(&self, rule: &str) -> Dump {
        self.agent
            .dump_where(rule, |incident| incident.str("rule") == rule)
    }

    fn dumps_by(&self, rule: &str) -> usize {
        let dumps = self.agent.dumps();
        dumps
            .iter()
            .filter(|dump| dump.incident().str("rule") == rule)
            .count()
    }

    #[track_caller]
    fn stats(&self, rule: &str) -> Json {
        let rules = self.agent.status().all("rules");
        let found = rules.into_iter().find(|one| one.str("name") == rule);
        found.unwrap_or_else(|| panic!("no rule {rule} in force"))
    }
}

/// Runs a workload inside a cgroup.
fn run_in(cgroup: &NamedCgroup, program: &Program, arguments: &[&str]) -> Ended {
    let mut command = program.command(arguments);
    enter(&mut command, &cgroup.processes());
    Workload::start(&mut command).wait()
}

/// Lets a command begin inside a cgroup.
fn enter(command: &mut Command, processes: &Path) {
    let mut entrance = fs::OpenOptions::new()
        .write(true)
        .open(processes)
        .expect("it is ours");
    // SAFETY: the closure makes one system call, on a descriptor that is open.
    unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
}

/// A process that is ended with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crash_loop_of_one_unit() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let unit = format!("recorder-test-{}.service", std::process::id());
    let ruled = ruled(
        &format!(
            "[[rule]]\nname = \"crash-loop\"\nevent = \"process.exit\"\n\
             when = 'process.unit == \"{unit}\" && exit_code != 0'\ncount = 3\nwithin = \"60s\"\n\
             by = [\"process.unit\"]\nbefore = \"2m\"\nafter = \"1s\"\ncooldown = \"10m\"\nseverity = \"high\"\n\
             tags = [\"crash-loop\"]\ncollectors = [\"none\"]\n"
        ),
        &[],
    );
    let cgroup = NamedCgroup::new(&unit);
    let program = Program::workload();
    // Elsewhere, or well: neither counts.
    program.run(["exit", "3"]);
    run_in(&cgroup, &program, &["exit", "0"]);
    for _ in 0..2 {
        run_in(&cgroup, &program, &["exit", "3"]);
    }
    ruled.stats("crash-loop").expect("matched", 2);
    ruled.stats("crash-loop").expect("fired", 0);
    let third = run_in(&cgroup, &program, &["exit", "3"]);
    let dump = ruled.dump_by("crash-loop");
    let incident = dump.incident();
    incident.expect("severity", "high");
    incident.expect("subject.pid", third.pid());
    assert_eq!(
        incident.get("tags"),
        Some(&serde_json::json!(["crash-loop"]))
    );
    assert!(
        incident
            .str("summary")
            .ends_with("exited with code 3 (3 within 60s)")
    );
    let trigger = incident.number("trigger.boot_ns");
    // A host may not have been up for so long.
    assert_eq!(
        incident.number("window_start_boot_ns"),
        (trigger - 120_000_000_000).max(0)
    );
    let exit = dump.only("process.exit", third.pid());
    exit.expect("body.process.unit", unit);
    // Its rule asks for no evidence.
    assert_eq!(
        dump.metadata("recorder.evidence").all("collectors").len(),
        0
    );
    ruled.stats("crash-loop").expect("errors", 0);
}

#[test]
fn a_named_service_that_ends_with_a_code() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let unit = format!("recorder-billing-{}.service", std::process::id());
    let ruled = ruled(
        &format!(
            "[[rule]]\nname = \"billing-exit\"\nevent = \"process.exit\"\n\
             when = 'process.unit == \"{unit}\" && exit_code != 0'\n"
        ),
        &[],
    );
    let cgroup = NamedCgroup::new(&unit);
    let program = Program::workload();
    run_in(&cgroup, &program, &["exit", "0"]);
    program.run(["exit", "3"]);
    let failed = run_in(&cgroup, &program, &["exit", "3"]);
    let dump = ruled.dump_by("billing-exit");
    dump.incident().expect("subject.pid", failed.pid());
    ruled.stats("billing-exit").expect("matched", 1);
}

#[test]
fn any_oom_kill_in_a_pod() {
    if !ready(&[
        Need::Root,
        Need::Btf,
        Need::Agent,
        Need::NamedCgroup,
        Need::MemoryCgroup,
    ]) {
        return;
    }
    let ruled = ruled(
        "[[rule]]\nname = \"pod-oom\"\nevent = \"oom.kill\"\nwhen = 'process.pod_uid != \"\"'\n\
         by = [\"process.pod_uid\"]\nseverity = \"critical\"\n",
        &[],
    );
    let memory = MemoryCgroup::with_limit(16 << 20);
    let procs = memory.processes();
    let hog = ["hog", procs.to_str().expect("UTF-8"), "0", "anonymous"];
    let program = Program::workload();
    let outside = program.run(hog);
    let dump = ruled.agent.dump_of(outside.pid());
    dump.incident().expect("rule", "oom-kill");
    let pod = format!(
        "kubepods-pod9a1b2c3d_4e5f_6071_8293_{:012x}.slice",
        std::process::id()
    );
    let inside = if memory.is_unified() {
        let cgroup = MemoryCgroup::named(&pod, 16 << 20);
        let procs = cgroup.processes();
        let procs = procs.to_str().expect("UTF-8");
        program.run(["hog", procs, "0", "anonymous"])
    } else {
        let cgroup = NamedCgroup::new(&pod);
        run_in(&cgroup, &program, &hog)
    };
    let dump = ruled.dump_by("pod-oom");
    dump.incident().expect("subject.pid", inside.pid());
    dump.incident().expect("severity", "critical");
    // One record, one dump: the built-in rule is named in it.
    assert_eq!(
        dump.incident().get("also"),
        Some(&serde_json::json!(["oom-kill"]))
    );
}

#[test]
fn more_than_five_errors_of_one_disk_in_a_minute() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::Loop]) {
        return;
    }
    let ruled = ruled(
        "[[rule]]\nname = \"io-error\"\nenabled = false\n\
         [[rule]]\nname = \"failing-disk\"\nevent = \"io.error\"\ncount = 6\nwithin = \"1m\"\nby = [\"device\"]\n",
        &[],
    );
    let disk = FailingDisk::new();
    let mut failed = 0;
    let mut errors = || {
        disk.io("write", FailingDisk::HOLE_SECTOR + 64, 4096);
        failed += 1;
        let stats = ruled.stats("failing-disk");
        (failed, stats.number("matched"), stats.number("fired"))
    };
    // One write may be several requests.
    loop {
        let (writes, matched, fired) = errors();
        assert!(fired == 0 || matched >= 6, "{matched} were enough");
        if fired > 0 {
            break;
        }
        assert!(writes < 20, "it does not fail: {matched}");
    }
    let dump = ruled.dump_by("failing-disk");
    dump.incident()
        .expect("subject.device", disk.device().number());
    assert_eq!(ruled.dumps_by("io-error"), 0, "it is turned off");
}

#[test]
fn a_kill_by_anyone_but_systemd() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ruled = ruled(
        "[[rule]]\nname = \"killed\"\nevent = \"signal.fatal\"\n\
         when = 'signal.name == \"SIGKILL\" && has(event.sender) && !sender.kernel && sender.comm != \"systemd\"'\n\
         by = [\"sender.comm\"]\n",
        &[],
    );
    let victim = Program::workload();
    let sleeper = victim.start(["sleep"]);
    let systemd = Program::named("systemd");
    let pid = sleeper.pid().to_string();
    systemd.run(["kill", "9", &pid]);
    sleeper.wait();
    let sleeper = victim.start(["sleep"]);
    let pid = sleeper.pid();
    let killer = Program::named("rogue");
    killer.run(["kill", "9", &pid.to_string()]);
    sleeper.wait();
    let dump = ruled.dump_by("killed");
    dump.incident().expect("subject.pid", pid);
    assert!(dump.incident().str("summary").contains("sent by rogue["));
    ruled.stats("killed").expect("fired", 1);
}

#[test]
fn crashes_of_different_programs_on_one_core() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ruled = ruled(
        "[[rule]]\nname = \"failing-core\"\nevent = \"signal.fatal\"\nwhen = 'signal.name == \"SIGSEGV\"'\n\
         count = 3\nwithin = \"10m\"\nby = [\"cpu\"]\ndistinct = [\"process.comm\"]\nseverity = \"critical\"\n",
        &[],
    );
    let crash = |program: &Program| {
        let status = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program.path())
            .args(["segv-write", "0x1234"])
            .output();
        status.expect("taskset is there");
    };
    let programs = ["core-one", "core-two", "core-three"].map(Program::named);
    for _ in 0..4 {
        crash(&programs[0]);
    }
    crash(&programs[1]);
    let stats = ruled.stats("failing-core");
    stats.expect("matched", 5);
    stats.expect("fired", 0);
    crash(&programs[2]);
    let incident = ruled.dump_by("failing-core").incident();
    incident.expect("severity", "critical");
    incident.expect("subject.comm", "core-three");
}

#[test]
fn a_program_that_crashes_at_once_is_known_by_its_executable() {
    const CRASHES: usize = 50;
    if !ready(&Need::RECORDING) {
        return;
    }
    let program = Program::named("at-once");
    let ruled = ruled(
        &format!(
            "[[rule]]\nname = \"at-once\"\nevent = \"signal.fatal\"\nwhen = 'process.exe == \"{}\"'\n\
             collectors = [\"none\"]\n",
            program.path().display()
        ),
        &[],
    );
    for _ in 0..CRASHES {
        program.run(["segv-write", "0x1234"]);
    }
    ruled.stats("at-once").expect("matched", CRASHES);
}

#[test]
fn names_that_nothing_has_are_told_before_they_are_trusted() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let good = "[[notify]]\nname = \"on-call\"\nkind = \"journal\"\nrules = [\"oom-kill\", \"manual\"]\n\
                [[rule]]\nname = \"r\"\nevent = \"oom.kill\"\nnotify = [\"on-call\"]\ncollectors = [\"none\"]\n";
    let ruled = ruled(good, &[]);
    let config = ruled.config.to_str().expect("UTF-8").to_owned();
    let check =
        |arguments: &[&str]| output(&mut recorder([&["rules", "check"], arguments].concat()));
    // What is checked, what is in force and what is said of both is one.
    let checked = check(&["--config", &config]).expect_code(0);
    assert_eq!(checked.text().trim(), "valid: 9 rules, 8 in force");
    let reloaded = ruled.agent.run(["reload"]).expect_code(0);
    assert_eq!(reloaded.text().trim(), "reloaded: 9 rules, 8 in force");
    for (right, wrong, line, told) in [
        (
            "notify = [\"on-call\"]",
            "notify = [\"oncall\"]",
            8,
            "rule \"r\": notify: no target \"oncall\": did you mean \"on-call\"?",
        ),
        (
            "rules = [\"oom-kill\"",
            "rules = [\"oom-kil\"",
            1,
            "notify \"on-call\": rules: no rule \"oom-kil\": did you mean \"oom-kill\"?",
        ),
        (
            "collectors = [\"none\"]",
            "collectors = [\"procss\"]",
            9,
            "rule \"r\": collectors: no collector \"procss\": did you mean",
        ),
    ] {
        fs::write(&ruled.config, good.replace(right, wrong)).expect("ours");
        let told = format!("{config}:{line}: {told}");
        let refused = check(&["--config", &config]).expect_code(USAGE);
        assert!(refused.to_string().contains(&told), "{told}: {refused}");
        let refused = ruled.agent.run(["reload"]).expect_code(1);
        assert!(refused.to_string().contains(&told), "{told}: {refused}");
        let refused = output(&mut recorder(["run", "--config", &config])).expect_code(USAGE);
        assert!(refused.to_string().contains(&told), "{told}: {refused}");
    }
    // A file of rules may refer to what the configuration defines, and to what it defines itself.
    fs::write(&ruled.config, good).expect("ours");
    let new = ruled.config.with_file_name("new.toml");
    let path = new.to_str().expect("UTF-8");
    let rule = |target: &str| {
        format!("[[rule]]\nname = \"n\"\nevent = \"oom.kill\"\nnotify = [\"{target}\"]\n")
    };
    for (text, code) in [
        (rule("on-call"), 0),
        (rule("other"), PROBLEMS),
        (
            format!(
                "{}[[notify]]\nname = \"other\"\nkind = \"journal\"\n",
                rule("other")
            ),
            0,
        ),
    ] {
        fs::write(&new, text).expect("ours");
        check(&["--config", &config, path]).expect_code(code);
    }
}

#[test]
fn samples_that_last_and_samples_that_change() {
    if !ready(&Need::RECORDING) {
        return;
    }
    // What the examples ask of a host in need, asked of one that is not.
    let ruled = ruled(
        "[[rule]]\nname = \"pressure\"\nevent = \"sample.system\"\n\
         when = 'pressure.exists(p, p.resource == \"memory\" && p.some.avg10_percent >= 0.0)'\nfor = \"2s\"\n\
         [[rule]]\nname = \"change\"\nevent = \"sample.system\"\n\
         when = 'memory.available_bytes != previous.memory.available_bytes && memory.total_bytes == previous.memory.total_bytes'\n\
         [[rule]]\nname = \"swap\"\nevent = \"sample.system\"\n\
         when = '(previous.memory.swap_free_bytes - memory.swap_free_bytes) * 100.0 / memory.swap_total_bytes > 4.0'\n\
         [[rule]]\nname = \"log\"\nevent = \"kernel.log\"\nwhen = 'text.contains(\"recorder-rules-test\")'\n",
        &["--sample-interval", "200ms"],
    );
    let pressure = ruled.dump_by("pressure").incident();
    assert!(pressure.str("summary").ends_with("(for 2s)"), "{pressure}");
    // That of a quiet machine does not change by itself.
    let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
    ruled.dump_by("change");
    drop(memory);
    fs::write("/dev/kmsg", "recorder-rules-test: hello\n").expect("this is root");
    let log = ruled.dump_by("log").incident();
    assert!(
        log.str("summary").contains("recorder-rules-test: hello"),
        "{log}"
    );
    ruled.stats("pressure").expect("fired", 1);
    ruled.stats("swap").expect("fired", 0);
}

#[test]
fn memory_pressure_before_anything_fails() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup]) {
        return;
    }
    // As the example, of a host that is less in need.
    let ruled = ruled(
        "[[rule]]\nname = \"memory-pressure\"\nevent = \"sample.system\"\n\
         when = 'pressure.exists(p, p.resource == \"memory\" && p.some.avg10_percent > 1)'\nfor = \"3s\"\n",
        &["--sample-interval", "500ms"],
    );
    let directory = recorder_tests::host::public_directory();
    let file = directory.path().join("file");
    let memory = MemoryCgroup::with_limit(16 << 20);
    // Its pages are those of the cgroup that first has them: three times what it may have.
    let mut write = Command::new("dd");
    write.args([
        "if=/dev/zero",
        "bs=1M",
        "count=48",
        "conv=fsync",
        "status=none",
    ]);
    write.arg(format!("of={}", file.display()));
    enter(&mut write, &memory.processes());
    if !write.status().expect("dd is there").success() {
        return skip("files are in memory here");
    }
    let readers: Vec<Running> = (0..3)
        .map(|_| {
            let mut read = Command::new("cat");
            read.args(vec![&file; 2000]);
            read.stdout(std::process::Stdio::null());
            enter(&mut read, &memory.processes());
            Running(read.spawn().expect("cat is there"))
        })
        .collect();
    let dump = ruled.dump_by("memory-pressure");
    drop(readers);
    let incident = dump.incident();
    assert!(incident.str("summary").ends_with("(for 3s)"), "{incident}");
    ruled.stats("memory-pressure").expect("fired", 1);
}

#[test]
fn swap_that_grows_from_one_sample_to_the_next() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup]) {
        return;
    }
    let swap = match recorder_tests::host::Swap::add(64 << 20) {
        Ok(swap) => swap,
        Err(why) => return skip(&why),
    };
    // The example, word for word.
    let ruled = ruled(
        "[[rule]]\nname = \"swap-growth\"\nevent = \"sample.system\"\nwhen = 'memory.swap_total_bytes > 0 && \
         (previous.memory.swap_free_bytes - memory.swap_free_bytes) * 100.0 / memory.swap_total_bytes > 4.0'\n",
        &[],
    );
    let memory = MemoryCgroup::with_limit(16 << 20);
    memory.may_swap();
    let processes = memory.processes();
    let bytes = (40 << 20).to_string();
    let hog = Program::workload().start([
        "hog",
        processes.to_str().expect("UTF-8"),
        "0",
        "anonymous",
        &bytes,
    ]);
    let dump = ruled.dump_by("swap-growth");
    dump.incident().expect("trigger.type", "sample.system");
    ruled.stats("swap-growth").expect("errors", 0);
    drop((hog, swap));
}

#[test]
fn a_condition_that_errs_is_told_and_recording_goes_on() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ruled = ruled(
        "[[rule]]\nname = \"errs\"\nevent = \"process.exit\"\nwhen = '100 / exit_code == 10'\n",
        &[],
    );
    let program = Program::workload();
    program.run(["exit", "0"]);
    let exit = program.run(["exit", "10"]);
    let dump = ruled.dump_by("errs");
    dump.incident().expect("subject.pid", exit.pid());
    let stats = ruled.stats("errs");
    assert!(stats.number("errors") >= 1, "{stats}");
    stats.expect("last_error", "it divides by zero");
    let notes = ruled.agent.notes();
    let told = notes
        .iter()
        .filter(|note| note.contains("rule \"errs\" errs"));
    assert_eq!(told.count(), 1, "{notes:?}");
    // The verdict says so, and so does what people read.
    let shown = ruled.agent.run(["status"]).expect_code(PROBLEMS);
    let shown = shown.text();
    assert!(shown.starts_with("degraded"), "{shown}");
    assert!(
        shown.contains("errs on a process.exit (it divides by zero)"),
        "{shown}"
    );
    assert!(shown.contains("errs could not be decided on "), "{shown}");
}

#[test]
fn over_the_limit_incidents_are_told_without_a_dump() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ruled = ruled("[limits]\ndumps_per_hour = 1\n", &[]);
    let first = Program::workload().run(["segv-write", "0x1234"]);
    ruled.agent.dump_of(first.pid());
    for _ in 0..3 {
        Program::workload().run(["fpe"]);
    }
    let status = ruled
        .agent
        .wait_for_status("three over the limit", |status| {
            status.number("incidents.limited") == 3
        });
    status.expect("incidents.opened", 1);
    ruled.agent.wait_for_note("no dump of");
    let notes = ruled.agent.notes();
    let told = notes
        .iter()
        .filter(|note| note.contains("no dump of"))
        .count();
    assert_eq!(told, 1, "{notes:?}");
    // A person is no failure.
    ruled.agent.trigger("all the same");
}

#[test]
fn a_reload_in_a_storm_misses_nothing_and_a_broken_one_changes_nothing() {
    const EXITS: usize = 300;
    if !ready(&Need::RECORDING) {
        return;
    }
    let kept = format!(
        "[[rule]]\nname = \"kept\"\nevent = \"process.exit\"\nwhen = 'process.comm == \"storm\" && exit_code == 7'\n\
         count = {EXITS}\nwithin = \"1h\"\n"
    );
    let ruled = ruled(&kept, &[]);
    let program = Program::named("storm");
    let reloads = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            for _ in 0..EXITS {
                program.run(["exit", "7"]);
            }
        });
        let mut reloads = 0;
        while !storm.is_finished() {
            let other = format!(
                "[[rule]]\nname = \"other-{reloads}\"\nevent = \"process.exit\"\nwhen = 'exit_code == {}'\n",
                200 + reloads % 50
            );
            // At once: half a file would be other rules.
            let new = ruled.config.with_extension("new");
            fs::write(&new, format!("{other}{kept}")).expect("ours");
            fs::rename(&new, &ruled.config).expect("ours");
            if reloads % 2 == 0 {
                ruled.agent.run(["reload"]).expect_code(0);
            } else {
                ruled.agent.signal(Signal::HUP);
            }
            reloads += 1;
        }
        storm.join().expect("every one of them ran");
        reloads
    });
    println!("{reloads} reloads during {EXITS} exits");
    assert!(reloads > 2);
    // Each exit was counted once, across all reloads.
    let dump = ruled.dump_by("kept");
    ruled.stats("kept").expect("matched", EXITS);
    ruled.stats("kept").expect("fired", 1);
    let notes = dump.matching("recorder.note", "kind", &"reload".into());
    assert!(notes.len() > 1, "{} notes", notes.len());

    fs::write(
        &ruled.config,
        format!("{kept}[[rule]]\nname = \"bad\"\nevent = \"io.eror\"\n"),
    )
    .expect("ours");
    let refused = ruled.agent.run(["reload"]).expect_code(1);
    let said = refused.to_string();
    assert!(
        said.contains("recorder.toml:9: rule \"bad\": event: no type of event"),
        "{said}"
    );
    ruled.stats("kept").expect("matched", EXITS);
    let before = ruled.agent.notes().len();
    ruled.agent.signal(Signal::HUP);
    wait_for("it says something", || ruled.agent.notes().len() > before);
    let notes = ruled.agent.notes();
    let last = notes.last().expect("it said something");
    assert!(
        last.contains("not reloaded, the old rules stay in force"),
        "{last}"
    );
}

#[test]
fn rules_are_tried_before_they_are_trusted() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let ruled = ruled("", &[]);
    let program = Program::named("rehearsed");
    for _ in 0..4 {
        program.run(["exit", "9"]);
    }
    let rules = ruled.config.with_file_name("new.toml");
    let text = "[[rule]]\nname = \"new\"\nevent = \"process.exit\"\n\
                when = 'process.comm == \"rehearsed\" && exit_code == 9 && process.exe.endsWith(\"/rehearsed\")'\n\
                count = 2\nwithin = \"1m\"\n";
    fs::write(&rules, text).expect("ours");
    let path = rules.to_str().expect("UTF-8");
    let check = |told: Json| {
        let rules = told.all("rehearsal.rules");
        let new = rules.iter().find(|rule| rule.str("name") == "new");
        let new = new.unwrap_or_else(|| panic!("{told}"));
        new.expect("matched", 4);
        new.expect("fired", 2);
        new.expect("dumps", 1);
        // On a busy machine the second comes after the window.
        assert_eq!(new.number("joined") + new.number("counted"), 1, "{new}");
        assert!(new.number("bytes") > 0, "{new}");
        let incidents = told.all("rehearsal.incidents");
        assert!(
            incidents.iter().any(|one| one.str("rule") == "new"),
            "{told}"
        );
    };
    let live = ruled
        .agent
        .run(["rules", "test", "--live", "--json", "--rules", path]);
    check(live.expect_code(0).json());
    let dump = ruled.agent.trigger("to try rules on");
    let tried = ruled.agent.run([
        Path::new("rules").as_os_str(),
        "test".as_ref(),
        "--json".as_ref(),
        "--rules".as_ref(),
        rules.as_os_str(),
        dump.path().as_os_str(),
    ]);
    check(tried.expect_code(0).json());
    let text = ruled
        .agent
        .run(["rules", "test", "--live", "--rules", path])
        .expect_code(0);
    assert!(text.text().contains("new "), "{text}");
    assert_eq!(ruled.dumps_by("new"), 0, "nothing was really made");
}

#[test]
fn rules_are_checked_and_explained_without_an_agent() {
    if !ready(&[Need::Agent]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-rules-").expect("there is room");
    let good = directory.path().join("good.toml");
    let bad = directory.path().join("bad.toml");
    fs::write(&good, "[[rule]]\nname = \"a\"\nevent = \"oom.kill\"\n").expect("ours");
    fs::write(
        &bad,
        "[[rule]]\nname = \"b\"\nevent = \"oom.kill\"\nwhen = 'proces.pid == 1'\n",
    )
    .expect("ours");
    output(recorder(["rules", "check"]).arg(&good)).expect_code(0);
    let told = output(recorder(["rules", "check", "--json"]).arg(&good).arg(&bad))
        .expect_code(PROBLEMS)
        .json();
    let faults = told.all("faults");
    assert_eq!(faults.len(), 1);
    faults[0].expect("line", 4);
    assert!(
        faults[0].str("text").contains("did you mean \"process\"?"),
        "{told}"
    );
    // The whole configuration is checked as well.
    output(recorder(["config", "check", "--config"]).arg(&bad)).expect_code(USAGE);
    output(recorder(["rules", "check", "--config"]).arg(&bad)).expect_code(USAGE);
    let shown =
        output(recorder(["config", "show", "--effective", "--config"]).arg(&good)).expect_code(0);
    for part in [
        "[[rule]]  # built in",
        "name = \"fatal-signal\"",
        "name = \"a\"",
    ] {
        assert!(shown.text().contains(part), "{part}: {shown}");
    }
    // What is printed can be read back.
    let printed = directory.path().join("printed.toml");
    fs::write(&printed, shown.text()).expect("ours");
    output(recorder(["config", "check", "--config"]).arg(&printed)).expect_code(0);
    let fields = output(&mut recorder(["rules", "fields", "process.exit"])).expect_code(0);
    assert!(fields.text().contains("process.unit"), "{fields}");
    assert!(fields.text().contains("Argument of exit()"), "{fields}");
    output(&mut recorder(["rules", "fields", "proces.exit"])).expect_code(1);
}
