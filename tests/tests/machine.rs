//! What befalls a whole machine: run where the tests have one for themselves.

use std::fs;

use recorder_tests::host::guest::{self, Mapped};
use recorder_tests::{
    Agent, Dump, Event, Json, Need, Options, Program, Workload, output, ready, recorder,
};

const NEEDS: [Need; 4] = [Need::Guest, Need::Root, Need::Btf, Need::Agent];

#[test]
fn a_task_that_waits_for_a_disk_for_too_long_is_reported() {
    if !ready(&NEEDS) {
        return;
    }
    let below = guest::disk("vd", None);
    let device = Mapped::new("stuck", &format!("0 1024 linear /dev/{below} 0"));
    fs::write("/proc/sys/kernel/hung_task_timeout_secs", "2").expect("hung tasks are looked for");
    let agent = Agent::start();
    device.suspend();
    let mut command = Program::workload().command(["writeback"]);
    let path = format!("/dev/{}", device.disk());
    let waiter = Workload::start(command.args([path.as_str(), "0", "4096"]));
    let dump = agent.dump_where("a hung task", |incident: &Json| {
        incident.get("trigger.type") == Some(&"task.hung".into())
    });
    device.resume();
    let waiter = waiter.wait();
    let hung = dump.matching("task.hung", "process.pid", &waiter.pid().into());
    let hung = hung
        .first()
        .expect("the one that waits is the one that hung");
    waiter.expect_subject(hung);
}

#[test]
fn the_whole_machine_is_out_of_memory() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start_with(&Options {
        before: "30s",
        // So much memory takes a while to clear away.
        after: "8s",
        ..Options::default()
    });
    // Into the cgroup without limits.
    let everything = "/sys/fs/cgroup/cgroup.procs";
    let victim = Program::workload()
        .start(["hog", everything, "1000", "anonymous"])
        .wait();
    assert_eq!(victim.signal(), Some(libc::SIGKILL));
    let dump = agent.dump_of(victim.pid());
    dump.incident().expect("trigger.type", "oom.kill");
    let oom = dump.only("oom.kill", victim.pid());
    victim.expect_subject(oom);
    oom.expect("body.oom_score_adj", 1000);
    let total = fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let total_kib: i128 = total
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .expect("the kernel counts its memory");
    oom.expect_within(
        "body.anon_rss_bytes",
        total_kib * 1024 / 3..=total_kib * 1024,
    );
    let exit = dump.only("process.exit", victim.pid());
    exit.expect("body.signal.name", "SIGKILL");
    // It goes on recording.
    dump_after(&agent);
}

/// Returns the line of the kernel's log with this part.
#[track_caller]
fn line<'a>(dump: &'a Dump, part: &str) -> &'a Event {
    let mut lines = dump
        .events()
        .iter()
        .filter(|event| event.str("type") == "kernel.log" && event.str("body.text").contains(part));
    let line = lines.next();
    line.unwrap_or_else(|| {
        panic!(
            "the kernel's log has no {part:?} in {}",
            dump.path().display()
        )
    })
}

#[test]
fn memory_that_breaks_is_an_incident_and_ends_who_uses_it() {
    if !ready(&[&NEEDS[..], &[Need::Module("hwpoison_inject")]].concat()) {
        return;
    }
    let agent = Agent::start();
    let ended = Program::workload().run(["poisoned-page"]);
    assert_eq!(ended.signal(), Some(libc::SIGBUS));
    let dump = agent.dump_of(ended.pid());
    let fatal = dump.only("signal.fatal", ended.pid());
    ended.expect_subject(fatal);
    fatal.expect("body.signal.name", "SIGBUS");
    let code = fatal.str("body.code.name");
    assert!(code.starts_with("BUS_MCEERR"), "{fatal}");
    let line = line(&dump, "Memory failure: ");
    let report = output(recorder(["report"]).arg(dump.path())).expect_code(0);
    assert!(
        report.text().contains("the memory itself is broken"),
        "{report}"
    );
    // Of the page itself there is an incident before that.
    let dump = agent.dump_where("broken memory", |incident| {
        incident.str("rule") == "memory-failure"
    });
    dump.incident().expect("severity", "critical");
    let of_page = |event: &&Event| event.str("type") == "hw.memory_failure";
    let failures: Vec<&Event> = dump.events().iter().filter(of_page).collect();
    let [failure] = failures.as_slice() else {
        panic!("{} failures of memory", failures.len());
    };
    // The kernel's line has the number of the page: "Memory failure: 0x1234: recovery action for ...: Recovered".
    let address = failure.address("body.physical_address");
    let number = format!("{:#x}:", address / rustix::param::page_size() as u64);
    assert!(line.str("body.text").contains(&number), "{failure}, {line}");
    let result = failure.str("body.result");
    let results = ["ignored", "failed", "delayed", "recovered"];
    assert!(results.contains(&result), "{failure}");
}

#[test]
fn a_machine_check_is_told_by_the_processor_and_by_the_kernel() {
    if !ready(&[&NEEDS[..], &[Need::Module("mce_inject")]].concat()) {
        return;
    }
    guest::load("mce_inject", &[]);
    let agent = Agent::start();
    let before = agent.status().number("samples.log_lines");
    // A corrected error of the memory that bank 4 watches; to write the bank injects it.
    for (file, value) in [
        ("flags", "sw\n"),
        ("cpu", "0"),
        ("status", "0x9c00000000000090"),
        ("addr", "0x1234000"),
        ("misc", "0x8c"),
        ("bank", "4"),
    ] {
        let path = format!("/sys/kernel/debug/mce-inject/{file}");
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    agent.wait_for_status("a line of the kernel's log", |status| {
        status.number("samples.log_lines") > before
    });
    let dump = agent.trigger("a machine check");
    let line = line(&dump, "Machine Check: 0 Bank 4: 9c00000000000090");
    line.expect("body.level", "emerg");
    line.expect("body.facility", "kern");
    let is_check = |event: &&Event| event.str("type") == "hw.machine_check";
    let checks: Vec<&Event> = dump.events().iter().filter(is_check).collect();
    let [check] = checks.as_slice() else {
        panic!("{} machine checks", checks.len());
    };
    for (field, number) in [("cpu", 0), ("bank", 4)] {
        check.expect(&format!("body.{field}"), number);
    }
    for (field, is) in [
        ("uncorrected", false),
        ("context_corrupt", false),
        ("overflow", false),
    ] {
        check.expect(&format!("body.{field}"), is);
    }
    check.expect("body.part", "memory");
    check.expect("body.status", "0x9c00000000000090");
    check.expect("body.address", "0x1234000");
    check.expect("body.misc", "0x8c");
    let report = output(recorder(["report"]).arg(dump.path())).expect_code(0);
    let said = "1 machine checks, 1 of them corrected";
    assert!(report.text().contains(said), "{report}");
    // It was corrected, and is no incident.
    assert!(dump.incident().str("rule") == "manual");
}

#[track_caller]
fn dump_after(agent: &Agent) {
    let ended = Program::workload().run(["abort"]);
    assert_eq!(ended.signal(), Some(libc::SIGABRT));
    agent.dump_of(ended.pid());
}
