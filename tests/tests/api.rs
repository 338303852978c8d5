//! The control socket: who may use it, what it answers, and that nobody who uses it, or misuses it, holds recording up.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::http::{connect, get, request};
use recorder_tests::{Agent, Json, Need, Options, Program, output, ready};
use rustix::process::Signal;

fn socket(agent: &Agent) -> PathBuf {
    agent.run_directory().join("control.sock")
}

#[test]
fn the_verdict_is_the_same_everywhere() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let health = get(&socket(&agent), "/v1/health");
    assert_eq!(health.status, 200);
    let state = health.json().str("state").to_owned();
    let status = agent.status();
    status.expect("state", state.as_str());
    let metrics = get(&socket(&agent), "/v1/metrics").text();
    let line = format!("recorder_health{{state=\"{state}\"}} 1.0");
    assert!(metrics.lines().any(|one| one == line), "{metrics}");
}

#[test]
fn lost_events_degrade_the_verdict_and_say_so() {
    if !ready(&Need::RECORDING) {
        return;
    }
    // Held to no rate: what finds no room is lost.
    let agent = Agent::start_with(&Options::with(["--limit-processes-per-second", "0"]));
    agent.signal(Signal::STOP);
    Program::workload().run(["flood", "50000"]);
    agent.signal(Signal::CONT);
    let status = agent.wait_for_status("lost events", |status| {
        status.get("state") == Some(&"degraded".into())
    });
    let reasons = status.all("reasons");
    assert!(
        reasons
            .iter()
            .any(|reason| reason.str("code") == "lost-events"),
        "{status}"
    );
    let text = agent.run(["status"]).expect_code(3);
    assert!(text.text().starts_with("degraded for "), "{text}");
    assert!(text.text().contains("\nbecause  "), "{text}");
}

#[test]
fn metrics_are_as_prometheus_wants_them() {
    if !ready(&[&Need::RECORDING[..], &[Need::Promtool]].concat()) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--metrics-listen", "127.0.0.1:0"]));
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    agent.dump_of(crash.pid());
    let accept = "accept: application/openmetrics-text;version=1.0.0\r\n";
    let open = request(&socket(&agent), "GET", "/v1/metrics", accept, "");
    let kind = open.header("content-type").unwrap_or_default().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(open.text().ends_with("# EOF\n"));
    let answer = get(&socket(&agent), "/v1/metrics?programs=1");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let mut check = Command::new("promtool");
    check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool is there");
    let mut stdin = check.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let checked = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        checked.status.success() && said.is_empty(),
        "{said}\n{text}"
    );
    for line in [
        "recorder_incidents_total{kind=\"fatal-signal\"} ",
        "recorder_dumps_total{result=\"written\"} ",
        "recorder_dump_duration_seconds_count 1",
        "recorder_ring_oldest_event_age_seconds{lane=\"lifecycle\"} ",
        "recorder_overhead_program_runs_total{prog=\"",
        "recorder_last_dump_timestamp_seconds 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_a_probe_costs_is_measured_only_while_somebody_asks() {
    if !ready(&Need::RECORDING) {
        return;
    }
    // Without a budget: one that is near its own measures by itself.
    let agent = Agent::start_with(&Options::with(["--budget-cpu", "0%"]));
    let runs = || {
        let answer = get(&socket(&agent), "/v1/metrics").text();
        assert!(!answer.contains("overhead_program"), "{answer}");
    };
    runs();
    let flood = Program::workload().start(["flood", "20000"]);
    let measured = agent
        .run(["status", "--probes=1", "--json"])
        .expect_code(0)
        .json();
    flood.wait();
    let programs = measured.all("programs");
    let busy = programs.iter().find(|program| program.number("runs") > 100);
    let busy = busy.unwrap_or_else(|| panic!("no program ran:\n{measured}"));
    let each = busy.number("run_ns") / busy.number("runs");
    assert!((10..100_000).contains(&each), "{busy}");
    // Nobody asks now: the same total, although the probes run.
    let total = |measured: &Json| -> i128 {
        let programs = measured.all("programs");
        programs
            .iter()
            .map(|program| program.number("runs_total"))
            .sum()
    };
    let before = total(&measured);
    Program::workload().run(["flood", "5000"]);
    let after = get(&socket(&agent), "/v1/probes?seconds=1").json();
    let meanwhile: i128 = after.all("programs").iter().map(|p| p.number("runs")).sum();
    assert!(total(&after) - before - meanwhile < 5000, "{after}");
}

#[test]
fn incidents_are_listed_and_their_dumps_downloaded_in_parts() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let dump = agent.trigger("to be downloaded");
    let socket = socket(&agent);
    let list = get(&socket, "/v1/incidents?rule=manual").json();
    let incidents = list.all("incidents");
    assert_eq!(incidents.len(), 1, "{list}");
    incidents[0].expect("incident.reason", "to be downloaded");
    let id = incidents[0].str("incident.id").to_owned();
    assert!(
        get(&socket, "/v1/incidents?rule=oom-kill")
            .json()
            .all("incidents")
            .is_empty()
    );
    let one = get(&socket, &format!("/v1/incidents/{id}")).json();
    one.expect("record.incident.id", id.as_str());

    let bytes = fs::read(dump.path()).expect("it is ours");
    let path = format!("/v1/incidents/{id}/dump");
    let whole = get(&socket, &path);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(
        whole.header("content-length"),
        Some(bytes.len().to_string().as_str())
    );
    let tag = whole.header("etag").expect("a tag").to_owned();
    assert_eq!(tag, format!("\"{}\"", one.str("dump.sha256")));
    let head = request(&socket, "HEAD", "/v1/incidents/latest/dump", "", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
    for (range, part) in [
        ("bytes=0-9", 0..10),
        ("bytes=100-", 100..bytes.len()),
        ("bytes=-7", bytes.len() - 7..bytes.len()),
    ] {
        let answer = request(&socket, "GET", &path, &format!("range: {range}\r\n"), "");
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, bytes[part.clone()], "{range}");
        let of = format!("bytes {}-{}/{}", part.start, part.end - 1, bytes.len());
        assert_eq!(answer.header("content-range"), Some(of.as_str()));
    }
    let beyond = request(
        &socket,
        "GET",
        &path,
        &format!("range: bytes={}-\r\n", bytes.len()),
        "",
    );
    assert_eq!(beyond.status, 416);
    let other = request(
        &socket,
        "GET",
        &path,
        "range: bytes=0-9\r\nif-range: \"x\"\r\n",
        "",
    );
    assert_eq!(other.status, 200, "a part of another file");
    let same = request(
        &socket,
        "GET",
        &path,
        &format!("if-none-match: {tag}\r\n"),
        "",
    );
    assert_eq!(same.status, 304);
    for path in [
        "/v1/incidents/zzz/dump",
        "/v1/incidents/..%2f..%2fetc%2fpasswd/dump",
        "/v1/no",
    ] {
        let answer = get(&socket, path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.json().str("error").is_empty());
    }
    assert_eq!(request(&socket, "DELETE", "/v1/status", "", "").status, 405);
}

#[test]
fn the_socket_belongs_to_whom_the_configuration_says_and_changes_are_logged() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options::with(["--socket-group", "12345"]));
    let metadata = fs::metadata(socket(&agent)).expect("it listens");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    assert_eq!(metadata.gid(), 12345);
    agent.trigger("who was that");
    let line = agent
        .notes()
        .into_iter()
        .find(|line| line.contains("POST /v1/trigger by recorder["));
    let line = line.unwrap_or_else(|| panic!("{:#?}", agent.notes()));
    assert!(line.ends_with(", uid 0, gid 0: 200"), "{line}");
    let refused = request(&socket(&agent), "POST", "/v1/trigger", "", "{}");
    assert_eq!(refused.status, 415, "no JSON by its type");

    for (flag, value, says) in [
        ("--socket-mode", "0666", "others get no access"),
        ("--socket-group", "no-such-group", "no such group"),
    ] {
        let mut wrong = agent.recorder(["run", flag, value]);
        output(&mut wrong).expect_code(2).expect_note(says);
    }
}

#[test]
fn garbage_and_a_billion_bytes_do_no_harm() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let socket = socket(&agent);
    let before = agent.status().number("usage.resident_bytes");
    for garbage in [
        &b"\x00\xff\xfe\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n",
    ] {
        let mut stream = connect(&socket);
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    let block = vec![b'a'; 1 << 20];
    let heads = [
        &b""[..],
        b"POST /v1/trigger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000000\r\n\r\n",
        b"POST /v1/trigger HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n3b9aca00\r\n",
    ];
    for head in heads {
        let mut stream = connect(&socket);
        stream.write_all(head).expect("it listens");
        let mut taken = 0_u64;
        while taken < 1_000_000_000
            && let Ok(count @ 1..) = stream.write(&block)
        {
            taken += count as u64;
        }
        assert!(taken < 8 << 20, "{taken} bytes taken");
    }
    let status = agent.status();
    status.expect_recording();
    let grown = status.number("usage.resident_bytes") - before;
    assert!(grown < 8 << 20, "{grown} bytes more");
    agent.trigger("still there");
}

/// A `recorder tail` with its output in a file.
struct Tail {
    child: Child,
    out: PathBuf,
}

impl Tail {
    fn start(
        agent: &Agent,
        directory: &std::path::Path,
        number: usize,
        arguments: &[&str],
    ) -> Self {
        let out = directory.join(format!("tail-{number}"));
        let file = fs::File::create(&out).expect("the directory is ours");
        let child = agent
            .recorder([&["tail", "--json"], arguments].concat())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.expect("the recorder is there"),
            out,
        }
    }

    fn lines(&self) -> Vec<Json> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(Json::parse).collect()
    }

    fn wait_for(&self, what: &str, is_wanted: impl Fn(&Json) -> bool) -> Json {
        let start = Instant::now();
        loop {
            if let Some(found) = self.lines().into_iter().find(|line| is_wanted(line)) {
                return found;
            }
            assert!(
                start.elapsed() < patience(Duration::from_secs(20)),
                "no {what}: {:#?}",
                self.lines()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn readers(agent: &Agent, count: i128) {
    agent.wait_for_status("all readers", |status| {
        status.number("live.readers") == count
    });
}

#[test]
fn a_tail_shows_what_it_was_asked_for_as_it_happens_and_before() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let agent = Agent::start();
    let past = Program::workload().run(["segv-write", "0x1234"]);
    let failures = Tail::start(&agent, directory.path(), 0, &["--lane", "failure"]);
    let exits = Tail::start(
        &agent,
        directory.path(),
        1,
        &["--type", "process.exit", "--since", "60s"],
    );
    readers(&agent, 2);
    exits.wait_for("exit of the past", |event| {
        event.get("body.process.pid") == Some(&past.pid().into())
    });
    let now = Program::workload().run(["segv-write", "0x1234"]);
    let crash = failures.wait_for("crash", |event| {
        event.get("body.process.pid") == Some(&now.pid().into())
    });
    crash.expect("type", "signal.fatal");
    crash.expect("body.fault_address", "0x1234");
    assert!(crash.get("order").is_none(), "{crash}");
    let exit = exits.wait_for("exit", |event| {
        event.get("body.process.pid") == Some(&now.pid().into())
    });
    // Named as in a dump.
    assert!(
        exit.str("body.process.exe").ends_with("/workload"),
        "{exit}"
    );
    let all = failures.lines();
    assert!(
        all.iter().all(|event| event.str("type") != "process.exit"),
        "{all:#?}"
    );
    assert!(
        all.iter()
            .all(|event| event.get("body.process.pid") != Some(&past.pid().into()))
    );
    // Each once, at the seam of past and present.
    let seen = |pid: u32| {
        let lines = exits.lines();
        let of = lines
            .iter()
            .filter(|event| event.get("body.process.pid") == Some(&pid.into()));
        of.count()
    };
    assert_eq!((seen(past.pid()), seen(now.pid())), (1, 1));

    let text = agent
        .recorder(["tail", "--since", "60s", "--type", "signal.fatal"])
        .stdout(Stdio::piped())
        .spawn();
    let mut text = text.expect("the recorder is there");
    let mut line = vec![0; 4096];
    let count = text
        .stdout
        .as_mut()
        .expect("a pipe")
        .read(&mut line)
        .expect("text");
    let line = String::from_utf8_lossy(&line[..count]).into_owned();
    assert!(
        line.contains("signal.fatal") && line.contains("SIGSEGV"),
        "{line}"
    );
    text.kill().and_then(|()| text.wait()).expect("it is ours");
    agent
        .run(["tail", "--lane", "fast"])
        .expect_code(1)
        .expect_note("there are failure, lifecycle");
}

#[test]
fn fifty_tails_and_a_stuck_one_cost_recording_nothing_in_a_storm() {
    if !ready(&Need::RECORDING) {
        return;
    }
    const EXITS: i128 = 30_000;
    let directory = recorder_tests::host::public_directory();
    let agent = Agent::start_with(&Options {
        before: "600s",
        ..Options::default()
    });
    let tails: Vec<Tail> = (0..50)
        .map(|number| Tail::start(&agent, directory.path(), number, &["--type", "process"]))
        .collect();
    // It asks for everything and reads nothing.
    let mut stuck = connect(&socket(&agent));
    stuck
        .write_all(b"GET /v1/events?type=process HTTP/1.1\r\nhost: recorder\r\n\r\n")
        .expect("it listens");
    readers(&agent, 51);
    let flood = Program::workload().run(["flood", &EXITS.to_string()]);
    let status = agent.status();
    let lanes = status.all("lanes");
    let lost: i128 = lanes
        .iter()
        .flat_map(|lane| lane.all("cpus"))
        .map(|cpu| cpu.number("lost"))
        .sum();
    let dropped: i128 = lanes.iter().map(|lane| lane.number("dropped")).sum();
    assert_eq!((lost, dropped), (0, 0), "{status}");
    let dump = agent.trigger("after the storm");
    let recorded = dump.matching("process.exit", "process.ppid", &flood.pid().into());
    assert_eq!(recorded.len() as i128, EXITS);

    // What the stuck one lost it is told, exactly, once it reads.
    let status = agent.status();
    assert!(status.number("live.lost") > 0, "{status}");
    let text = read_until_told(&mut stuck);
    let told: u64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: {\"lost\":"))
        .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
        .sum();
    let missed: u64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: {\"missed\":"))
        .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
        .sum();
    let parent = format!("\"ppid\":{}", flood.pid());
    let given = text
        .lines()
        .filter(|line| line.contains("\"process.exit\"") && line.contains(&parent))
        .count();
    let all = given as u64 + told + missed;
    assert!(
        told > 0 && all >= EXITS as u64,
        "{given} given, {told} lost, {missed} missed"
    );
    // The readers that read have what they were not told to have lost.
    for tail in &tails[..3] {
        let lines = tail.lines();
        let mine = |line: &&Json| line.get("body.process.ppid") == Some(&flood.pid().into());
        let given = lines
            .iter()
            .filter(mine)
            .filter(|l| l.str("type") == "process.exit")
            .count();
        let missing: i128 = lines
            .iter()
            .map(|line| line.count("lost") + line.count("missed"))
            .sum();
        assert!(
            given as i128 + missing >= EXITS,
            "{given} given, {missing} missing"
        );
    }
}

/// Reads a stream until it says what was lost and pauses; chunks' own lengths stay in the text.
fn read_until_told(stream: &mut UnixStream) -> String {
    stream
        .set_read_timeout(Some(patience(Duration::from_secs(3))))
        .expect("a time");
    let mut text = Vec::new();
    let mut block = vec![0; 1 << 16];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        text.extend_from_slice(&block[..count]);
        if text.len() > 64 << 20 {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn two_agents_never_share_a_directory_and_what_is_left_behind_is_taken_over() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start();
    let directory = recorder_tests::host::public_directory();
    // Another run directory, and the same dumps.
    let mut second = agent.recorder(["run"]);
    second.env("RECORDER_RUN_DIR", directory.path().join("run"));
    let refused = output(&mut second)
        .expect_code(1)
        .expect_note("another recorder (process ");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    assert!(refused.stderr.contains("state"), "{refused}");

    // A socket and a lock of one that died, with nonsense in it.
    let run = directory.path().join("left/run");
    fs::create_dir_all(&run).expect("ours");
    fs::write(run.join("lock"), "\x1b[2Jnonsense").expect("ours");
    drop(std::os::unix::net::UnixListener::bind(run.join("control.sock")).expect("ours"));
    let mut third = Agent::start_in(&directory.path().join("left"), &Options::default());
    third.status();
    assert_eq!(third.stop().code(), Some(0));

    // Something that is no socket is not removed.
    fs::create_dir(run.join("control.sock")).expect("ours");
    let mut fourth = agent.recorder(["run"]);
    fourth
        .env("RECORDER_RUN_DIR", &run)
        .env("RECORDER_STATE_DIR", directory.path().join("left/state"));
    let refused = output(&mut fourth).expect_code(1).expect_note("no socket");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
}
