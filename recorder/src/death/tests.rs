//! Tests of deaths: what is behind what, and the words of certificates.

use super::*;
use crate::incident::Subject;

const SECOND: u64 = 1_000_000_000;
/// When every process of these tests starts, in nanoseconds since boot.
const START: u64 = SECOND;

fn process(pid: u32, start: u64) -> Option<proto::Process> {
    Some(proto::Process {
        pid: Some(pid),
        start_boot_ns: Some(start),
        comm: Some(format!("p{pid}")),
        uid: Some(0),
        ..proto::Process::default()
    })
}

fn signal(number: u32) -> Option<proto::Signal> {
    Some(proto::Signal {
        number: Some(number),
        name: crate::event::names::signal_name(number),
    })
}

fn exit(pid: u32, start: u64, number: Option<u32>) -> Body {
    Body::ProcessExit(proto::ProcessExit {
        process: Some(proto::Process {
            ppid: Some(2),
            ..process(pid, start).unwrap_or_default()
        }),
        signal: number.and_then(signal),
        lifetime_ns: Some(20 * SECOND),
        ..proto::ProcessExit::default()
    })
}

fn exit_code(pid: u32, code: u32) -> Body {
    let Body::ProcessExit(exit) = exit(pid, START, None) else {
        unreachable!("it was made as one");
    };
    Body::ProcessExit(proto::ProcessExit {
        exit_code: Some(code),
        ..exit
    })
}

fn fatal(pid: u32, start: u64, number: u32) -> proto::SignalFatal {
    proto::SignalFatal {
        process: process(pid, start),
        signal: signal(number),
        ..proto::SignalFatal::default()
    }
}

fn code(number: i32, name: &str) -> Option<proto::SignalCode> {
    Some(proto::SignalCode {
        number: Some(number),
        name: Some(name.to_owned()),
    })
}

fn sender(pid: u32, comm: &str, boot_ns: u64) -> proto::Sender {
    proto::Sender {
        pid: Some(pid),
        comm: Some(comm.to_owned()),
        uid: Some(0),
        kernel: Some(false),
        boot_ns: Some(boot_ns),
        ..proto::Sender::default()
    }
}

fn request(number: u32, sender: proto::Sender, reception: &str) -> proto::Request {
    proto::Request {
        signal: signal(number),
        sender: Some(sender),
        reception: Some(reception.to_owned()),
    }
}

fn sent(pid: u32, number: u32, sender: proto::Sender, reception: &str) -> Body {
    Body::SignalSent(proto::SignalSent {
        process: process(pid, START),
        signal: signal(number),
        sender: Some(sender),
        reception: Some(reception.to_owned()),
        ..proto::SignalSent::default()
    })
}

fn oom(pid: u32, start: u64) -> Body {
    Body::OomKill(proto::OomKill {
        process: process(pid, start),
        anon_rss_bytes: Some(3 << 20),
        memory_cgroup_id: Some(77),
        trigger: process(5, START),
        ..proto::OomKill::default()
    })
}

fn causes(events: &[Body]) -> Vec<Option<u64>> {
    let mut joiner = Joiner::default();
    (0..)
        .zip(events)
        .map(|(order, body)| joiner.take(order, 0, body).cause)
        .collect()
}

/// Returns the certificate of the last event, an exit.
fn certificate(events: &[Body]) -> Certificate {
    let mut joiner = Joiner::default();
    let mut last = None;
    for (order, body) in (1..).zip(events) {
        if let (Some(death), Body::ProcessExit(exit)) = (joiner.take(order, 9, body).death, body) {
            last = Some(death.certify(exit));
        }
    }
    last.expect("an exit is among them")
}

#[track_caller]
fn expect(events: &[Body], verdict: Verdict, text: &str) {
    let certificate = certificate(events);
    assert_eq!(
        (certificate.verdict, certificate.text.as_str()),
        (verdict, text)
    );
}

fn by(number: u32, sender: proto::Sender) -> [Body; 2] {
    let fatal = proto::SignalFatal {
        sender: Some(sender),
        ..fatal(7, START, number)
    };
    [Body::SignalFatal(fatal), exit(7, START, Some(number))]
}

#[test]
fn an_exit_points_to_its_signal() {
    assert_eq!(
        causes(&[Body::SignalFatal(fatal(7, 1, 11)), exit(7, 1, Some(11))]),
        [None, Some(0)]
    );
}

#[test]
fn an_oom_kill_is_behind_both_its_signal_and_its_exit() {
    assert_eq!(
        causes(&[
            oom(7, 1),
            Body::SignalFatal(fatal(7, 1, 9)),
            exit(7, 1, Some(9))
        ]),
        [None, Some(0), Some(0)]
    );
}

#[test]
fn a_victim_that_crashed_before_the_kill_arrived_died_of_its_own_signal() {
    assert_eq!(
        causes(&[
            oom(7, 1),
            Body::SignalFatal(fatal(7, 1, 11)),
            exit(7, 1, Some(11))
        ]),
        [None, None, Some(1)]
    );
}

#[test]
fn another_process_with_the_same_pid_has_no_part_in_it() {
    assert_eq!(
        causes(&[
            Body::SignalFatal(fatal(7, 1, 11)),
            exit(7, 2, Some(11)),
            exit(8, 1, Some(11))
        ]),
        [None, None, None]
    );
}

#[test]
fn an_exit_without_a_signal_has_no_oom_kill_behind_it() {
    assert_eq!(causes(&[oom(7, 1), exit(7, 1, None)]), [None, None]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut joiner = Joiner::default();
    for pid in 0..3 * REMEMBERED_MAX as u32 {
        joiner.take(u64::from(pid), 0, &Body::SignalFatal(fatal(pid, 1, 11)));
        joiner.take(0, 0, &exit(pid + 1_000_000, 1, Some(9)));
    }
    for len in [
        joiner.dying.map.len(),
        joiner.dying.seen.len(),
        joiner.ended.map.len(),
        joiner.ended.seen.len(),
    ] {
        assert_eq!(len, REMEMBERED_MAX);
    }
    let last = 3 * REMEMBERED_MAX as u32 - 1;
    let step = joiner.take(0, 0, &exit(last, 1, Some(11)));
    assert_eq!(step.cause, Some(u64::from(last)));
}

#[test]
fn a_kill_after_a_request_names_both_and_the_time_between() {
    let systemd = |boot_ns| sender(1, "systemd", boot_ns);
    let fatal = proto::SignalFatal {
        sender: Some(systemd(10 * SECOND + 12_000_000)),
        asked: Some(Box::new(request(15, systemd(10 * SECOND), "handled"))),
        ..fatal(7, START, 9)
    };
    let events = [
        sent(7, 15, systemd(10 * SECOND), "handled"),
        Body::SignalFatal(fatal),
        exit(7, START, Some(9)),
    ];
    assert_eq!(causes(&events), [None, Some(0), Some(1)]);
    expect(
        &events,
        Verdict::Killed,
        "Exit 137, not OOM: SIGKILL from systemd[1] 12 ms after its SIGTERM (handled)",
    );
    // The request may be older than the window.
    assert_eq!(causes(&events[1..]), [None, Some(0)]);
    assert_eq!(certificate(&events).text, certificate(&events[1..]).text);
    assert_eq!(certificate(&events).status, 137);
}

#[test]
fn a_kill_by_another_than_the_one_who_asked_names_both() {
    let fatal = proto::SignalFatal {
        sender: Some(sender(3, "kubelet", 12 * SECOND)),
        asked: Some(Box::new(request(
            15,
            sender(4, "sh", 10 * SECOND),
            "ignored",
        ))),
        ..fatal(7, START, 9)
    };
    expect(
        &[Body::SignalFatal(fatal), exit(7, START, Some(9))],
        Verdict::Killed,
        "Exit 137, not OOM: SIGKILL from kubelet[3] 2 s after SIGTERM from sh[4] (ignored)",
    );
}

#[test]
fn a_reload_is_no_request_to_end() {
    let hup = || sender(1, "systemd", 2 * SECOND);
    let mut events = by(9, sender(3, "sh", 5 * SECOND)).to_vec();
    if let Body::SignalFatal(fatal) = &mut events[0] {
        fatal.asked = Some(Box::new(request(1, hup(), "handled")));
    }
    let text = "Exit 137, not OOM: SIGKILL from sh[3]";
    expect(&events, Verdict::Killed, text);
    let events = [sent(7, 1, hup(), "handled"), exit_code(7, 0)];
    assert_eq!(causes(&events), [None, None]);
    expect(&events, Verdict::Exit, "Exit 0");
}

#[test]
fn an_oom_kill_says_how_much_and_for_whom() {
    expect(
        &[oom(7, START), exit(7, START, Some(9))],
        Verdict::OomKill,
        "Exit 137, OOM: the kernel killed it for memory, 3.0 MiB resident, in memory cgroup 77, when p5[5] asked for more",
    );
}

#[test]
fn senders_have_their_role() {
    let from = |pid, number| by(number, sender(pid, "x", 5 * SECOND));
    expect(
        &from(2, 15),
        Verdict::Killed,
        "Exit 143: SIGTERM from its parent x[2]",
    );
    expect(
        &from(7, 6),
        Verdict::Abort,
        "Exit 134: SIGABRT by its own abort() or failed assertion",
    );
    expect(
        &from(7, 13),
        Verdict::OwnSignal,
        "Exit 141: SIGPIPE: it wrote to a pipe or socket that nobody reads any more",
    );
    let other_user = proto::Sender {
        uid: Some(1000),
        ..sender(8, "kill", 5 * SECOND)
    };
    expect(
        &by(9, other_user),
        Verdict::Killed,
        "Exit 137, not OOM: SIGKILL from kill[8] (uid 1000)",
    );
}

#[test]
fn those_on_their_way_out_did_not_choose_to_send() {
    let exiting = |kernel, init| proto::Sender {
        exiting: Some(true),
        kernel: Some(kernel),
        init: Some(init),
        ..sender(2, "boss", 5 * SECOND)
    };
    let boss = exit_code(2, 0);
    let [fatal, death] = by(9, exiting(false, false));
    let events = [boss.clone(), fatal.clone(), death.clone()];
    assert_eq!(causes(&events), [None, Some(0), Some(1)]);
    expect(
        &events,
        Verdict::ParentDied,
        "Exit 137, not OOM: its parent boss[2] ended, and it had asked for SIGKILL then (PR_SET_PDEATHSIG)",
    );
    expect(
        &[fatal, death],
        Verdict::ParentDied,
        "Exit 137, not OOM: the thread of boss[2] that had started it ended, and it had asked for SIGKILL then (PR_SET_PDEATHSIG)",
    );
    let [fatal, death] = by(9, exiting(true, true));
    expect(
        &[boss, fatal, death],
        Verdict::NamespaceEnded,
        "Exit 137, not OOM: its pid namespace ended with its init boss[2]",
    );
    expect(
        &by(1, exiting(true, false)),
        Verdict::Kernel,
        "Exit 129: SIGHUP: boss[2], which led its session or held its process group, ended",
    );
}

#[test]
fn a_fault_says_which_access_failed_and_why() {
    let fault = proto::SignalFatal {
        code: code(1, "SEGV_MAPERR"),
        fault_address: Some(0),
        trap_number: Some(14),
        error_code: Some(6),
        stack: vec![proto::Frame {
            symbol: Some("parse".to_owned()),
            ..proto::Frame::default()
        }],
        ..fatal(7, START, 11)
    };
    expect(
        &[Body::SignalFatal(fault), exit(7, START, Some(11))],
        Verdict::Fault,
        "Exit 139: SIGSEGV (SEGV_MAPERR), write to 0x0: nothing is mapped at that address; in parse",
    );
}

#[test]
fn a_fault_of_aarch64_says_so_by_its_syndrome() {
    let cases = [
        (0x9200_0046, "write to"),
        (0x9200_0006, "read of"),
        (0x9200_0146, "read of"),
        (0x8200_0006, "jump to"),
        (0, "address"),
    ];
    for (syndrome, expected) in cases {
        let fault = proto::SignalFatal {
            fault_address: Some(0x10),
            error_code: Some(syndrome),
            ..fatal(7, START, 11)
        };
        let expected = format!("{expected} 0x10");
        assert_eq!(words::access(&fault), Some(expected), "{syndrome:#x}");
    }
}

#[test]
fn a_forbidden_system_call_has_its_number() {
    let fault = proto::SignalFatal {
        code: code(1, "SYS_SECCOMP"),
        registers: vec![proto::Register {
            name: Some("orig_rax".to_owned()),
            value: Some(41),
        }],
        ..fatal(7, START, 31)
    };
    expect(
        &[Body::SignalFatal(fault), exit(7, START, Some(31))],
        Verdict::Seccomp,
        "Exit 159: SIGSYS: a seccomp filter forbids system call 41",
    );
}

#[test]
fn a_signal_that_nobody_saw_sent_is_not_made_up() {
    expect(
        &[exit(7, START, Some(9))],
        Verdict::Signal,
        "Exit 137: SIGKILL, sent by whom is not in the dump",
    );
    // Of another signal than the one it died of.
    let events = [
        Body::SignalFatal(fatal(7, START, 11)),
        exit(7, START, Some(9)),
    ];
    assert_eq!(certificate(&events).verdict, Verdict::Signal);
}

#[test]
fn own_exits_are_told_from_signals() {
    expect(&[exit_code(7, 0)], Verdict::Exit, "Exit 0");
    expect(
        &[exit_code(7, 3)],
        Verdict::ExitFailure,
        "Exit 3 by its own exit()",
    );
    expect(
        &[exit_code(7, 137)],
        Verdict::ExitFailure,
        "Exit 137 by its own exit(), not a signal",
    );
    expect(
        &[exit_code(7, 255)],
        Verdict::ExitFailure,
        "Exit 255 by its own exit()",
    );
    let asked = sent(7, 15, sender(1, "systemd", 20 * SECOND), "handled");
    let events = [asked, exit_code(7, 143)];
    assert_eq!(causes(&events), [None, Some(0)]);
    expect(
        &events,
        Verdict::ExitFailure,
        "Exit 143 by its own exit(), not a signal, 1 s after SIGTERM from systemd[1]",
    );
}

#[test]
fn a_shell_passes_on_what_its_child_died_of() {
    let events = [exit(7, START, Some(9)), exit_code(2, 137)];
    assert_eq!(causes(&events), [None, Some(0)]);
    expect(
        &events,
        Verdict::ExitFailure,
        "Exit 137 by its own exit(), not a signal: it passes on the SIGKILL of its child p7[7]",
    );
    assert_eq!(
        causes(&[events[0].clone(), exit_code(2, 143)]),
        [None, None]
    );
}

#[test]
fn the_list_has_the_subject_first_and_is_bounded() {
    let subject = Subject {
        pid: Some(7),
        start_boot_ns: Some(START),
        ..Subject::default()
    };
    let mut deaths = DeathsOf::new(&subject, 500);
    for at in 0..1000 {
        deaths.take(at, at, &exit(1000 + at as u32, START, Some(15)));
        deaths.take(at, at, &exit_code(5000 + at as u32, 1));
    }
    deaths.take(1, 501, &exit_code(7, 4));
    let deaths = deaths.finish();
    assert_eq!(deaths.certificates.len(), 1 + 32 + 32);
    assert_eq!(deaths.certificates[0].process.pid, Some(7));
    assert_eq!(deaths.certificates[32].unix_ns, 500);
    assert_eq!(deaths.certificates[33].unix_ns, 501);
    assert_eq!(deaths.left_out, 1000 - 64);
    assert_eq!(deaths.verdicts[&Verdict::ExitFailure], 1001);
    assert_eq!(deaths.verdicts[&Verdict::Signal], 1000);
    let json = serde_json::to_string(&deaths).expect("it serialises");
    let back: Deaths = serde_json::from_str(&json).expect("it is read back");
    assert_eq!(back, deaths);
}
