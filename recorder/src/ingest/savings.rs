//! The account of what is left out to keep to the budget: since when, until when, and how many records.

use std::collections::VecDeque;

use recorder_ebpf::abi::{EventKind, Header, Lane, PROCESS_REDUCED, Saving};

use crate::budget::Change;
use crate::dump::{CpuStats, Filtered};

/// Spans that are over and still told of.
const PAST_MAX: usize = 64;

/// What is left out, and the last of what was.
#[derive(Default)]
pub(super) struct Savings {
    /// Records that came without what is left out, by [`Saving`].
    reduced: Totals,
    /// In the order of [`Saving::ALL`], each with how many there had been when it began.
    in_force: Vec<(Filtered, u64)>,
    past: VecDeque<Filtered>,
}

/// Records of which all or something was left out since recording began, by [`Saving::ALL`].
pub(super) type Totals = [u64; Saving::ALL.len()];

impl Savings {
    /// Takes note of a record that has come.
    pub(super) fn on_record(&mut self, header: &Header) {
        if header.flags & PROCESS_REDUCED == 0 {
            return;
        }
        let saving = match EventKind::from_number(header.kind) {
            Some(EventKind::ProcessExec) => Saving::Argv,
            Some(EventKind::ProcessExit) => Saving::ExitDetail,
            _ => return,
        };
        self.reduced[place(saving)] += 1;
    }

    /// Returns how many records each has left out or reduced, by what the probes and who samples count.
    pub(super) fn totals(&self, counters: &[CpuStats], samples: u64) -> Totals {
        let mut totals = self.reduced;
        totals[place(Saving::Samples)] = samples;
        let filtered = counters
            .iter()
            .map(|cpu| cpu.stats.filtered[EventKind::ProcessExec as usize]);
        totals[place(Saving::Exec)] = filtered.sum();
        totals
    }

    /// Begins or ends the account of a saving.
    pub(super) fn change(&mut self, change: Change, now_boot_ns: u64, totals: &Totals) {
        if change.begins {
            let filtered = Filtered {
                what: change.saving.name().to_owned(),
                lane: lane(change.saving).name().to_owned(),
                since_boot_ns: now_boot_ns,
                until_boot_ns: None,
                records: 0,
            };
            self.in_force.push((filtered, totals[place(change.saving)]));
            return;
        }
        if let Some((mut over, before)) = self.in_force.pop() {
            over.records = totals[place(change.saving)] - before;
            over.until_boot_ns = Some(now_boot_ns);
            if self.past.len() == PAST_MAX {
                self.past.pop_front();
            }
            self.past.push_back(over);
        }
    }

    /// Returns every span that is known.
    pub(super) fn known(&self, totals: &Totals) -> Vec<Filtered> {
        let in_force = self
            .in_force
            .iter()
            .zip(totals)
            .map(|((filtered, before), total)| Filtered {
                records: total - before,
                ..filtered.clone()
            });
        self.past.iter().cloned().chain(in_force).collect()
    }
}

fn place(saving: Saving) -> usize {
    saving as usize - 1
}

fn lane(saving: Saving) -> Lane {
    match saving {
        Saving::Argv | Saving::Exec | Saving::ExitDetail => Lane::Lifecycle,
        Saving::Samples => Lane::Sample,
    }
}

/// Says what changes and why, in one sentence.
pub(super) fn sentence(change: &Change) -> String {
    let what = match change.saving {
        Saving::Argv => "the arguments of programs are",
        Saving::Samples => "samples of the host are",
        Saving::Exec => "programs that are executed are",
        Saving::ExitDetail => "what processes used until they ended is",
    };
    let then = match change.begins {
        true => "left out from here on",
        false => "recorded again",
    };
    let where_to = match change.begins {
        true => "over",
        false => "within",
    };
    let Some(cause) = &change.cause else {
        return format!("no budget any more: {what} {then}");
    };
    format!(
        "{where_to} the budget: {} takes {}, and may take {}: {what} {then}",
        cause.resource.name(),
        cause.resource.words(cause.measured),
        cause.resource.words(cause.budget),
    )
}

#[cfg(test)]
mod tests {
    use recorder_ebpf::abi::LaneStats;

    use super::*;
    use crate::budget::{Cause, Resource};

    fn change(saving: Saving, begins: bool) -> Change {
        Change {
            saving,
            begins,
            cause: Some(Cause {
                resource: Resource::Cpu,
                measured: 31_200,
                budget: 10_000,
            }),
        }
    }

    fn counters(execs: u64) -> Vec<CpuStats> {
        let mut stats = LaneStats::default();
        stats.filtered[EventKind::ProcessExec as usize] = execs;
        let lane = Lane::Lifecycle;
        (0..2).map(|cpu| CpuStats { lane, cpu, stats }).collect()
    }

    #[test]
    fn each_span_counts_what_was_left_out_in_it() {
        let mut savings = Savings::default();
        let totals = savings.totals(&counters(0), 3);
        for (saving, now) in Saving::ALL.into_iter().zip(10..) {
            savings.change(change(saving, true), now, &totals);
        }
        let totals = savings.totals(&counters(4), 5);
        assert_eq!(totals, [0, 5, 8, 0]);
        let known = savings.known(&totals);
        let records: Vec<u64> = known.iter().map(|span| span.records).collect();
        assert_eq!(records, [0, 2, 8, 0]);
        assert!(known.iter().all(|span| span.until_boot_ns.is_none()));
        savings.change(change(Saving::ExitDetail, false), 20, &totals);
        savings.change(change(Saving::Exec, false), 21, &totals);
        let later = savings.totals(&counters(6), 5);
        let known = savings.known(&later);
        let exec = known.iter().find(|span| span.what == "exec");
        let exec = exec.expect("it was left out");
        assert_eq!(
            (exec.records, exec.since_boot_ns, exec.until_boot_ns),
            (8, 12, Some(21))
        );
        // Again: only what is left out from then on.
        savings.change(change(Saving::Exec, true), 30, &later);
        let last = savings.totals(&counters(7), 5);
        let known = savings.known(&last);
        let of_exec: Vec<u64> = known
            .iter()
            .filter(|span| span.what == "exec")
            .map(|span| span.records)
            .collect();
        assert_eq!(of_exec, [8, 2]);
    }

    #[test]
    fn a_step_is_one_sentence_with_what_was_measured_and_what_may_be() {
        assert_eq!(
            sentence(&change(Saving::Argv, true)),
            "over the budget: cpu takes 3.12 %, and may take 1.00 %: the arguments of programs are left out from here on"
        );
        let given_up = Change {
            cause: None,
            ..change(Saving::Exec, false)
        };
        assert_eq!(
            sentence(&given_up),
            "no budget any more: programs that are executed are recorded again"
        );
    }
}
