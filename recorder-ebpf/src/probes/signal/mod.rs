//! Signals that end a process, what is behind them, and who sent them.

mod fatal;
mod fault;
mod mapping;
mod sent;
mod stack;

use crate::kernel::copy;
use crate::maps::SigInfo;

const SIGKILL: u32 = 9;
const SIG_DFL: u64 = 0;

/// Signals that do not end a process by default: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28);

/// `si_code` of signals that a process sends: kill, sigqueue, message queues, tkill.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_MESGQ: i32 = -3;
const SI_TKILL: i32 = -6;
/// `si_code` of signals that the kernel sends on its own account.
const SI_KERNEL: i32 = 0x80;

/// Flag of `signal_struct.flags`: the process ends.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched/signal.h#L258>
const SIGNAL_GROUP_EXIT: u32 = 4;

const fn bit(signal: u32) -> u64 {
    1 << signal
}

/// Whether the default action of `signal` ends the process. Real-time signals do.
#[inline(always)]
fn is_deadly(signal: u32) -> bool {
    signal > 31 || HARMLESS & bit(signal & 31) == 0
}

impl SigInfo {
    /// Copies what `info` points at; two values of it are no addresses.
    #[inline(always)]
    fn read(info: u64) -> Self {
        const SEND_SIG_NOINFO: u64 = 0;
        const SEND_SIG_PRIV: u64 = 1;
        match info {
            SEND_SIG_NOINFO => Self::default(),
            SEND_SIG_PRIV => Self {
                code: SI_KERNEL,
                ..Self::default()
            },
            address => copy(address).unwrap_or_default(),
        }
    }
}
