//! A cgroup that floods: it is held to a rate, counted exactly, and the others are recorded as ever.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;

use recorder_tests::host::NamedCgroup;
use recorder_tests::host::guest::is_one as is_guest;
use recorder_tests::{Agent, Dump, Ended, Json, Need, Options, Program, Workload, ready};
use rustix::process::Signal;

const NEEDS: [Need; 4] = [Need::Root, Need::Btf, Need::Agent, Need::NamedCgroup];
/// Exits of a flood: more than the kernel ring has room for.
const EXITS: i128 = 60_000;
/// Crashes of a flood.
const CRASHES: usize = 60;

/// Starts a workload inside a cgroup.
#[track_caller]
fn start_in(cgroup: &NamedCgroup, arguments: &[&str]) -> Workload {
    let mut entrance = std::fs::OpenOptions::new()
        .write(true)
        .open(cgroup.processes())
        .expect("it is ours");
    let mut command = Program::workload().command(arguments);
    // SAFETY: the closure makes one system call, on a descriptor that is open.
    unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
    Workload::start(&mut command)
}

fn cgroup(name: &str) -> NamedCgroup {
    NamedCgroup::new(&format!("recorder-{name}-{}", std::process::id()))
}

/// Returns the one account of what was left out of a cgroup.
#[track_caller]
fn left_out(accounts: &[Json], cgroup: &NamedCgroup, lane: &str) -> i128 {
    let path = cgroup.name();
    let of_it: Vec<&Json> = accounts
        .iter()
        .filter(|account| account.get("cgroup") == Some(&path.as_str().into()))
        .collect();
    let [account] = of_it.as_slice() else {
        panic!("not one account of {path}: {of_it:#?}");
    };
    account.expect("lane", lane);
    account.number("records")
}

/// Returns the texts of the notes about cgroups that write too many.
fn notes(dump: &Dump, cgroup: &NamedCgroup) -> Vec<String> {
    let notes = dump.matching("recorder.note", "kind", &"throttle".into());
    let texts = notes.iter().map(|note| note.str("body.text").to_owned());
    let path = format!("cgroup {} ", cgroup.name());
    texts.filter(|text| text.starts_with(&path)).collect()
}

/// Returns the one event of a type that a process of a cgroup left: among so many, pids come round again.
#[track_caller]
fn only_in(dump: &Dump, cgroup: &NamedCgroup, kind: &str, pid: u32) -> Json {
    let of_pid = dump.matching(kind, "process.pid", &pid.into());
    let path = cgroup.name();
    let mut of_it = of_pid
        .into_iter()
        .filter(|event| event.str("body.process.cgroup") == path);
    let first = of_it.next();
    assert!(of_it.next().is_none(), "{kind} of {pid} in {path}: twice");
    let first = first.cloned();
    first.unwrap_or_else(|| panic!("no {kind} of {pid} in {path}"))
}

/// Returns what the probes left out, on all CPUs, of one type.
fn counted(status: &Json, lane: &str, kind: &str) -> i128 {
    let lanes = status.all("lanes");
    let of_lane = lanes.iter().filter(|each| each.str("lane") == lane);
    let cpus = of_lane.flat_map(|lane| lane.all("cpus"));
    cpus.filter_map(|cpu| cpu.get("throttled_by_kind")?.get(kind)?.as_i64())
        .map(i128::from)
        .sum()
}

#[test]
fn a_flood_of_processes_does_not_take_the_room_of_others_while_nobody_reads() {
    // An emulated one is too slow for a flood: what is let through in its time is more than there is room for.
    if !ready(&[&NEEDS[..], &[Need::Processor]].concat()) {
        return;
    }
    let (busy, quiet) = (cgroup("busy"), cgroup("quiet"));
    let agent = Agent::start_with(&Options {
        before: "600s",
        ..Options::default()
    });
    // Nobody empties the kernel ring now, and it is much too small for this.
    agent.signal(Signal::STOP);
    let flood = start_in(&busy, &["flood", &EXITS.to_string()]).wait();
    let failed: Vec<Ended> = (0..5)
        .map(|_| start_in(&quiet, &["exit", "3"]).wait())
        .collect();
    agent.signal(Signal::CONT);

    let status = agent.wait_for_status("a throttled cgroup", |status| {
        status.get("throttled").is_some()
    });
    let dump = agent.trigger("during the flood");
    for failed in &failed {
        let exit = only_in(&dump, &quiet, "process.exit", failed.pid());
        exit.expect("body.exit_code", 3);
        only_in(&dump, &quiet, "process.exec", failed.pid());
    }
    // Exactly: what is there and what was left out is all that there was.
    let loss = dump.metadata("recorder.loss");
    let left_out = left_out(&loss.all("throttled"), &busy, "lifecycle");
    let exits = dump.matching("process.exit", "process.ppid", &flood.pid().into());
    // The flood itself may have been one too many.
    let own = dump.matching("process.exit", "process.pid", &flood.pid().into());
    assert_eq!(
        exits.len() as i128 + own.len() as i128 + left_out,
        EXITS + 1,
        "{loss}"
    );
    assert_eq!(
        counted(&status, "lifecycle", "process.exit"),
        left_out,
        "{status}"
    );
    for lane in status.all("lanes") {
        let lost: i128 = lane.all("cpus").iter().map(|cpu| cpu.count("lost")).sum();
        assert_eq!(lost, 0, "{lane}");
    }
    loss.expect("verdict", "lossy");
    assert_eq!(notes(&dump, &busy).len(), 1, "{:?}", notes(&dump, &busy));
    assert!(notes(&dump, &quiet).is_empty());
}

#[test]
fn a_flood_of_crashes_is_told_from_its_beginning_to_its_end() {
    if !ready(&NEEDS) {
        return;
    }
    let (busy, quiet) = (cgroup("crashes"), cgroup("calm"));
    // Four seconds' worth come through at once. An emulated machine takes long for a crash.
    let limit: usize = if is_guest() { 1 } else { 2 };
    let agent = Agent::start_with(&Options {
        before: "600s",
        ..Options::with(["--limit-failures-per-second", &limit.to_string()])
    });
    let crashes: Vec<Ended> = (0..CRASHES)
        .map(|_| start_in(&busy, &["segv-write", "0x1234"]).wait())
        .collect();
    let other = start_in(&quiet, &["segv-write", "0x4321"]).wait();
    let dump = agent.trigger("during the crashes");
    let fatal = dump.only("signal.fatal", other.pid());
    assert_eq!(fatal.address("body.fault_address"), 0x4321, "{fatal}");

    let of_flood = |pid: u32| {
        let pid = serde_json::Value::from(pid);
        dump.matching("signal.fatal", "process.pid", &pid).len()
    };
    let recorded: usize = crashes.iter().map(|crash| of_flood(crash.pid())).sum();
    assert!(recorded >= 4 * limit, "{recorded} crashes were let through");
    let loss = dump.metadata("recorder.loss");
    let left_out = left_out(&loss.all("throttled"), &busy, "failure");
    assert_eq!(recorded as i128 + left_out, CRASHES as i128, "{loss}");

    agent.wait_for_status("the end of the flood", |_| {
        agent
            .notes()
            .iter()
            .any(|note| note.contains("no longer writes too many"))
    });
    let after = agent.trigger("after the crashes");
    let notes = notes(&after, &busy);
    let end = format!("{left_out} were left out");
    assert!(
        matches!(notes.as_slice(), [begin, over] if begin.contains("failure lane") && over.ends_with(&end)),
        "{notes:#?}"
    );
}
