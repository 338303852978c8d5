//! Signals that end a process, what is behind them, and who sent them.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_USER_BUILD_ID, BPF_F_USER_STACK, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_probe_read_user, bpf_task_pt_regs};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{
    EventKind, Frame, INSTRUCTION_BYTES, MAPPINGS_MAX, Mapping, RECEIVED_BLOCKED, RECEIVED_HANDLED,
    RECEIVED_IGNORED, REGISTERS_MAX, SENDER_EXITING, SENDER_INIT, SENDER_KERNEL, SIGNAL_HAS_BASES,
    SIGNAL_HAS_REGISTERS, SIGNAL_HAS_SENDER, SIGNAL_RERAISED, SIGNAL_WAS_ASKED, STACK_FRAMES_MAX,
    STACK_MEMORY_BYTES_MAX, Sender, SignalFatal, SignalSent,
};
use recorder_ebpf::fields::ABSENT;

use super::mapping;
use crate::emit::{boot_ns, reserve};
use crate::globals::{
    ARCH, KSIGACTION_HANDLER, REGISTER_IP, REGISTER_SP, REGISTERS_BYTES, REGISTERS_TOP,
    SIGHAND_ACTION, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, TASK_BLOCKED, TASK_ERROR_CODE,
    TASK_FLAGS, TASK_FS_BASE, TASK_GS_BASE, TASK_SIGHAND, TASK_SIGNAL, TASK_STACK, TASK_TRAP_NR,
};
use crate::kernel::{
    Object, SIGNAL_UNKILLABLE, Task, copy, copy_to, has, load, load_or_zero, read,
};
use crate::maps::{ASKED, DYING, FAULT_SCRATCH, FAULTS, Fault, MAPPINGS, Process, SENDERS};

const SIGKILL: u32 = 9;
const SIG_DFL: u64 = 0;

/// Signals that do not end a process by default: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = bit(17) | bit(18) | bit(19) | bit(20) | bit(21) | bit(22) | bit(23) | bit(28);
/// Signals that ask a process to end, which it may decline: HUP, INT, QUIT, TERM.
const REQUESTS: u64 = bit(1) | bit(2) | bit(3) | bit(15);
/// Signals by which the processor's faults arrive: ILL, TRAP, BUS, FPE, SEGV, SYS.
const FAULT_SIGNALS: u64 = bit(4) | bit(5) | bit(7) | bit(8) | bit(11) | bit(31);

/// Signals that dump core by default: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS. Only these are about the
/// program's own state, so that only these are worth its stack.
const CORE_SIGNALS: u64 =
    bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(11) | bit(24) | bit(25) | bit(31);

/// Stack memory up to this length travels in the smaller of two sizes of record.
const STACK_MEMORY_BYTES_SMALL: usize = 4 << 10;
/// Bytes between two looks at whether the stack goes on: the smallest page.
const PAGE_BYTES: u64 = 4 << 10;
/// Pages that the stack pointer of a used-up stack may be away from it.
const GUARD_PAGES_MAX: u32 = 4;
/// Words of stack memory that are taken for return addresses, innermost first.
const WORDS_MAX: usize = 256;
/// Frames whose mappings are looked up.
const FRAMES_MAX: usize = 32;

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

const fn bit(signal: u32) -> u64 {
    1 << signal
}

/// Whether the default action of `signal` ends the process. Real-time signals do.
#[inline(always)]
fn is_deadly(signal: u32) -> bool {
    signal > 31 || HARMLESS & bit(signal & 31) == 0
}

/// The beginning of a `siginfo_t`, the same on all 64-bit kernels.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct SigInfo {
    signo: i32,
    errno: i32,
    code: i32,
    padding: i32,
    /// `si_addr` of a fault; `si_pid` and `si_uid` of a signal that was sent.
    first: u64,
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
    // A process that ends already takes nothing more.
    if is_ignored
        && load::<u32>(load(target.0, &TASK_SIGNAL), &SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0
    {
        return 0;
    }
    let reception = if is_ignored {
        RECEIVED_IGNORED
    } else if signal == SIGKILL {
        0
    } else if !has_default_action(target, signal) {
        RECEIVED_HANDLED
    } else if is_request && load::<u64>(target.0, &TASK_BLOCKED) & bit(signal - 1 & 63) != 0 {
        RECEIVED_BLOCKED
    } else {
        0
    };
    if reception != 0 && !is_request {
        return 0;
    }
    flags |= reception;
    let sender = Task::current();
    if load::<u32>(sender.0, &TASK_FLAGS) & PF_EXITING != 0 {
        flags |= SENDER_EXITING;
        if sender.leader().ns_pid() == 1 {
            flags |= SENDER_INIT;
        }
    }
    let (uid, _) = sender.ids();
    let value = Sender {
        boot_ns: boot_ns(),
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
        && let Some(mut slot) = reserve::<SignalSent>(EventKind::SignalSent)
    {
        let sent = SignalSent {
            header: slot.header(target, size_of::<SignalSent>() as u32, 0),
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
fn has_default_action(task: Task, signal: u32) -> bool {
    /// Size of a `struct k_sigaction`: handler, flags, restorer, mask; arm64 has no restorer of its own, but the field.
    const ACTION_BYTES: u64 = 32;
    let actions = load::<u64>(task.0, &TASK_SIGHAND) + u64::from(SIGHAND_ACTION.load());
    let action = actions + u64::from(signal.wrapping_sub(1) & 63) * ACTION_BYTES;
    copy::<u64>(action + u64::from(KSIGACTION_HANDLER.load())) == Some(SIG_DFL)
}

/// `signal_deliver(int sig, struct kernel_siginfo *, struct k_sigaction *)`
#[btf_tracepoint(function = "signal_deliver")]
pub fn signal_fatal(ctx: BtfTracePointContext) -> i32 {
    let delivered = ctx.arg::<u64>(0) as u32;
    if !is_deadly(delivered) {
        return 0;
    }
    let task = Task::current();
    let action: Object = ctx.arg(2);
    if load::<u64>(action, &KSIGACTION_HANDLER) != SIG_DFL {
        if FAULT_SIGNALS & bit(delivered & 31) != 0 && delivered < 32 {
            remember_fault(task, delivered, ctx.arg(1));
        }
        return 0;
    }
    let group: Object = load(task.0, &TASK_SIGNAL);
    let signal = if delivered == SIGKILL {
        // The kernel ends the threads of a dying process with SIGKILL; what it died of is in the exit code.
        load::<u32>(group, &SIGNAL_GROUP_EXIT_CODE) & 0x7f
    } else if load::<u32>(group, &SIGNAL_FLAGS) & SIGNAL_UNKILLABLE != 0 {
        0
    } else {
        delivered
    };
    // Zero: threads end because the process exits, or because one of them executes another program.
    if signal != 0 {
        fatal(&ctx, task, delivered, signal);
    }
    0
}

/// A record with room for `STACK` bytes of stack and all mappings behind them.
#[repr(C)]
struct FatalRecord<const STACK: usize> {
    fatal: SignalFatal,
    stack: [u64; STACK],
    mappings: [Mapping; MAPPINGS_MAX],
}

/// What is known of a death before its record is written.
struct Death {
    delivered: u32,
    signal: u32,
    info: SigInfo,
    /// Where the kernel saved the user registers.
    registers: u64,
    /// The fault that a handler took and raised again.
    fault: Option<*const Fault>,
    sender: Option<*const Sender>,
    sp: u64,
    /// Where the stack memory begins.
    stack: u64,
}

#[inline(always)]
fn fatal(ctx: &BtfTracePointContext, task: Task, delivered: u32, signal: u32) {
    let process = Process {
        start_boot_ns: task.process_start(),
        tgid: task.tgid(),
        reserved: 0,
    };
    if DYING.insert(process, 1, u64::from(BPF_NOEXIST)).is_err() {
        return;
    }
    let info = if delivered == signal {
        SigInfo::read(ctx.arg(1))
    } else {
        SigInfo::default()
    };
    let sender = SENDERS.get_ptr(process.tgid).filter(|sender| {
        // SAFETY: the map's values stay readable while the program runs.
        let sender = unsafe { **sender };
        sender.signal == signal && sender.boot_ns >= process.start_boot_ns
    });
    let raised = match sender {
        // SAFETY: as above.
        Some(sender) => unsafe { (*sender).tgid == process.tgid },
        None => raised_by_itself(&info, task),
    };
    let fault = FAULTS.get_ptr(task.pid()).filter(|fault| {
        // SAFETY: as above.
        let fault = unsafe { &**fault };
        raised && fault.start_boot_ns == process.start_boot_ns && fault.signal == signal
    });
    let registers = user_registers(task);
    let sp = match fault {
        // SAFETY: as above.
        Some(fault) => unsafe { (*fault).sp },
        None => read(registers + u64::from(REGISTER_SP.load())),
    };
    // A thread that another's crash takes along has nothing to show.
    let dumps_core = delivered == signal && signal < 32 && CORE_SIGNALS & bit(signal & 31) != 0;
    let stack = if dumps_core { stack_start(sp) } else { sp };
    let death = Death {
        delivered,
        signal,
        info,
        registers,
        fault,
        sender,
        sp,
        stack,
    };
    let stack = if dumps_core { readable(stack) } else { 0 };
    if !dumps_core {
        write::<0>(ctx, task, &death, None);
    } else if stack <= STACK_MEMORY_BYTES_SMALL as u64 {
        write::<{ STACK_MEMORY_BYTES_SMALL / 8 }>(ctx, task, &death, Some(stack));
    } else {
        write::<{ STACK_MEMORY_BYTES_MAX / 8 }>(ctx, task, &death, Some(stack));
    }
}

/// Returns the first address from `sp` on that can be read: a stack that is used up ends above its pointer.
#[inline(always)]
fn stack_start(sp: u64) -> u64 {
    let mut start = sp;
    for _ in 0..GUARD_PAGES_MAX {
        if is_readable(start) {
            return start;
        }
        start = (start | (PAGE_BYTES - 1)).wrapping_add(1);
    }
    sp
}

/// Returns how many bytes can be read from `start` on, in whole words, looking once into each page.
#[inline(always)]
fn readable(start: u64) -> u64 {
    let mut len = 0;
    for _ in 0..=STACK_MEMORY_BYTES_MAX as u64 / PAGE_BYTES {
        let address = start.wrapping_add(len);
        if !is_readable(address) {
            break;
        }
        len += PAGE_BYTES - (address & (PAGE_BYTES - 1));
    }
    if len > STACK_MEMORY_BYTES_MAX as u64 {
        len = STACK_MEMORY_BYTES_MAX as u64;
    }
    len & !7
}

#[inline(always)]
fn is_readable(address: u64) -> bool {
    let mut byte = 0_u8;
    // SAFETY: the destination is one byte long.
    unsafe { bpf_probe_read_user((&raw mut byte).cast(), 1, address as *const _) == 0 }
}

/// Writes the record, with the stack and the mappings if `stack` says how many bytes of it can be read.
#[inline(always)]
fn write<const STACK: usize>(
    ctx: &BtfTracePointContext,
    task: Task,
    death: &Death,
    stack: Option<u64>,
) {
    let Some(mut slot) = reserve::<FatalRecord<STACK>>(EventKind::SignalFatal) else {
        return;
    };
    let whole = slot.record();
    // SAFETY: `whole` is room for one; the pointers stay inside it, and every field is written before it is submitted.
    unsafe {
        let record = &raw mut (*whole).fatal;
        let mut flags = describe(record, death);
        stack_frames(ctx, record);
        if let Some(sender) = death.sender {
            flags |= SIGNAL_HAS_SENDER;
            (&raw mut (*record).sender).write(*sender);
            if death.delivered != death.signal || death.info.code == 0 {
                (&raw mut (*record).code).write((*sender).code);
            }
        } else {
            zero(&raw mut (*record).sender);
        }
        let tgid = task.tgid();
        let start_boot_ns = task.process_start();
        let asked = ASKED.get_ptr(tgid).filter(|asked| {
            let is_older = |sender: *const Sender| (**asked).boot_ns < (*sender).boot_ns;
            (**asked).boot_ns >= start_boot_ns && death.sender.is_none_or(is_older)
        });
        if let Some(asked) = asked {
            flags |= SIGNAL_WAS_ASKED;
            (&raw mut (*record).asked).write(*asked);
        } else {
            zero(&raw mut (*record).asked);
        }
        if has(&TASK_FS_BASE) && has(&TASK_GS_BASE) {
            flags |= SIGNAL_HAS_BASES;
        }
        (&raw mut (*record).fs_base).write(load_or_zero(task.0, &TASK_FS_BASE));
        (&raw mut (*record).gs_base).write(load_or_zero(task.0, &TASK_GS_BASE));
        let mut len = size_of::<SignalFatal>() as u64;
        let (mut stack_len, mut mappings_len) = (0, 0);
        if let Some(readable) = stack {
            stack_len = copy_stack(&raw mut (*whole).stack, death.stack, readable);
            if mapping::begin() {
                let ip = (&raw const (*record).ip).read();
                mapping::note_mapping(ip, 0);
                mapping::note_mapping(death.stack, 0);
                mapping::note_mapping((&raw const (*record).fault_address).read(), 0);
                note_frames(record);
                note_words(&raw const (*whole).stack, stack_len);
                mappings_len = copy_mappings(&raw mut (*whole).stack, stack_len);
            }
            len += stack_len + mappings_len * size_of::<Mapping>() as u64;
        }
        (&raw mut (*record).stack_memory_address).write(death.stack);
        (&raw mut (*record).stack_memory_len).write(stack_len as u32);
        (&raw mut (*record).mappings_len).write(mappings_len as u32);
        let header = slot.header(task, len as u32, flags | task.process_flags());
        (&raw mut (*record).header).write(header);
    }
    slot.submit();
}

/// Writes what the registers and the signal's information say; returns the flags that it is due.
///
/// # Safety
///
/// `record` is valid for writes.
#[inline(always)]
unsafe fn describe(record: *mut SignalFatal, death: &Death) -> u8 {
    // SAFETY: the caller's; the fault and the sender are values of maps, readable while the program runs.
    unsafe {
        let task = Task::current();
        let info = &death.info;
        let registers = death.registers;
        let mut flags = 0;
        zero(&raw mut (*record).registers);
        if copy_to(
            &raw mut (*record).registers,
            REGISTERS_BYTES.load(),
            registers,
        ) {
            flags |= SIGNAL_HAS_REGISTERS;
        }
        let is_fault = info.code > 0 && info.code != SI_KERNEL;
        let mut ip = read::<u64>(registers + u64::from(REGISTER_IP.load()));
        (&raw mut (*record).signal).write(death.signal);
        (&raw mut (*record).code).write(info.code);
        (&raw mut (*record).fault_address).write(if is_fault { info.first } else { 0 });
        (&raw mut (*record).sp).write(death.sp);
        (&raw mut (*record).error_code).write(load_or_zero(task.0, &TASK_ERROR_CODE));
        (&raw mut (*record).trap_number).write(load_or_zero(task.0, &TASK_TRAP_NR));
        (&raw mut (*record).arch).write(ARCH.load());
        (&raw mut (*record).reserved).write(0);
        (&raw mut (*record).lineage).write(task.lineage());
        if let Some(fault) = death.fault {
            flags |= SIGNAL_RERAISED | SIGNAL_HAS_REGISTERS;
            (&raw mut (*record).code).write((*fault).code);
            (&raw mut (*record).fault_address).write((*fault).address);
            (&raw mut (*record).error_code).write((*fault).error_code);
            (&raw mut (*record).trap_number).write((*fault).trap_number);
            (&raw mut (*record).registers).write((*fault).registers);
            ip = (*fault).ip;
        }
        (&raw mut (*record).ip).write(ip);
        let unread = bpf_probe_read_user(
            (&raw mut (*record).instruction).cast(),
            INSTRUCTION_BYTES as u32,
            ip as *const _,
        );
        (&raw mut (*record).instruction_len).write(if unread == 0 {
            INSTRUCTION_BYTES as u32
        } else {
            0
        });
        flags
    }
}

/// Writes the frames, in both of the kernel's forms.
///
/// # Safety
///
/// `record` is valid for writes.
#[inline(always)]
unsafe fn stack_frames(ctx: &BtfTracePointContext, record: *mut SignalFatal) {
    // SAFETY: the caller's; the lengths are those of the arrays.
    unsafe {
        let addresses = bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*record).addresses).cast(),
            (STACK_FRAMES_MAX * size_of::<u64>()) as u32,
            u64::from(BPF_F_USER_STACK),
        );
        bpf_get_stack(
            ctx.as_ptr(),
            (&raw mut (*record).frames).cast(),
            (STACK_FRAMES_MAX * size_of::<Frame>()) as u32,
            u64::from(BPF_F_USER_STACK | BPF_F_USER_BUILD_ID),
        );
        (&raw mut (*record).stack_len).write(if addresses > 0 {
            addresses as u32 / size_of::<u64>() as u32
        } else {
            0
        });
    }
}

/// Copies `readable` bytes of stack; returns how many it copied.
///
/// # Safety
///
/// `to` is valid for writes.
#[inline(always)]
unsafe fn copy_stack<const STACK: usize>(
    to: *mut [u64; STACK],
    start: u64,
    mut readable: u64,
) -> u64 {
    let room = size_of::<[u64; STACK]>() as u64;
    if readable > room {
        readable = room;
    }
    // SAFETY: `readable` is at most what `to` holds.
    let unread = unsafe { bpf_probe_read_user(to.cast(), readable as u32, start as *const _) };
    if unread == 0 { readable } else { 0 }
}

/// Looks up the mappings of the frames.
///
/// # Safety
///
/// `record` is readable and its frames are written.
#[inline(always)]
unsafe fn note_frames(record: *const SignalFatal) {
    // SAFETY: the caller's.
    let len = unsafe { (&raw const (*record).stack_len).read() } as usize;
    for index in 0..FRAMES_MAX {
        if index >= len {
            break;
        }
        // SAFETY: `index` is within the array.
        let address = unsafe { (&raw const (*record).addresses[index]).read_volatile() };
        mapping::note_mapping(address, 1);
    }
}

/// Looks up the mappings of code that words on the stack point into: programs without frame pointers leave only these.
///
/// # Safety
///
/// `stack` is readable and `len` bytes of it are written.
#[inline(always)]
unsafe fn note_words<const STACK: usize>(stack: *const [u64; STACK], len: u64) {
    for index in 0..WORDS_MAX.min(STACK) {
        if index as u64 * 8 >= len {
            break;
        }
        // SAFETY: `index` is within the array.
        let word = unsafe { (&raw const (*stack)[index]).read_volatile() };
        if word != 0 {
            mapping::note_mapping(word, 1);
        }
    }
}

/// Copies the mappings behind `stack_len` bytes of stack; returns how many.
///
/// # Safety
///
/// `stack` is the stack of a [`FatalRecord`], valid for writes.
#[inline(always)]
unsafe fn copy_mappings<const STACK: usize>(stack: *mut [u64; STACK], mut stack_len: u64) -> u64 {
    let Some(mappings) = MAPPINGS.get_ptr(0) else {
        return 0;
    };
    // SAFETY: this CPU's slot, valid while the program runs.
    let mut len = unsafe { (&raw const (*mappings).len).read_volatile() };
    if len > MAPPINGS_MAX as u64 {
        len = MAPPINGS_MAX as u64;
    }
    if stack_len > size_of::<[u64; STACK]>() as u64 {
        stack_len = size_of::<[u64; STACK]>() as u64;
    }
    // SAFETY: `stack_len` is at most the length of the stack, which room for all mappings follows.
    let to = unsafe { stack.cast::<u8>().add(stack_len as usize) };
    let bytes = len * size_of::<Mapping>() as u64;
    // SAFETY: this only makes an address.
    let from = unsafe { &raw const (*mappings).list } as u64;
    if copy_to(to, bytes as u32, from) {
        len
    } else {
        0
    }
}

/// Whether the process sent the signal to itself.
#[inline(always)]
fn raised_by_itself(info: &SigInfo, task: Task) -> bool {
    (info.code == SI_TKILL || info.code == SI_USER || info.code == SI_QUEUE)
        && info.first as u32 == task.tgid()
}

/// Keeps a fault that a handler takes: the handler may end the process with the same signal, and the fault is gone by then.
#[inline(always)]
fn remember_fault(task: Task, signal: u32, info: u64) {
    let info = SigInfo::read(info);
    if info.code <= 0 || info.code == SI_KERNEL && info.first != 0 {
        return;
    }
    let Some(fault) = FAULT_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let registers = user_registers(task);
    // SAFETY: `fault` is this CPU's slot, valid while the program runs; signals are delivered with interrupts off, so that
    // nothing else writes it meanwhile.
    unsafe {
        (*fault).start_boot_ns = task.process_start();
        (*fault).address = info.first;
        (*fault).ip = read(registers + u64::from(REGISTER_IP.load()));
        (*fault).sp = read(registers + u64::from(REGISTER_SP.load()));
        (*fault).error_code = load_or_zero(task.0, &TASK_ERROR_CODE);
        (*fault).trap_number = load_or_zero(task.0, &TASK_TRAP_NR);
        (*fault).signal = signal;
        (*fault).code = info.code;
        copy_to(
            &raw mut (*fault).registers,
            REGISTERS_BYTES.load(),
            registers,
        );
        let _ = FAULTS.insert(task.pid(), &*fault, 0);
    }
}

/// Returns where the kernel saved the user registers of the running task.
#[inline(always)]
fn user_registers(task: Task) -> u64 {
    let top = REGISTERS_TOP.load();
    if top == ABSENT {
        // SAFETY: the helper takes any task, and this one is running.
        unsafe { bpf_task_pt_regs(task.0.cast_mut().cast()) as u64 }
    } else {
        load::<u64>(task.0, &TASK_STACK) + u64::from(top)
    }
}

/// Fills `*to` with zeros, word by word.
///
/// # Safety
///
/// `to` is valid for writes, aligned to eight bytes, and a multiple of them long.
#[inline(always)]
unsafe fn zero<T>(to: *mut T) {
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: the caller's; `index` stays within `T`.
        unsafe { to.cast::<u64>().add(index).write_volatile(0) };
    }
}

const _: () = assert!(size_of::<Sender>().is_multiple_of(8));
const _: () = assert!(size_of::<[u64; REGISTERS_MAX]>().is_multiple_of(8));
