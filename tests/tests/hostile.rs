//! A host that is out to harm its recorder: storms, names, files that were planted, and clients of the control socket.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use recorder_tests::fixture::golden;
use recorder_tests::host::guest::{is_one as is_guest, patience};
use recorder_tests::host::{NamedCgroup, PidsCgroup, public_directory};
use recorder_tests::http::{connect, get};
use recorder_tests::{Agent, Json, Need, Options, Program, Workload, output, ready};
use serde_json::Value;
use tempfile::TempDir;

/// How much the agent's memory may grow, in bytes, whatever a host does: beside the ring, which is there from the start.
const GROWTH_MAX: i128 = 16 << 20;

/// Demands that the agent records, that it has lost and dropped nothing but what it counted, and that it has not grown.
#[track_caller]
fn expect_healthy(agent: &Agent, before: i128) -> Json {
    let is_settled = |status: &Json| {
        // Nothing in the lane of samples comes from the kernel.
        let lanes = status.all("lanes");
        let mut lanes = lanes.iter().filter(|lane| lane.str("lane") != "sample");
        lanes.all(|lane| {
            let committed: i128 = sum(lane, "committed");
            committed == lane.number("pushed") + lane.number("dropped")
        })
    };
    let status = agent.wait_for_status("all that was committed in the ring", is_settled);
    for lane in status.all("lanes") {
        let (committed, lost) = (sum(&lane, "committed"), sum(&lane, "lost"));
        assert_eq!(sum(&lane, "attempted"), committed + lost, "{lane}");
        let held = lane.number("records") + lane.number("evicted");
        assert_eq!(lane.number("pushed"), held, "{lane}");
    }
    let grown = resident(&status) - before;
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
    status
}

fn sum(lane: &Json, field: &str) -> i128 {
    lane.all("cpus").iter().map(|cpu| cpu.count(field)).sum()
}

#[track_caller]
fn lost(status: &Json) -> i128 {
    status
        .all("lanes")
        .iter()
        .map(|lane| sum(lane, "lost"))
        .sum()
}

#[track_caller]
fn resident(status: &Json) -> i128 {
    status.number("usage.resident_bytes")
}

fn own(name: &str) -> String {
    format!("recorder-hostile-{name}-{}", std::process::id())
}

#[test]
fn a_fork_bomb_hides_no_crash_of_others() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::PidsCgroup]) {
        return;
    }
    let agent = Agent::start();
    let before = resident(&agent.status());
    let cgroup = PidsCgroup::new(&own("bomb"), 64);
    let entrance = cgroup.processes().display().to_string();
    let bomb = Program::workload().start(["fork-bomb", &entrance, "3000"]);
    thread::sleep(Duration::from_millis(1500));
    // Named as itself: pids come round in a bomb.
    let crash = Program::named("meanwhile").run(["segv-write", "0x4242"]);
    let bomb = bomb.wait();
    assert_eq!(bomb.exit_code(), Some(0));
    assert!(cgroup.refused() > 0, "it went as far as it could");
    let dump = agent.dump_where("the crash", |incident| {
        incident.get("subject.comm") == Some(&"meanwhile".into())
    });
    dump.incident().expect("subject.pid", crash.pid());
    let fatal = dump.matching("signal.fatal", "process.comm", &"meanwhile".into());
    assert_eq!(fatal.len(), 1, "{fatal:#?}");
    assert_eq!(fatal[0].address("body.fault_address"), 0x4242);
    expect_healthy(&agent, before);
}

#[test]
fn an_exec_storm_is_recorded_and_its_end_named() {
    if !ready(&Need::RECORDING) {
        return;
    }
    const EXECS: usize = 1000;
    let agent = Agent::start_with(&Options {
        before: "600s",
        ..Options::with(["--budget-cpu", "0%"])
    });
    let before = resident(&agent.status());
    let count = EXECS.to_string();
    let storms = [0x51, 0x52].map(|address: u32| {
        let address = format!("{address:#x}");
        Program::workload().start(["exec-storm", &count, &address])
    });
    let storms = storms.map(Workload::wait);
    let status = expect_healthy(&agent, before);
    assert_eq!(lost(&status), 0, "{status}");
    let dump = agent.trigger("after the storm");
    let exe = Program::workload().path().display().to_string();
    for (storm, address) in storms.iter().zip([0x51, 0x52]) {
        assert_eq!(storm.signal(), Some(libc::SIGSEGV));
        let fatal = dump.only("signal.fatal", storm.pid());
        assert_eq!(fatal.address("body.fault_address"), address);
        fatal.expect("body.process.exe", exe.as_str());
        let execs = dump.about("process.exec", storm.pid());
        let missing = EXECS as i128 + 1 - execs.len() as i128;
        assert!(
            (0..=status.skipped("process_exec")).contains(&missing),
            "of {}: {missing} missing\n{status}",
            storm.pid()
        );
    }
}

#[test]
fn a_million_handled_faults_are_nothing() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let before = resident(&agent.status());
    // An emulated processor would take many minutes for so many.
    let faults = if is_guest() { 50_000 } else { 1_000_000 };
    let ended = Program::workload().run(["handled-segv", &faults.to_string()]);
    assert_eq!(ended.exit_code(), Some(0));
    ended.lines[0].expect("handled", faults);
    let status = expect_healthy(&agent, before);
    status.expect_recording();
    assert_eq!(lost(&status), 0, "{status}");
    let dump = agent.trigger("a million faults, all handled");
    assert_eq!(dump.about("signal.fatal", ended.pid()).len(), 0);
    dump.only("process.exit", ended.pid())
        .expect("body.exit_code", 0);
    let made = agent.dumps();
    let of_it = made
        .iter()
        .filter(|dump| dump.incident().get("subject.pid") == Some(&ended.pid().into()));
    assert_eq!(of_it.count(), 0);
}

/// Lets a workload crash inside a cgroup.
#[track_caller]
fn crash_in(directory: &Path, address: &str) -> recorder_tests::Ended {
    let entrance = fs::OpenOptions::new()
        .write(true)
        .open(directory.join("cgroup.procs"));
    let mut entrance = entrance.expect("the cgroup is ours");
    let mut command = Program::workload().command(["segv-write", address]);
    // SAFETY: the closure makes one system call, on a descriptor that is open.
    unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
    Workload::start(&mut command).wait()
}

#[test]
fn thousands_of_cgroups_a_second_do_not_grow_the_agent_and_who_crashes_in_one_is_named() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let agent = Agent::start();
    let top = NamedCgroup::new(&own("churn"));
    let churn = |rounds: usize, name: &str| {
        for number in 0..rounds {
            let path = top.path().join(format!("{name}-{number}"));
            fs::create_dir(&path).expect("ours");
            fs::remove_dir(&path).expect("it is empty");
        }
    };
    // What tables of a fixed size take is taken after some thousands.
    churn(20_000, "first");
    let before = resident(&agent.status());
    churn(10_000, "more");
    let victim = top.path().join("victim\u{1b}[2J");
    fs::create_dir(&victim).expect("ours");
    let crash = crash_in(&victim, "0x77");
    churn(10_000, "last");
    for _ in 0..100 {
        // The kernel may still be busy with who crashed.
        if fs::remove_dir(&victim).is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let dump = agent.dump_of(crash.pid());
    let path = format!("{}/victim\u{1b}[2J", top.name());
    let fatal = dump.only("signal.fatal", crash.pid());
    fatal.expect("body.process.cgroup", path.as_str());
    dump.incident().expect("subject.cgroup", path.as_str());
    expect_healthy(&agent, before);
}

/// What an attacker puts where a person will look: a new title for the terminal, colours, a cleared screen, a forged line, a
/// bell, text that runs backwards, and what is no text at all.
const HOSTILE: &[&[u8]] = &[
    b"\x1b]0;owned\x07",
    b"\x1b[2J\x1b[31mred",
    b"a\nrecording: forged line\r\x08\x7f",
    "\u{202e}gnp.exe\u{9b}31m".as_bytes(),
    b"\xff\xfe not UTF-8 \xc3",
];

#[track_caller]
fn expect_harmless(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{what}: no UTF-8"));
    let is_harmful = |letter: char| {
        letter.is_control() && letter != '\n' || ('\u{202a}'..='\u{202e}').contains(&letter)
    };
    let found = text.chars().find(|letter| is_harmful(*letter));
    assert!(
        found.is_none(),
        "{found:?} in {what}:\n{}",
        text.escape_debug()
    );
    let forged = text
        .lines()
        .find(|line| line.starts_with("recording: forged"));
    assert!(forged.is_none(), "{what}:\n{text}");
}

#[test]
fn nothing_that_a_process_is_called_reaches_a_terminal() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup]) {
        return;
    }
    let agent = Agent::start_with(&Options::with([
        "--limit-failures-per-second",
        "1",
        "--dumps-max-count",
        "1000",
    ]));
    let directory = TempDir::with_prefix("recorder-hostile-").expect("there is room");
    let watched = directory.path().join("tail");
    let mut tail = agent
        .recorder(["tail"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(&watched).expect("ours"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the recorder is there");
    agent.wait_for_status("a reader", |status| status.number("live.readers") == 1);
    let cgroup = NamedCgroup::new(&format!("\u{1b}[35m{}", own("names")));
    let program = Program::named("\u{1b}[31mred\n\u{7}");
    let arguments: Vec<OsString> = HOSTILE
        .iter()
        .map(|one| OsString::from_vec(one.to_vec()))
        .collect();
    let args = Workload::start(program.command(["args"]).args(&arguments)).wait();
    // So many that the probes leave some out, and say of which cgroup.
    let mut last = 0;
    for _ in 0..10 {
        let mut entrance = fs::OpenOptions::new()
            .write(true)
            .open(cgroup.processes())
            .expect("ours");
        let mut command = program.command(["abort"]);
        // SAFETY: the closure makes one system call, on a descriptor that is open.
        unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
        last = Workload::start(&mut command).wait().pid();
    }
    let dump = agent.trigger("\u{1b}[35mhostile reason\nof a person");
    dump.only("process.exec", args.pid())
        .expect("body.process.comm", "\u{1b}[31mred\n\u{7}");
    let path = dump.path().display().to_string();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["status"],
        &["status", "--json"],
        &["trends"],
        &["info", "latest"],
        &["show", &path],
        &["show", "--all", &path],
        &["report", &path],
        &["verify", &path],
        &["extract", &path],
        &["export", &path],
    ] {
        let shown = agent.run(arguments);
        assert!(matches!(shown.code, Some(0 | 3)), "{shown}");
        let what = arguments.join(" ");
        expect_harmless(&what, &shown.stdout);
        expect_harmless(&what, shown.stderr.as_bytes());
    }
    let exit = format!("[{last}]");
    let start = Instant::now();
    while !fs::read_to_string(&watched)
        .unwrap_or_default()
        .contains(&exit)
    {
        assert!(
            start.elapsed() < patience(Duration::from_secs(20)),
            "no {exit}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let _ = tail.kill();
    let _ = tail.wait();
    expect_harmless("tail", &fs::read(&watched).expect("ours"));
    for line in agent.said().iter().chain(&agent.notes()) {
        expect_harmless("the agent's log", line.as_bytes());
    }
}

/// Something outside that no link may lead the recorder to.
struct Outside {
    directory: TempDir,
    before: Vec<(PathBuf, Vec<u8>, u32, i64)>,
}

impl Outside {
    fn new() -> Self {
        let directory = TempDir::with_prefix("recorder-outside-").expect("there is room");
        for name in ["secret", "ring"] {
            fs::write(directory.path().join(name), "precious").expect("ours");
        }
        let golden = golden().into_iter().next().expect("there is a fixture");
        for extension in ["mcap", "json"] {
            let to = directory.path().join("linked").with_extension(extension);
            fs::copy(golden.with_extension(extension), to).expect("ours");
        }
        fs::create_dir(directory.path().join("folder")).expect("ours");
        let mut outside = Self {
            directory,
            before: Vec::new(),
        };
        outside.before = outside.now();
        outside
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns names, contents, modes and times of all that is there.
    fn now(&self) -> Vec<(PathBuf, Vec<u8>, u32, i64)> {
        let files = fs::read_dir(self.directory.path()).expect("ours");
        let mut all: Vec<_> = files
            .map(|file| {
                let path = file.expect("ours").path();
                let metadata = fs::symlink_metadata(&path).expect("ours");
                let content = fs::read(&path).unwrap_or_default();
                (path, content, metadata.mode(), metadata.mtime_nsec())
            })
            .collect();
        all.sort();
        all
    }

    #[track_caller]
    fn expect_untouched(&self) {
        assert_eq!(self.now(), self.before);
    }
}

#[test]
fn what_is_planted_among_the_dumps_is_neither_followed_nor_listed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let outside = Outside::new();
    let directory = public_directory();
    let dumps = directory.path().join("state/dumps");
    fs::create_dir_all(&dumps).expect("ours");
    let stem = "20200101T000000Z-signal.fatal";
    let at = |name: &str| dumps.join(format!("{stem}-{name}"));
    let plant = |name: &str, target: &str| symlink(outside.path(target), at(name)).expect("ours");
    plant("0000000a.mcap", "secret");
    plant("0000000a.json", "secret");
    plant("0000000b.mcap", "folder");
    plant("0000000b.notes.json", "secret");
    plant("0000000c.mcap", "nowhere");
    symlink(outside.path("secret"), dumps.join(".tmp-x.mcap")).expect("ours");
    symlink(outside.path("folder"), dumps.join(".tmp-y.json")).expect("ours");
    fs::create_dir(at("0000000d.mcap")).expect("ours");
    for name in ["0000000e.mcap", "0000000e.json"] {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at(name), mode).expect("ours");
    }
    // A dump is what has a dump's name, whatever other names it has.
    fs::hard_link(outside.path("linked.mcap"), at("0000000f.mcap")).expect("ours");
    fs::hard_link(outside.path("linked.json"), at("0000000f.json")).expect("ours");

    let agent = Agent::start_in(
        directory.path(),
        &Options {
            after: "50ms",
            ..Options::with(["--dumps-max-count", "3", "--evidence", "false"])
        },
    );
    // Somebody goes on planting, under whatever name a dump is going to have.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for file in fs::read_dir(&dumps).into_iter().flatten().flatten() {
                    let name = file.file_name().to_string_lossy().into_owned();
                    let Some(name) = name.strip_prefix(".tmp-") else {
                        continue;
                    };
                    let sidecar = Path::new(name).with_extension("json");
                    for name in [Path::new(name), &sidecar] {
                        // It may be there already, which is as good.
                        let _ = symlink(outside.path("secret"), dumps.join(name));
                    }
                }
            }
        });
        for number in 0..5 {
            agent.trigger(&format!("number {number}"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let listed = agent.run(["list", "--json"]).expect_code(0).json_lines();
    let files = listed.iter().map(|one| PathBuf::from(one.str("path")));
    let (linked, files): (Vec<_>, Vec<_>) = files.partition(|path| *path == at("0000000f.mcap"));
    assert_eq!((linked.len(), files.len()), (1, 2), "{listed:#?}");
    for file in &files {
        assert!(fs::symlink_metadata(file).expect("it is listed").is_file());
        // Both were written beside whatever was planted, and are whole.
        output(agent.recorder(["verify"]).arg(file)).expect_code(0);
    }
    // A link in place of what people said about a dump: nothing is written through it.
    let latest = files.last().expect("two");
    let id = latest
        .file_stem()
        .and_then(|stem| stem.to_str()?.rsplit('-').next());
    let id = id.expect("an id");
    let notes = latest.with_extension("notes.json");
    // The recorder may have proposed tags.
    let _ = fs::remove_file(&notes);
    symlink(outside.path("secret"), &notes).expect("ours");
    let refused = agent.run(["tag", id, "disk"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    agent.run(["rm", "--force", id]).expect_code(0);
    assert!(!latest.exists());
    assert!(
        fs::symlink_metadata(&notes).is_err(),
        "it went with its dump"
    );
    for name in [
        "0000000a.mcap",
        "0000000a.json",
        "0000000b.mcap",
        "0000000d.mcap",
        "0000000e.mcap",
    ] {
        assert!(
            fs::symlink_metadata(at(name)).is_ok(),
            "{name} is not the recorder's to remove"
        );
    }
    let unknown = agent.run(["info", "0000000a"]);
    assert_eq!(unknown.code, Some(1), "{unknown}");
    // What has a further name elsewhere keeps it.
    agent.run(["rm", "601de401"]).expect_code(0);
    assert!(fs::symlink_metadata(at("0000000f.mcap")).is_err());
    outside.expect_untouched();
}

/// Starts an agent in a run directory and demands that it refuses, in one sentence.
#[track_caller]
fn expect_refused(run: &Path, says: &str) {
    let state = TempDir::with_prefix("recorder-hostile-").expect("there is room");
    let mut command = recorder_tests::recorder(["run"]);
    command
        .env("RECORDER_RUN_DIR", run)
        .env("RECORDER_STATE_DIR", state.path().join("state"));
    let refused = output(&mut command).expect_code(1).expect_note(says);
    let sentences = refused
        .stderr
        .lines()
        .filter(|line| !line.contains("warning: "));
    assert_eq!(sentences.count(), 1, "{refused}");
}

#[test]
fn a_run_directory_that_others_can_write_to_is_refused() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let outside = Outside::new();
    let directory = public_directory();
    let run = directory.path().join("run");
    let fresh = || {
        let _ = fs::remove_dir_all(&run);
        fs::create_dir(&run).expect("ours");
    };
    fresh();
    for mode in [0o777, 0o1777] {
        fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("ours");
        expect_refused(&run, "everybody can write to");
    }
    assert_eq!(
        fs::read_dir(&run).expect("ours").count(),
        0,
        "nothing was written"
    );
    fresh();
    std::os::unix::fs::chown(&run, Some(12345), Some(12345)).expect("this is root");
    expect_refused(&run, "belongs to user 12345");

    fresh();
    symlink(outside.path("secret"), run.join("control.sock")).expect("ours");
    expect_refused(&run, "no socket");
    fresh();
    fs::write(run.join("control.sock"), "precious").expect("ours");
    expect_refused(&run, "no socket");
    assert_eq!(
        fs::read(run.join("control.sock")).expect("still there"),
        b"precious"
    );
    fresh();
    symlink(outside.path("secret"), run.join("lock")).expect("ours");
    expect_refused(&run, "lock");
    fresh();
    fs::hard_link(outside.path("secret"), run.join("lock")).expect("ours");
    expect_refused(&run, "not a lock of the recorder's");
    fs::remove_dir_all(&run).expect("ours");
    // The state directory, too.
    let state = directory.path().join("state");
    fs::create_dir(&state).expect("ours");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("ours");
    let mut command = recorder_tests::recorder(["run"]);
    command
        .env("RECORDER_RUN_DIR", &run)
        .env("RECORDER_STATE_DIR", &state);
    output(&mut command)
        .expect_code(1)
        .expect_note("everybody can write to");
    outside.expect_untouched();
}

#[test]
fn what_is_planted_in_place_of_the_ring_makes_way_and_is_not_followed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let outside = Outside::new();
    let directory = public_directory();
    let run = directory.path().join("run");
    fs::create_dir(&run).expect("ours");
    for name in ["ring", "ring.new", "ring.old"] {
        symlink(outside.path("ring"), run.join(name)).expect("ours");
    }
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, run.join("ring.older"), mode).expect("ours");
    let mut agent = Agent::start_in(directory.path(), &Options::default());
    let ring = fs::symlink_metadata(run.join("ring")).expect("it is made");
    assert!(ring.is_file());
    assert_eq!(ring.permissions().mode() & 0o777, 0o600);
    agent.trigger("records nevertheless");
    assert_eq!(agent.stop().code(), Some(0));
    outside.expect_untouched();
}

#[test]
fn thousands_of_connections_and_half_requests_leave_room_for_who_asks() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--budget-cpu", "0%"]));
    let socket = agent.run_directory().join("control.sock");
    let before = resident(&agent.status());
    let mut held: Vec<UnixStream> = Vec::new();
    for number in 0..4000 {
        let mut stream = connect(&socket);
        let half: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /v1/status HTTP/1.1\r\nhost: ",
            2 => b"POST /v1/trigger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{",
            _ => b"\x00\xff\xfe",
        };
        // It may have been closed, which is an answer.
        let _ = stream.write_all(half);
        held.push(stream);
        if held.len() > 400 {
            held.drain(..200);
        }
        if number % 500 == 499 {
            assert_eq!(
                get(&socket, "/v1/status").status,
                200,
                "after {number} connections"
            );
        }
    }
    // All but those that are served were told, and closed.
    let mut closed = 0;
    for stream in &mut held {
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a time");
        let mut answer = [0; 512];
        while let Ok(count) = stream.read(&mut answer) {
            if count == 0 {
                closed += 1;
                break;
            }
        }
    }
    assert!(closed > held.len() / 2, "{closed} of {}", held.len());
    let status = expect_healthy(&agent, before);
    status.expect_recording();
    drop(held);
    agent.trigger("still there");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("it runs");
    assert!(descriptors.count() < 300, "connections are let go");
    assert_eq!(status.get("version").map(Value::is_null), Some(false));
}
