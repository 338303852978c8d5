//! Which mapping an address lies in, and of which file: looked up in the kernel's own tree, by copies alone.
//!
//! Signals are delivered with interrupts off, where the helper that finds a mapping works once and then no more. A copy
//! that another thread changes meanwhile leads nowhere: what was found counts only if it contains the address.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use recorder_ebpf::abi::{
    MAPPING_EXECUTE, MAPPING_FILE, MAPPING_PATH_BYTES_MAX, MAPPING_PATH_TRUNCATED, MAPPINGS_MAX,
};

use crate::globals::{
    DENTRY_INODE, DENTRY_NAME, DENTRY_PARENT, FILE_DENTRY, INODE_INO, INODE_SB, MAPLE_ARANGE_SLOTS,
    MAPLE_RANGE_SLOTS, MM_MAPPINGS, PAGE_KIB, SB_DEV, TASK_MM, VMA_END, VMA_FILE, VMA_FLAGS,
    VMA_OFFSET, VMA_START,
};
use crate::kernel::{Task, copy, copy_to, has, load, read, unknown};
use crate::maps::{MAPPINGS, Mappings, NODE_WORDS, PATH_BYTES};

/// Levels of the tree: it has at least ten branches each.
const LEVELS_MAX: u32 = 8;
/// Searches for one crash: each takes some hundred nanoseconds, with interrupts off.
const SEARCHES_MAX: u64 = 64;
/// Names in a path.
const NAMES_MAX: u32 = 24;

/// Kinds of nodes, in bits 3 to 6 of what points to one.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/maple_tree.h#L145>
const KIND_SHIFT: u32 = 3;
const KIND_MASK: u64 = 15;
const KIND_LEAF: u64 = 1;
const KIND_ARANGE: u64 = 3;
/// The bits of a pointer to a node that are not its address.
const NODE_MASK: u64 = 255;

/// Protection and sharing in `vm_flags`: the same four bits as the first four `MAPPING_*` flags.
const VMA_FLAGS_MASK: u64 = 15;

/// The lowest and the highest address that can be a mapping's.
const ADDRESS_MIN: u64 = 1 << 12;
const ADDRESS_MAX: u64 = 1 << 56;

/// Forgets what an earlier crash left on this CPU; false if this kernel's tree cannot be read.
#[inline(always)]
pub fn begin() -> bool {
    let Some(mappings) = MAPPINGS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's slot, valid while the program runs; interrupts are off, so that nothing else writes it meanwhile.
    unsafe {
        (*mappings).len = 0;
        (*mappings).searches = 0;
        (*mappings).unwanted_start = 0;
        (*mappings).unwanted_end = 0;
    }
    has(&MM_MAPPINGS) && has(&MAPLE_RANGE_SLOTS) && has(&MAPLE_ARANGE_SLOTS) && has(&VMA_START)
}

/// Remembers the mapping that `address` lies in, if it is new; with `only_code`, if it can be executed.
///
/// A function of its own for the verifier, which checks it once and not at every call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_mapping(address: u64, only_code: u64) -> u64 {
    // Old kernels check it even where nothing calls it.
    if !has(&MM_MAPPINGS) || !(ADDRESS_MIN..ADDRESS_MAX).contains(&address) {
        return 0;
    }
    let Some(mappings) = MAPPINGS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as in `begin`; nothing else holds a reference to it. So it is below, between the calls.
    let Some(index) = place_for(unsafe { &mut *mappings }, address) else {
        return 0;
    };
    let vma = search_mapping(address);
    if vma == 0 {
        return 0;
    }
    let word = |offset: u32| copy::<u64>(vma + u64::from(offset));
    let (Some(start), Some(end), Some(flags)) = (
        word(VMA_START.load()),
        word(VMA_END.load()),
        word(VMA_FLAGS.load()),
    ) else {
        return 0;
    };
    if !(start..end).contains(&address) {
        return 0;
    }
    if only_code != 0 && flags & u64::from(MAPPING_EXECUTE) == 0 {
        // SAFETY: as above.
        unsafe {
            (*mappings).unwanted_start = start;
            (*mappings).unwanted_end = end;
        }
        return 0;
    }
    let file = word(VMA_FILE.load()).unwrap_or(0);
    let file_offset = word(VMA_OFFSET.load()).unwrap_or(0) * (u64::from(PAGE_KIB.load()) << 10);
    describe_file(file, index as u64);
    // SAFETY: as above.
    let mappings = unsafe { &mut *mappings };
    let mapping = &mut mappings.list[index];
    mapping.start = start;
    mapping.end = end;
    mapping.file_offset = if file == 0 { 0 } else { file_offset };
    mapping.flags |= (flags & VMA_FLAGS_MASK) as u32;
    mapping.reserved = 0;
    mappings.len = index as u64 + 1;
    0
}

/// Returns the place for the mapping that `address` lies in; `None` if it is known, unwanted, or one too many.
#[inline(always)]
fn place_for(mappings: &mut Mappings, address: u64) -> Option<usize> {
    let len = mappings.len;
    if len >= MAPPINGS_MAX as u64 || mappings.searches >= SEARCHES_MAX {
        return None;
    }
    if (mappings.unwanted_start..mappings.unwanted_end).contains(&address) {
        return None;
    }
    for (index, known) in mappings.list.iter().enumerate() {
        if (index as u64) < len && (known.start..known.end).contains(&address) {
            return None;
        }
    }
    mappings.searches += 1;
    Some(unknown(len) as usize & (MAPPINGS_MAX - 1))
}

/// Returns what the tree has for `address`: a mapping, or zero. A function of its own for the verifier, too.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn search_mapping(address: u64) -> u64 {
    let Some(mappings) = MAPPINGS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as in `begin`; the caller holds no reference to it.
    let mappings = unsafe { &mut *mappings };
    let mm: u64 = load(Task::current().0, &TASK_MM);
    let mut entry = read::<u64>(mm + u64::from(MM_MAPPINGS.load()));
    for _ in 0..LEVELS_MAX {
        let kind = (entry >> KIND_SHIFT) & KIND_MASK;
        let node = entry & !NODE_MASK;
        if node == 0 || !copy_to(&raw mut mappings.node, (NODE_WORDS * 8) as u32, node) {
            return 0;
        }
        let slots = if kind == KIND_ARANGE {
            MAPLE_ARANGE_SLOTS.load()
        } else {
            MAPLE_RANGE_SLOTS.load()
        };
        // A node is its parent, then the last address of each branch but the last, then the branches.
        let first_slot = (slots / 8) as usize;
        let pivots = first_slot - 1;
        let mut branch = 0;
        for index in 0..NODE_WORDS / 2 {
            if index >= pivots {
                break;
            }
            let last = mappings.node[(index + 1) & (NODE_WORDS - 1)];
            // No last address: the branch goes as far as the node.
            if last >= address || index > 0 && last == 0 {
                break;
            }
            branch = index + 1;
        }
        entry = mappings.node[(first_slot + branch) & (NODE_WORDS - 1)];
        if kind == KIND_LEAF {
            return entry;
        }
    }
    0
}

/// Writes what is known of the mapped file to the place at `index`. A function of its own for the verifier, too.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe_file(file: u64, index: u64) -> u64 {
    let index = unknown(index) as usize & (MAPPINGS_MAX - 1);
    let Some(mappings) = MAPPINGS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as in `search_mapping`.
    let mappings = unsafe { &mut *mappings };
    let pointer = |base: u64, offset: u32| read::<u64>(base + u64::from(offset));
    let mapping = &mut mappings.list[index];
    mapping.flags = 0;
    mapping.inode = 0;
    mapping.device = 0;
    mapping.path_len = 0;
    if file == 0 {
        return 0;
    }
    let mut dentry = pointer(file, FILE_DENTRY.load());
    let inode = pointer(dentry, DENTRY_INODE.load());
    mapping.inode = pointer(inode, INODE_INO.load());
    let device = pointer(inode, INODE_SB.load()) + u64::from(SB_DEV.load());
    mapping.device = read(device);
    mapping.flags = MAPPING_FILE;
    let mut len = 0;
    for _ in 0..NAMES_MAX {
        let parent = pointer(dentry, DENTRY_PARENT.load());
        if parent == dentry || parent == 0 {
            break;
        }
        let name = pointer(dentry, DENTRY_NAME.load());
        let at = len & (PATH_BYTES / 2 - 1);
        // SAFETY: `at` is below 256, so that as much fits behind it.
        let copied = unsafe {
            let to = (&raw mut mappings.path).cast::<u8>().add(at);
            bpf_probe_read_kernel_str(to.cast(), (PATH_BYTES / 2) as u32, name as *const _)
        };
        if copied <= 1 || len + copied as usize > MAPPING_PATH_BYTES_MAX {
            mappings.list[index].flags |= MAPPING_PATH_TRUNCATED;
            break;
        }
        len += copied as usize;
        dentry = parent;
    }
    let mapping = &mut mappings.list[index];
    mapping.path_len = len as u32;
    let from = &raw const mappings.path as u64;
    copy_to(&raw mut mapping.path, MAPPING_PATH_BYTES_MAX as u32, from);
    0
}
