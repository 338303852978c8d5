//! Errors of the hardware itself.

use recorder_ebpf::abi::{self, MachineCheck, MemoryFailure};

use super::{known, names, proto};

pub(super) fn memory_failure(record: &[u8]) -> Option<proto::MemoryFailure> {
    let failure = abi::decode::<MemoryFailure>(record)?;
    Some(proto::MemoryFailure {
        physical_address: Some(failure.address),
        result: names::memory_failure_result(failure.result).map(str::to_owned),
        page_type: Some(failure.page_type),
    })
}

pub(super) fn machine_check(record: &[u8]) -> Option<proto::MachineCheck> {
    /// Bits of `MCi_STATUS`.
    ///
    /// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/mce.h>
    const OVERFLOW: u64 = 1 << 62;
    const UNCORRECTED: u64 = 1 << 61;
    const HAS_MISC: u64 = 1 << 59;
    const HAS_ADDRESS: u64 = 1 << 58;
    const CONTEXT_CORRUPT: u64 = 1 << 57;

    let check = abi::decode::<MachineCheck>(record)?;
    let says = |bit: u64| check.status & bit != 0;
    Some(proto::MachineCheck {
        cpu: Some(check.cpu),
        socket: Some(check.socket),
        bank: Some(check.bank),
        uncorrected: Some(says(UNCORRECTED)),
        context_corrupt: Some(says(CONTEXT_CORRUPT)),
        overflow: Some(says(OVERFLOW)),
        part: names::machine_check_part(check.status as u16).map(str::to_owned),
        address: says(HAS_ADDRESS).then_some(check.address),
        ip: known(check.ip),
        status: Some(check.status),
        misc: says(HAS_MISC).then_some(check.misc),
        global_status: Some(check.global_status),
        apic_id: Some(check.apic_id),
        signature: known(check.signature.into()),
        microcode: known(check.microcode.into()),
    })
}
