//! The stack of a process that dies, and the mappings that it leads to.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use recorder_ebpf::abi::{MAPPINGS_MAX, Mapping, STACK_MEMORY_BYTES_MAX};

use super::mapping::note_mapping;
use crate::kernel::copy_to;
use crate::maps::{DEATH, MAPPINGS};

/// Bytes between two looks at whether the stack goes on: the smallest page.
const PAGE_BYTES: u64 = 4 << 10;
/// Pages that the stack pointer of a used-up stack may be away from it.
const GUARD_PAGES_MAX: u32 = 4;
/// Words of stack memory that are taken for return addresses, innermost first.
const WORDS_MAX: usize = 256;
/// Frames whose mappings are looked up.
const FRAMES_MAX: usize = 32;

/// Copies the stack from where it can be read, as far as it can.
///
/// Functions of their own for the verifier, this one and the others, which it checks once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy_stack() -> u64 {
    let Some(death) = DEATH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's slot, valid while the program runs; interrupts are off, so that nothing else writes it meanwhile.
    unsafe {
        let start = stack_start((*death).record.sp);
        let mut len = readable(start);
        if len > STACK_MEMORY_BYTES_MAX as u64 {
            len = STACK_MEMORY_BYTES_MAX as u64;
        }
        let to = &raw mut (*death).stack;
        if bpf_probe_read_user(to.cast(), len as u32, start as *const _) != 0 {
            len = 0;
        }
        (*death).record.stack_memory_address = start;
        (*death).record.stack_memory_len = len as u32;
    }
    0
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

/// Looks up the mappings of the code, the stack, the fault and the frames, and of code that words on the stack point into:
/// programs without frame pointers leave only these.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_mappings() -> u64 {
    let Some(death) = DEATH.get_ptr(0) else {
        return 0;
    };
    // SAFETY: as in `copy_stack`; what is read here is written.
    let death = unsafe { &*death };
    let record = &death.record;
    note_mapping(record.ip, 0);
    note_mapping(record.stack_memory_address, 0);
    note_mapping(record.fault_address, 0);
    for index in 0..FRAMES_MAX {
        if index >= record.stack_len as usize {
            break;
        }
        note_mapping(record.addresses[index], 1);
    }
    for index in 0..WORDS_MAX {
        if index as u32 * 8 >= record.stack_memory_len {
            break;
        }
        note_mapping(death.stack[index], 1);
    }
    0
}

/// Copies the mappings behind the stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn copy_mappings() -> u64 {
    let (Some(death), Some(mappings)) = (DEATH.get_ptr_mut(0), MAPPINGS.get_ptr(0)) else {
        return 0;
    };
    // SAFETY: as in `copy_stack`.
    unsafe {
        let mut len = (&raw const (*mappings).len).read_volatile();
        if len > MAPPINGS_MAX as u64 {
            len = MAPPINGS_MAX as u64;
        }
        let mut stack_len =
            u64::from((&raw const (*death).record.stack_memory_len).read_volatile());
        if stack_len > STACK_MEMORY_BYTES_MAX as u64 {
            stack_len = STACK_MEMORY_BYTES_MAX as u64;
        }
        // Room for all mappings follows the longest stack.
        let to = (&raw mut (*death).stack)
            .cast::<u8>()
            .add(stack_len as usize);
        let bytes = len * size_of::<Mapping>() as u64;
        let from = &raw const (*mappings).list as u64;
        if copy_to(to, bytes as u32, from) {
            (*death).record.mappings_len = len as u32;
        }
    }
    0
}
