//! Which failures have made a dump lately, and how often they happened since.

use super::fingerprint::Fingerprint;

/// Most fingerprints that are remembered; the one that has not happened for longest is forgotten first.
pub const FINGERPRINTS_MAX: usize = 1024;

/// The failures that opened an incident.
#[derive(Debug, Default)]
pub(super) struct Cooldowns {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    /// End of the cooldown.
    until_boot_ns: u64,
    /// Last time it happened.
    seen_boot_ns: u64,
    /// Times it was suppressed since it last opened an incident.
    suppressed: u64,
}

impl Cooldowns {
    /// Counts a failure as suppressed if it happened inside its cooldown; returns whether it did.
    pub(super) fn suppress(&mut self, fingerprint: Fingerprint, boot_ns: u64) -> bool {
        let Some(entry) = self.find(fingerprint) else {
            return false;
        };
        entry.seen_boot_ns = entry.seen_boot_ns.max(boot_ns);
        let suppressed = boot_ns < entry.until_boot_ns;
        entry.suppressed += u64::from(suppressed);
        suppressed
    }

    /// Starts a cooldown; returns how often the failure was suppressed since the last one started.
    pub(super) fn start(
        &mut self,
        fingerprint: Fingerprint,
        boot_ns: u64,
        until_boot_ns: u64,
    ) -> u64 {
        let suppressed = match self.find(fingerprint) {
            Some(entry) => entry.suppressed,
            None => 0,
        };
        self.entries
            .retain(|entry| entry.fingerprint != fingerprint);
        if self.entries.len() == FINGERPRINTS_MAX {
            let ages = self.entries.iter().enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, entry)| entry.seen_boot_ns) {
                self.entries.swap_remove(oldest);
            }
        }
        self.entries.push(Entry {
            fingerprint,
            until_boot_ns,
            seen_boot_ns: boot_ns,
            suppressed: 0,
        });
        suppressed
    }

    fn find(&mut self, fingerprint: Fingerprint) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| entry.fingerprint == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cooldowns() -> Cooldowns {
        Cooldowns::default()
    }

    #[test]
    fn forgets_what_has_not_happened_for_longest() {
        let mut cooldowns = cooldowns();
        let number = |n: usize| Fingerprint::from_number(n as u64);
        for n in 0..FINGERPRINTS_MAX {
            assert_eq!(cooldowns.start(number(n), n as u64, 1_000_000), 0);
        }
        assert!(cooldowns.suppress(number(0), 5000), "now the newest");
        cooldowns.start(number(FINGERPRINTS_MAX), 5001, 1_000_000);
        assert_eq!(cooldowns.entries.len(), FINGERPRINTS_MAX);
        assert!(!cooldowns.suppress(number(1), 5002), "forgotten");
        assert!(cooldowns.suppress(number(0), 5003));
        assert_eq!(cooldowns.start(number(0), 2_000_000, 3_000_000), 2);
        assert_eq!(
            cooldowns.start(number(0), 4_000_000, 5_000_000),
            0,
            "told once"
        );
    }
}
