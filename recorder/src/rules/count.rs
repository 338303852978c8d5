//! How often, how differently and how long.

use std::collections::{HashMap, VecDeque};

/// Most groups of one rule; the one that has not matched for longest is forgotten first.
pub const GROUPS_MAX: usize = 1024;
/// Most matches that all groups of one rule keep.
const KEPT_MAX: usize = 1 << 16;

/// What it takes beside a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// Nothing: every match fires.
    Once,
    /// So many matches in so many nanoseconds; of distinct ones, if they are told apart.
    Count { count: usize, within_ns: u64 },
    /// Matches for so many nanoseconds without one event between them that does not.
    Lasting { ns: u64 },
}

/// Counts the matches of one rule.
#[derive(Debug)]
pub(super) struct Counter {
    threshold: Threshold,
    groups: HashMap<u64, Group>,
    groups_max: usize,
    pub(super) forgotten: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// Of each match what tells it apart, and when.
    matches: VecDeque<(u64, u64)>,
    since_boot_ns: Option<u64>,
    has_fired: bool,
    last_boot_ns: u64,
}

impl Counter {
    pub(super) fn new(threshold: Threshold) -> Self {
        let groups_max = match threshold {
            Threshold::Count { count, .. } => (KEPT_MAX / count.max(1)).clamp(1, GROUPS_MAX),
            Threshold::Once | Threshold::Lasting { .. } => GROUPS_MAX,
        };
        Self {
            threshold,
            groups: HashMap::new(),
            groups_max,
            forgotten: 0,
        }
    }

    /// Takes a match of a group; returns whether the rule fires. `what` tells matches apart, if they are.
    pub(super) fn matched(&mut self, group: u64, what: Option<u64>, boot_ns: u64) -> bool {
        if self.threshold == Threshold::Once {
            return true;
        }
        if !self.groups.contains_key(&group) && self.groups.len() >= self.groups_max {
            let ages = self.groups.iter();
            let oldest = ages.min_by_key(|(_, group)| group.last_boot_ns);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.groups.remove(&oldest);
                self.forgotten += 1;
            }
        }
        let group = self.groups.entry(group).or_default();
        let before = group.last_boot_ns;
        group.last_boot_ns = before.max(boot_ns);
        match self.threshold {
            Threshold::Once => true,
            Threshold::Count { count, within_ns } => {
                let is_old = |at: u64| at.saturating_add(within_ns) < boot_ns;
                group
                    .matches
                    .retain(|(other, at)| !is_old(*at) && what.is_none_or(|what| what != *other));
                group.matches.push_back((what.unwrap_or(0), boot_ns));
                let fires = group.matches.len() >= count;
                if fires {
                    group.matches.clear();
                }
                fires
            }
            Threshold::Lasting { ns } => {
                // Where samples are missing nobody knows.
                let is_gap = boot_ns.saturating_sub(before) > ns;
                if is_gap || group.since_boot_ns.is_none() {
                    group.since_boot_ns = Some(boot_ns);
                    group.has_fired = false;
                }
                let lasted = boot_ns.saturating_sub(group.since_boot_ns.unwrap_or(boot_ns));
                let fires = lasted >= ns && !group.has_fired;
                group.has_fired |= fires;
                fires
            }
        }
    }

    /// An event of a group did not match.
    pub(super) fn missed(&mut self, group: u64) {
        if matches!(self.threshold, Threshold::Lasting { .. }) {
            self.groups.remove(&group);
        }
    }

    /// Returns whether events that do not match matter too.
    pub(super) fn wants_misses(&self) -> bool {
        matches!(self.threshold, Threshold::Lasting { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: usize, within_ns: u64) -> Counter {
        Counter::new(Threshold::Count { count, within_ns })
    }

    #[test]
    fn three_in_ten_are_three_in_ten_and_then_it_begins_anew() {
        let mut counter = count(3, 10);
        let times = [0, 5, 11, 12, 13, 14, 15, 30, 40, 41];
        let fired: Vec<u64> = times
            .into_iter()
            .filter(|at| counter.matched(1, None, *at))
            .collect();
        // 0 is too old at 11, and 10 is the last instant that is not.
        assert_eq!(fired, [12, 15]);
        assert!(counter.matched(1, None, 42), "40, 41, 42");
    }

    #[test]
    fn groups_count_for_themselves() {
        let mut counter = count(2, 100);
        assert!(!counter.matched(1, None, 1));
        assert!(!counter.matched(2, None, 2));
        assert!(counter.matched(1, None, 3));
        assert!(counter.matched(2, None, 4));
    }

    #[test]
    fn of_the_same_again_only_the_last_counts() {
        let mut counter = count(3, 100);
        for at in 0..50 {
            assert!(!counter.matched(1, Some(7), at));
        }
        assert!(!counter.matched(1, Some(8), 51));
        assert!(counter.matched(1, Some(9), 149), "7 was last at 49");
    }

    #[test]
    fn the_group_that_has_not_matched_for_longest_is_forgotten() {
        let mut counter = count(2, u64::MAX);
        for group in 0..=GROUPS_MAX as u64 {
            assert!(!counter.matched(group, None, group));
        }
        assert_eq!((counter.groups.len(), counter.forgotten), (GROUPS_MAX, 1));
        assert!(!counter.matched(0, None, 5000), "it was forgotten");
        assert!(counter.matched(500, None, 5001));
    }

    #[test]
    fn what_lasts_fires_once_until_it_has_been_over() {
        let mut counter = Counter::new(Threshold::Lasting { ns: 30 });
        let fired: Vec<u64> = (0..=100)
            .step_by(10)
            .filter(|at| counter.matched(0, None, *at))
            .collect();
        assert_eq!(fired, [30]);
        counter.missed(0);
        assert!(!counter.matched(0, None, 110));
        assert!(counter.matched(0, None, 140));
        assert!(
            !counter.matched(0, None, 500),
            "nobody knows what was between"
        );
    }
}
