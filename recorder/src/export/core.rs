//! A core dump of what is left of a crash: enough for a debugger to show signal, registers, fault address and stack.
//!
//! ```text
//! ELF header │ PT_NOTE: PRSTATUS, PRPSINFO, SIGINFO, AUXV, FILE │ PT_LOAD: code at ip │ PT_LOAD: stack
//! ```
//!
//! It is partial, and says nothing that was not recorded: no heap, no other thread, no floating-point registers (which the
//! kernel shows to no probe). What was mapped from files is named, so that a debugger that has the files reads the code from
//! them; the auxiliary vector tells it where a program lies that may lie anywhere.

use object::elf::{
    self, ELFCLASS64, ELFDATA2LSB, EM_AARCH64, EM_X86_64, ET_CORE, EV_CURRENT, FileHeader64, Ident,
    NoteHeader64, PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE, ProgramHeader64,
};
use object::pod::bytes_of;
use object::{LittleEndian as Le, U16, U32, U64};
use thiserror::Error;

use crate::event::proto;

/// Bytes of `struct elf_prstatus` before its registers, the same on both architectures.
const STATUS_HEAD_BYTES: usize = 112;
/// Bytes of `siginfo_t`.
const SIGINFO_BYTES: usize = 128;
/// Unit of the offsets in the note of mapped files.
const PAGE_BYTES: u64 = 4096;

/// Why there is no core dump of a crash.
#[derive(Debug, Error)]
pub enum CoreError {
    /// The registers are those of no processor that is known here.
    #[error("the crash has no registers of x86-64 or aarch64")]
    Registers,
}

/// The registers of a processor as its core dumps have them.
struct Machine {
    number: elf::Machine,
    /// In the order of the kernel's `user_regs_struct`.
    registers: &'static [&'static str],
}

/// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/user_64.h#L69>
const X86_64: Machine = Machine {
    number: EM_X86_64,
    registers: &[
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
        "rsi", "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds",
        "es", "fs", "gs",
    ],
};

/// `struct user_pt_regs`.
const AARCH64: Machine = Machine {
    number: EM_AARCH64,
    registers: &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "x29", "x30", "sp", "pc", "pstate",
    ],
};

/// Part of the memory of the process.
struct Memory<'a> {
    address: u64,
    bytes: &'a [u8],
    flags: elf::ProgramFlags,
}

/// Returns the core dump; `arguments` is the command line, if it is known.
///
/// # Errors
///
/// [`CoreError`]: a crash without registers.
pub fn core(fatal: &proto::SignalFatal, arguments: &[String]) -> Result<Vec<u8>, CoreError> {
    let has = |name: &str| {
        fatal
            .registers
            .iter()
            .any(|register| register.name() == name)
    };
    let machine = match (has("rip"), has("pc")) {
        (true, _) => &X86_64,
        (false, true) => &AARCH64,
        (false, false) => return Err(CoreError::Registers),
    };
    let mut notes = Vec::new();
    note(&mut notes, elf::NT_PRSTATUS, &status(fatal, machine));
    note(
        &mut notes,
        elf::NT_PRPSINFO,
        &process_info(fatal, arguments),
    );
    note(&mut notes, elf::NT_SIGINFO, &signal_info(fatal));
    if let Some(auxiliary) = auxiliary(&fatal.auxiliary) {
        note(&mut notes, elf::NT_AUXV, &auxiliary);
    }
    if let Some(files) = files(&fatal.mappings) {
        note(&mut notes, elf::NT_FILE, &files);
    }
    let code = unhex(fatal.instruction_bytes());
    let memory = [
        Memory {
            address: fatal.ip(),
            bytes: &code,
            flags: PF_R | PF_X,
        },
        Memory {
            address: fatal.stack_memory_address(),
            bytes: fatal.stack_memory(),
            flags: PF_R | PF_W,
        },
    ];
    let memory: Vec<&Memory<'_>> = memory
        .iter()
        .filter(|memory| !memory.bytes.is_empty())
        .collect();
    Ok(file(machine, &notes, &memory))
}

/// Puts headers, notes and memory together.
fn file(machine: &Machine, notes: &[u8], memory: &[&Memory<'_>]) -> Vec<u8> {
    let header_bytes = size_of::<FileHeader64<Le>>();
    let segment_bytes = size_of::<ProgramHeader64<Le>>();
    // The stack and the code are two, the notes one.
    let segments = memory.len() + 1;
    let header = FileHeader64 {
        e_ident: Ident {
            magic: elf::ELFMAG,
            class: ELFCLASS64,
            data: ELFDATA2LSB,
            version: EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(Le, ET_CORE),
        e_machine: U16::new(Le, machine.number),
        e_version: U32::new(Le, EV_CURRENT.0.into()),
        e_entry: U64::new(Le, 0),
        e_phoff: U64::new(Le, header_bytes as u64),
        e_shoff: U64::new(Le, 0),
        e_flags: U32::new(Le, elf::FileFlags(0)),
        e_ehsize: U16::new(Le, header_bytes as u16),
        e_phentsize: U16::new(Le, segment_bytes as u16),
        e_phnum: U16::new(Le, segments as u16),
        e_shentsize: U16::new(Le, 0),
        e_shnum: U16::new(Le, 0),
        e_shstrndx: U16::new(Le, elf::SymbolSection(0)),
    };
    let mut out = bytes_of(&header).to_vec();
    let mut offset = header_bytes + segments * segment_bytes;
    let mut segment = |kind, flags, address, bytes: &[u8], align| {
        let header = ProgramHeader64 {
            p_type: U32::new(Le, kind),
            p_flags: U32::new(Le, flags),
            p_offset: U64::new(Le, offset as u64),
            p_vaddr: U64::new(Le, address),
            p_paddr: U64::new(Le, 0),
            p_filesz: U64::new(Le, bytes.len() as u64),
            p_memsz: U64::new(
                Le,
                if kind == PT_LOAD {
                    bytes.len() as u64
                } else {
                    0
                },
            ),
            p_align: U64::new(Le, align),
        };
        offset += bytes.len();
        out.extend_from_slice(bytes_of(&header));
    };
    segment(PT_NOTE, PF_R, 0, notes, 4);
    for part in memory {
        segment(PT_LOAD, part.flags, part.address, part.bytes, 1);
    }
    out.extend_from_slice(notes);
    for part in memory {
        out.extend_from_slice(part.bytes);
    }
    out
}

fn note(out: &mut Vec<u8>, kind: elf::NoteType, description: &[u8]) {
    const NAME: &[u8] = b"CORE\0";
    let header = NoteHeader64 {
        n_namesz: U32::new(Le, NAME.len() as u32),
        n_descsz: U32::new(Le, description.len() as u32),
        n_type: U32::new(Le, kind),
    };
    out.extend_from_slice(bytes_of(&header));
    for part in [NAME, description] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// A structure of the kernel, filled field by field.
struct Fields(Vec<u8>);

impl Fields {
    fn new(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    /// Sets a string of at most `room` bytes, its NUL included.
    fn set_text(&mut self, at: usize, room: usize, text: &str) {
        let len = text.len().min(room - 1);
        self.0[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
    }
}

/// `struct elf_prstatus`: <https://github.com/torvalds/linux/blob/v6.12/include/linux/elfcore.h#L19>
fn status(fatal: &proto::SignalFatal, machine: &Machine) -> Vec<u8> {
    let process = fatal.process.clone().unwrap_or_default();
    let signal = number(fatal);
    // Behind the registers, a flag for floating-point registers, padded to eight bytes.
    let mut fields = Fields::new(STATUS_HEAD_BYTES + machine.registers.len() * 8 + 8);
    fields.set(0, signal.to_le_bytes());
    fields.set(
        4,
        fatal
            .code
            .as_ref()
            .map_or(0, proto::SignalCode::number)
            .to_le_bytes(),
    );
    fields.set(12, signal.to_le_bytes());
    fields.set(32, process.tid().to_le_bytes());
    fields.set(36, process.ppid().to_le_bytes());
    fields.set(40, process.pid().to_le_bytes());
    for (index, name) in machine.registers.iter().enumerate() {
        fields.set(
            STATUS_HEAD_BYTES + index * 8,
            value(fatal, name).to_le_bytes(),
        );
    }
    fields.0
}

/// Returns a register, zero if it was not recorded.
fn value(fatal: &proto::SignalFatal, name: &str) -> u64 {
    match name {
        "fs_base" => fatal.fs_base(),
        "gs_base" => fatal.gs_base(),
        _ => {
            let mut registers = fatal.registers.iter();
            let register = registers.find(|register| register.name() == name);
            register.map_or(0, proto::Register::value)
        }
    }
}

/// `struct elf_prpsinfo`: <https://github.com/torvalds/linux/blob/v6.12/include/linux/elfcore.h#L73>
fn process_info(fatal: &proto::SignalFatal, arguments: &[String]) -> Vec<u8> {
    let process = fatal.process.clone().unwrap_or_default();
    let mut fields = Fields::new(136);
    fields.set(1, *b"R");
    fields.set(16, process.uid().to_le_bytes());
    fields.set(20, process.gid().to_le_bytes());
    fields.set(24, process.pid().to_le_bytes());
    fields.set(28, process.ppid().to_le_bytes());
    fields.set(32, process.pid().to_le_bytes());
    fields.set_text(40, 16, process.comm());
    let line = match arguments {
        [] => process.comm().to_owned(),
        arguments => arguments.join(" "),
    };
    fields.set_text(56, 80, &line);
    fields.0
}

/// `siginfo_t`.
fn signal_info(fatal: &proto::SignalFatal) -> Vec<u8> {
    let mut fields = Fields::new(SIGINFO_BYTES);
    fields.set(0, number(fatal).to_le_bytes());
    fields.set(
        8,
        fatal
            .code
            .as_ref()
            .map_or(0, proto::SignalCode::number)
            .to_le_bytes(),
    );
    if let Some(address) = fatal.fault_address {
        fields.set(16, address.to_le_bytes());
    } else if let Some(sender) = &fatal.sender {
        fields.set(16, sender.pid().to_le_bytes());
        fields.set(20, sender.uid().to_le_bytes());
    }
    fields.0
}

fn number(fatal: &proto::SignalFatal) -> u32 {
    fatal.signal.as_ref().map_or(0, proto::Signal::number)
}

/// The auxiliary vector, with its end; `None` if it was not recorded.
fn auxiliary(entries: &[proto::Auxiliary]) -> Option<Vec<u8>> {
    let words = entries.iter().map(|entry| [entry.key(), entry.value()]);
    let words = words.chain([[0, 0]]).flatten();
    (!entries.is_empty()).then(|| words.flat_map(u64::to_le_bytes).collect())
}

/// The note of mapped files: count, page size, three words for each, then the paths. `None` without any.
fn files(mappings: &[proto::Mapping]) -> Option<Vec<u8>> {
    let mut files: Vec<(&proto::Mapping, &str)> = mappings
        .iter()
        .filter(|mapping| !mapping.path_truncated())
        .filter_map(|mapping| Some((mapping, mapping.path.as_deref()?)))
        .filter(|(_, path)| !path.contains('\0'))
        .collect();
    if files.is_empty() {
        return None;
    }
    files.sort_by_key(|(mapping, _)| mapping.start());
    let mut out = Vec::new();
    out.extend((files.len() as u64).to_le_bytes());
    out.extend(PAGE_BYTES.to_le_bytes());
    for (mapping, _) in &files {
        let words = [
            mapping.start(),
            mapping.end(),
            mapping.offset() / PAGE_BYTES,
        ];
        out.extend(words.into_iter().flat_map(u64::to_le_bytes));
    }
    for (_, path) in &files {
        out.extend_from_slice(path.as_bytes());
        out.push(0);
    }
    Some(out)
}

/// Returns the bytes of pairs of hex digits, up to the first that is none.
fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use object::read::elf::{FileHeader as _, ProgramHeader as _};

    use super::*;

    fn crash() -> proto::SignalFatal {
        let register = |name: &str, value| proto::Register {
            name: Some(name.into()),
            value: Some(value),
        };
        proto::SignalFatal {
            signal: Some(proto::Signal {
                number: Some(11),
                name: None,
            }),
            ip: Some(0x1000),
            auxiliary: vec![proto::Auxiliary {
                key: Some(9),
                value: Some(0x1040),
            }],
            registers: vec![register("rip", 0x1000), register("rsp", 0x7000)],
            instruction_bytes: Some("c70000xx".into()),
            stack_memory: Some(vec![1, 2, 3, 4, 5, 6, 7, 8]),
            stack_memory_address: Some(0x7000),
            mappings: vec![
                proto::Mapping {
                    start: Some(0x1000),
                    end: Some(0x3000),
                    offset: Some(0x2000),
                    path: Some("/bin/\u{fffd}x".into()),
                    ..proto::Mapping::default()
                },
                proto::Mapping::default(),
            ],
            ..proto::SignalFatal::default()
        }
    }

    /// Returns the notes by kind, and the loaded segments as address and content.
    #[expect(clippy::type_complexity, reason = "two lists, for tests")]
    fn parsed(core: &[u8]) -> (Vec<(u32, Vec<u8>)>, Vec<(u64, Vec<u8>)>) {
        let header = FileHeader64::<Le>::parse(core).expect("an ELF header");
        let (mut notes, mut loads) = (Vec::new(), Vec::new());
        for segment in header.program_headers(Le, core).expect("segments") {
            if let Some(mut all) = segment.notes(Le, core).expect("notes") {
                while let Some(note) = all.next().expect("a whole note") {
                    notes.push((note.n_type(Le).0, note.desc().to_vec()));
                }
            } else {
                let data = segment.data(Le, core).expect("inside the file");
                loads.push((segment.p_vaddr(Le), data.to_vec()));
            }
        }
        (notes, loads)
    }

    #[test]
    fn a_crash_of_aarch64_is_a_core_dump_of_aarch64() {
        let mut crash = crash();
        crash.registers = AARCH64
            .registers
            .iter()
            .zip(0..)
            .map(|(name, value)| proto::Register {
                name: Some((*name).to_owned()),
                value: Some(value),
            })
            .collect();
        let core = core(&crash, &[]).expect("there are registers");
        let header = FileHeader64::<Le>::parse(core.as_slice()).expect("an ELF header");
        assert_eq!(header.e_machine.get(Le), EM_AARCH64);
        let (notes, _) = parsed(&core);
        let status = &notes[0].1;
        // As the kernel has it: 34 registers, and a word behind them.
        assert_eq!(status.len(), 112 + 34 * 8 + 8);
        let register = |index: usize| &status[112 + index * 8..][..8];
        assert_eq!(register(30), 30_u64.to_le_bytes());
        assert_eq!(register(33), 33_u64.to_le_bytes(), "pstate is the last");
    }

    #[test]
    fn holds_what_was_recorded_and_nothing_else() {
        let core = core(&crash(), &["x".repeat(99)]).expect("there are registers");
        let (notes, loads) = parsed(&core);
        assert_eq!(
            loads,
            [
                (0x1000, vec![0xc7, 0, 0]),
                (0x7000, vec![1, 2, 3, 4, 5, 6, 7, 8])
            ]
        );
        let lengths: Vec<_> = notes
            .iter()
            .map(|(kind, note)| (*kind, note.len()))
            .collect();
        let paths = "/bin/\u{fffd}x\0".len();
        assert_eq!(
            lengths,
            [
                (1, 336),
                (3, 136),
                (0x5349_4749, 128),
                (6, 32),
                (0x4649_4c45, 16 + 24 + paths)
            ]
        );
        let status = &notes[0].1;
        assert_eq!(status[112 + 16 * 8..][..8], 0x1000_u64.to_le_bytes());
        assert_eq!(status[112 + 19 * 8..][..8], 0x7000_u64.to_le_bytes());
        assert_eq!(notes[1].1[56 + 79], 0, "the command line ends");
        assert_eq!(notes[4].1[32..40], 2_u64.to_le_bytes(), "in pages");
        let vector = [9_u64, 0x1040, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(notes[3].1, vector, "it ends");
    }

    #[test]
    fn a_crash_without_registers_has_no_core_dump() {
        assert!(core(&proto::SignalFatal::default(), &[]).is_err());
    }
}
