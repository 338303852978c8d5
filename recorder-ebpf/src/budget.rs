//! What the agent has the probes leave out, so that recording costs no more than it may.
//!
//! The agent decides; here it is one load, in the probes of programs that begin and processes that end. No probe of failures
//! looks at it.

use recorder_ebpf::abi::{EventKind, KIND_SLOTS, Saving, Switch};

use crate::emit::add_one;
use crate::maps::{LANE_STATS, switch};

/// How many of [`Saving::ALL`] are in force.
#[inline(always)]
pub fn savings() -> u32 {
    switch(Switch::Savings)
}

/// Whether this is left out, with so many savings in force.
#[inline(always)]
pub fn leaves_out(savings: u32, saving: Saving) -> bool {
    savings >= saving as u32
}

/// Counts a record that is not begun.
#[inline(always)]
pub fn count_filtered(kind: EventKind) {
    if let Some(stats) = LANE_STATS.get_ptr_mut(kind.lane() as u32) {
        let slot = kind as usize & (KIND_SLOTS - 1);
        // SAFETY: this CPU's slot, valid while the program runs; `slot` is within the array.
        unsafe { add_one((&raw mut (*stats).filtered).cast::<u64>().add(slot)) };
    }
}
