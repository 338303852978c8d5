//! Who sends a deadly signal, and who asks a process to end.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{
    EventKind, RECEIVED_BLOCKED, RECEIVED_HANDLED, RECEIVED_IGNORED, SENDER_EXITING, SENDER_INIT,
    SENDER_KERNEL, Sender, SignalSent,
};

use super::{
    SI_KERNEL, SI_MESGQ, SI_QUEUE, SI_TKILL, SI_USER, SIG_DFL, SIGKILL, SIGNAL_GROUP_EXIT, bit,
    is_deadly,
};
use crate::emit::{boot_ns, reserve_for};
use crate::globals::{
    KSIGACTION_HANDLER, SIGHAND_ACTION, SIGNAL_FLAGS, TASK_BLOCKED, TASK_FLAGS, TASK_SIGHAND,
    TASK_SIGNAL,
};
use crate::kernel::{Object, Task, copy, load};
use crate::maps::{ASKED, SENDERS, SigInfo};

/// Signals that ask a process to end, which it may decline: HUP, INT, QUIT, TERM.
const REQUESTS: u64 = bit(1) | bit(2) | bit(3) | bit(15);

/// `trace_signal_generate`'s result for a signal that goes on its way.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/trace/events/signal.h#L39>
const TRACE_SIGNAL_DELIVERED: u32 = 0;
/// The result for a signal that its target ignores: so does the init of a pid namespace with what it has no handler for.
const TRACE_SIGNAL_IGNORED: u32 = 1;

/// Flag of `task_struct.flags`: on its way out.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h#L1660>
const PF_EXITING: u32 = 4;

/// `signal_generate(int sig, struct kernel_siginfo *, struct task_struct *, int type, int result)`
///
/// Remembers who sent a signal that will end a process, and who asked it to end. Runs for every signal: most leave at the
/// first test.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_sent(ctx: BtfTracePointContext) -> i32 {
    let signal = ctx.arg::<u64>(0) as u32;
    if !is_deadly(signal) {
        return 0;
    }
    let is_request = signal < 32 && REQUESTS & bit(signal & 31) != 0;
    let result = ctx.arg::<u64>(4) as u32;
    let is_ignored = is_request && result == TRACE_SIGNAL_IGNORED;
    if result != TRACE_SIGNAL_DELIVERED && !is_ignored {
        return 0;
    }
    let code = SigInfo::read(ctx.arg(1)).code;
    let mut flags = match code {
        SI_USER | SI_QUEUE | SI_MESGQ | SI_TKILL => 0,
        SI_KERNEL => SENDER_KERNEL,
        // Timers and descriptors signal from whatever context they are in.
        _ => return 0,
    };
    let target = Task(ctx.arg(2));
    #[cfg(feature = "untyped")]
    if signal == SIGKILL && code == SI_KERNEL {
        crate::probes::oom_by_pid::remember(target);
    }
    // A process that ends already takes nothing more.
    let group: Object = load(target.0, &TASK_SIGNAL);
    if is_ignored && load::<u32, _>(group, &SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0 {
        return 0;
    }
    let reception = if is_ignored {
        RECEIVED_IGNORED
    } else if signal == SIGKILL {
        0
    } else if !has_default_action(group, signal) {
        RECEIVED_HANDLED
    } else if is_request && load::<u64, _>(target.0, &TASK_BLOCKED) & bit(signal - 1 & 63) != 0 {
        RECEIVED_BLOCKED
    } else {
        0
    };
    if reception != 0 && !is_request {
        return 0;
    }
    flags |= reception;
    let sender = Task::current();
    let sending = sender.leader();
    if load::<u32, _>(sender.0, &TASK_FLAGS) & PF_EXITING != 0 {
        flags |= SENDER_EXITING;
        if sending.ns_pid() == 1 {
            flags |= SENDER_INIT;
        }
    }
    let (uid, _) = sending.ids();
    let value = Sender {
        boot_ns: boot_ns(),
        cgroup_id: sending.cgroup_id(),
        tgid: sender.tgid(),
        uid,
        signal,
        code,
        flags,
        reserved: 0,
        // SAFETY: both are 16 bytes without padding.
        comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(sender.comm()) },
    };
    // A full map forgets the oldest; a failure leaves the death without its sender, which is then absent, not wrong.
    let tgid = target.tgid();
    if is_request {
        let _ = ASKED.insert(tgid, value, 0);
    }
    if reception & (RECEIVED_HANDLED | RECEIVED_IGNORED) == 0 {
        let _ = SENDERS.insert(tgid, value, 0);
    }
    if reception != 0
        && let Some(mut slot) =
            reserve_for::<SignalSent>(EventKind::SignalSent, Task::leader_of(group))
    {
        let sent = SignalSent {
            header: slot.header(
                target,
                Task::leader_of(group),
                size_of::<SignalSent>() as u32,
                0,
            ),
            sender: value,
        };
        // SAFETY: the slot has room for one.
        unsafe { slot.record().write(sent) };
        slot.submit();
    }
    0
}

/// Whether the process has left `signal` to the kernel.
#[inline(always)]
fn has_default_action(group: Object, signal: u32) -> bool {
    /// Size of a `struct k_sigaction`: handler, flags, restorer, mask; arm64 has no restorer of its own, but the field.
    const ACTION_BYTES: u64 = 32;
    let actions =
        load::<u64, _>(Task::leader_of(group).0, &TASK_SIGHAND) + u64::from(SIGHAND_ACTION.load());
    let action = actions + u64::from(signal.wrapping_sub(1) & 63) * ACTION_BYTES;
    copy::<u64>(action + u64::from(KSIGACTION_HANDLER.load())) == Some(SIG_DFL)
}
