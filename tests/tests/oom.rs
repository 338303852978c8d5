//! Out of memory in a cgroup of our own: who was killed, for whom, and what it had.

use recorder_tests::host::MemoryCgroup;
use recorder_tests::{Agent, Ended, Event, Need, Program, ready};

const MEBIBYTE: i128 = 1 << 20;
const LIMIT_BYTES: u64 = 32 << 20;
/// The kernel's own counters of resident memory lag behind on each CPU.
const COUNTER_ERROR_BYTES: i128 = 2 * MEBIBYTE;

const NEEDS: [Need; 4] = [Need::Root, Need::Btf, Need::Agent, Need::MemoryCgroup];

fn hog(cgroup: &MemoryCgroup, more: &[&str]) -> recorder_tests::Workload {
    let processes = cgroup.processes();
    let processes = processes.to_str().expect("a plain path");
    Program::workload().start([&["hog", processes], more].concat())
}

#[track_caller]
fn check_victim(oom: &Event, victim: &Ended, cgroup: &MemoryCgroup) {
    victim.expect_subject(oom);
    oom.expect_same("body.oom_score_adj", &victim.facts, "oom_score_adj");
    oom.expect("body.memory_cgroup_id", cgroup.id());
    let name = cgroup
        .path()
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a plain name");
    if oom.get("body.memory_cgroup").is_some() {
        assert!(oom.str("body.memory_cgroup").ends_with(name), "{oom}");
    }
    let resident = oom.number("body.anon_rss_bytes") + oom.number("body.shmem_rss_bytes");
    assert!(oom.number("body.total_vm_bytes") >= resident, "{oom}");
    // One entry of 8 bytes for each page of 4 KiB.
    oom.expect_within("body.pgtables_bytes", resident / 512..=MEBIBYTE);
}

/// Compares `path` with what the kernel's log says of this victim under `name`, in kB; the log may have rolled over it.
#[track_caller]
fn check_against_log(oom: &Event, victim: &Ended, path: &str, name: &str) {
    let log = recorder_tests::output(&mut std::process::Command::new("dmesg"));
    let killed = format!("Killed process {} ", victim.pid());
    let stdout = String::from_utf8_lossy(&log.stdout);
    let Some(line) = stdout.lines().find(|line| line.contains(&killed)) else {
        return;
    };
    let value = line
        .split_once(&format!("{name}:"))
        .and_then(|(_, rest)| rest.split_once("kB"));
    let value: i128 = value
        .and_then(|(value, _)| value.parse().ok())
        .expect("the log has it");
    let difference = (oom.number(path) - value * 1024).abs();
    assert!(
        difference <= COUNTER_ERROR_BYTES,
        "{path} in {oom}\nbut {line}"
    );
}

#[test]
fn the_process_that_wanted_more_is_killed() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start();
    for (kind, resident, other) in [
        ("anonymous", "anon_rss_bytes", "shmem_rss_bytes"),
        ("shared", "shmem_rss_bytes", "anon_rss_bytes"),
    ] {
        let cgroup = MemoryCgroup::with_limit(LIMIT_BYTES);
        let victim = hog(&cgroup, &["500", kind]).wait();
        assert_eq!(victim.signal(), Some(libc::SIGKILL));
        let dump = agent.dump_of(victim.pid());
        dump.incident().expect("trigger.type", "oom.kill");
        let oom = dump.only("oom.kill", victim.pid());
        check_victim(oom, &victim, &cgroup);
        let limit = i128::from(LIMIT_BYTES);
        oom.expect_within(
            &format!("body.{resident}"),
            limit * 3 / 4..=limit + COUNTER_ERROR_BYTES,
        );
        oom.expect_within(&format!("body.{other}"), 0..=4 * MEBIBYTE);
        for (path, name) in [
            ("body.total_vm_bytes", "total-vm"),
            ("body.anon_rss_bytes", "anon-rss"),
            ("body.file_rss_bytes", "file-rss"),
            ("body.shmem_rss_bytes", "shmem-rss"),
            ("body.pgtables_bytes", "pgtables"),
        ] {
            check_against_log(oom, &victim, path, name);
        }
        // It was its own allocation that failed.
        for field in ["pid", "tid", "comm", "uid"] {
            oom.expect_same(&format!("body.trigger.{field}"), &victim.facts, field);
        }
        // The whole certificate: the exit is because of the signal, the signal because of the kill.
        let exit = dump.only("process.exit", victim.pid());
        exit.expect("body.signal.name", "SIGKILL");
        let mut behind = dump.cause(exit);
        if behind.str("type") == "signal.fatal" {
            assert!(behind.is_true("body.sender.kernel"), "{behind}");
            behind = dump.cause(behind);
        }
        behind.expect_same("order", oom, "order");
        assert!(exit.number("body.max_rss_bytes") >= limit * 3 / 4, "{exit}");
    }
}

#[test]
fn another_process_is_killed_for_the_one_that_wanted_more() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start();
    let cgroup = MemoryCgroup::with_limit(LIMIT_BYTES);
    let twenty = (20 * MEBIBYTE).to_string();
    let mut victim = hog(&cgroup, &["1000", "anonymous", &twenty]);
    assert!(victim.line().number("used_bytes") >= 20 * MEBIBYTE);
    // There is room for what it wants once the victim is gone; a kernel may not wait for that, and kills it as well.
    let trigger = hog(&cgroup, &["0", "anonymous", &twenty]);
    let victim = victim.wait();

    let dump = agent.dump_of(victim.pid());
    let oom = dump.only("oom.kill", victim.pid());
    check_victim(oom, &victim, &cgroup);
    oom.expect_within("body.anon_rss_bytes", 19 * MEBIBYTE..=24 * MEBIBYTE);
    for field in ["pid", "comm", "uid"] {
        oom.expect_same(&format!("body.trigger.{field}"), &trigger.facts, field);
    }
}
