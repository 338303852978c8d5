//! Faults that a handler takes.

use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use recorder_ebpf::fields::ABSENT;

use super::SI_KERNEL;
use crate::globals::{
    REGISTER_IP, REGISTER_SP, REGISTERS_BYTES, REGISTERS_TOP, TASK_ERROR_CODE, TASK_STACK,
    TASK_TRAP_NR,
};
use crate::kernel::{Object, Task, copy_to, load, load_or_zero, read};
use crate::maps::{FAULT_SCRATCH, FAULTS, SigInfo};

/// Keeps a fault that a handler takes: the handler may end the process with the same signal, and the fault is gone by then.
#[inline(always)]
pub fn remember_fault(task: Task, group: Object, signal: u32, info: u64) {
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
        (*fault).start_boot_ns = Task::leader_of(group).start();
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
pub fn user_registers(task: Task) -> u64 {
    let top = REGISTERS_TOP.load();
    if top == ABSENT {
        // SAFETY: the helper takes any task, and this one is running.
        unsafe { bpf_task_pt_regs(task.0.cast_mut().cast()) as u64 }
    } else {
        load::<u64, _>(task.0, &TASK_STACK) + u64::from(top)
    }
}
