//! Fatal signals.

use recorder_ebpf::abi::{
    self, Arch, BUILD_ID_LEN, SENDER_KERNEL, SIGNAL_HAS_REGISTERS, SIGNAL_HAS_SENDER,
    SIGNAL_RERAISED, SignalFatal,
};

use super::{names, process, proto, text};

pub(super) fn fatal(record: &[u8]) -> Option<proto::SignalFatal> {
    let fatal = abi::decode::<SignalFatal>(record)?;
    let header = &fatal.header;
    let flag = |flag: u8| header.flags & flag != 0;
    let has_registers = flag(SIGNAL_HAS_REGISTERS);
    // The processor's words about a fault outlive it in the thread: they belong to this signal only if the kernel sent it.
    let from_kernel = fatal.code > 0;
    let x86_64 = fatal.arch == Arch::X86_64 as u32;
    let instruction_len = (fatal.instruction_len as usize).min(fatal.instruction.len());
    Some(proto::SignalFatal {
        process: Some(process::subject(header)),
        signal: Some(names::signal(fatal.signal)),
        code: Some(names::signal_code(fatal.signal, fatal.code)),
        fault_address: names::has_address(fatal.signal, fatal.code).then_some(fatal.fault_address),
        ip: (has_registers || fatal.ip != 0).then_some(fatal.ip),
        sp: (has_registers || fatal.sp != 0).then_some(fatal.sp),
        registers: if has_registers {
            registers(&fatal)
        } else {
            Vec::new()
        },
        error_code: (from_kernel && x86_64).then_some(fatal.error_code),
        trap_number: (from_kernel && x86_64).then_some(fatal.trap_number),
        cpu: Some(header.cpu.into()),
        instruction_bytes: (instruction_len > 0)
            .then(|| text::hex(&fatal.instruction[..instruction_len])),
        stack: stack(&fatal),
        sender: flag(SIGNAL_HAS_SENDER).then(|| sender(&fatal.sender)),
        reraised: Some(flag(SIGNAL_RERAISED)),
    })
}

fn registers(fatal: &SignalFatal) -> Vec<proto::Register> {
    names::registers(fatal.arch)
        .iter()
        .zip(fatal.registers)
        .map(|(name, value)| proto::Register {
            name: Some((*name).into()),
            value: Some(value),
        })
        .collect()
}

/// Merges the two forms in which the kernel gave the frames: addresses, and build IDs with file offsets.
fn stack(fatal: &SignalFatal) -> Vec<proto::Frame> {
    const BUILD_ID: i32 = 1;

    fatal
        .addresses
        .iter()
        .zip(&fatal.frames)
        .take(fatal.stack_len as usize)
        .map(|(&address, frame)| {
            let in_file = frame.status == BUILD_ID;
            proto::Frame {
                address: Some(address),
                build_id: in_file.then(|| build_id(&frame.build_id)),
                offset: in_file.then_some(frame.offset_or_ip),
                ..proto::Frame::default()
            }
        })
        .collect()
}

/// Returns a build ID as hex, in its own length: the kernel pads those of linkers that write 8 or 16 bytes with zeros.
fn build_id(padded: &[u8; BUILD_ID_LEN]) -> String {
    let len = [8, 16]
        .into_iter()
        .find(|&len| padded[len..].iter().all(|&byte| byte == 0))
        .unwrap_or(BUILD_ID_LEN);
    text::hex(&padded[..len])
}

fn sender(sender: &abi::Sender) -> proto::Sender {
    proto::Sender {
        pid: Some(sender.tgid),
        comm: text::name(&sender.comm),
        uid: Some(sender.uid),
        kernel: Some(sender.flags & SENDER_KERNEL != 0),
        boot_ns: Some(sender.boot_ns),
    }
}
