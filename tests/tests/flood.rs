//! Floods: what fails meanwhile stays in the window, and every event that is missing is accounted for.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use recorder_tests::host::FailingDisk;
use recorder_tests::{Agent, Dump, Ended, Json, Need, Options, Program, Workload, ready};
use rustix::process::Signal;
use serde_json::Value;

const NEEDS: [Need; 4] = [Need::Root, Need::Btf, Need::Agent, Need::Loop];
/// Exits of one flood.
const EXITS: i128 = 50_000;

/// Options with a window long enough for a flood on a machine that is busy with other things.
fn long_window() -> Options {
    Options {
        before: "600s",
        ..Options::default()
    }
}

/// Returns the lane of this name in a status.
#[track_caller]
fn lane(status: &Json, name: &str) -> Json {
    let lanes = status.all("lanes");
    let lane = lanes.into_iter().find(|lane| lane.str("lane") == name);
    lane.unwrap_or_else(|| panic!("no lane {name} in\n{status}"))
}

fn sum(lane: &Json, field: &str) -> i128 {
    lane.all("cpus").iter().map(|cpu| cpu.count(field)).sum()
}

/// Demands that every record that a probe began is where it must be: in the kernel ring or counted as lost, by kind; and
/// from there in the flight ring or counted as dropped, and there still or evicted.
#[track_caller]
fn check_ledger(lane: &Json) {
    for cpu in lane.all("cpus") {
        let (committed, lost) = (cpu.number("committed"), cpu.number("lost"));
        assert_eq!(cpu.number("attempted"), committed + lost, "{lane}");
        let by_kind = cpu.get("lost_by_kind").and_then(Value::as_object);
        let by_kind = by_kind.into_iter().flat_map(|kinds| kinds.values());
        let by_kind: u64 = by_kind.filter_map(Value::as_u64).sum();
        assert_eq!(lost, i128::from(by_kind), "{lane}");
    }
    let (pushed, evicted) = (lane.number("pushed"), lane.number("evicted"));
    assert_eq!(pushed, lane.number("records") + evicted, "{lane}");
}

/// Waits for a moment in which nothing is between the kernel ring and the flight ring, and returns the status then.
#[track_caller]
fn settled(agent: &Agent) -> Json {
    let status = agent.wait_for_status("all that was committed in the flight ring", |status| {
        ["failure", "lifecycle"].into_iter().all(|name| {
            let lane = lane(status, name);
            sum(&lane, "committed") == lane.number("pushed") + lane.number("dropped")
        })
    });
    for lane in status.all("lanes") {
        check_ledger(&lane);
    }
    status
}

/// Returns how many exits of the flood's children a dump has.
#[track_caller]
fn exits_of(dump: &Dump, flood: &Ended) -> i128 {
    let children = dump.matching("process.exit", "process.ppid", &flood.pid().into());
    children.len() as i128
}

/// Lets one request fail and one process crash.
fn fail_meanwhile() -> (FailingDisk, Ended, Ended) {
    let disk = FailingDisk::new();
    let io = disk.io("write", FailingDisk::HOLE_SECTOR, 4096);
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    (disk, io, crash)
}

#[track_caller]
fn check_failures(dump: &Dump, disk: &FailingDisk, crash: &Ended) {
    let errors = dump.matching("io.error", "disk", &disk.device().name().into());
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].expect("body.sector", FailingDisk::HOLE_SECTOR);
    let fatal = dump.only("signal.fatal", crash.pid());
    crash.expect_subject(fatal);
    assert_eq!(fatal.address("body.fault_address"), 0x1234, "{fatal}");
}

#[test]
fn what_is_too_old_is_let_go() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        before: "1s",
        ..Options::with(["--max-age", "1s"])
    });
    Program::workload().run(["flood", "20000"]);
    let pushed = lane(&settled(&agent), "lifecycle").number("pushed");
    std::thread::sleep(Duration::from_millis(1500));
    // Whole segments go, and the last one stays until there is another.
    let status = agent.wait_for_status("most of it gone", |status| {
        lane(status, "lifecycle").number("evicted") > pushed / 2
    });
    check_ledger(&lane(&status, "lifecycle"));
}

fn start_flood() -> Workload {
    Program::workload().start(["flood", &EXITS.to_string()])
}

#[test]
fn failures_stay_in_the_window_of_a_flood() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start_with(&long_window());
    let flood = start_flood();
    std::thread::sleep(Duration::from_millis(300));
    let (disk, _, crash) = fail_meanwhile();
    let flood = flood.wait();
    assert_eq!(flood.exit_code(), Some(0));

    let status = settled(&agent);
    let dump = agent.trigger("after the flood");
    check_failures(&dump, &disk, &crash);
    // What is missing of the flood was lost, and nothing else: strangers' exits may be among the lost.
    let lost = sum(&lane(&status, "lifecycle"), "lost") + status.skipped("process_exit");
    let missing = EXITS - exits_of(&dump, &flood);
    assert!(
        (0..=lost).contains(&missing),
        "{missing} missing, {lost} lost:\n{status}"
    );
    assert_eq!(sum(&lane(&status, "failure"), "lost"), 0, "{status}");
}

#[test]
fn what_a_halted_agent_misses_is_counted_exactly() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start_with(&Options {
        more: vec!["--limit-processes-per-second".into(), "0".into()],
        ..long_window()
    });
    let before = settled(&agent);
    assert_eq!(sum(&lane(&before, "lifecycle"), "lost"), 0, "{before}");
    // Nobody empties the kernel rings now, and the one for processes is much too small for this.
    agent.signal(Signal::STOP);
    let (disk, io, crash) = fail_meanwhile();
    let flood = start_flood().wait();
    agent.signal(Signal::CONT);

    let status = settled(&agent);
    let lifecycle = lane(&status, "lifecycle");
    let lost = sum(&lifecycle, "lost");
    assert!(lost > 0, "{EXITS} exits fit the kernel ring:\n{status}");
    let dump = agent.trigger("after the halt");
    check_failures(&dump, &disk, &crash);
    let exits = exits_of(&dump, &flood);
    assert!((1..EXITS).contains(&exits), "{exits} exits of the flood");
    assert!(
        EXITS - exits <= lost + status.skipped("process_exit"),
        "{} missing, {lost} lost",
        EXITS - exits
    );
    // Each of the losses has its place in the dump.
    assert_eq!(
        lost_in(&dump, "lifecycle"),
        lost,
        "{}",
        dump.metadata("recorder.loss")
    );
    assert_eq!(
        lost_in(&dump, "failure"),
        0,
        "{}",
        dump.metadata("recorder.loss")
    );
    dump.metadata("recorder.loss").expect("verdict", "lossy");
    dump.only("process.exec", io.pid());
}

/// Returns how many records of a lane are missing in the window of a dump, as its loss ledger has it.
#[track_caller]
fn lost_in(dump: &Dump, name: &str) -> i128 {
    let loss = dump.metadata("recorder.loss");
    let lanes = loss.all("lanes");
    let of_lane = lanes.iter().filter(|lane| lane.str("lane") == name);
    let cpus = of_lane.flat_map(|lane| lane.all("cpus"));
    cpus.map(|cpu| cpu.count("missing") + cpu.count("missing_beside"))
        .sum()
}

#[test]
fn freezing_under_load_leaves_no_gap() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&long_window());
    let flood = start_flood();
    // Three freezes while it lasts, one after it.
    for number in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        agent.trigger(&format!("under load {number}"));
    }
    let flood = flood.wait();
    let dump = agent.trigger("after the load");
    let status = settled(&agent);
    assert_eq!(sum(&lane(&status, "lifecycle"), "lost"), 0);
    let missing = EXITS - exits_of(&dump, &flood);
    assert!(
        (0..=status.skipped("process_exit")).contains(&missing),
        "{status}"
    );
    let loss = dump.metadata("recorder.loss");
    // Of what the kernel skipped the dump knows that it may be missing.
    let verdict = if loss.get("skipped").is_some() {
        "unknown"
    } else {
        "complete"
    };
    loss.expect("verdict", verdict);
    assert!(missing == 0 || verdict == "unknown", "{loss}");

    // By the sequence numbers themselves, across all three freezes.
    let mut sequences: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for message in dump.messages() {
        if message.topic == "process.exit" || message.topic == "process.exec" {
            let cpu = message.channel.get("cpu").cloned();
            let cpu = cpu.unwrap_or_else(|| panic!("no CPU in {:?}", message.channel));
            sequences.entry(cpu).or_default().push(message.sequence);
        }
    }
    for (cpu, mut sequence) in sequences {
        sequence.sort_unstable();
        for pair in sequence.windows(2) {
            assert_eq!(
                pair[0] + 1,
                pair[1],
                "CPU {cpu} in {}",
                dump.path().display()
            );
        }
    }
}

/// Has `command` run on the first processor alone, ahead of all that has no priority.
fn on_first_cpu(command: &mut Command, priority: Option<i32>) -> &mut Command {
    let settle = move || {
        // SAFETY: all zeros is a set of no processors, and this adds one.
        let cpus = unsafe {
            let mut cpus: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(0, &mut cpus);
            cpus
        };
        // SAFETY: the set is of the size that is given, and read only.
        let mut result = unsafe { libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus) };
        if let (0, Some(sched_priority)) = (result, priority) {
            let parameter = libc::sched_param { sched_priority };
            // SAFETY: the parameter is read only.
            result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
        }
        match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(settle) }
}

/// No kernel runs a program on a processor that is inside it already, and from 7.0 on programs are preempted.
#[test]
fn processes_that_preempt_each_other_have_their_records() {
    const FLOOD: i128 = 20_000;
    if !ready(&Need::RECORDING) {
        return;
    }
    let agent = Agent::start_with(&Options {
        more: vec!["--limit-processes-per-second".into(), "0".into()],
        ..long_window()
    });
    let mut flood = Program::workload().command(["flood", &FLOOD.to_string()]);
    let flood = Workload::start(on_first_cpu(&mut flood, None));
    let mut ahead = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let mut pace = Program::workload().command(["pace", "1000", "500"]);
        let mut pace = Workload::start(on_first_cpu(&mut pace, Some(1)));
        let exits = pace.line().number("exits");
        ahead.push((pace.wait(), exits));
    }
    let flood = flood.wait();
    let status = settled(&agent);
    let dump = agent.trigger("they preempted each other");
    assert_eq!(sum(&lane(&status, "lifecycle"), "lost"), 0, "{status}");
    let mut missing = FLOOD - exits_of(&dump, &flood);
    for (ahead, exits) in &ahead {
        missing += exits - exits_of(&dump, ahead);
    }
    let skipped = status.skipped("process_exit");
    // Two programs stand at each of the tracepoints where programs are preempted: both skip next to nothing.
    assert!(
        (0..=skipped).contains(&missing),
        "{missing} missing, {status}"
    );
    assert!(skipped <= 2, "{status}");
}
