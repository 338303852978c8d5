//! Errors of the hardware itself.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, MachineCheck, MemoryFailure};

use crate::emit::reserve;
use crate::globals::{
    MCE_ADDRESS, MCE_APIC_ID, MCE_BANK, MCE_CPU, MCE_GLOBAL_STATUS, MCE_IP, MCE_MICROCODE,
    MCE_MISC, MCE_SIGNATURE, MCE_SOCKET, MCE_STATUS, PAGE_KIB,
};
use crate::kernel::{Object, fetch};

/// `memory_failure_event(unsigned long pfn, int type, int result)`
#[btf_tracepoint(function = "memory_failure_event")]
pub fn memory_failure(ctx: BtfTracePointContext) -> i32 {
    let (page, page_type, result): (u64, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let Some(mut slot) = reserve::<MemoryFailure>(EventKind::MemoryFailure) else {
        return 0;
    };
    let failure = MemoryFailure {
        header: slot.header_without_process(size_of::<MemoryFailure>() as u32, 0),
        address: page * u64::from(PAGE_KIB.load()) * 1024,
        page_type,
        result,
    };
    // SAFETY: the slot has room for one.
    unsafe { slot.record().write(failure) };
    slot.submit();
    0
}

/// `mce_record(struct mce *)`, from 6.13 on `mce_record(struct mce_hw_err *)`, which begins with one.
#[btf_tracepoint(function = "mce_record")]
pub fn machine_check(ctx: BtfTracePointContext) -> i32 {
    let mce: Object = ctx.arg(0);
    let Some(mut slot) = reserve::<MachineCheck>(EventKind::MachineCheck) else {
        return 0;
    };
    let check = MachineCheck {
        header: slot.header_without_process(size_of::<MachineCheck>() as u32, 0),
        status: fetch(mce, &MCE_STATUS),
        address: fetch(mce, &MCE_ADDRESS),
        misc: fetch(mce, &MCE_MISC),
        global_status: fetch(mce, &MCE_GLOBAL_STATUS),
        ip: fetch(mce, &MCE_IP),
        cpu: fetch(mce, &MCE_CPU),
        socket: fetch(mce, &MCE_SOCKET),
        apic_id: fetch(mce, &MCE_APIC_ID),
        signature: fetch(mce, &MCE_SIGNATURE),
        microcode: fetch(mce, &MCE_MICROCODE),
        bank: fetch::<u8, _>(mce, &MCE_BANK).into(),
    };
    // SAFETY: the slot has room for one.
    unsafe { slot.record().write(check) };
    slot.submit();
    0
}
