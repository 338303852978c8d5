//! What fires, what does not, and what an incident then says.

use recorder_ebpf::abi::Header;
use zerocopy::IntoBytes;

use super::*;
use crate::incident::{Incident, Manual, Outcome, Subject};
use crate::ring::allocations_of_this_thread;

/// Returns the incident that a record opens in a fresh engine.
fn incident(record: impl IntoBytes + Immutable) -> Incident {
    let mut engine = engine();
    feed(&mut engine, record).expect("it is an incident");
    engine.close_all(u64::MAX).pop().expect("it is open")
}

fn fires(record: impl IntoBytes + Immutable) -> bool {
    feed(&mut engine(), record).is_some()
}

#[test]
fn a_crash_is_an_incident() {
    let mut crash = crash(START, "nginx", 812, 0x1234);
    crash.header.cpu = 3;
    crash.header.seq = 77;
    crash.header.cgroup_id = 99;
    let incident = incident(crash);
    assert_eq!(incident.rule, "fatal-signal");
    assert_eq!(
        incident.summary,
        "nginx[812] died of SIGSEGV at 0x0 (SEGV_MAPERR)"
    );
    assert_eq!(incident.trigger.event_type, "signal.fatal");
    assert_eq!((incident.trigger.boot_ns, incident.trigger.cpu), (START, 3));
    assert_eq!(incident.trigger.sequence, 77);
    let subject = Subject {
        pid: Some(812),
        start_boot_ns: Some(813),
        comm: Some("nginx".into()),
        cgroup_id: Some(99),
        memory_cgroup_id: None,
        device: None,
        ..Subject::default()
    };
    assert_eq!(incident.subject, subject);
    assert_eq!(incident.window_start_boot_ns, START - BEFORE);
    assert_eq!(incident.window_end_boot_ns, START + AFTER);
    let (seconds, _) = incident.id.get_timestamp().expect("a UUIDv7").to_unix();
    assert_eq!(seconds, 1_800_001_000);
}

#[test]
fn signals_that_dump_core_are_incidents_and_others_are_not() {
    let core = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];
    for signal in 0..=64 {
        let mut record = crash(START, "app", 1, 0);
        record.signal = signal;
        assert_eq!(fires(record), core.contains(&signal), "signal {signal}");
    }
}

#[test]
fn a_sent_signal_says_by_whom() {
    let sent = sent_by(crash(START, "app", 10, 0), "bash", 11);
    assert_eq!(
        incident(sent).summary,
        "app[10] died of SIGSEGV sent by bash[11]"
    );
    let own = sent_by(crash(START, "app", 10, 0), "app", 10);
    assert_eq!(
        incident(own).summary,
        "app[10] died of SIGSEGV, which it sent itself"
    );
}

#[test]
fn an_oom_kill_is_an_incident() {
    let mut kill = oom(START, "java", 77, 1234);
    let page = rustix::param::page_size() as u64;
    kill.anon_rss_pages = (1 << 30) / page;
    kill.file_rss_pages = (1 << 29) / page;
    kill.shmem_rss_pages = (1 << 29) / page;
    let incident = incident(kill);
    assert_eq!(incident.rule, "oom-kill");
    let said = "java[77] killed by the OOM killer: 2.0 GiB resident, in memory cgroup 1234";
    assert_eq!(incident.summary, said);
    assert_eq!(incident.subject.pid, Some(77));
}

#[test]
fn an_io_error_is_an_incident() {
    let mut error = io_error(START, 16, 10);
    error.sector = 12345;
    error.bytes = 4096;
    error.cmd_flags = 0x8801;
    let incident = incident(error);
    assert_eq!(incident.rule, "io-error");
    let said = "sda: write of 8 sectors at 12345 failed: EIO (BLK_STS_IOERR)";
    assert_eq!(incident.summary, said);
    assert_eq!(incident.subject.device.as_deref(), Some("8:16"));
    assert_eq!(incident.subject.pid, None);
}

#[test]
fn a_writeback_error_is_an_incident() {
    let mut error = writeback(START, 8 << 20 | 1, libc::EIO as u32);
    error.inode = 12;
    error.name[..4].copy_from_slice(b"sda1");
    let incident = incident(error);
    assert_eq!(incident.rule, "writeback-error");
    assert_eq!(
        incident.summary,
        "sda1: data of inode 12 was lost in write-back: EIO"
    );
    assert_eq!(incident.subject.device.as_deref(), Some("8:1"));
}

#[test]
fn broken_memory_is_an_incident() {
    let incident = incident(memory_failure(START, 0x1234000, 3));
    assert_eq!(incident.rule, "memory-failure");
    assert_eq!(
        incident.summary,
        "the memory at 0x1234000 is broken: recovered"
    );
}

#[test]
fn a_machine_check_is_an_incident_unless_it_was_corrected() {
    const CORRECTED: u64 = 0x9c00_0000_0000_0090;
    let incident = incident(machine_check(
        START,
        1,
        4,
        CORRECTED | 0x2200_0000_0000_0000,
    ));
    assert_eq!(incident.rule, "machine-check");
    assert_eq!(
        incident.summary,
        "CPU 1 bank 4: uncorrected error of memory at 0x0, the processor's state may be corrupt"
    );
    assert!(!fires(machine_check(START, 1, 4, CORRECTED)));
}

#[test]
fn a_hung_task_is_an_incident() {
    let incident = incident(hung(START, "tar", 5));
    assert_eq!(incident.rule, "task-hung");
    let said = "tar[5] did not run for longer than the kernel's hung-task limit";
    assert_eq!(incident.summary, said);
}

#[test]
fn the_abnormal_exit_of_a_watched_name_is_an_incident() {
    let by_code = incident(exit(START, "postgres", 9, 3 << 8));
    assert_eq!(by_code.rule, "watched-exit");
    assert_eq!(by_code.summary, "postgres[9] exited with code 3");
    let by_signal = incident(exit(START, "postgres", 9, libc::SIGTERM as u32));
    assert_eq!(by_signal.summary, "postgres[9] died of SIGTERM");
    assert_ne!(by_code.fingerprint, by_signal.fingerprint);
    let with_core = incident(exit(START, "postgres", 9, 6 | 0x80));
    let without = incident(exit(START, "postgres", 9, 6));
    assert_eq!(with_core.fingerprint, without.fingerprint);
}

#[test]
fn other_ends_are_no_incidents() {
    assert!(!fires(exit(START, "postgres", 9, 0)), "it went well");
    assert!(!fires(exit(START, "postgre", 9, 1 << 8)), "not its name");
    assert!(!fires(exit(START, "postgres2", 9, 1 << 8)), "not its name");
    assert!(!fires(exec(START, "postgres", 9)));
}

#[test]
fn a_watched_name_is_cut_as_the_kernel_cuts_it() {
    let mut config = config();
    config.watch = vec!["a-name-of-more-than-15-bytes".into()];
    let mut engine = engine_of(config);
    assert!(feed(&mut engine, exit(START, "a-name-of-more-", 9, 1 << 8)).is_some());
}

#[test]
fn a_request_is_an_incident_that_no_cooldown_holds_up() {
    let mut engine = engine();
    let manual = Manual {
        reason: Some("it is slow".into()),
        subject: Subject {
            pid: Some(4),
            ..Subject::default()
        },
        sequence: 17,
    };
    let now = |boot_ns| ClockPair {
        boot_ns,
        unix_ns: CLOCKS.unix_ns + boot_ns,
    };
    let Outcome::Opened(opened) = engine.trigger_manual(manual.clone(), now(START)) else {
        panic!("nothing else is open");
    };
    assert_eq!(
        (opened.rule.as_str(), opened.window_end_boot_ns),
        ("manual", START + AFTER)
    );
    let joined = engine.trigger_manual(Manual::default(), now(START + 1));
    assert_eq!(joined, Outcome::Joined(opened.id));
    let incident = engine.poll(START + AFTER).expect("its window ended");
    assert_eq!(incident.summary, "triggered by hand: it is slow");
    assert_eq!(incident.reason.as_deref(), Some("it is slow"));
    assert_eq!(incident.trigger.event_type, "recorder.note");
    assert_eq!(incident.trigger.sequence, 17);
    assert_eq!((incident.subject.pid, incident.followers), (Some(4), 1));
    let again = engine.trigger_manual(Manual::default(), now(START + AFTER + 1));
    assert!(matches!(again, Outcome::Opened(_)));
}

#[test]
fn a_rule_may_have_a_window_of_its_own() {
    let mut config = config();
    let span = Span {
        before_ns: 1,
        after_ns: 2,
    };
    config.rule_spans.insert("oom-kill".to_owned(), span);
    let mut engine = engine_of(config);
    let opened = feed(&mut engine, oom(START, "java", 1, 1)).expect("an incident");
    assert_eq!(opened.window_start_boot_ns, START - 1);
    assert_eq!(opened.window_end_boot_ns, START + 2);
    let opened = feed(&mut engine, crash(START, "nginx", 2, 0)).expect("an incident");
    assert_eq!(opened.window_end_boot_ns, START + AFTER);
}

#[test]
fn where_a_program_was_loaded_does_not_tell_crashes_apart() {
    let fingerprint = |record: SignalFatal| incident(record).fingerprint;
    let first = fingerprint(crash(START, "app", 1, 0x1234));
    assert_eq!(first, fingerprint(crash(START, "app", 2, 0x1234)));
    assert_ne!(
        first,
        fingerprint(crash(START, "app", 1, 0x1235)),
        "another place"
    );
    assert_ne!(
        first,
        fingerprint(crash(START, "ape", 1, 0x1234)),
        "another program"
    );
    let with = |change: fn(&mut SignalFatal)| {
        let mut record = crash(START, "app", 1, 0x1234);
        change(&mut record);
        fingerprint(record)
    };
    assert_ne!(first, with(|fatal| fatal.signal = libc::SIGBUS as u32));
    assert_ne!(first, with(|fatal| fatal.frames[0].build_id[19] = 0));
    let by_page = with(|fatal| fatal.stack_len = 0);
    assert_ne!(first, by_page);
    assert_eq!(
        by_page,
        with(|fatal| {
            fatal.frames[0].status = 2;
            fatal.ip += 0x7000;
        })
    );
}

#[test]
fn where_a_sent_signal_hit_does_not_tell_it_apart() {
    let fingerprint = |record: SignalFatal| incident(record).fingerprint;
    let sent = |offset, comm| fingerprint(sent_by(crash(START, "app", 1, offset), comm, 50));
    assert_eq!(sent(1, "bash"), sent(2, "bash"));
    assert_ne!(sent(1, "bash"), sent(1, "python"));
    let own = |offset| fingerprint(sent_by(crash(START, "app", 1, offset), "app", 1));
    assert_ne!(own(1), own(2), "abort() is called from somewhere");
    let over_time = |offset| {
        let mut fatal = crash(START, "app", 1, offset);
        fatal.signal = libc::SIGXCPU as u32;
        fingerprint(fatal)
    };
    assert_eq!(over_time(1), over_time(2));
}

#[test]
fn what_tells_the_other_failures_apart() {
    let of = |a: Incident, b: Incident| a.fingerprint == b.fingerprint;
    let kill = |comm, cgroup| incident(oom(START, comm, 1, cgroup));
    assert!(of(kill("java", 1), kill("java", 1)));
    assert!(!of(kill("java", 1), kill("java", 2)));
    assert!(!of(kill("java", 1), kill("ruby", 1)));
    let error = |minor, status, operation| {
        let mut error = io_error(START, minor, status);
        error.cmd_flags = operation;
        error.sector = START + u64::from(operation);
        incident(error)
    };
    assert!(
        of(error(0, 10, 0x101), error(0, 10, 0x201)),
        "flags of one operation"
    );
    assert!(!of(error(0, 10, 1), error(16, 10, 1)));
    assert!(!of(error(0, 10, 1), error(0, 7, 1)));
    assert!(!of(error(0, 10, 1), error(0, 10, 0)));
    let lost = |device, errno| incident(writeback(START, device, errno));
    assert!(of(lost(1, 5), lost(1, 5)));
    assert!(!of(lost(1, 5), lost(2, 5)));
    assert!(!of(lost(1, 5), lost(1, 28)));
    let task = |comm| incident(hung(START, comm, 1));
    assert!(of(task("kworker/0:1"), task("kworker/3:12")));
    assert!(!of(task("tar"), task("cp")));
}

#[test]
fn short_and_unknown_records_are_no_triggers() {
    let mut engine = engine();
    let crash = crash(START, "app", 1, 0);
    for len in 0..size_of::<SignalFatal>() {
        assert_eq!(
            engine.on_record(&crash.as_bytes()[..len], CLOCKS, |_| ()),
            None
        );
    }
    let mut header = Header::new_zeroed();
    for kind in 0..=u8::MAX {
        header.kind = kind;
        // The hung task's record is a header alone.
        let known = kind == EventKind::TaskHung as u8;
        assert_eq!(feed(&mut engine, header).is_some(), known, "kind {kind}");
    }
    assert_eq!(engine.stats().triggers_total, 1);
}

#[test]
fn lifecycle_records_allocate_nothing() {
    let mut engine = engine();
    let records = [
        exec(START, "sh", 1).as_bytes().to_vec(),
        exit(START, "sh", 1, 1 << 8).as_bytes().to_vec(),
        exit(START, "postgres", 1, 0).as_bytes().to_vec(),
    ];
    let before = allocations_of_this_thread();
    for record in &records {
        assert_eq!(engine.on_record(record, CLOCKS, |_| ()), None);
    }
    assert_eq!(allocations_of_this_thread(), before);
}

#[test]
fn the_recorders_own_descendants_are_no_incidents() {
    let mut crash = crash(START, "collector", 812, 0x1234);
    crash.header.flags |= recorder_ebpf::abi::HEADER_OWN;
    assert!(!fires(crash));
}
