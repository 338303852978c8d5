//! Two programs at one tracepoint, for what a kernel skips.
//!
//! No kernel runs a program on a CPU that is inside it already. Where a program may be preempted, that is the lot of whatever
//! meets the tracepoint meanwhile: so a second program stands behind the first, and takes what the first has not looked at.

use recorder_ebpf::abi::{TURNS_MAX, Turns};

use crate::emit::add_one;
use crate::globals::{PREEMPTIBLE, TASK_EXECS};
use crate::kernel::{Task, load_or_zero};
use crate::maps::{SEEN, TAKEN};

/// Threads that are told apart at a time, for each tracepoint. Two that share a place have to be between their two programs
/// together to be mistaken, and then one is recorded twice.
const PLACES: u32 = 2048;
/// Places for all tracepoints.
pub const SEEN_MAX: usize = TURNS_MAX * PLACES as usize;

/// Whose turn it is. Each has places of its own for what is too large for the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Turn {
    /// The program that is there on every kernel.
    First = 0,
    /// The one behind it, where there are two.
    Second = 1,
}

impl Turn {
    /// Whether what `task` does is for this program to record: the first takes all that it is run for, the second the rest.
    ///
    /// To be asked before anything else: while the second program is busy, others are skipped as well.
    #[inline(always)]
    pub fn takes(self, at: Turns, task: Task) -> bool {
        if PREEMPTIBLE.load() == 0 {
            return true;
        }
        // Of no two threads, nor of two execs of one. Never zero, as the map is at first.
        let what = match at {
            Turns::Exec => task.start() ^ load_or_zero(task.0, &TASK_EXECS) << 48,
            Turns::Exit => task.start(),
        };
        let place = at as u32 * PLACES + task.pid() % PLACES;
        let Some(seen) = SEEN.get_ptr_mut(place) else {
            return true;
        };
        if self == Self::First {
            // SAFETY: a word of the map, valid while the program runs. Whoever else writes it, writes it whole.
            unsafe { seen.write_volatile(what) };
            return true;
        }
        // SAFETY: as above.
        if unsafe { seen.read_volatile() } == what {
            return false;
        }
        if let Some(taken) = TAKEN.get_ptr_mut(at as u32) {
            // SAFETY: a counter of the map, changed nowhere else.
            unsafe { add_one(taken) };
        }
        true
    }
}
