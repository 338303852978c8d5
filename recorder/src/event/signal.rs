//! Fatal signals.

use recorder_ebpf::abi::{
    self, Arch, BUILD_ID_LEN, MAPPING_EXECUTE, MAPPING_FILE, MAPPING_PATH_TRUNCATED, MAPPING_READ,
    MAPPING_SHARED, MAPPING_WRITE, Mapping, RECEIVED_BLOCKED, RECEIVED_HANDLED, RECEIVED_IGNORED,
    SENDER_EXITING, SENDER_INIT, SENDER_KERNEL, SIGNAL_HAS_BASES, SIGNAL_HAS_REGISTERS,
    SIGNAL_HAS_SENDER, SIGNAL_RERAISED, SIGNAL_WAS_ASKED, SignalFatal, SignalSent,
};

use super::{names, process, proto, text};

pub(super) fn fatal(record: &[u8]) -> Option<proto::SignalFatal> {
    let fatal = abi::decode::<SignalFatal>(record)?;
    let behind = record.get(size_of::<SignalFatal>()..)?;
    let (stack_memory, behind) = behind.split_at_checked(fatal.stack_memory_len as usize)?;
    let mut mappings = mappings(behind, fatal.mappings_len as usize)?;
    let mut stack = stack(&fatal);
    join(&mut stack, &mut mappings);
    let header = &fatal.header;
    let flag = |flag: u8| header.flags & flag != 0;
    let has_registers = flag(SIGNAL_HAS_REGISTERS);
    // The processor's words about a fault outlive it in the thread: they belong to this signal only if the kernel sent it.
    let from_kernel = fatal.code > 0;
    let x86_64 = fatal.arch == Arch::X86_64 as u32;
    let has_error_code = from_kernel && (x86_64 || has_syndrome(&fatal));
    let instruction_len = (fatal.instruction_len as usize).min(fatal.instruction.len());
    Some(proto::SignalFatal {
        process: Some(process::descendant(header, &fatal.lineage)),
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
        error_code: has_error_code.then_some(fatal.error_code),
        trap_number: (from_kernel && x86_64).then_some(fatal.trap_number),
        cpu: Some(header.cpu.into()),
        instruction_bytes: (instruction_len > 0)
            .then(|| text::hex(&fatal.instruction[..instruction_len])),
        stack,
        sender: flag(SIGNAL_HAS_SENDER).then(|| sender(&fatal.sender)),
        reraised: Some(flag(SIGNAL_RERAISED)),
        asked: flag(SIGNAL_WAS_ASKED).then(|| Box::new(request(&fatal.asked))),
        stack_memory_address: (!stack_memory.is_empty()).then_some(fatal.stack_memory_address),
        stack_memory: (!stack_memory.is_empty()).then(|| stack_memory.to_vec()),
        fs_base: flag(SIGNAL_HAS_BASES).then_some(fatal.fs_base),
        gs_base: flag(SIGNAL_HAS_BASES).then_some(fatal.gs_base),
        mappings,
        unwound_stack: Vec::new(),
        auxiliary: auxiliary(&fatal.auxiliary),
    })
}

/// Tells whether the error code is an aarch64's syndrome, and of this fault: the kernel keeps none of others than these.
fn has_syndrome(fatal: &SignalFatal) -> bool {
    const SIGBUS: u32 = 7;
    const SIGSEGV: u32 = 11;
    /// `SI_KERNEL`: by no instruction's fault.
    const OTHER: i32 = 0x80;
    fatal.arch == Arch::Aarch64 as u32
        && [SIGBUS, SIGSEGV].contains(&fatal.signal)
        && fatal.code != OTHER
        && fatal.error_code != 0
}

/// Returns the entries before the one that ends them.
fn auxiliary(words: &[u64]) -> Vec<proto::Auxiliary> {
    let pairs = words.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    pairs
        .take_while(|(key, _)| *key != 0)
        .map(|(key, value)| proto::Auxiliary {
            key: Some(key),
            value: Some(value),
        })
        .collect()
}

pub(super) fn sent(record: &[u8]) -> Option<proto::SignalSent> {
    let sent = abi::decode::<SignalSent>(record)?;
    let request = request(&sent.sender);
    Some(proto::SignalSent {
        process: Some(process::subject(&sent.header)),
        signal: request.signal,
        code: Some(names::signal_code(sent.sender.signal, sent.sender.code)),
        sender: request.sender,
        reception: request.reception,
    })
}

fn request(sent: &abi::Sender) -> proto::Request {
    let reception = [
        (RECEIVED_HANDLED, "handled"),
        (RECEIVED_IGNORED, "ignored"),
        (RECEIVED_BLOCKED, "blocked"),
    ];
    proto::Request {
        signal: Some(names::signal(sent.signal)),
        sender: Some(sender(sent)),
        reception: reception
            .iter()
            .find(|(flag, _)| sent.flags & flag != 0)
            .map(|(_, name)| (*name).into()),
    }
}

/// Takes `len` mappings off the front of `bytes`; `None` if they are too few.
fn mappings(bytes: &[u8], len: usize) -> Option<Vec<proto::Mapping>> {
    let bytes = bytes.get(..len.checked_mul(size_of::<Mapping>())?)?;
    let each = bytes.chunks_exact(size_of::<Mapping>());
    Some(each.filter_map(abi::decode).map(mapping).collect())
}

fn mapping(mapping: Mapping) -> proto::Mapping {
    let flag = |flag: u32| mapping.flags & flag != 0;
    let letter = |is_set: bool, letter: char| if is_set { letter } else { '-' };
    let in_file = flag(MAPPING_FILE);
    let path_len = (mapping.path_len as usize).min(mapping.path.len());
    proto::Mapping {
        start: Some(mapping.start),
        end: Some(mapping.end),
        offset: in_file.then_some(mapping.file_offset),
        permissions: Some(String::from_iter([
            letter(flag(MAPPING_READ), 'r'),
            letter(flag(MAPPING_WRITE), 'w'),
            letter(flag(MAPPING_EXECUTE), 'x'),
            if flag(MAPPING_SHARED) { 's' } else { 'p' },
        ])),
        device: in_file
            .then(|| text::packed_device(mapping.device))
            .flatten(),
        inode: (in_file && mapping.inode != 0).then_some(mapping.inode),
        path: in_file.then(|| path(&mapping.path[..path_len])).flatten(),
        path_truncated: flag(MAPPING_PATH_TRUNCATED).then_some(true),
        build_id: None,
    }
}

/// Returns the path whose names `names` has, the last one first, each ended by a NUL.
fn path(names: &[u8]) -> Option<String> {
    let names = names.strip_suffix(&[0])?;
    let mut path = String::new();
    for name in names.split(|&byte| byte == 0).rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
    Some(path)
}

/// Gives the frames the paths of the files that they lie in, and the mappings the build IDs of the frames.
fn join(stack: &mut [proto::Frame], mappings: &mut [proto::Mapping]) {
    for frame in stack {
        let address = frame.address();
        let around = |mapping: &&mut proto::Mapping| {
            (mapping.start()..mapping.end()).contains(&address) && mapping.offset.is_some()
        };
        if let Some(mapping) = mappings.iter_mut().find(around) {
            if mapping.path_truncated.is_none() {
                frame.module.clone_from(&mapping.path);
            }
            mapping.build_id.clone_from(&frame.build_id);
        }
    }
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
        exiting: Some(sender.flags & SENDER_EXITING != 0),
        init: Some(sender.flags & SENDER_INIT != 0),
        ..proto::Sender::default()
    }
}
