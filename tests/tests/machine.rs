//! What befalls a whole machine: run where the tests have one for themselves.

use std::fs;

use recorder_tests::host::guest::{self, Mapped};
use recorder_tests::{Agent, Json, Need, Options, Program, Workload, ready};

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

#[track_caller]
fn dump_after(agent: &Agent) {
    let ended = Program::workload().run(["abort"]);
    assert_eq!(ended.signal(), Some(libc::SIGABRT));
    agent.dump_of(ended.pid());
}
