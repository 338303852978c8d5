//! Unwinding without the process: from its registers and the memory of its stack, by the unwind tables of its files.
//!
//! Programs without frame pointers leave nothing else. The walk stops where it would have to guess: at a file that is not at
//! hand, at a register that was lost, at memory that was not captured.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, LittleEndian,
    Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _, Value, Vendor,
};
use recorder_ebpf::abi::STACK_FRAMES_MAX;

use super::Elf;
use crate::event::proto;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Registers by their DWARF numbers, where unwinding needs them.
const REGISTERS: usize = 34;
/// Operations in an expression: those of real tables have a handful.
const OPERATIONS_MAX: u32 = 256;

/// What differs between processors.
struct Machine {
    /// Names in the order of DWARF numbers.
    names: &'static [&'static str],
    ip: &'static str,
    stack_pointer: Register,
    /// Where a call leaves its return address, if not on the stack.
    link: Option<Register>,
    /// The bits of a return address that are its own: others may sign it.
    address_mask: u64,
}

const X86_64: Machine = Machine {
    names: &[
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ],
    ip: "rip",
    stack_pointer: Register(7),
    link: None,
    address_mask: u64::MAX,
};

const AARCH64: Machine = Machine {
    names: &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "x29", "x30", "sp",
    ],
    ip: "pc",
    stack_pointer: Register(31),
    link: Some(Register(30)),
    // What programs have without asking for more.
    address_mask: (1 << 48) - 1,
};

/// The registers of one frame.
struct Frame {
    registers: [Option<u64>; REGISTERS],
    ip: u64,
    /// The instruction at `ip` is about to run, where that of a caller has: one before it is the call.
    is_exact: bool,
}

/// The tables of one file.
pub(super) struct Tables<'a> {
    frames: EhFrame<Slice<'a>>,
    index: Option<gimli::ParsedEhFrameHdr<Slice<'a>>>,
    bases: BaseAddresses,
}

impl<'a> Tables<'a> {
    /// Returns the tables of `elf`, if it has any.
    pub(super) fn of(elf: &'a Elf) -> Option<Self> {
        let (at, frames) = elf.section(".eh_frame")?;
        let mut bases = BaseAddresses::default().set_eh_frame(at);
        if let Some((at, _)) = elf.section(".text") {
            bases = bases.set_text(at);
        }
        if let Some((at, _)) = elf.section(".got") {
            bases = bases.set_got(at);
        }
        let index = elf.section(".eh_frame_hdr").and_then(|(at, index)| {
            bases = std::mem::take(&mut bases).set_eh_frame_hdr(at);
            EhFrameHdr::new(index, LittleEndian).parse(&bases, 8).ok()
        });
        let mut frames = EhFrame::new(frames, LittleEndian);
        // Its tables say where return addresses are signed; those of x86-64 say nothing in that way.
        frames.set_vendor(Vendor::AArch64);
        Some(Self {
            frames,
            index,
            bases,
        })
    }
}

/// Walks the stack of `fatal` from the innermost frame on.
///
/// `module` returns, for an address, the tables of the file mapped there and the address as that file counts.
pub(super) fn walk<'a>(
    fatal: &proto::SignalFatal,
    module: impl Fn(u64) -> Option<(&'a Tables<'a>, u64)>,
) -> Vec<u64> {
    let Some((machine, mut frame)) = innermost(fatal) else {
        return Vec::new();
    };
    let memory = Memory::of(fatal);
    let mut addresses = vec![frame.ip];
    let mut context = UnwindContext::new();
    while addresses.len() < STACK_FRAMES_MAX {
        let at = frame.ip.wrapping_sub(u64::from(!frame.is_exact));
        let next = match module(at) {
            Some((tables, address)) => {
                frame.caller(machine, tables, address, &memory, &mut context)
            }
            // A jump to where no code is: the call has left its return address.
            None if addresses.len() == 1 => frame.called_from(machine, &memory),
            None => None,
        };
        let Some(next) = next.filter(|next| next.ip != 0) else {
            break;
        };
        let pointer = |frame: &Frame| frame.register(machine.stack_pointer);
        // The stack grows down: a caller's is never below, and the same only once, in a function that uses none.
        if pointer(&next) < pointer(&frame)
            || pointer(&next) == pointer(&frame) && next.ip == frame.ip
        {
            break;
        }
        addresses.push(next.ip);
        frame = next;
    }
    addresses
}

/// Returns the registers at the fault.
fn innermost(fatal: &proto::SignalFatal) -> Option<(&'static Machine, Frame)> {
    let value = |name: &str| {
        let mut registers = fatal.registers.iter();
        registers
            .find(|register| register.name() == name)
            .map(proto::Register::value)
    };
    let machine = [&X86_64, &AARCH64]
        .into_iter()
        .find(|machine| value(machine.ip).is_some())?;
    let mut registers = [None; REGISTERS];
    for (register, name) in registers.iter_mut().zip(machine.names) {
        *register = value(name);
    }
    let frame = Frame {
        registers,
        ip: value(machine.ip)?,
        is_exact: true,
    };
    Some((machine, frame))
}

impl Frame {
    fn register(&self, register: Register) -> Option<u64> {
        *self.registers.get(usize::from(register.0))?
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(place) = self.registers.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }

    /// Returns the caller of a function that has done nothing yet: what a jump into nowhere looks like.
    fn called_from(&self, machine: &Machine, memory: &Memory<'_>) -> Option<Self> {
        let mut caller = Self {
            registers: self.registers,
            ip: 0,
            is_exact: false,
        };
        if let Some(link) = machine.link {
            caller.ip = self.register(link)? & machine.address_mask;
        } else {
            let sp = self.register(machine.stack_pointer)?;
            caller.ip = memory.word(sp)?;
            caller.set(machine.stack_pointer, sp.checked_add(8));
        }
        Some(caller)
    }

    /// Returns the caller's registers, by the row of the table for `address`.
    fn caller(
        &self,
        machine: &Machine,
        tables: &Tables<'_>,
        address: u64,
        memory: &Memory<'_>,
        context: &mut UnwindContext<usize>,
    ) -> Option<Self> {
        let Tables {
            frames,
            index,
            bases,
        } = tables;
        let cie_of = EhFrame::cie_from_offset;
        let entry = match index.as_ref().and_then(|index| index.table()) {
            Some(table) => table.fde_for_address(frames, bases, address, cie_of),
            None => frames.fde_for_address(bases, address, cie_of),
        };
        let entry = entry.ok()?;
        let row = entry
            .unwind_info_for_address(frames, bases, context, address)
            .ok()?;
        let evaluate = |expression: &UnwindExpression<usize>, initial| {
            self.evaluate(expression, frames, entry.cie().encoding(), initial, memory)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.register(*register)?.checked_add_signed(*offset)?
            }
            CfaRule::Expression(expression) => evaluate(expression, None)?,
        };
        let mut caller = Self {
            registers: self.registers,
            ip: 0,
            is_exact: entry.is_signal_trampoline(),
        };
        // What the table does not mention keeps its value; the stack pointer is the frame's address.
        caller.set(machine.stack_pointer, Some(cfa));
        let return_address = entry.cie().return_address_register();
        let mut ip = self.register(return_address);
        for &(register, ref rule) in row.registers() {
            let value = match rule {
                RegisterRule::SameValue => self.register(register),
                RegisterRule::Offset(offset) => memory.word(cfa.checked_add_signed(*offset)?),
                RegisterRule::ValOffset(offset) => cfa.checked_add_signed(*offset),
                RegisterRule::Register(other) => self.register(*other),
                RegisterRule::Expression(expression) => {
                    evaluate(expression, Some(cfa)).and_then(|at| memory.word(at))
                }
                RegisterRule::ValExpression(expression) => evaluate(expression, Some(cfa)),
                RegisterRule::Constant(value) => Some(*value),
                _ => None,
            };
            if register == return_address {
                ip = value;
            }
            caller.set(register, value);
        }
        caller.ip = ip? & machine.address_mask;
        Some(caller)
    }

    fn evaluate(
        &self,
        expression: &UnwindExpression<usize>,
        frames: &EhFrame<Slice<'_>>,
        encoding: gimli::Encoding,
        initial: Option<u64>,
        memory: &Memory<'_>,
    ) -> Option<u64> {
        let expression = expression.get(frames).ok()?;
        let mut evaluation = expression.evaluation(encoding);
        evaluation.set_max_iterations(OPERATIONS_MAX);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.register(register)?);
                    evaluation.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory {
                    address, size: 8, ..
                } => {
                    let value = Value::Generic(memory.word(address)?);
                    evaluation.resume_with_memory(value).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                gimli::Location::Address { address } => Some(address),
                gimli::Location::Value { value } => value.to_u64(u64::MAX).ok(),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The captured stack.
struct Memory<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Memory<'a> {
    fn of(fatal: &'a proto::SignalFatal) -> Self {
        Self {
            start: fatal.stack_memory_address(),
            bytes: fatal.stack_memory(),
        }
    }

    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(name: &str, value: u64) -> proto::Register {
        proto::Register {
            name: Some(name.into()),
            value: Some(value),
        }
    }

    fn jump_into_nowhere() -> proto::SignalFatal {
        proto::SignalFatal {
            registers: vec![register("rip", 0x10), register("rsp", 0x7000)],
            stack_memory: Some(0x40_1000_u64.to_le_bytes().to_vec()),
            stack_memory_address: Some(0x7000),
            ..proto::SignalFatal::default()
        }
    }

    #[test]
    fn a_jump_into_nowhere_came_from_where_its_call_returns_to() {
        assert_eq!(walk(&jump_into_nowhere(), |_| None), [0x10, 0x40_1000]);
    }

    #[test]
    fn aarch64_has_its_return_address_in_a_register_and_may_sign_it() {
        let crash = proto::SignalFatal {
            registers: vec![
                register("pc", 0x10),
                register("sp", 0x7000),
                register("x30", 0x0042_0000_0040_1000),
            ],
            ..proto::SignalFatal::default()
        };
        assert_eq!(walk(&crash, |_| None), [0x10, 0x40_1000]);
    }

    #[test]
    fn no_registers_and_no_memory_are_no_stack() {
        assert!(walk(&proto::SignalFatal::default(), |_| None).is_empty());
        let mut crash = jump_into_nowhere();
        crash.stack_memory_address = Some(u64::MAX - 3);
        crash.registers[1] = register("rsp", u64::MAX);
        assert_eq!(walk(&crash, |_| None), [0x10]);
    }

    #[test]
    fn real_tables_and_hostile_registers_end() {
        let own = std::env::current_exe().expect("the test runs");
        let elf = Elf::open(&own).expect("it is there").expect("an ELF file");
        let tables = Tables::of(&elf).expect("Rust programs have tables");
        let (text, code) = elf.section(".text").expect("the test has code");
        let stack: Vec<u8> = (0..2048_u64)
            .flat_map(|word| (text + word * 97 % code.len() as u64).to_le_bytes())
            .collect();
        for step in 0..4096_u64 {
            let ip = text + step * 4099 % code.len() as u64;
            let mut crash = jump_into_nowhere();
            crash.stack_memory = Some(stack.clone());
            crash.registers = vec![register("rip", ip), register("rsp", 0x7000 + step % 64)];
            crash
                .registers
                .push(register("rbp", 0x7000_u64.wrapping_sub(step)));
            let addresses = walk(&crash, |address| Some((&tables, address)));
            assert!((1..=STACK_FRAMES_MAX).contains(&addresses.len()));
        }
    }
}
