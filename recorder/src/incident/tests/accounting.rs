//! Every trigger is accounted for exactly once.

use proptest::prelude::*;

use super::*;
use crate::incident::{Manual, Outcome};

#[derive(Clone, Debug)]
enum Step {
    Crash { offset: u64, tgid: u32 },
    Exit { status: u32, tgid: u32 },
    IoError { minor: u32 },
    Hung { tgid: u32 },
    Exec,
    Manual,
    Poll,
    CloseAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u64, 1..40_u32).prop_map(|(offset, tgid)| Step::Crash { offset, tgid }),
        4 => (0..3_u32, 1..40_u32).prop_map(|(status, tgid)| Step::Exit { status, tgid }),
        6 => (0..12_u32).prop_map(|minor| Step::IoError { minor }),
        2 => (1..40_u32).prop_map(|tgid| Step::Hung { tgid }),
        1 => Just(Step::Exec),
        2 => Just(Step::Manual),
        3 => Just(Step::Poll),
        1 => Just(Step::CloseAll),
    ]
}

/// How often and how long; an interpreter takes its time.
const CASES: u32 = if cfg!(miri) { 4 } else { 64 };
const STEPS_MAX: usize = if cfg!(miri) { 30 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn opened_joined_suppressed_overflow_and_limited_are_all_triggers(
        steps in prop::collection::vec((step(), 0..2 * SECOND), 1..STEPS_MAX),
    ) {
        let mut config = config();
        config.limits.dumps_per_hour = 40;
        let mut engine = engine_of(config);
        let mut now = START;
        let (mut triggers, mut opened, mut followers) = (0_u64, 0_u64, 0_u64);
        let mut dumps = Vec::new();
        for (step, later) in steps {
            now += later;
            let mut is_trigger = true;
            let was_opened = match step {
                Step::Crash { offset, tgid } => feed(&mut engine, crash(now, "app", tgid, offset)).is_some(),
                Step::Exit { status, tgid } => {
                    is_trigger = status != 0;
                    feed(&mut engine, exit(now, "postgres", tgid, status << 8)).is_some()
                }
                Step::IoError { minor } => feed(&mut engine, io_error(now, minor, 10)).is_some(),
                Step::Hung { tgid } => feed(&mut engine, hung(now, "tar", tgid)).is_some(),
                Step::Exec => {
                    is_trigger = false;
                    feed(&mut engine, exec(now, "sh", 1)).is_some()
                }
                Step::Manual => {
                    let now = ClockPair { boot_ns: now, unix_ns: now };
                    matches!(engine.trigger_manual(Manual::default(), now), Outcome::Opened(_))
                }
                Step::Poll => {
                    is_trigger = false;
                    dumps.extend(std::iter::from_fn(|| engine.poll(now)));
                    false
                }
                Step::CloseAll => {
                    is_trigger = false;
                    dumps.extend(engine.close_all(now));
                    false
                }
            };
            triggers += u64::from(is_trigger);
            opened += u64::from(was_opened);
            let stats = engine.stats();
            prop_assert_eq!(stats.triggers_total, triggers);
            prop_assert_eq!(stats.opened_total, opened);
            let counted = stats.opened_total + stats.joined_total + stats.suppressed_total + stats.overflow_total
                + stats.limited_total;
            prop_assert_eq!(counted, triggers);
            prop_assert_eq!(stats.open, opened - dumps.len() as u64);
        }
        dumps.extend(engine.close_all(now));
        for dump in &dumps {
            followers += dump.followers;
            prop_assert!(dump.window_start_boot_ns <= dump.trigger.boot_ns);
        }
        prop_assert_eq!(followers, engine.stats().joined_total);
        let told: u64 = dumps.iter().map(|dump| dump.suppressed_before).sum();
        prop_assert!(told <= engine.stats().suppressed_total);
        let mut ids: Vec<_> = dumps.iter().map(|dump| dump.id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), dumps.len());
    }
}
