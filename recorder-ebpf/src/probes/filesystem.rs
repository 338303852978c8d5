//! Errors of file systems.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, WritebackError};

use crate::emit::reserve;
use crate::globals::{
    INODE_INO, INODE_RDEV, INODE_SB, MAPPING_ERROR, MAPPING_HOST, SB_DEV, SB_ID, SB_MAGIC,
};
use crate::kernel::{Object, address, copy_to, fetch};

/// Bits of an `errseq_t` that hold the errno; the others count.
///
/// <https://github.com/torvalds/linux/blob/v6.12/lib/errseq.c#L33>
const ERRSEQ_ERRNO: u32 = 0xfff;

/// Magic of the file system that holds the block devices' own pages.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/magic.h#L77>
const BDEVFS_MAGIC: u64 = 0x6264_6576;

/// `filemap_set_wb_err(struct address_space *, errseq_t)`
#[btf_tracepoint(function = "filemap_set_wb_err")]
pub fn writeback_error(ctx: BtfTracePointContext) -> i32 {
    let mapping: Object = ctx.arg(0);
    let Some(mut slot) = reserve::<WritebackError>(EventKind::WritebackError) else {
        return 0;
    };
    let record = slot.record();
    let inode: Object = fetch(mapping, &MAPPING_HOST);
    let file_system: Object = fetch(inode, &INODE_SB);
    // Both loads before the choice: the compiler would otherwise choose the pointer and load once, through two types.
    let own: u32 = fetch(inode, &INODE_RDEV);
    let below: u32 = fetch(file_system, &SB_DEV);
    let is_device = fetch::<u64, _>(file_system, &SB_MAGIC) == BDEVFS_MAGIC;
    let device = if is_device { own } else { below };
    // The tracepoint's own argument is the state before the error.
    let errseq: u32 = fetch(mapping, &MAPPING_ERROR);
    let header = slot.header_without_process(size_of::<WritebackError>() as u32, 0);
    // SAFETY: `record` is room for one; every field is written, the name by the copy.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).inode).write(fetch(inode, &INODE_INO));
        (&raw mut (*record).device).write(device);
        (&raw mut (*record).errno).write(errseq & ERRSEQ_ERRNO);
        let name = &raw mut (*record).name;
        copy_to(name, 32, address(file_system, &SB_ID));
    }
    slot.submit();
    0
}
