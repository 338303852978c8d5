//! Which failures have opened an incident lately, and how often they happened since.

use std::collections::VecDeque;

use super::fingerprint::Fingerprint;
use super::{Incident, Storm};
use crate::event::ClockPair;

/// Most fingerprints that are remembered; the one that has not happened for longest is forgotten first.
pub const FINGERPRINTS_MAX: usize = 1024;
/// Of these, most that made no dump: further ones are only counted.
pub const UNDUMPED_MAX: usize = 64;

/// The failures that opened an incident.
#[derive(Debug)]
pub(super) struct Cooldowns {
    entries: Vec<Entry>,
    /// Storms that are over.
    over: VecDeque<Storm>,
    /// When the first cooldown of a storm ends.
    next_end_boot_ns: u64,
}

impl Default for Cooldowns {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            over: VecDeque::new(),
            next_end_boot_ns: u64::MAX,
        }
    }
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    /// End of the cooldown.
    until_boot_ns: u64,
    /// Last time it happened.
    seen_boot_ns: u64,
    /// Times it was suppressed since it last made a dump.
    suppressed: u64,
    /// Whether its incident makes a dump.
    has_dump: bool,
    /// What is to be told at the end; of none, if it is `None` or empty.
    storm: Option<Storm>,
}

impl Entry {
    fn count(&mut self, boot_ns: u64) {
        self.seen_boot_ns = self.seen_boot_ns.max(boot_ns);
        if let Some(storm) = &mut self.storm {
            if storm.count == 0 {
                storm.first_boot_ns = boot_ns;
            }
            storm.count += 1;
            storm.last_boot_ns = storm.last_boot_ns.max(boot_ns);
        }
    }

    /// Returns the storm, once, if there was one.
    fn end(&mut self) -> Option<Storm> {
        self.storm.take().filter(|storm| storm.count > 0)
    }
}

impl Cooldowns {
    /// Counts a failure as suppressed if it happened inside the cooldown of one that made a dump; returns whether it did.
    pub(super) fn suppress(&mut self, fingerprint: Fingerprint, boot_ns: u64) -> bool {
        let Some(entry) = self.find(fingerprint) else {
            return false;
        };
        entry.seen_boot_ns = entry.seen_boot_ns.max(boot_ns);
        if !entry.has_dump || boot_ns >= entry.until_boot_ns {
            return false;
        }
        entry.suppressed += 1;
        entry.count(boot_ns);
        let until = entry.until_boot_ns;
        self.next_end_boot_ns = self.next_end_boot_ns.min(until);
        true
    }

    /// Counts a failure that can make no dump, if one like it could not either a short time ago, or if too many could not.
    ///
    /// Returns whether it did; if not, it is news.
    pub(super) fn count_undumped(&mut self, fingerprint: Fingerprint, boot_ns: u64) -> bool {
        if let Some(entry) = self.find(fingerprint)
            && !entry.has_dump
            && boot_ns < entry.until_boot_ns
        {
            entry.count(boot_ns);
            let until = entry.until_boot_ns;
            self.next_end_boot_ns = self.next_end_boot_ns.min(until);
            return true;
        }
        let undumped = self.entries.iter();
        let undumped = undumped.filter(|entry| !entry.has_dump && boot_ns < entry.until_boot_ns);
        undumped.count() >= UNDUMPED_MAX
    }

    /// Returns how often the failure was suppressed since it last made a dump.
    pub(super) fn suppressed(&mut self, fingerprint: Fingerprint) -> u64 {
        self.find(fingerprint).map_or(0, |entry| entry.suppressed)
    }

    /// Starts the cooldown of an incident.
    pub(super) fn start(
        &mut self,
        fingerprint: Fingerprint,
        incident: &Incident,
        until_boot_ns: u64,
        has_dump: bool,
    ) {
        let boot_ns = incident.trigger.boot_ns;
        let mut suppressed = 0;
        let known = self
            .entries
            .iter()
            .position(|entry| entry.fingerprint == fingerprint);
        if let Some(known) = known {
            let mut entry = self.entries.swap_remove(known);
            self.over.extend(entry.end());
            if !has_dump {
                suppressed = entry.suppressed;
            }
        }
        if self.entries.len() == FINGERPRINTS_MAX {
            let ages = self.entries.iter().enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, entry)| entry.seen_boot_ns) {
                let mut entry = self.entries.swap_remove(oldest);
                self.over.extend(entry.end());
            }
        }
        self.entries.push(Entry {
            fingerprint,
            until_boot_ns,
            seen_boot_ns: boot_ns,
            suppressed,
            has_dump,
            storm: Some(Storm {
                incident: incident.id,
                rule: incident.rule.clone(),
                severity: incident.severity,
                summary: incident.summary.clone(),
                fingerprint: incident.fingerprint.clone(),
                count: 0,
                first_boot_ns: boot_ns,
                last_boot_ns: boot_ns,
                first_unix_ns: 0,
                last_unix_ns: 0,
            }),
        });
    }

    /// Returns a storm that is over by now. Call until `None`.
    pub(super) fn over(&mut self, now: ClockPair) -> Option<Storm> {
        if now.boot_ns >= self.next_end_boot_ns {
            self.end_until(now.boot_ns);
        }
        let mut storm = self.over.pop_front()?;
        storm.first_unix_ns = now.unix_ns_at(storm.first_boot_ns);
        storm.last_unix_ns = now.unix_ns_at(storm.last_boot_ns);
        Some(storm)
    }

    /// Ends every storm whose cooldown ends by then.
    pub(super) fn end_until(&mut self, boot_ns: u64) {
        self.next_end_boot_ns = u64::MAX;
        for entry in &mut self.entries {
            if entry.until_boot_ns <= boot_ns {
                self.over.extend(entry.end());
            } else if entry.storm.as_ref().is_some_and(|storm| storm.count > 0) {
                self.next_end_boot_ns = self.next_end_boot_ns.min(entry.until_boot_ns);
            }
        }
    }

    fn find(&mut self, fingerprint: Fingerprint) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| entry.fingerprint == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: usize) -> Fingerprint {
        Fingerprint::from_number(n as u64)
    }

    fn incident(boot_ns: u64) -> Incident {
        let mut incident = Incident::default();
        incident.trigger.boot_ns = boot_ns;
        incident
    }

    #[test]
    fn forgets_what_has_not_happened_for_longest() {
        let mut cooldowns = Cooldowns::default();
        for n in 0..FINGERPRINTS_MAX {
            cooldowns.start(number(n), &incident(n as u64), 1_000_000, true);
        }
        assert!(cooldowns.suppress(number(0), 5000), "now the newest");
        let last = FINGERPRINTS_MAX;
        cooldowns.start(number(last), &incident(5001), 1_000_000, true);
        assert_eq!(cooldowns.entries.len(), FINGERPRINTS_MAX);
        assert!(!cooldowns.suppress(number(1), 5002), "forgotten");
        assert!(cooldowns.suppress(number(0), 5003));
        assert_eq!(cooldowns.suppressed(number(0)), 2);
        cooldowns.start(number(0), &incident(2_000_000), 3_000_000, true);
        assert_eq!(cooldowns.suppressed(number(0)), 0, "told once");
    }

    #[test]
    fn a_storm_is_told_once_with_its_first_and_last() {
        let mut cooldowns = Cooldowns::default();
        let at = |boot_ns| ClockPair {
            boot_ns,
            unix_ns: boot_ns + 1_000_000,
        };
        cooldowns.start(number(1), &incident(10), 100, true);
        cooldowns.start(number(2), &incident(10), 50, true);
        for boot_ns in [20, 30, 99] {
            assert!(cooldowns.suppress(number(1), boot_ns));
        }
        assert_eq!(cooldowns.over(at(99)), None);
        let storm = cooldowns.over(at(100)).expect("it is over");
        assert_eq!((storm.count, storm.first_boot_ns), (3, 20));
        assert_eq!((storm.last_boot_ns, storm.last_unix_ns), (99, 1_000_099));
        assert_eq!(cooldowns.over(at(1000)), None, "the other was no storm");
        assert_eq!(cooldowns.suppressed(number(1)), 3, "the next dump says so");
    }

    #[test]
    fn a_storm_ends_when_the_failure_makes_its_next_dump() {
        let mut cooldowns = Cooldowns::default();
        cooldowns.start(number(1), &incident(10), 100, true);
        assert!(cooldowns.suppress(number(1), 20));
        cooldowns.start(number(1), &incident(200), 300, true);
        let now = ClockPair {
            boot_ns: 200,
            unix_ns: 200,
        };
        assert_eq!(cooldowns.over(now).map(|storm| storm.count), Some(1));
        assert_eq!(cooldowns.over(now), None);
    }

    #[test]
    fn what_can_make_no_dump_is_news_once_and_then_counted() {
        let mut cooldowns = Cooldowns::default();
        assert!(!cooldowns.count_undumped(number(1), 10));
        cooldowns.start(number(1), &incident(10), 100, false);
        assert!(cooldowns.count_undumped(number(1), 20));
        assert!(!cooldowns.suppress(number(1), 30), "it may make a dump now");
        for n in 2..=UNDUMPED_MAX {
            cooldowns.start(number(n), &incident(40), 100, false);
        }
        assert!(cooldowns.count_undumped(number(5000), 50), "too many");
        assert!(!cooldowns.count_undumped(number(5000), 100), "no longer");
    }
}
