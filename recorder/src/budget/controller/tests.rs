use super::*;
use crate::budget::Share;

const PERCENT: u64 = 10_000;

fn one_percent() -> Controller {
    Controller::new(Contract {
        cpu: Share(PERCENT),
        ..Contract::default()
    })
}

fn cpu(millionths: u64) -> Measure {
    Measure {
        cpu: millionths,
        ..Measure::default()
    }
}

/// A controller and a clock of whole seconds.
struct Host {
    controller: Controller,
    second: u64,
    changes: Vec<(u64, Saving, bool)>,
}

impl Host {
    fn new(controller: Controller) -> Self {
        Self {
            controller,
            second: 1,
            changes: Vec::new(),
        }
    }

    /// Lets seconds pass, each with what is measured while these savings are in force.
    fn pass(&mut self, seconds: u64, measure: impl Fn(&[Saving]) -> Measure) {
        for _ in 0..seconds {
            self.second += 1;
            let measure = measure(self.controller.in_force());
            let change = self.controller.measured(self.second * SECOND_NS, measure);
            if let Some(change) = change {
                self.changes
                    .push((self.second, change.saving, change.begins));
            }
        }
    }

    fn order(&self) -> Vec<(Saving, bool)> {
        self.changes
            .iter()
            .map(|(_, saving, begins)| (*saving, *begins))
            .collect()
    }
}

#[test]
fn what_is_within_the_budget_changes_nothing() {
    let mut host = Host::new(one_percent());
    host.pass(1000, |_| cpu(PERCENT));
    assert!(host.changes.is_empty());
    let mut free = Host::new(Controller::new(Contract::default()));
    free.pass(1000, |_| cpu(u64::MAX));
    assert!(free.changes.is_empty());
}

#[test]
fn a_short_burst_is_averaged_away() {
    let mut host = Host::new(one_percent());
    host.pass(20, |_| cpu(100));
    // One second in ten at eight times the budget is 0.8 of it.
    host.pass(1, |_| cpu(8 * PERCENT));
    host.pass(100, |_| cpu(100));
    assert!(host.changes.is_empty());
}

#[test]
fn a_storm_is_answered_one_step_at_a_time_in_the_declared_order_and_taken_back_in_reverse() {
    let mut host = Host::new(one_percent());
    host.pass(60, |_| cpu(50 * PERCENT));
    let begun: Vec<_> = Saving::ALL.map(|saving| (saving, true)).into();
    assert_eq!(host.order(), begun);
    for pair in host.changes.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 5, "measured between: {pair:?}");
    }
    host.pass(60, |_| cpu(0));
    let ended = Saving::ALL.into_iter().rev().map(|saving| (saving, false));
    let all: Vec<_> = begun.into_iter().chain(ended).collect();
    assert_eq!(host.order(), all);
    for pair in host.changes[4..].windows(2) {
        assert!(
            pair[1].0 - pair[0].0 >= 10,
            "calm for long enough: {pair:?}"
        );
    }
    assert!(host.controller.in_force().is_empty());
}

#[test]
fn it_stops_at_the_step_that_is_enough() {
    let mut host = Host::new(one_percent());
    // Without arguments and samples it keeps to the budget, and only just.
    host.pass(300, |savings| {
        cpu(if savings.len() < 2 {
            3 * PERCENT
        } else {
            PERCENT * 9 / 10
        })
    });
    assert_eq!(
        host.order(),
        [(Saving::Argv, true), (Saving::Samples, true)]
    );
}

#[test]
fn a_steady_load_makes_it_wait_longer_and_longer_before_it_tries_again() {
    let mut host = Host::new(one_percent());
    // Calm with one thing left out, too much with none: the worst there is for who goes back and forth.
    host.pass(3600, |savings| {
        cpu(if savings.is_empty() { 3 * PERCENT } else { 100 })
    });
    let tried: Vec<u64> = host
        .changes
        .iter()
        .filter(|(_, _, begins)| !begins)
        .map(|(second, ..)| *second)
        .collect();
    assert!((10..=20).contains(&tried.len()), "{tried:?}");
    let waits: Vec<u64> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(
        waits.last().is_some_and(|wait| (300..=310).contains(wait)),
        "{waits:?}"
    );
    // When it is over, it is over: what is taken back holds, and the next calm need not be long.
    host.pass(300, |_| cpu(0));
    assert!(host.controller.in_force().is_empty());
    host.pass(60, |_| cpu(0));
    assert_eq!(host.controller.patience_ns, PATIENCE_MIN_NS);
}

#[test]
fn every_bound_is_held_and_the_one_that_is_exceeded_most_is_named() {
    let contract = Contract {
        cpu: Share(PERCENT),
        probe_ns: 1000,
        memory_bytes: 10 << 20,
    };
    for (measure, resource) in [
        (
            Measure {
                cpu: 2 * PERCENT,
                probe_ns: None,
                memory_bytes: 11 << 20,
            },
            Resource::Cpu,
        ),
        (
            Measure {
                cpu: 0,
                probe_ns: Some(1001),
                memory_bytes: 0,
            },
            Resource::ProbeNs,
        ),
        (
            Measure {
                cpu: 0,
                probe_ns: Some(1),
                memory_bytes: 20 << 20,
            },
            Resource::Memory,
        ),
    ] {
        let mut controller = Controller::new(contract);
        let mut changes =
            (1..=5).filter_map(|second| controller.measured(second * SECOND_NS, measure));
        let change = changes.next().expect("it is too much");
        let cause = change.cause.expect("there is one");
        assert_eq!(cause.resource, resource);
        assert_eq!(Some(cause.budget), contract.of(resource));
        assert_eq!(Some(cause.measured), measure.of(resource));
        assert_eq!(
            (change.saving, change.begins, change.savings()),
            (Saving::Argv, true, 1)
        );
    }
}

#[test]
fn a_contract_that_is_given_up_ends_what_it_began() {
    let mut host = Host::new(one_percent());
    host.pass(30, |_| cpu(50 * PERCENT));
    assert_eq!(host.controller.in_force().len(), 4);
    host.controller.set_contract(Contract::default());
    host.pass(60, |_| cpu(50 * PERCENT));
    assert!(host.controller.in_force().is_empty());
}

#[test]
fn a_step_that_could_not_be_taken_is_due_again() {
    let mut controller = one_percent();
    let measures = |controller: &mut Controller, from: u64, measure| {
        (from..from + 20).find_map(|second| controller.measured(second * SECOND_NS, measure))
    };
    let refused = measures(&mut controller, 1, cpu(2 * PERCENT)).expect("it is too much");
    controller.undo(refused);
    assert!(controller.in_force().is_empty());
    assert_eq!(
        measures(&mut controller, 30, cpu(2 * PERCENT)),
        Some(refused)
    );
    let back = measures(&mut controller, 60, cpu(0)).expect("it is calm");
    controller.undo(back);
    assert_eq!(controller.in_force(), [Saving::Argv]);
}

/// How often and how long; an interpreter takes its time.
const SEEDS: u64 = if cfg!(miri) { 3 } else { 300 };
const STEPS: usize = if cfg!(miri) { 300 } else { 2000 };

/// Whatever is measured: one step at a time, in the declared order, none without cause, none without the measures for it.
#[test]
fn whatever_is_measured_the_order_is_kept() {
    for seed in 1..=SEEDS {
        let mut random = seed;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let contract = Contract {
            cpu: Share(next(2) * PERCENT),
            probe_ns: next(2) * 1000,
            memory_bytes: next(2) * (8 << 20),
        };
        let mut controller = Controller::new(contract);
        let (mut in_force, mut second, mut changed) = (0_u32, 1, 0);
        let mut weather = 0;
        for _ in 0..STEPS {
            second += 1;
            if next(40) == 0 {
                weather = next(4);
            }
            let measure = Measure {
                cpu: next(weather * PERCENT + 1),
                probe_ns: (next(3) > 0).then(|| next(weather * 1000 + 1)),
                memory_bytes: next(weather * (8 << 20) + 1),
            };
            let Some(change) = controller.measured(second * SECOND_NS, measure) else {
                assert_eq!(controller.in_force().len() as u32, in_force, "seed {seed}");
                continue;
            };
            let cause = change.cause;
            if change.begins {
                assert_eq!(change.saving as u32, in_force + 1, "seed {seed}");
                let cause = cause.expect("something is bounded");
                assert!(cause.measured > cause.budget, "seed {seed}: {cause:?}");
                assert_eq!(
                    contract.of(cause.resource),
                    Some(cause.budget),
                    "seed {seed}"
                );
                assert!(second - changed >= 5, "seed {seed}");
            } else {
                assert_eq!(change.saving as u32, in_force, "seed {seed}");
                if let Some(cause) = cause {
                    assert!(
                        cause.measured <= cause.budget / 4 * 3,
                        "seed {seed}: {cause:?}"
                    );
                }
                assert!(second - changed >= 10, "seed {seed}");
            }
            in_force = change.savings();
            changed = second;
            assert!(in_force <= 4, "seed {seed}");
            assert_eq!(controller.in_force().len() as u32, in_force, "seed {seed}");
        }
    }
}
