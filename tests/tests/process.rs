//! Processes that come and go: what they executed, how they ended, and what they used.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use recorder_tests::{
    Agent, Dump, Ended, Need, Options, Program, Workload, host, output, ready, recorder,
};

/// A user who owns nothing.
const NOBODY: u32 = 65534;
/// Longest captured argument block, NULs included.
const ARGV_BYTES_MAX: usize = 1024;
/// Longest captured path, its NUL included.
const FILENAME_BYTES_MAX: usize = 256;

/// Checks what every exit has.
#[track_caller]
fn check_exit(dump: &Dump, ended: &Ended) {
    let exit = dump.only("process.exit", ended.pid());
    ended.expect_start(exit);
    exit.expect_same("body.process.uid", &ended.facts, "uid");
    exit.expect_same("body.process.gid", &ended.facts, "gid");
    exit.expect("body.process.ppid", std::process::id());
    if let Some(cgroup) = host::unified_cgroup_id() {
        exit.expect("body.process.cgroup_id", cgroup);
    }
    match (ended.exit_code(), ended.signal()) {
        (Some(code), _) => {
            exit.expect("body.exit_code", code);
            exit.expect_absent("body.signal");
        }
        (None, signal) => {
            exit.expect("body.signal.number", signal);
            exit.expect_absent("body.exit_code");
        }
    }
    assert_eq!(
        exit.is_true("body.core_dumped"),
        libc::WCOREDUMP(ended.status),
        "{exit}"
    );
    // It started after we began, and ended before we knew. Forking is before starting, so a tick of slack at one end.
    let longest = ended.ended.duration_since(ended.started).as_nanos();
    exit.expect_within("body.lifetime_ns", 1..=longest);
}

/// Compares the accounting of an exit with what the parent got when it waited.
#[track_caller]
fn check_accounting(dump: &Dump, ended: &Ended) {
    let exit = dump.only("process.exit", ended.pid());
    let usage = &ended.usage;
    let near = |path: &str, found: i128, expected: i128, slack: i128| {
        assert!(
            (found - expected).abs() <= slack,
            "{path}: {expected} when waited for\n{exit}"
        );
    };
    let cpu_ns = exit.number("body.user_ns") + exit.number("body.system_ns");
    let waited_ns = ended.cpu_time().as_nanos() as i128;
    // What it did after its end was recorded is little, and the kernel's two accounts differ in rounding.
    near("CPU time", cpu_ns, waited_ns, 20_000_000 + waited_ns / 20);
    let resident = exit.number("body.max_rss_bytes");
    near(
        "max_rss_bytes",
        resident,
        i128::from(usage.ru_maxrss) * 1024,
        1 << 20,
    );
    for (path, waited, slack) in [
        ("body.minor_faults", usage.ru_minflt, 16),
        ("body.major_faults", usage.ru_majflt, 2),
        ("body.voluntary_switches", usage.ru_nvcsw, 4),
        ("body.involuntary_switches", usage.ru_nivcsw, 4),
    ] {
        near(path, exit.count(path), i128::from(waited), slack);
    }
    near(
        "read_bytes",
        exit.count("body.read_bytes"),
        i128::from(usage.ru_inblock) * 512,
        4096,
    );
    near(
        "write_bytes",
        exit.count("body.write_bytes"),
        i128::from(usage.ru_oublock) * 512,
        4096,
    );
}

#[test]
fn exits_with_codes() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = ["0", "1", "42", "255"].map(|code| Program::workload().run(["exit", code]));
    let dump = agent.trigger("exits with codes");
    for ended in ended {
        check_exit(&dump, &ended);
        check_accounting(&dump, &ended);
        ended.expect_subject(dump.only("process.exit", ended.pid()));
        let exec = dump.only("process.exec", ended.pid());
        ended.expect_subject(exec);
        exec.expect("body.process.ppid", std::process::id());
        exec.expect("body.filename", Program::workload().path().to_str());
        exec.expect("body.euid", 0);
        exec.expect("body.egid", 0);
        assert!(!exec.is_true("body.argv_truncated"), "{exec}");
        assert!(!exec.is_true("body.filename_truncated"), "{exec}");
    }
}

#[test]
fn exits_by_signals() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = [9, 15, 6, 10].map(|signal: i32| {
        let victim = Program::workload().start(["sleep"]);
        let target = victim.pid().to_string();
        Program::workload().run(["kill", &signal.to_string(), &target]);
        victim.wait()
    });
    let directory = host::public_directory();
    let directory = directory.path().to_str().expect("a plain path");
    let with_core = Program::workload().run(["core", directory]);
    let dump = agent.trigger("exits by signals");
    for ended in ended.iter().chain([&with_core]) {
        check_exit(&dump, ended);
        let exit = dump.only("process.exit", ended.pid());
        let fatal = dump.only("signal.fatal", ended.pid());
        exit.expect_same("body.signal.name", fatal, "body.signal.name");
        exit.expect_same("cause", fatal, "order");
    }
}

#[test]
fn a_process_whose_leader_left_first_ends_once() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended =
        ["together", "alone"].map(|how| Program::workload().run(["leader-exits-first", "7", how]));
    let dump = agent.trigger("leaders left first");
    for ended in ended {
        check_exit(&dump, &ended);
        // The last thread is the one that ends the process.
        ended.expect_subject(dump.only("process.exit", ended.pid()));
        dump.only("process.exit", ended.pid())
            .expect("body.process.comm", "last");
        // It lives on at least 50 ms after its leader.
        dump.only("process.exit", ended.pid())
            .expect_within("body.lifetime_ns", 50_000_000..=10_000_000_000);
    }
}

#[test]
fn the_accounting_is_that_of_all_threads() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["burn", "300"]);
    let dump = agent.trigger("burnt 300 ms in a thread that is gone");
    check_exit(&dump, &ended);
    check_accounting(&dump, &ended);
    let exit = dump.only("process.exit", ended.pid());
    // The machine may have had other things to do meanwhile, but not for ten times as long.
    assert!(ended.cpu_time() >= Duration::from_millis(30), "{ended:?}");
    assert!(exit.number("body.user_ns") >= 30_000_000, "{exit}");
}

#[test]
fn credentials_are_real_and_effective() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let program = Program::named("set-uid-root");
    let set_uid = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(program.path(), set_uid).expect("the copy is ours");
    let ended = Workload::start(program.command(["exit", "0"]).uid(NOBODY).gid(NOBODY)).wait();
    let dump = agent.trigger("real and effective");
    let exec = dump.only("process.exec", ended.pid());
    exec.expect("body.process.uid", NOBODY);
    exec.expect("body.process.gid", NOBODY);
    // 0, unless the file system is mounted nosuid.
    exec.expect_same("body.euid", &ended.facts, "euid");
    exec.expect_same("body.egid", &ended.facts, "egid");
    exec.expect("body.filename", program.path().to_str());
    exec.expect("body.process.comm", "set-uid-root");
    check_exit(&dump, &ended);
}

#[test]
fn a_second_program_in_the_same_process() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["exec-from-thread", "6"]);
    let dump = agent.trigger("executed from a thread");
    let execs = dump.about("process.exec", ended.pid());
    assert_eq!(execs.len(), 2, "{execs:#?}");
    for exec in execs {
        ended.expect_start(exec);
        // The thread that executes becomes the process's first.
        exec.expect("body.process.tid", ended.pid());
    }
    check_exit(&dump, &ended);
}

#[test]
fn arguments_up_to_the_bound_are_whole() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    // "w\0args\0" and the one that fills up, with its NUL.
    let first = "w\0args\0".len();
    let exact = "x".repeat(ARGV_BYTES_MAX - first - 1);
    let cases = [
        exact.clone(),
        exact.clone() + "y",
        // The longest argument that the kernel takes.
        "z".repeat((128 << 10) - 1),
    ];
    let ended = cases.clone().map(|long| {
        let mut command = Program::workload().command(["args", &long]);
        Workload::start(command.arg0("w")).wait()
    });
    let dump = agent.trigger("long arguments");
    for (argument, ended) in cases.iter().zip(ended) {
        let exec = dump.only("process.exec", ended.pid());
        exec.expect("body.argv.0", "w");
        exec.expect("body.argv.1", "args");
        let is_cut = first + argument.len() + 1 > ARGV_BYTES_MAX;
        assert_eq!(
            exec.is_true("body.argv_truncated"),
            is_cut,
            "{} bytes\n{exec}",
            argument.len()
        );
        let found = exec.str("body.argv.2");
        if is_cut {
            assert!(argument.starts_with(found) && !found.is_empty(), "{exec}");
            assert!(
                found.len() >= ARGV_BYTES_MAX - first - 2,
                "{} bytes\n{exec}",
                found.len()
            );
        } else {
            assert_eq!(found, argument, "{exec}");
        }
        exec.expect_absent("body.argv.3");
    }
}

#[test]
fn many_arguments_are_cut() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(std::iter::once("args").chain(["1234567"; 5000]));
    ended.facts.expect("arguments", 5001);
    let dump = agent.trigger("many arguments");
    let exec = dump.only("process.exec", ended.pid());
    assert!(exec.is_true("body.argv_truncated"), "{exec}");
    let argv = exec.all("body.argv");
    assert!(
        (100..=ARGV_BYTES_MAX / 8 + 1).contains(&argv.len()),
        "{} arguments",
        argv.len()
    );
}

#[test]
fn a_long_path_is_cut() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let directory = host::public_directory();
    let deep = directory.path().join("d".repeat(200)).join("e".repeat(200));
    std::fs::create_dir_all(&deep).expect("there is room");
    let path = deep.join("workload");
    std::fs::copy(Program::workload().path(), &path).expect("there is room");
    let ended = Workload::start(std::process::Command::new(&path).args(["exit", "0"])).wait();
    let dump = agent.trigger("a long path");
    let exec = dump.only("process.exec", ended.pid());
    assert!(exec.is_true("body.filename_truncated"), "{exec}");
    let found = exec.str("body.filename");
    assert!(
        path.to_str().is_some_and(|path| path.starts_with(found)),
        "{exec}"
    );
    assert!(
        (FILENAME_BYTES_MAX - 2..FILENAME_BYTES_MAX).contains(&found.len()),
        "{exec}"
    );
}

#[test]
fn a_name_of_255_hostile_bytes_is_cut_and_shown_escaped() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let directory = host::public_directory();
    let mut name = b"\x1b[31m\n\x07".to_vec();
    name.resize(255, b'n');
    let path = directory.path().join(OsString::from_vec(name));
    std::fs::copy(Program::workload().path(), &path).expect("the longest name that there is");
    let ended = Workload::start(std::process::Command::new(&path).arg("abort")).wait();
    assert_eq!(ended.signal(), Some(libc::SIGABRT));
    let dump = agent.dump_of(ended.pid());
    for kind in ["process.exec", "signal.fatal", "process.exit"] {
        let event = dump.only(kind, ended.pid());
        event.expect("body.process.comm", "\x1b[31m\n\x07nnnnnnnn");
        // The path is longer than what is captured: absent, not cut.
        event.expect_absent("body.process.exe");
        event.expect_absent("body.process.exe_build_id");
    }
    for command in ["show", "report"] {
        let shown = output(recorder([command]).arg(dump.path())).expect_code(0);
        assert!(!shown.text().contains('\x1b'), "{shown}");
    }
}

/// What an attacker puts where a person will look: a new title for the terminal, colours, a forged line, a bell, text
/// that runs backwards, and what is no text at all.
fn hostile_arguments() -> Vec<OsString> {
    [
        b"\x1b]0;owned\x07".to_vec(),
        b"\x1b[2J\x1b[31mred".to_vec(),
        b"a\nrecording: forged line\r\x08\x7f".to_vec(),
        "\u{202e}gnp.exe\u{9b}31m".as_bytes().to_vec(),
        b"\xff\xfe not UTF-8 \xc3".to_vec(),
        Vec::new(),
        b"\"quoted\" \\backslash 'single' $(cmd) `cmd`".to_vec(),
    ]
    .map(OsString::from_vec)
    .to_vec()
}

#[test]
fn hostile_strings_are_kept_and_shown_escaped() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    // The name of the thread is hostile, too.
    let program = Program::named("\x1b[31mred\n\x07");
    let hostile = hostile_arguments();
    let ended = Workload::start(program.command(["args"]).args(&hostile)).wait();
    let dump = agent.trigger("\x1b[35mhostile reason\nof a person");
    // In a dump everything is as it was; only what is no UTF-8 is replaced.
    let exec = dump.only("process.exec", ended.pid());
    let argv = exec.all("body.argv");
    assert_eq!(argv.len(), 2 + hostile.len(), "{exec}");
    for (found, given) in argv[2..].iter().zip(&hostile) {
        assert_eq!(found.value(), &*given.to_string_lossy(), "{exec}");
    }
    exec.expect("body.process.comm", "\x1b[31mred\n\x07");

    // On a terminal nothing of it can do harm.
    let pid = ended.pid().to_string();
    for arguments in [&["show"][..], &["show", "--pid", &pid], &["list"]] {
        let mut command = agent.recorder(arguments);
        if arguments[0] == "show" {
            command.arg(dump.path());
        }
        let shown = output(&mut command).expect_code(0);
        let text = shown.text();
        let harmful = |letter: char| {
            letter.is_control() && letter != '\n' || ('\u{202a}'..='\u{202e}').contains(&letter)
        };
        let found = text.chars().find(|letter| harmful(*letter));
        assert!(
            found.is_none(),
            "{found:?} in {arguments:?}:\n{}",
            text.escape_debug()
        );
        assert!(
            !text
                .lines()
                .any(|line| line.starts_with("recording: forged")),
            "{text}"
        );
    }
    for line in agent.said().iter().chain(&agent.notes()) {
        assert!(!line.contains('\x1b'), "{}", line.escape_debug());
    }
}

/// The threads of a process leave at once, and more than one of them finds that no other is left.
#[test]
fn a_process_whose_threads_end_together_ends_once() {
    const PROCESSES: usize = 200;
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        before: "60s",
        ..Options::default()
    });
    let pids: Vec<u32> = (0..PROCESSES)
        .map(|_| Program::workload().run(["exit-in-threads", "5", "8"]).pid())
        .collect();
    let dump = agent.trigger("they ended");
    let skipped = agent.status().skipped("process_exit");
    let mut missing = 0;
    for pid in pids {
        if skipped > 0 && dump.about("process.exit", pid).is_empty() {
            missing += 1;
            continue;
        }
        dump.only("process.exit", pid).expect("body.exit_code", 5);
    }
    assert!(missing <= skipped, "{missing} missing, {skipped} skipped");
}
