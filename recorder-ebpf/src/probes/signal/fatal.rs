//! Signals that end a process.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_USER_BUILD_ID, BPF_F_USER_STACK, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_stack, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::offset_of;
use recorder_ebpf::abi::{
    AUXILIARY_WORDS, EventKind, Frame, INSTRUCTION_BYTES, MAPPINGS_MAX, Mapping, REGISTERS_MAX,
    SIGNAL_HAS_BASES, SIGNAL_HAS_REGISTERS, SIGNAL_HAS_SENDER, SIGNAL_RERAISED, SIGNAL_WAS_ASKED,
    STACK_FRAMES_MAX, STACK_MEMORY_BYTES_MAX, Sender, SignalFatal,
};

use super::fault::{remember_fault, user_registers};
use super::{
    SI_KERNEL, SI_QUEUE, SI_TKILL, SI_USER, SIG_DFL, SIGKILL, bit, is_deadly, mapping, stack,
};
use crate::emit::attempt_for;
use crate::globals::{
    ARCH, KSIGACTION_HANDLER, MM_AUXV, REGISTER_IP, REGISTER_SP, REGISTERS_BYTES, SIGNAL_FLAGS,
    SIGNAL_GROUP_EXIT_CODE, TASK_ERROR_CODE, TASK_FS_BASE, TASK_GS_BASE, TASK_MM, TASK_SIGNAL,
    TASK_TRAP_NR,
};
use crate::kernel::{Object, SIGNAL_UNKILLABLE, Task, copy_to, has, load, load_or_zero, read};
use crate::maps::{ASKED, DEATH, DYING, Death, FAULTS, Process, SENDERS, SigInfo};

/// Signals by which the processor's faults arrive: ILL, TRAP, BUS, FPE, SEGV, SYS.
const FAULT_SIGNALS: u64 = bit(4) | bit(5) | bit(7) | bit(8) | bit(11) | bit(31);

/// Signals that dump core by default: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS. Only these are about the
/// program's own state, so that only these are worth its stack.
const CORE_SIGNALS: u64 =
    bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(11) | bit(24) | bit(25) | bit(31);

/// `signal_deliver(int sig, struct kernel_siginfo *, struct k_sigaction *)`
#[btf_tracepoint(function = "signal_deliver")]
pub fn signal_fatal(ctx: BtfTracePointContext) -> i32 {
    let delivered = ctx.arg::<u64>(0) as u32;
    if !is_deadly(delivered) {
        return 0;
    }
    let task = Task::current();
    let group: Object = load(task.0, &TASK_SIGNAL);
    let action: Object = ctx.arg(2);
    if load::<u64, _>(action, &KSIGACTION_HANDLER) != SIG_DFL {
        if FAULT_SIGNALS & bit(delivered & 31) != 0 && delivered < 32 {
            remember_fault(task, group, delivered, ctx.arg(1));
        }
        return 0;
    }
    let signal = if delivered == SIGKILL {
        // The kernel ends the threads of a dying process with SIGKILL; what it died of is in the exit code.
        load::<u32, _>(group, &SIGNAL_GROUP_EXIT_CODE) & 0x7f
    } else if load::<u32, _>(group, &SIGNAL_FLAGS) & SIGNAL_UNKILLABLE != 0 {
        0
    } else {
        delivered
    };
    // Zero: threads end because the process exits, or because one of them executes another program.
    if signal != 0 {
        fatal(&ctx, task, group, delivered, signal);
    }
    0
}

#[inline(always)]
fn fatal(ctx: &BtfTracePointContext, task: Task, group: Object, delivered: u32, signal: u32) {
    let leader = Task::leader_of(group);
    let process = Process {
        start_boot_ns: leader.start(),
        tgid: task.tgid(),
        reserved: 0,
    };
    if DYING.insert(process, 1, u64::from(BPF_NOEXIST)).is_err() {
        return;
    }
    let Some(death) = DEATH.get_ptr_mut(0) else {
        return;
    };
    // A thread that another's crash takes along has nothing to show.
    let dumps_core = delivered == signal && signal < 32 && CORE_SIGNALS & bit(signal & 31) != 0;
    // SAFETY: this CPU's slot, valid while the program runs; interrupts are off, so that nothing else writes it meanwhile.
    // The pointers stay inside it, and every field of the record is written before it is submitted.
    unsafe {
        let info = if delivered == signal {
            SigInfo::read(ctx.arg(1))
        } else {
            SigInfo::default()
        };
        (&raw mut (*death).info).write(info);
        (&raw mut (*death).delivered).write(delivered);
        (&raw mut (*death).signal).write(signal);
        let record = &raw mut (*death).record;
        stack_frames(ctx, record);
        (&raw mut (*record).lineage).write(leader.lineage());
        let flags = describe_death() as u8 | leader.process_flags();
        let mut behind = 0;
        let auxiliary = &raw mut (*record).auxiliary;
        if dumps_core {
            let mm: u64 = load(task.0, &TASK_MM);
            copy_to(
                auxiliary,
                size_of::<[u64; AUXILIARY_WORDS]>() as u32,
                mm + u64::from(MM_AUXV.load()),
            );
            stack::copy_stack();
            if mapping::begin() {
                stack::note_mappings();
                stack::copy_mappings();
            }
            let stack_len = (&raw const (*record).stack_memory_len).read_volatile();
            let mappings_len = (&raw const (*record).mappings_len).read_volatile();
            behind = u64::from(stack_len) + u64::from(mappings_len) * size_of::<Mapping>() as u64;
            if behind > BEHIND_MAX {
                behind = BEHIND_MAX;
            }
        } else {
            zero(auxiliary);
        }
        let len = size_of::<SignalFatal>() as u64 + behind;
        let Some(attempt) = attempt_for(EventKind::SignalFatal, leader) else {
            return;
        };
        let header = attempt.header(task, leader, len as u32, flags);
        (&raw mut (*record).header).write(header);
        attempt.submit(record, len);
    }
}

/// Bytes behind the record at most.
const BEHIND_MAX: u64 = (STACK_MEMORY_BYTES_MAX + MAPPINGS_MAX * size_of::<Mapping>()) as u64;

const _: () = {
    let record_end = offset_of!(Death, record) + size_of::<SignalFatal>();
    assert!(offset_of!(Death, stack) == record_end);
    assert!(offset_of!(Death, mappings) == record_end + STACK_MEMORY_BYTES_MAX);
    assert!(size_of::<Death>() == record_end + BEHIND_MAX as usize);
};

/// Writes what the registers, the signal's information, the sender and the maps say; returns the flags that it is due.
///
/// A function of its own for the verifier, which follows its branches here and not through all that comes behind them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe_death() -> u64 {
    let Some(death) = DEATH.get_ptr_mut(0) else {
        return 0;
    };
    let task = Task::current();
    let tgid = task.tgid();
    // SAFETY: as in `fatal`; the values of the other maps stay readable while the program runs.
    unsafe {
        let record = &raw mut (*death).record;
        let (delivered, signal) = ((*death).delivered, (*death).signal);
        let info = (&raw const (*death).info).read();
        let start_boot_ns = task.leader().start();
        let mut flags = 0;
        let registers = user_registers(task);
        zero(&raw mut (*record).registers);
        let to = &raw mut (*record).registers;
        if copy_to(to, REGISTERS_BYTES.load(), registers) {
            flags |= SIGNAL_HAS_REGISTERS;
        }
        let is_fault = info.code > 0 && info.code != SI_KERNEL;
        let mut ip = read::<u64>(registers + u64::from(REGISTER_IP.load()));
        let mut sp = read::<u64>(registers + u64::from(REGISTER_SP.load()));
        (&raw mut (*record).signal).write(signal);
        (&raw mut (*record).code).write(info.code);
        (&raw mut (*record).fault_address).write(if is_fault { info.first } else { 0 });
        (&raw mut (*record).error_code).write(load_or_zero(task.0, &TASK_ERROR_CODE));
        (&raw mut (*record).trap_number).write(load_or_zero(task.0, &TASK_TRAP_NR));
        (&raw mut (*record).arch).write(ARCH.load());
        (&raw mut (*record).reserved).write(0);
        (&raw mut (*record).stack_memory_len).write(0);
        (&raw mut (*record).mappings_len).write(0);
        if has(&TASK_FS_BASE) && has(&TASK_GS_BASE) {
            flags |= SIGNAL_HAS_BASES;
        }
        (&raw mut (*record).fs_base).write(load_or_zero(task.0, &TASK_FS_BASE));
        (&raw mut (*record).gs_base).write(load_or_zero(task.0, &TASK_GS_BASE));

        let mut raised = raised_by_itself(&info, tgid);
        let mut sent_boot_ns = u64::MAX;
        zero(&raw mut (*record).sender);
        if let Some(sender) = SENDERS.get_ptr(tgid)
            && (*sender).signal == signal
            && (*sender).boot_ns >= start_boot_ns
        {
            flags |= SIGNAL_HAS_SENDER;
            raised = (*sender).tgid == tgid;
            sent_boot_ns = (*sender).boot_ns;
            (&raw mut (*record).sender).write(*sender);
            if delivered != signal || info.code == 0 {
                (&raw mut (*record).code).write((*sender).code);
            }
        }
        zero(&raw mut (*record).asked);
        if let Some(asked) = ASKED.get_ptr(tgid)
            && (*asked).boot_ns >= start_boot_ns
            && (*asked).boot_ns < sent_boot_ns
        {
            flags |= SIGNAL_WAS_ASKED;
            (&raw mut (*record).asked).write(*asked);
        }
        if raised
            && let Some(fault) = FAULTS.get_ptr(task.pid())
            && (*fault).start_boot_ns == start_boot_ns
            && (*fault).signal == signal
        {
            flags |= SIGNAL_RERAISED | SIGNAL_HAS_REGISTERS;
            (&raw mut (*record).code).write((*fault).code);
            (&raw mut (*record).fault_address).write((*fault).address);
            (&raw mut (*record).error_code).write((*fault).error_code);
            (&raw mut (*record).trap_number).write((*fault).trap_number);
            (&raw mut (*record).registers).write((*fault).registers);
            ip = (*fault).ip;
            sp = (*fault).sp;
        }
        (&raw mut (*record).ip).write(ip);
        (&raw mut (*record).sp).write(sp);
        (&raw mut (*record).stack_memory_address).write(sp);
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
        u64::from(flags)
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

/// Whether the process sent the signal to itself.
#[inline(always)]
fn raised_by_itself(info: &SigInfo, tgid: u32) -> bool {
    (info.code == SI_TKILL || info.code == SI_USER || info.code == SI_QUEUE)
        && info.first as u32 == tgid
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
