//! Boot time and wall clock.

use serde::{Deserialize, Serialize};

/// The same moment on both clocks.
///
/// Two pairs show whether the wall clock was set, or the host suspended, between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
    /// Nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub unix_ns: u64,
}

impl ClockPair {
    /// Returns the wall clock at `boot_ns`, as if it had never been set since; in nanoseconds since 1970.
    pub fn unix_ns_at(&self, boot_ns: u64) -> u64 {
        self.unix_ns
            .wrapping_add(boot_ns.wrapping_sub(self.boot_ns))
    }

    /// Returns the boot time at which the wall clock was `unix_ns`: what [`ClockPair::unix_ns_at`] came from.
    pub fn boot_ns_at(&self, unix_ns: u64) -> u64 {
        self.boot_ns
            .wrapping_add(unix_ns.wrapping_sub(self.unix_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_comes_back_exactly() {
        let pair = ClockPair {
            boot_ns: 5_000,
            unix_ns: 1_700_000_000_000_000_000,
        };
        assert_eq!(pair.unix_ns_at(6_000), 1_700_000_000_000_001_000);
        for boot_ns in [0, 4_999, 5_000, u64::MAX] {
            assert_eq!(pair.boot_ns_at(pair.unix_ns_at(boot_ns)), boot_ns);
        }
    }
}
