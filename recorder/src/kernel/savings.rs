//! What the probes leave out to keep to the budget.

use aya::maps::{Array, MapData, MapError};

/// Tells the probes how many savings are in force.
pub struct SavingsSwitch(pub(super) Array<MapData, u32>);

impl SavingsSwitch {
    /// Puts so many of [`Saving::ALL`](recorder_ebpf::abi::Saving::ALL) in force.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; nothing has changed then.
    pub fn set(&mut self, savings: u32) -> Result<(), MapError> {
        self.0.set(0, savings, 0)
    }
}
