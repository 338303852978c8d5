//! Which cgroups the probes hold to a rate, and what they left out.

use aya::maps::{HashMap, MapData};
use recorder_ebpf::abi::{Throttle, ThrottleKey};
use recorder_ebpf::fields::ABSENT;

/// Records a second that the probes take from one cgroup; 0 for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of failures.
    pub failures: u64,
    /// Of processes, while the kernel ring is short of room.
    pub processes: u64,
}

impl Rates {
    /// Any number.
    pub const ANY: Self = Self {
        failures: 0,
        processes: 0,
    };

    /// The globals that tell the probes.
    pub(super) fn globals(self) -> [(&'static str, u32); 2] {
        let number = |rate: u64| u32::try_from(rate).unwrap_or(ABSENT);
        [
            ("LIMIT_FAILURES", number(self.failures)),
            ("LIMIT_PROCESSES", number(self.processes)),
        ]
    }
}

/// The probes' account of cgroups, one for each lane.
pub struct Throttles(pub(super) HashMap<MapData, Key, Value>);

/// [`ThrottleKey`] as aya wants it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Key(ThrottleKey);

/// [`Throttle`] as aya wants it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Value(Throttle);

// SAFETY: ThrottleKey is plain integers without padding; zerocopy's derives on it prove so.
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Value {}

impl Throttles {
    /// Returns every account, as far as the kernel gives them.
    pub fn read(&self) -> Vec<(ThrottleKey, Throttle)> {
        self.0
            .iter()
            .filter_map(Result::ok)
            .map(|(key, value)| (key.0, value.0))
            .collect()
    }

    /// Closes an account.
    pub fn forget(&mut self, key: ThrottleKey) {
        // One that is not there is closed.
        let _ = self.0.remove(&Key(key));
    }
}
