//! What the agent tells the running probes.

use aya::maps::{Array, MapData, MapError};
use recorder_ebpf::abi::Switch;

/// Tells the probes what they look at for each record of a process.
pub struct Switches(pub(super) Array<MapData, u32>);

impl Switches {
    /// Puts so many of [`Saving::ALL`](recorder_ebpf::abi::Saving::ALL) in force.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; nothing has changed then.
    pub fn set_savings(&mut self, savings: u32) -> Result<(), MapError> {
        self.0.set(Switch::Savings as u32, savings, 0)
    }

    /// Has whoever reads the kernel rings woken for each record, or only when they fill and for failures.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; nothing has changed then.
    pub fn set_waking(&mut self, waking: bool) -> Result<(), MapError> {
        self.0.set(Switch::Waking as u32, u32::from(waking), 0)
    }
}
