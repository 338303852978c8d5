//! Errors of block devices.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, IoError};

use crate::emit::reserve;
use crate::globals::{
    BDEV_DEV, BIO_BLKG, BLKCG_CGROUP, BLKG_BLKCG, DISK_MAJOR, DISK_MINOR, DISK_NAME, QUEUE_DISK,
    RQ_BIO, RQ_CMD_FLAGS, RQ_DISK, RQ_PART, RQ_QUEUE, RQ_SECTOR,
};
use crate::kernel::{Object, address, cgroup_id, copy_to, has, load};

/// [`IoError::status`] where the kernel gives an errno instead.
const STATUS_UNKNOWN: u32 = 255;

/// `block_rq_error(struct request *, blk_status_t, unsigned int)`
#[btf_tracepoint(function = "block_rq_error")]
pub fn io_error(ctx: BtfTracePointContext) -> i32 {
    let status: u64 = ctx.arg(1);
    let bytes: u64 = ctx.arg(2);
    record(ctx.arg(0), status as u8 as u32, 0, bytes as u32);
    0
}

/// `block_rq_complete(struct request *, int, unsigned int)` of kernels before `block_rq_error`.
#[btf_tracepoint(function = "block_rq_complete")]
pub fn io_error_complete(ctx: BtfTracePointContext) -> i32 {
    let errno = ctx.arg::<u64>(1) as i32;
    if errno < 0 {
        let bytes: u64 = ctx.arg(2);
        record(
            ctx.arg(0),
            STATUS_UNKNOWN,
            errno.unsigned_abs(),
            bytes as u32,
        );
    }
    0
}

#[inline(always)]
fn record(request: Object, status: u32, errno: u32, bytes: u32) {
    let Some(mut slot) = reserve::<IoError>(EventKind::IoError) else {
        return;
    };
    let record = slot.record();
    let disk: Object = if has(&QUEUE_DISK) {
        load(load(request, &RQ_QUEUE), &QUEUE_DISK)
    } else if has(&RQ_DISK) {
        load(request, &RQ_DISK)
    } else {
        core::ptr::null()
    };
    let mut header = slot.header_without_process(size_of::<IoError>() as u32, 0);
    header.cgroup_id = charged_cgroup(request);
    let partition = if has(&BDEV_DEV) {
        load(load(request, &RQ_PART), &BDEV_DEV)
    } else {
        0
    };
    // SAFETY: `record` is room for one; every field is written, the name by the copy.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).sector).write(load(request, &RQ_SECTOR));
        (&raw mut (*record).bytes).write(u64::from(bytes));
        (&raw mut (*record).major).write(load(disk, &DISK_MAJOR));
        (&raw mut (*record).minor).write(load(disk, &DISK_MINOR));
        (&raw mut (*record).partition).write(partition);
        (&raw mut (*record).status).write(status);
        (&raw mut (*record).errno).write(errno);
        (&raw mut (*record).cmd_flags).write(load(request, &RQ_CMD_FLAGS));
        let name = &raw mut (*record).disk;
        copy_to(name, 32, address(disk, &DISK_NAME));
    }
    slot.submit();
}

/// The cgroup that the request is charged to, 0 if the kernel keeps none.
#[inline(always)]
fn charged_cgroup(request: Object) -> u64 {
    if !(has(&BIO_BLKG) && has(&BLKG_BLKCG) && has(&BLKCG_CGROUP)) {
        return 0;
    }
    let group = load(load(request, &RQ_BIO), &BIO_BLKG);
    cgroup_id(load(load(group, &BLKG_BLKCG), &BLKCG_CGROUP))
}
