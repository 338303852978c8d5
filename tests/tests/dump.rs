//! The dump as a file: whole, self-describing, checkable, and readable by strangers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use recorder_tests::{
    Agent, Dump, Json, Need, Options, Output, Program, output, python_script, ready, recorder,
    wait_for,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A dump of one crash, copied to where it may be damaged.
struct Copy {
    directory: TempDir,
    original: Dump,
    pid: u32,
}

impl Copy {
    /// Lets a workload crash; the agent is gone afterwards, as readers do not need it.
    #[track_caller]
    fn of_a_crash() -> Self {
        let directory = TempDir::with_prefix("recorder-tests-").expect("there is room");
        let agent = Agent::start();
        for _ in 0..200 {
            Program::workload().run(["exit", "1"]);
        }
        let ended = Program::workload().run(["segv-write", "0x1234"]);
        let dump = agent.dump_of(ended.pid());
        let path = directory
            .path()
            .join(dump.path().file_name().expect("dumps are files"));
        fs::copy(dump.path(), &path).expect("there is room");
        fs::copy(
            dump.path().with_extension("json"),
            path.with_extension("json"),
        )
        .expect("there is room");
        Self {
            original: Dump::open(&path),
            directory,
            pid: ended.pid(),
        }
    }

    fn path(&self) -> &Path {
        self.original.path()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).expect("the copy is ours")
    }

    /// Writes a dump of other bytes, with the sidecar of this one or with none.
    fn altered(&self, bytes: &[u8], with_sidecar: bool) -> PathBuf {
        let path = self.directory.path().join("altered.mcap");
        fs::write(&path, bytes).expect("the directory is ours");
        let sidecar = path.with_extension("json");
        if with_sidecar {
            fs::copy(self.path().with_extension("json"), sidecar).expect("the directory is ours");
        } else if sidecar.exists() {
            fs::remove_file(sidecar).expect("the directory is ours");
        }
        path
    }
}

#[track_caller]
fn read(command: &[&str], path: &Path) -> Output {
    output(recorder(command).arg(path))
}

#[test]
fn a_dump_is_durable_private_and_says_what_it_is() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());

    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(dump.path()), 0o600);
    assert_eq!(mode(&dump.path().with_extension("json")), 0o600);
    assert_eq!(mode(&agent.dumps_directory()), 0o700);
    // <UTC time>-<rule>-<id8>.mcap, and nothing temporary beside it.
    let incident = dump.incident();
    let name = dump
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a plain name");
    let id: String = incident
        .str("id")
        .chars()
        .filter(|letter| *letter != '-')
        .collect();
    let tail = name
        .strip_suffix(".mcap")
        .and_then(|stem| stem.rsplit('-').next())
        .expect("it has an id");
    assert!(tail.len() == 8 && id.contains(tail), "{name}: {id}");
    let rule = incident.str("rule").replace('.', "-");
    assert!(
        name.contains(incident.str("rule")) || name.contains(&rule),
        "{name}: {rule}"
    );
    let year = Timestamp::now().to_string();
    assert!(name.starts_with(&year[..4]), "{name}");
    for entry in fs::read_dir(agent.dumps_directory()).expect("it is there") {
        let path = entry.expect("it is readable").path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        assert!(
            matches!(extension, Some("mcap" | "json")),
            "{}",
            path.display()
        );
    }

    let bytes = fs::read(dump.path()).expect("it is there");
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    dump.sidecar().expect("sha256", digest);
    dump.sidecar().expect("bytes", bytes.len());

    assert!(mcap_is_well_formed(&bytes), "{}", dump.path().display());
    for name in [
        "incident", "host", "clocks", "config", "probes", "coverage", "loss",
    ] {
        let metadata = dump.metadata(&format!("recorder.{name}"));
        let text = metadata.value().to_string();
        assert!(!["null", "{}", "[]"].contains(&text.as_str()), "{name}");
    }
    let host = dump.metadata("recorder.host");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is mounted");
    host.expect("kernel_release", release.trim_end());
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("procfs is mounted");
    assert_eq!(
        host.str("boot_id").replace('-', ""),
        boot_id.trim_end().replace('-', "")
    );
    dump.metadata("recorder.loss").expect("verdict", "complete");
}

fn mcap_is_well_formed(bytes: &[u8]) -> bool {
    let records = mcap::read::LinearReader::new(bytes)
        .map(|mut records| records.all(|record| record.is_ok()));
    records.unwrap_or(false) && mcap::Summary::read(bytes).is_ok_and(|summary| summary.is_some())
}

#[test]
fn the_events_are_those_of_the_window_in_order() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let copy = Copy::of_a_crash();
    let dump = &copy.original;
    let events = dump.events();
    assert_eq!(
        events.len(),
        dump.messages()
            .iter()
            .filter(|message| !message.topic.is_empty())
            .count()
    );
    let mut last: Option<&Json> = None;
    for event in events {
        if let Some(last) = last {
            assert!(
                last.number("order") < event.number("order"),
                "{last}\n{event}"
            );
            assert!(
                last.time("timestamp") <= event.time("timestamp"),
                "{last}\n{event}"
            );
        }
        last = Some(event);
        event.expect_same("incident", &dump.incident(), "id");
        assert!(!event.str("host").is_empty(), "{event}");
        assert!(
            event.get("body").is_some_and(serde_json::Value::is_object),
            "{event}"
        );
    }
    let incident = dump.incident();
    let window_ns = incident.number("window_end_boot_ns") - incident.number("window_start_boot_ns");
    let span = |events: &[Json]| {
        let (first, last) = (events.first()?, events.last()?);
        Some(
            last.time("timestamp")
                .duration_since(first.time("timestamp"))
                .as_nanos(),
        )
    };
    assert!(
        span(events).is_some_and(|span| span <= window_ns),
        "{incident}"
    );
}

#[test]
fn strangers_read_it_with_public_packages_alone() {
    if !ready(&[&Need::RECORDING[..], &[Need::Python]].concat()) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    let read = output(&mut python_script("read_dump.py", [dump.path()]))
        .expect_code(0)
        .json();
    read.expect("profile", "recorder");
    assert!(
        read.str("library").starts_with("recorder "),
        "{}",
        read.str("library")
    );
    assert!(read.is_true("in_order"));
    read.expect("messages", dump.events().len());
    for (topic, message) in [
        ("signal.fatal", "SignalFatal"),
        ("process.exit", "ProcessExit"),
    ] {
        let schema = read.value()["schemas"][topic].as_str();
        assert_eq!(schema, Some(format!("recorder.v1.{message}").as_str()));
        let count = dump
            .events()
            .iter()
            .filter(|event| event.str("type") == topic)
            .count();
        assert_eq!(read.value()["topics"][topic], count, "{topic}");
    }
    let of_pid = |topic: &str| {
        let found = read.value()[topic]
            .as_array()
            .expect("the script lists them")
            .iter();
        let mut found = found.filter(|event| event["process"]["pid"] == ended.pid());
        let event = found
            .next()
            .unwrap_or_else(|| panic!("no {topic} of {}", ended.pid()));
        Json::new(event.clone())
    };
    let fatal = of_pid("signal.fatal");
    fatal.expect("signal.name", "SIGSEGV");
    fatal.expect("code.name", "SEGV_MAPERR");
    // Protobuf's own JSON has 64-bit numbers as strings.
    fatal.expect("fault_address", 0x1234.to_string());
    fatal.expect("ip", ended.facts.address("ip").to_string());
    fatal.expect_same("instruction_bytes", &ended.facts, "code");
    fatal.expect_same("process.comm", &ended.facts, "comm");
    let at = fatal.number("log_time");
    assert!(
        (ended.started.as_nanosecond()..=ended.ended.as_nanosecond()).contains(&at),
        "{fatal}"
    );
    let exit = of_pid("process.exit");
    exit.expect("signal.number", 11);
    // What an exit leaves out follows from the rest of it, as the format says.
    let clocks = read.value()["metadata"]["recorder.clocks"]["json"].as_str();
    let clocks = Json::parse(clocks.expect("it is there"));
    let lifetime: i128 = exit.str("lifetime_ns").parse().expect("a number");
    let at = exit.number("log_time") - clocks.number("freeze.unix_ns");
    let start = clocks.number("freeze.boot_ns") + at - lifetime;
    let shown = dump.only("process.exit", ended.pid());
    assert_eq!(shown.number("body.process.start_boot_ns"), start, "{exit}");
    shown.expect("body.process.tid", ended.pid());
    for name in [
        "incident", "host", "clocks", "config", "probes", "coverage", "loss",
    ] {
        assert!(
            read.value()["metadata"]
                .get(format!("recorder.{name}"))
                .is_some(),
            "{name}"
        );
    }
}

#[test]
fn a_whole_dump_is_verified() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let copy = Copy::of_a_crash();
    read(&["verify"], copy.path()).expect_code(0);
    read(&["verify", "--json"], copy.path())
        .expect_code(0)
        .json_lines();
}

#[test]
fn a_bit_that_flipped_is_found() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let copy = Copy::of_a_crash();
    let bytes = copy.bytes();
    for part in 1..8 {
        let mut damaged = bytes.clone();
        let at = damaged.len() * part / 8;
        damaged[at] ^= 0x10;
        for with_sidecar in [true, false] {
            let path = copy.altered(&damaged, with_sidecar);
            if with_sidecar {
                read(&["verify"], &path).expect_code(3);
                read(&["verify", "--json"], &path)
                    .expect_code(3)
                    .json_lines();
            }
            // It may tell what it can, or that there is nothing; it may not be lost for words or crash.
            let shown = read(&["show"], &path);
            assert!(matches!(shown.code, Some(0 | 1 | 3)), "byte {at}: {shown}");
        }
    }
}

#[test]
fn a_dump_that_was_cut_gives_every_whole_chunk() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let copy = Copy::of_a_crash();
    let all = copy.original.events().len();
    let bytes = copy.bytes();
    let mut most = 0;
    for part in 1..8 {
        let path = copy.altered(&bytes[..bytes.len() * part / 8], true);
        read(&["verify"], &path).expect_code(3);
        let export = read(&["export", "--format", "jsonl"], &path);
        assert!(matches!(export.code, Some(1 | 3)), "{export}");
        let found = export.json_lines().len();
        assert!(
            most <= found && found <= all,
            "{found} of {all} events at {part}/8, {most} before"
        );
        most = found;
    }
    // Only the end, which has no events in it.
    let path = copy.altered(&bytes[..bytes.len() - 10], true);
    let export = read(&["export", "--format", "jsonl"], &path).expect_code(3);
    assert_eq!(export.json_lines().len(), all);
    assert!(!export.stderr.is_empty(), "{export}");
    let show = read(&["show"], &path).expect_code(3);
    assert!(show.text().contains(&copy.pid.to_string()), "{show}");
}

#[test]
fn a_forged_dump_is_told_from_a_damaged_one() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let copy = Copy::of_a_crash();
    // Another dump, whole in itself, in the place of this one.
    let other = Copy::of_a_crash();
    let path = copy.altered(&other.bytes(), true);
    let verdict = read(&["verify"], &path).expect_code(3);
    let said = format!("{}{}", verdict.text(), verdict.stderr);
    assert!(said.contains("tampered"), "{verdict}");
}

#[test]
fn a_dump_has_a_size_that_it_does_not_exceed() {
    if !ready(&Need::RECORDING) {
        return;
    }
    const MAX: u64 = 256 * 1024;
    let agent = Agent::start_with(&Options {
        before: "60s",
        ..Options::with(["--max-dump-bytes", "256KiB"])
    });
    // Far more than fits.
    assert_eq!(
        Program::workload().run(["flood", "25000"]).exit_code(),
        Some(0)
    );
    let ended = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(ended.pid());
    let bytes = fs::metadata(dump.path()).expect("it is there").len();
    assert!(bytes <= MAX, "{bytes} bytes");
    // What it is about is there, at the cost of what is furthest away.
    dump.only("signal.fatal", ended.pid());
    read(&["verify"], dump.path()).expect_code(0);
}

/// Returns the pages that a thread of the agent was given.
fn pages_given(agent: &Agent, thread: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs");
    let directories = tasks.map(|task| task.expect("it is readable").path());
    let mut stats = directories
        .map(|directory| fs::read_to_string(directory.join("stat")).expect("the thread is there"));
    let stat = stats.find(|stat| stat.contains(&format!("({thread})")));
    let stat = stat.expect("it has such a thread");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let minor = fields.split(' ').nth(7).expect("ten fields and more");
    minor.parse().expect("a number")
}

#[test]
fn dumps_are_written_from_memory_that_is_set_aside() {
    if !ready(&[Need::Root, Need::Btf, Need::Agent]) {
        return;
    }
    let mut options = Options::with(["--limit-processes-per-second=0"]);
    options.before = "60s";
    let agent = Agent::start_with(&options);
    let at_first = agent.status().number("dumps.reserve.used");
    // As many as are remembered once they have ended, and more.
    Program::workload().run(["flood", "20000"]);
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    agent.dump_of(crash.pid());
    let given = pages_given(&agent, "dump-compress");
    for round in 0..3 {
        agent.trigger(&format!("round {round}"));
    }
    assert_eq!(pages_given(&agent, "dump-compress"), given);
    let status = agent.status();
    status.expect("dumps.reserve.beside", 0);
    let (set_aside, peak) = (
        status.number("dumps.reserve.bytes"),
        status.number("dumps.reserve.peak"),
    );
    println!("with 20,000 processes that ended: {peak} of {set_aside} bytes");
    assert!(0 < at_first && at_first < peak && peak <= set_aside);

    // It lives for as long as its stdin is open.
    let mut crowd = Program::workload().command(["crowd", "6000"]);
    let crowd = crowd.stdin(Stdio::piped()).spawn();
    let mut crowd = crowd.expect("it can be started");
    wait_for("more is set aside", || {
        agent.status().number("dumps.reserve.bytes") > set_aside
    });
    agent.trigger("a crowd");
    let status = agent.status();
    status.expect("dumps.reserve.beside", 0);
    let (grown, higher) = (
        status.number("dumps.reserve.bytes"),
        status.number("dumps.reserve.peak"),
    );
    println!("with 6,000 that live, too: {higher} of {grown} bytes");
    drop(crowd.stdin.take());
    crowd.wait().expect("it ends");
    assert!(peak < higher && higher <= grown);
}
