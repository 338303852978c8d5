//! Errors of block devices.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, IoError};

use crate::emit::reserve;
use crate::globals::{
    BDEV_DEV, BDEV_DISK, BIO_BDEV, BIO_BLKG, BIO_BYTES, BIO_CMD_FLAGS, BIO_DISK, BIO_SECTOR,
    BIO_STATUS, BLKCG_CGROUP, BLKG_BLKCG, CGROUP_NODE, DISK_MAJOR, DISK_MINOR, DISK_NAME, NODE_ID,
    PART_DEV, QUEUE_DISK, RQ_BIO, RQ_CMD_FLAGS, RQ_DISK, RQ_PART, RQ_QUEUE, RQ_SECTOR,
};
use crate::kernel::{Object, address, copy_to, fetch, has, load};

/// [`IoError::status`] where the kernel gives an errno instead.
const STATUS_UNKNOWN: u32 = 255;

/// `block_rq_error(struct request *, blk_status_t, unsigned int)`
#[btf_tracepoint(function = "block_rq_error")]
pub fn io_error(ctx: BtfTracePointContext) -> i32 {
    let status: u64 = ctx.arg(1);
    let bytes: u64 = ctx.arg(2);
    record_request(ctx.arg(0), status as u8 as u32, 0, bytes as u32);
    0
}

/// `block_rq_complete(struct request *, int, unsigned int)` of kernels before `block_rq_error`.
#[btf_tracepoint(function = "block_rq_complete")]
pub fn io_error_complete(ctx: BtfTracePointContext) -> i32 {
    let errno = ctx.arg::<u64>(1) as i32;
    if errno < 0 {
        let bytes: u64 = ctx.arg(2);
        record_request(
            ctx.arg(0),
            STATUS_UNKNOWN,
            errno.unsigned_abs(),
            bytes as u32,
        );
    }
    0
}

/// `block_bio_complete(struct request_queue *, struct bio *)`
///
/// For devices that make no requests, as device-mapper's and md's do: whatever is done with them passes here, and nearly
/// all of it leaves at the first test. What a request completes does not pass here.
#[btf_tracepoint(function = "block_bio_complete")]
pub fn io_error_stacked(ctx: BtfTracePointContext) -> i32 {
    let bio: Object = ctx.arg(1);
    let status: u8 = load(bio, &BIO_STATUS);
    if status == 0 {
        return 0;
    }
    let (disk, partition): (Object, u32) = if has(&BIO_BDEV) {
        let device: Object = fetch(bio, &BIO_BDEV);
        (fetch(device, &BDEV_DISK), fetch(device, &BDEV_DEV))
    } else {
        (fetch(bio, &BIO_DISK), 0)
    };
    record(&Failure {
        disk,
        partition,
        bio,
        sector: fetch(bio, &BIO_SECTOR),
        bytes: fetch(bio, &BIO_BYTES),
        cmd_flags: fetch(bio, &BIO_CMD_FLAGS),
        status: u32::from(status),
        errno: 0,
    });
    0
}

/// What failed.
struct Failure {
    disk: Object,
    /// Packed, 0 if unknown.
    partition: u32,
    bio: Object,
    sector: u64,
    bytes: u32,
    cmd_flags: u32,
    status: u32,
    errno: u32,
}

#[inline(always)]
fn record_request(request: Object, status: u32, errno: u32, bytes: u32) {
    let disk: Object = if has(&QUEUE_DISK) {
        fetch(fetch(request, &RQ_QUEUE), &QUEUE_DISK)
    } else if has(&RQ_DISK) {
        fetch(request, &RQ_DISK)
    } else {
        core::ptr::null()
    };
    // Before 5.11 the partition of a request was of a type of its own.
    let partition = if has(&PART_DEV) {
        fetch(fetch(request, &RQ_PART), &PART_DEV)
    } else if has(&BDEV_DEV) {
        fetch(fetch(request, &RQ_PART), &BDEV_DEV)
    } else {
        0
    };
    record(&Failure {
        disk,
        partition,
        bio: fetch(request, &RQ_BIO),
        sector: fetch(request, &RQ_SECTOR),
        bytes,
        cmd_flags: fetch(request, &RQ_CMD_FLAGS),
        status,
        errno,
    });
}

#[inline(always)]
fn record(failure: &Failure) {
    let Some(mut slot) = reserve::<IoError>(EventKind::IoError) else {
        return;
    };
    let record = slot.record();
    let mut header = slot.header_without_process(size_of::<IoError>() as u32, 0);
    header.cgroup_id = charged_cgroup(failure.bio);
    // SAFETY: `record` is room for one; every field is written, the name by the copy.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).sector).write(failure.sector);
        (&raw mut (*record).bytes).write(u64::from(failure.bytes));
        (&raw mut (*record).major).write(fetch(failure.disk, &DISK_MAJOR));
        (&raw mut (*record).minor).write(fetch(failure.disk, &DISK_MINOR));
        (&raw mut (*record).partition).write(failure.partition);
        (&raw mut (*record).status).write(failure.status);
        (&raw mut (*record).errno).write(failure.errno);
        (&raw mut (*record).cmd_flags).write(failure.cmd_flags);
        let name = &raw mut (*record).disk;
        copy_to(name, 32, address(failure.disk, &DISK_NAME));
    }
    slot.submit();
}

/// The cgroup that the I/O is charged to, 0 if the kernel keeps none.
#[inline(always)]
fn charged_cgroup(bio: Object) -> u64 {
    if !(has(&BIO_BLKG) && has(&BLKG_BLKCG) && has(&BLKCG_CGROUP)) {
        return 0;
    }
    let group = fetch(bio, &BIO_BLKG);
    let cgroup = fetch(fetch(group, &BLKG_BLKCG), &BLKCG_CGROUP);
    fetch(fetch(cgroup, &CGROUP_NODE), &NODE_ID)
}
