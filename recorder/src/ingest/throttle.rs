//! Tells when a cgroup begins and ceases to write more than it may: the probes leave out and count, and nothing of that comes
//! by itself.

use std::collections::VecDeque;

use recorder_ebpf::abi::{Lane, Throttle, ThrottleKey};

use crate::dump::Throttled;

/// How often the accounts are looked at, in nanoseconds.
const INTERVAL_NS: u64 = 1_000_000_000;
/// A flood is over when nothing was left out for so long, in nanoseconds.
const QUIET_NS: u64 = 5_000_000_000;
/// Floods that are over and still told of.
const PAST_MAX: usize = 64;

/// The floods there are, and the last ones there were.
#[derive(Debug, Default)]
pub(super) struct ThrottleWatch {
    next_boot_ns: u64,
    floods: Vec<Throttled>,
    past: VecDeque<Throttled>,
}

/// What is due after a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Sentences to write down.
    pub(super) notes: Vec<String>,
    /// Accounts to close.
    pub(super) forget: Vec<ThrottleKey>,
}

impl ThrottleWatch {
    /// Whether it is time for a look.
    pub(super) fn is_due(&mut self, now_boot_ns: u64) -> bool {
        let due = now_boot_ns >= self.next_boot_ns;
        if due {
            self.next_boot_ns = now_boot_ns + INTERVAL_NS;
        }
        due
    }

    /// Takes in every account.
    pub(super) fn look(
        &mut self,
        now_boot_ns: u64,
        accounts: Vec<(ThrottleKey, Throttle)>,
        name: impl Fn(&ThrottleKey) -> Option<String>,
    ) -> Due {
        let mut due = Due::default();
        for (key, account) in accounts {
            let busy_ns = account.until_boot_ns.max(account.due_boot_ns);
            let is_over = busy_ns.saturating_add(QUIET_NS) <= now_boot_ns;
            if is_over {
                due.forget.push(key);
            }
            if account.records == 0 {
                continue;
            }
            let place = self.floods.iter().position(|flood| is_of(flood, &key));
            let index = place.unwrap_or_else(|| {
                self.floods.push(Throttled {
                    lane: lane(key.lane).into(),
                    cgroup: name(&key),
                    cgroup_id: key.cgroup_id,
                    hierarchy: key.hierarchy,
                    records: 0,
                    since_boot_ns: account.since_boot_ns,
                    until_boot_ns: account.since_boot_ns,
                });
                self.floods.len() - 1
            });
            let flood = &mut self.floods[index];
            flood.records = account.records;
            flood.until_boot_ns = account.until_boot_ns;
            if place.is_none() {
                due.notes.push(format!(
                    "{} writes too many records to the {} lane: the rest is left out",
                    subject(flood),
                    flood.lane
                ));
            }
            if is_over {
                let flood = self.floods.swap_remove(index);
                due.notes.push(format!(
                    "{} no longer writes too many records to the {} lane: {} were left out",
                    subject(&flood),
                    flood.lane,
                    flood.records
                ));
                if self.past.len() == PAST_MAX {
                    self.past.pop_front();
                }
                self.past.push_back(flood);
            }
        }
        due
    }

    /// Returns every flood that is known.
    pub(super) fn known(&self) -> Vec<Throttled> {
        self.past.iter().chain(&self.floods).cloned().collect()
    }
}

fn is_of(flood: &Throttled, key: &ThrottleKey) -> bool {
    (flood.cgroup_id, flood.hierarchy) == (key.cgroup_id, key.hierarchy)
        && flood.lane == lane(key.lane)
}

fn lane(number: u32) -> &'static str {
    let lane = Lane::ALL.into_iter().find(|lane| *lane as u32 == number);
    lane.map_or("unknown", Lane::name)
}

fn subject(flood: &Throttled) -> String {
    match &flood.cgroup {
        Some(path) => format!("cgroup {path}"),
        None => format!(
            "cgroup {} of hierarchy {}",
            flood.cgroup_id, flood.hierarchy
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ThrottleKey = ThrottleKey {
        cgroup_id: 7,
        hierarchy: 0,
        lane: Lane::Lifecycle as u32,
    };
    const S: u64 = 1_000_000_000;

    fn account(records: u64, until_s: u64) -> Vec<(ThrottleKey, Throttle)> {
        let account = Throttle {
            due_boot_ns: until_s * S,
            records,
            since_boot_ns: S,
            until_boot_ns: until_s * S,
        };
        vec![(KEY, account)]
    }

    #[test]
    fn a_flood_is_told_when_it_begins_and_when_it_is_over_with_all_it_left_out() {
        let mut watch = ThrottleWatch::default();
        let name = |_: &ThrottleKey| Some("/busy".to_owned());
        let begun = watch.look(2 * S, account(10, 2), name);
        assert_eq!(begun.notes.len(), 1);
        assert!(begun.notes[0].starts_with("cgroup /busy writes too many"));
        assert_eq!(watch.look(3 * S, account(50, 3), name), Due::default());
        assert_eq!(watch.known()[0].records, 50);
        let over = watch.look(9 * S, account(60, 3), name);
        assert!(over.notes[0].ends_with(": 60 were left out"), "{over:?}");
        assert_eq!(over.forget, [KEY]);
        assert_eq!(watch.known()[0].records, 60);
    }

    #[test]
    fn who_keeps_to_the_rate_is_not_told_of_and_forgotten() {
        let mut watch = ThrottleWatch::default();
        let due = watch.look(20 * S, account(0, 3), |_| None);
        assert_eq!((due.notes.len(), due.forget.len()), (0, 1));
        assert!(watch.known().is_empty());
    }

    #[test]
    fn a_flood_that_comes_and_goes_between_two_looks_is_told_whole() {
        let mut watch = ThrottleWatch::default();
        let due = watch.look(20 * S, account(5, 3), |_| None);
        assert_eq!((due.notes.len(), due.forget.len()), (2, 1));
    }
}
