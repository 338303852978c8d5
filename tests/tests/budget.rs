//! The contract at run time: a recorder that would cost more than it may leaves out one thing after the other, says so
//! everywhere, records every failure whole, and takes all of it back when there is room again.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use recorder_tests::{Agent, Dump, Event, Json, Need, Options, Program, Workload, http, ready};
use tempfile::TempDir;

const PROBLEMS: i32 = 3;
/// What is left out, in the declared order, and what the notes say of it.
const ORDER: [(&str, &str); 4] = [
    ("argv", "the arguments of programs are"),
    ("samples", "samples of the host are"),
    ("exec", "programs that are executed are"),
    ("exit_detail", "what processes used until they ended is"),
];
/// Longest that it may take to leave everything out, or to take it back.
const TIME_MAX: Duration = Duration::from_secs(150);

/// An agent with a budget in its configuration.
struct Held {
    agent: Agent,
    config: PathBuf,
    _directory: TempDir,
}

fn held_to(budget: &str) -> Held {
    let directory = TempDir::with_prefix("recorder-budget-").expect("there is room");
    let config = directory.path().join("recorder.toml");
    fs::write(&config, format!("[budget]\n{budget}\n")).expect("ours");
    let path = config.to_str().expect("UTF-8").to_owned();
    let agent = Agent::start_with(&Options {
        before: "300s",
        ..Options::with(["--config", &path])
    });
    Held {
        agent,
        config,
        _directory: directory,
    }
}

impl Held {
    /// Waits until this is left out, and nothing else.
    #[track_caller]
    fn wait_until_left_out(&self, what: &[&str]) -> Json {
        let start = Instant::now();
        loop {
            let status = self.agent.status();
            if status.at("budget.left_out").value() == &serde_json::json!(what) {
                return status;
            }
            assert!(start.elapsed() < TIME_MAX, "never {what:?}: {status}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn get(&self, path: &str) -> http::Answer {
        http::get(&self.agent.run_directory().join("control.sock"), path)
    }
}

/// Processes that come and go as fast as they can, until it is dropped.
struct Storm {
    stop: Arc<AtomicBool>,
    floods: Vec<Workload>,
    execs: Option<JoinHandle<()>>,
}

impl Storm {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let execs = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                Program::workload().run(["exit", "0"]);
            }
        });
        Self {
            stop,
            floods: (0..2)
                .map(|_| Program::workload().start(["flood", "1000000000"]))
                .collect(),
            execs: Some(execs),
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.floods.clear();
        if let Some(execs) = self.execs.take() {
            let _ = execs.join();
        }
    }
}

/// Returns the texts of the notes about the budget.
fn notes(dump: &Dump) -> Vec<String> {
    let notes = dump.matching("recorder.note", "kind", &"budget".into());
    notes
        .iter()
        .map(|note| note.str("body.text").to_owned())
        .collect()
}

/// Demands the notes of so many steps out, and behind them so many back, in the declared order.
#[track_caller]
fn check_notes(dump: &Dump, out: usize, back: usize, resource: &str) {
    let notes = notes(dump);
    assert_eq!(notes.len(), out + back, "{notes:#?}");
    let (begun, ended) = notes.split_at(out);
    for (note, (_, words)) in begun.iter().zip(ORDER) {
        let begins = format!("over the budget: {resource} takes ");
        let ends = format!(": {words} left out from here on");
        assert!(note.starts_with(&begins) && note.ends_with(&ends), "{note}");
    }
    for (note, (_, words)) in ended.iter().zip(ORDER[..out].iter().rev()) {
        let ends = format!(": {words} recorded again");
        assert!(note.ends_with(&ends), "{note}");
    }
}

/// Returns what the dump says was left out of a lane.
fn filtered(dump: &Dump, lane: &str) -> Vec<Json> {
    let coverage = dump.metadata("recorder.coverage");
    let lanes = coverage.all("lanes");
    let of_lane = lanes.iter().filter(|each| each.str("lane") == lane);
    let shortfalls = of_lane.flat_map(|lane| lane.all("shortfalls"));
    shortfalls
        .filter(|shortfall| shortfall.str("reason") == "filtered")
        .collect()
}

fn is_over_budget(health: &Json) -> bool {
    let reasons = health.all("reasons");
    reasons.iter().any(|one| one.str("code") == "over-budget")
}

/// Returns the last event about a process: in a storm, its id was that of others before.
#[track_caller]
fn last<'a>(dump: &'a Dump, event_type: &str, pid: u32) -> &'a Event {
    let events = dump.about(event_type, pid);
    let last = events.last().copied();
    last.unwrap_or_else(|| panic!("no {event_type} of process {pid} in {dump:?}"))
}

/// Crashes, and demands that all of it is in the dump.
#[track_caller]
fn crash_whole(agent: &Agent) -> Dump {
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = agent.dump_of(crash.pid());
    let fatal = dump.only("signal.fatal", crash.pid());
    assert_eq!(fatal.address("body.fault_address"), 0x1234, "{fatal}");
    assert!(!fatal.all("body.stack").is_empty(), "{fatal}");
    assert!(fatal.get("body.registers").is_some(), "{fatal}");
    last(&dump, "process.exit", crash.pid()).expect("body.signal.name", "SIGSEGV");
    dump
}

/// Returns how many records were filtered by the probes, on all CPUs.
fn filtered_execs(status: &Json) -> i128 {
    let lanes = status.all("lanes");
    let cpus = lanes.iter().flat_map(|lane| lane.all("cpus"));
    cpus.filter_map(|cpu| cpu.get("filtered_by_kind")?.get("process.exec")?.as_i64())
        .map(i128::from)
        .sum()
}

#[test]
fn a_storm_is_recorded_less_and_less_well_but_its_failures_whole_until_it_is_over() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let held = held_to("cpu = \"1%\"");
    let agent = &held.agent;
    let storm = Storm::start();
    held.wait_until_left_out(&ORDER.map(|(what, _)| what));

    // At the worst: each exec is counted, no more.
    let before = filtered_execs(&agent.status());
    for _ in 0..20 {
        Program::workload().run(["exit", "0"]);
    }
    let status = agent.status();
    assert!(filtered_execs(&status) >= before + 20, "{status}");
    assert!(is_over_budget(&status), "{status}");
    assert_eq!(status.number("budget.limits.cpu_millionths"), 10_000);
    status.expect("budget.reason", "cpu");
    let threads = status.all("budget.threads");
    let counted = |name: &str| {
        let thread = threads.iter().find(|thread| thread.str("name") == name);
        thread.map(|thread| thread.is_true("is_counted"))
    };
    assert_eq!(counted("data"), Some(true), "{status}");
    assert_eq!(counted("dumps"), Some(false), "{status}");
    let probes = status.all("budget.probes");
    assert!(
        probes
            .iter()
            .any(|probe| probe.str("program") == "process_exit"),
        "{status}"
    );
    let text = agent.run(["status"]).expect_code(PROBLEMS);
    assert!(text.text().starts_with("degraded"), "{text}");
    assert!(text.text().contains("to keep to the budget"), "{text}");
    let health = held.get("/v1/health").json();
    health.expect("state", "degraded");
    assert!(is_over_budget(&health), "{health}");
    let metrics = held.get("/v1/metrics").text();
    for line in [
        "recorder_degraded{reason=\"over-budget\"} 1",
        "recorder_budget_left_out{what=\"exec\"} 1",
        "recorder_budget_limit{resource=\"cpu\"} 0.01",
        "recorder_budget_steps_total{direction=\"out\"} 4",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let doctor = agent.run(["doctor"]);
    assert!(
        doctor.to_string().contains("left out, to keep to it"),
        "{doctor}"
    );

    // A failure at the deepest step is whole, and its dump says what it did not see.
    let dump = crash_whole(agent);
    check_notes(&dump, 4, 0, "cpu");
    let lifecycle = filtered(&dump, "lifecycle");
    let exec = lifecycle.iter().find(|one| one.str("what") == "exec");
    let exec = exec.expect("no exec is recorded");
    assert!(exec.number("records") >= 20, "{exec}");
    exec.expect_absent("until_boot_ns");
    let samples = filtered(&dump, "sample");
    assert_eq!(samples.len(), 1, "{samples:#?}");
    assert!(samples[0].number("records") > 0, "{samples:#?}");
    let loss = dump.metadata("recorder.loss");
    loss.expect("verdict", "lossy");
    assert!(loss.to_string().contains("\"filtered\""), "{loss}");
    let reduced = dump.matching("process.exit", "usage_filtered", &true.into());
    assert!(!reduced.is_empty(), "exits are recorded");
    for exit in reduced.iter().take(100) {
        exit.expect_absent("body.user_ns");
        exit.expect_absent("body.max_rss_bytes");
        assert!(exit.get("body.lifetime_ns").is_some(), "{exit}");
    }
    let shown = agent.run([
        "show",
        dump.path().to_str().expect("UTF-8"),
        "--type",
        "signal.fatal",
    ]);
    assert!(
        shown.to_string().contains("to keep to the budget"),
        "{shown}"
    );

    drop(storm);
    let status = held.wait_until_left_out(&[]);
    assert!(!is_over_budget(&status), "{status}");
    assert_eq!(
        status.number("budget.degradations"),
        status.number("budget.recoveries")
    );
    // What the probes counted is what the spans add up to.
    let spans = status.all("filtered");
    let of_exec = spans.iter().filter(|span| span.str("what") == "exec");
    let in_spans: i128 = of_exec.map(|span| span.number("records")).sum();
    assert_eq!(in_spans, filtered_execs(&status), "{status}");
    assert_eq!(in_spans, status.number("budget.records.exec"), "{status}");
    let whole = Program::workload().run(["args", "one", "two"]);
    let dump = agent.trigger("after the storm");
    let exec = last(&dump, "process.exec", whole.pid());
    assert_eq!(exec.all("body.argv").len(), 4, "{exec}");
    exec.expect_absent("body.argv_filtered");
    let exit = last(&dump, "process.exit", whole.pid());
    assert!(exit.get("body.user_ns").is_some(), "{exit}");
    check_notes(&dump, 4, 4, "cpu");
}

#[test]
fn too_little_memory_is_said_and_a_reload_gives_it_back() {
    if !ready(&Need::RECORDING) {
        return;
    }
    // No agent takes so little: nothing that it may leave out is enough.
    let held = held_to("cpu = \"0%\"\nmemory = \"1MiB\"");
    let mut steps = Vec::new();
    for count in 1..=ORDER.len() {
        let left_out: Vec<&str> = ORDER[..count].iter().map(|(what, _)| *what).collect();
        steps.push(held.wait_until_left_out(&left_out));
    }
    let status = steps.last().expect("there are four");
    status.expect("budget.reason", "memory");
    let used = status.number("budget.degradations");
    assert_eq!(used, 4, "{status}");
    let dump = crash_whole(&held.agent);
    check_notes(&dump, 4, 0, "memory");

    fs::write(&held.config, "[budget]\nmemory = \"1\"\n").expect("ours");
    let refused = held.agent.run(["reload"]).expect_code(1);
    assert!(
        refused
            .stderr
            .contains("--budget-memory 1 B: must be 0, or at least 1 MiB"),
        "{refused}"
    );
    assert_eq!(
        held.agent.status().number("budget.limits.memory_bytes"),
        1 << 20
    );

    fs::write(&held.config, "[budget]\ncpu = \"0%\"\n").expect("ours");
    let reloaded = held.agent.run(["reload"]).expect_code(0);
    assert!(!reloaded.to_string().contains("restart"), "{reloaded}");
    held.wait_until_left_out(&[]);
    let dump = held.agent.trigger("given up");
    check_notes(&dump, 4, 4, "memory");
    assert!(notes(&dump)[4].starts_with("no budget any more"));
}

#[test]
fn a_probe_that_takes_too_long_is_measured_and_costs_the_arguments_first() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let held = held_to("cpu = \"0%\"\nprobe_ns = 50");
    let storm = Storm::start();
    let status = held.wait_until_left_out(&["argv"]);
    status.expect("budget.reason", "probe_ns");
    // Told apart from what programs really are called with.
    let reduced = Program::workload().run(["args", "one", "two"]);
    drop(storm);
    let dump = held.agent.trigger("without arguments");
    let exec = last(&dump, "process.exec", reduced.pid());
    exec.expect("body.argv_filtered", true);
    assert!(exec.all("body.argv").is_empty(), "{exec}");
    let lifecycle = filtered(&dump, "lifecycle");
    let argv = lifecycle.iter().find(|one| one.str("what") == "argv");
    assert!(argv.expect("it is left out").number("records") > 0);
    assert!(notes(&dump)[0].starts_with("over the budget: probe_ns takes "));
}
