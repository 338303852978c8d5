//! The workloads fail as they say, by the word of the kernel: what a recorder has to find is really there.

use recorder_tests::host::{FailingDisk, MemoryCgroup, failing_ext4};
use recorder_tests::{Ended, Need, Program, ready};

fn ended_by(arguments: &[&str]) -> Ended {
    Program::workload().run(arguments)
}

#[test]
fn faults_end_in_their_signal() {
    let directory = recorder_tests::host::public_directory();
    let directory = directory.path().to_str().expect("a plain path");
    let cases: [(&[&str], i32); 16] = [
        (&["segv-write", "0x1234"], libc::SIGSEGV),
        (&["segv-write", "read-only"], libc::SIGSEGV),
        (&["segv-read", "0x5678"], libc::SIGSEGV),
        (&["segv-read", "no-access"], libc::SIGSEGV),
        (&["segv-exec", "0x9abc"], libc::SIGSEGV),
        (&["segv-exec", "no-exec"], libc::SIGSEGV),
        (&["segv-thread", "0x1234"], libc::SIGSEGV),
        (&["segv-deep", "0x1234"], libc::SIGSEGV),
        (&["stack-overflow"], libc::SIGSEGV),
        (&["reraise", "0x1234"], libc::SIGSEGV),
        (&["reexecute", "0x1234"], libc::SIGSEGV),
        (&["bus", directory], libc::SIGBUS),
        (&["abort"], libc::SIGABRT),
        (
            &["fpe"],
            if cfg!(target_arch = "x86_64") {
                libc::SIGFPE
            } else {
                libc::SIGTRAP
            },
        ),
        (&["ill"], libc::SIGILL),
        (&["forbidden-call"], libc::SIGSYS),
    ];
    for (arguments, signal) in cases {
        let ended = ended_by(arguments);
        assert_eq!(ended.signal(), Some(signal), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn handled_faults_end_nothing() {
    let ended = ended_by(&["handled-segv", "7"]);
    assert_eq!(ended.exit_code(), Some(0));
    assert_eq!(ended.lines[0].number("handled"), 7);
}

#[test]
fn exits_have_their_code() {
    assert_eq!(ended_by(&["exit", "42"]).exit_code(), Some(42));
    assert_eq!(
        ended_by(&["leader-exits-first", "7", "together"]).exit_code(),
        Some(7)
    );
    // Whose code it is if the threads end one by one depends on the kernel's version; both are known.
    let alone = ended_by(&["leader-exits-first", "7", "alone"]).exit_code();
    assert!(matches!(alone, Some(7 | 9)), "{alone:?}");
}

#[test]
fn a_process_is_killed_by_another() {
    let victim = Program::workload().start(["sleep"]);
    let target = victim.pid().to_string();
    let killer = Program::workload().run(["kill", "9", &target]);
    assert_eq!(killer.exit_code(), Some(0));
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_full_disk_refuses_writes_and_a_truncated_one_reads() {
    if !ready(&[Need::Root, Need::Loop, Need::LoopErrors]) {
        return;
    }
    let disk = FailingDisk::new();
    let ended = disk.io("write", FailingDisk::HOLE_SECTOR, 4096);
    assert_eq!(ended.lines[0].number("errno"), i128::from(libc::ENOSPC));
    let ended = disk.io("read", FailingDisk::CUT_SECTOR, 4096);
    assert_eq!(ended.lines[0].number("errno"), i128::from(libc::EIO));
    let ended = disk.io("write", FailingDisk::GOOD_SECTOR, 4096);
    assert_eq!(ended.lines[0].number("transferred"), 4096);
}

#[test]
fn data_is_lost_after_its_write() {
    if !ready(&[Need::Root, Need::Loop, Need::Ext4]) {
        return;
    }
    let disk = failing_ext4();
    let ended = disk.write_back("lost");
    let outcome = &ended.lines[0];
    outcome.expect_absent("write");
    assert!(matches!(outcome.number("sync"), 5 | 28), "{outcome}");
}

#[test]
fn the_memory_hog_is_killed() {
    if !ready(&[Need::Root, Need::MemoryCgroup]) {
        return;
    }
    for kind in ["anonymous", "shared"] {
        let cgroup = MemoryCgroup::with_limit(32 << 20);
        let processes = cgroup.processes();
        let processes = processes.to_str().expect("a plain path");
        let ended = ended_by(&["hog", processes, "500", kind]);
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "{kind}");
        assert_eq!(cgroup.kills(), 1, "{kind}");
    }
}

#[test]
fn a_flood_is_as_large_as_it_says() {
    let ended = ended_by(&["flood", "1000"]);
    assert!(ended.lines[0].number("elapsed_ns") > 0);
    assert_eq!(ended.exit_code(), Some(0));
}

#[test]
fn a_paced_flood_is_not_faster_than_asked_for() {
    let ended = ended_by(&["pace", "500", "1000"]);
    let (exits, elapsed) = (
        ended.lines[0].number("exits"),
        ended.lines[0].number("elapsed_ns"),
    );
    assert!(exits > 0);
    assert!((exits - 1) * 1_000_000_000 < elapsed * 500, "{exits} exits");
}

#[test]
fn ordinary_work_is_done_to_the_end() {
    for what in ["exec", "fork", "thread", "fault", "signal", "read"] {
        let ended = ended_by(&["micro", what, "10"]);
        assert!(ended.lines[0].number("elapsed_ns") > 0, "{what}");
        assert_eq!(ended.exit_code(), Some(0), "{what}");
    }
}

#[test]
fn threads_end_with_their_process() {
    assert_eq!(
        ended_by(&["exit-in-threads", "5", "8"]).exit_code(),
        Some(5)
    );
    let ended = ended_by(&["exec-from-thread", "6"]);
    assert_eq!(ended.exit_code(), Some(6));
    // The second program has the process of the first.
    ended.lines[0].expect_same("pid", &ended.facts, "pid");
    ended.lines[0].expect_same("tid", &ended.facts, "pid");
    ended.lines[0].expect_same("start_ticks", &ended.facts, "start_ticks");
}
