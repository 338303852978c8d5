//! Tests of the report: hostile names stay harmless, what is long is bounded, what is missing is left out.

use super::accounting::{GROUPS_MAX, LISTED_MAX, Ledger};
use super::class::{Case, Signs};
use super::host::{POINTS_MAX, Samples};
use super::markdown::{chart, code, plain};
use super::*;
use crate::dump::Clocks;
use crate::event::{ClockPair, proto};

fn exit(pid: u32, comm: &str, cpu_ns: u64) -> proto::ProcessExit {
    proto::ProcessExit {
        process: Some(proto::Process {
            pid: Some(pid),
            comm: Some(comm.to_owned()),
            uid: Some(pid % 2),
            ..proto::Process::default()
        }),
        exit_code: Some(0),
        user_ns: Some(cpu_ns),
        ..proto::ProcessExit::default()
    }
}

fn case<'a>(signs: &'a Signs, clocks: Option<&'a Clocks>) -> Case<'a> {
    Case {
        incident: None,
        death: None,
        signs,
        series: &[],
        clocks,
        cpus: 4,
        window_ns: 1,
        missing: None,
    }
}

fn flags(signs: &Signs, clocks: Option<&Clocks>) -> Vec<&'static str> {
    let flags = case(signs, clocks).flags();
    flags.iter().map(|flag| flag.name).collect()
}

#[test]
fn names_are_no_markdown() {
    assert_eq!(plain("nginx[812] SEGV_MAPERR"), "nginx[812] SEGV_MAPERR");
    assert_eq!(plain("[x](http://e)"), "\\[x\\](http&#58;//e)");
    assert_eq!(plain("<b>&"), "&lt;b&gt;&amp;");
    assert_eq!(plain("a|b`c*d _e_"), "a\\|b\\`c\\*d \\_e\\_");
    assert_eq!(plain("# x"), "\\# x");
    assert_eq!(plain("\x1b[31m\n"), "\\\\u{1b}[31m\\\\n");
    assert_eq!(code("a`b``c|d"), "```a`b``c¦d```");
    assert_eq!(code("`"), "`` ` ``");
    assert_eq!(code(""), "—");
}

#[test]
fn no_hostile_name_breaks_a_row() {
    let hostile = "|<script>`\n\x1b[2J**|";
    let report = Report {
        summary: hostile.to_owned(),
        timeline: vec![Moment {
            offset_ns: -1_234_567_890,
            order: 7,
            event_type: "signal.fatal",
            text: hostile.to_owned(),
            cause: Some(3),
            is_trigger: true,
            repeated: 2,
        }],
        flags: vec![Flag {
            name: "disk",
            reason: hostile.to_owned(),
        }],
        ..Report::default()
    };
    let page = markdown(&report);
    assert!(
        !page.contains("<script>") && !page.contains('\x1b'),
        "{page}"
    );
    let row = page
        .lines()
        .find(|line| line.contains("-1.234"))
        .expect("the moment is in the timeline");
    let bars = row.replace("\\|", "").matches('|').count();
    assert_eq!(bars, 5, "{row}");
    assert!(row.contains("(and 2 more like it) ← 3"), "{row}");
}

#[test]
fn an_empty_report_has_every_part_and_its_blanks() {
    let page = markdown(&Report::default());
    for part in [
        "Facts",
        "Cause",
        "Impact",
        "Timeline",
        "Death certificates",
        "The host before, at and after",
        "Accounting",
        "Evidence",
        "What the recording covers",
        "Follow-up",
    ] {
        assert!(page.contains(&format!("\n## {part}\n")), "{part}");
    }
    assert!(page.matches("_to be filled in").count() >= 3);
}

#[test]
fn accounting_is_bounded_and_adds_up() {
    let mut ledger = Ledger::default();
    let exits = 2 * GROUPS_MAX as u32;
    for pid in 1..=exits {
        ledger.take(&exit(pid, &format!("c{pid}"), pid.into()), 0, true);
    }
    let accounting = ledger.finish();
    assert_eq!(accounting.total.processes, u64::from(exits));
    assert_eq!(accounting.commands.len(), LISTED_MAX);
    assert_eq!(accounting.commands[0].name, "(others)");
    assert_eq!(accounting.users.len(), 2);
    assert_eq!(accounting.busiest.len(), LISTED_MAX);
    assert_eq!(accounting.busiest[0].pid, exits);
    assert_eq!(accounting.last.len(), LISTED_MAX);
    let users: u64 = accounting.users.iter().map(Usage::cpu_ns).sum();
    assert_eq!(users, accounting.total.cpu_ns());
}

#[test]
fn a_series_is_thinned_and_split_at_the_trigger() {
    let mut samples = Samples::default();
    for second in -300..=100_i64 {
        let sample = proto::SampleSystem {
            cpu: Some(proto::CpuUsage {
                idle_percent: Some(if second > 0 { 0.0 } else { 90.0 }),
                ..proto::CpuUsage::default()
            }),
            ..proto::SampleSystem::default()
        };
        samples.take(second * 1_000_000_000, &sample);
    }
    let series = samples.finish();
    assert_eq!(series.len(), 1, "what no sample has is no series");
    let busy = &series[0];
    assert_eq!(
        (busy.before, busy.at, busy.after),
        (Some(10.0), Some(10.0), Some(100.0))
    );
    assert!(busy.points.len() <= POINTS_MAX);
    let chart = chart(busy);
    assert!(chart.contains("▂┊█") || chart.contains('┊'), "{chart}");
    assert_eq!(chart.chars().count(), busy.points.len() + 1);
}

#[test]
fn a_clock_that_was_set_is_flagged() {
    let pair = |boot_ns, unix_ns| ClockPair { boot_ns, unix_ns };
    let start = pair(10, 1_000_000_000_000);
    let signs = Signs::default();
    let straight = Clocks {
        start,
        freeze: pair(1_000_000_010, 1_001_000_000_000),
        synchronised: None,
        error_ns: None,
    };
    assert!(flags(&signs, Some(&straight)).is_empty());
    for unix_ns in [5_000_000_000_000, 3] {
        let stepped = Clocks {
            start,
            freeze: pair(1_000_000_010, unix_ns),
            synchronised: None,
            error_ns: None,
        };
        assert_eq!(flags(&signs, Some(&stepped)), ["clock"]);
    }
}

#[test]
fn failing_devices_and_loops_are_flagged() {
    let mut signs = Signs::default();
    for _ in 0..3 {
        let io = proto::IoError {
            disk: Some("sda".to_owned()),
            status: Some("BLK_STS_MEDIUM".to_owned()),
            errno: Some("ENODATA".to_owned()),
            ..proto::IoError::default()
        };
        signs.take(&Body::IoError(io), None);
        let crash = Body::ProcessExit(exit(1, "web", 0));
        signs.take(&crash, Some(crate::death::Verdict::Fault));
    }
    assert_eq!(flags(&signs, None), ["disk", "hardware", "crash-loop"]);
}

#[test]
fn programs_that_crash_on_one_cpu_only_put_it_under_suspicion() {
    let crash = |comm: &str, cpu| {
        Body::SignalFatal(proto::SignalFatal {
            process: exit(1, comm, 0).process,
            code: Some(proto::SignalCode {
                number: Some(1),
                name: None,
            }),
            cpu: Some(cpu),
            ..proto::SignalFatal::default()
        })
    };
    let mut signs = Signs::default();
    for comm in ["a", "b", "c"] {
        signs.take(&crash(comm, 3), None);
    }
    assert_eq!(flags(&signs, None), ["hardware"]);
    signs.take(&crash("a", 1), None);
    assert!(flags(&signs, None).is_empty());
}
