//! Statuses and operations of block requests.

use std::sync::LazyLock;

/// A `blk_status_t` by name, and the errno the block layer makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockStatus {
    /// "BLK_STS_IOERR".
    pub(crate) name: &'static str,
    /// Positive.
    pub(crate) errno: u32,
}

const fn status(name: &'static str, errno: i32) -> BlockStatus {
    BlockStatus {
        name,
        errno: errno as u32,
    }
}

/// Numbers 1 to 13, the same since Linux 4.16 (6 was `BLK_STS_NEXUS` until 6.5), from `blk_errors` in `block/blk-core.c`.
const STATUSES: [BlockStatus; 13] = [
    status("BLK_STS_NOTSUPP", libc::EOPNOTSUPP),
    status("BLK_STS_TIMEOUT", libc::ETIMEDOUT),
    status("BLK_STS_NOSPC", libc::ENOSPC),
    status("BLK_STS_TRANSPORT", libc::ENOLINK),
    status("BLK_STS_TARGET", libc::EREMOTEIO),
    status("BLK_STS_RESV_CONFLICT", libc::EBADE),
    status("BLK_STS_MEDIUM", libc::ENODATA),
    status("BLK_STS_PROTECTION", libc::EILSEQ),
    status("BLK_STS_RESOURCE", libc::ENOMEM),
    status("BLK_STS_IOERR", libc::EIO),
    status("BLK_STS_DM_REQUEUE", libc::EREMCHG),
    status("BLK_STS_AGAIN", libc::EAGAIN),
    status("BLK_STS_DEV_RESOURCE", libc::EBUSY),
];

const ZONE_RESOURCE: BlockStatus = status("BLK_STS_ZONE_RESOURCE", libc::EIO);
const ZONE_OPEN_RESOURCE: BlockStatus = status("BLK_STS_ZONE_OPEN_RESOURCE", libc::ETOOMANYREFS);
const ZONE_ACTIVE_RESOURCE: BlockStatus = status("BLK_STS_ZONE_ACTIVE_RESOURCE", libc::EOVERFLOW);
const OFFLINE: BlockStatus = status("BLK_STS_OFFLINE", libc::ENODEV);
const DURATION_LIMIT: BlockStatus = status("BLK_STS_DURATION_LIMIT", libc::ETIME);
const INVAL: BlockStatus = status("BLK_STS_INVAL", libc::EINVAL);

/// Linux 6.10 dropped `BLK_STS_ZONE_RESOURCE`, 14, and moved its successors down by one.
const MOVED_IN: (u32, u32) = (6, 10);

/// Version of the running kernel, whose records these are.
static KERNEL: LazyLock<(u32, u32)> = LazyLock::new(|| version(&release()));

#[cfg(not(miri))]
fn release() -> String {
    let system = rustix::system::uname();
    system.release().to_string_lossy().into_owned()
}

/// The interpreter's `uname` writes its strings alone; a kernel, the bytes behind them as well.
#[cfg(miri)]
fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Returns major and minor of a release like "6.18.44-amd64"; what is no number is 0.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Returns the status that the running kernel gives this number; `None` for 0 and for one without a name.
pub(crate) fn block_status(number: u32) -> Option<BlockStatus> {
    status_in(*KERNEL, number)
}

fn status_in(kernel: (u32, u32), number: u32) -> Option<BlockStatus> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    if let Some(status) = STATUSES.get(index) {
        return Some(*status);
    }
    match (number, kernel >= MOVED_IN) {
        (14, false) => Some(ZONE_RESOURCE),
        (15, false) | (14, true) => Some(ZONE_OPEN_RESOURCE),
        (16, false) | (15, true) => Some(ZONE_ACTIVE_RESOURCE),
        (17, false) | (16, true) => Some(OFFLINE),
        (18, false) | (17, true) => Some(DURATION_LIMIT),
        (19, true) => Some(INVAL),
        _ => None,
    }
}

/// Returns the name of the operation in a request's `cmd_flags`: "read".
///
/// Only numbers that mean the same on every kernel since 5.10 have names; another is "operation 13".
pub(crate) fn block_operation(cmd_flags: u32) -> String {
    const OPERATION: u32 = 0xff;
    let name = match cmd_flags & OPERATION {
        0 => "read",
        1 => "write",
        2 => "flush",
        3 => "discard",
        5 => "secure_erase",
        9 => "write_zeroes",
        10 => "zone_open",
        11 => "zone_close",
        34 => "driver_in",
        35 => "driver_out",
        number => return format!("operation {number}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kernel: (u32, u32), number: u32) -> Option<&'static str> {
        status_in(kernel, number).map(|status| status.name)
    }

    #[test]
    fn statuses_follow_the_kernel() {
        for kernel in [(5, 10), (6, 6), (6, 10), (6, 18), (7, 2)] {
            assert_eq!(name(kernel, 0), None);
            assert_eq!(name(kernel, 1), Some("BLK_STS_NOTSUPP"));
            assert_eq!(name(kernel, 7), Some("BLK_STS_MEDIUM"));
            assert_eq!(name(kernel, 10), Some("BLK_STS_IOERR"));
            assert_eq!(name(kernel, 13), Some("BLK_STS_DEV_RESOURCE"));
            assert_eq!(name(kernel, 20), None);
            assert_eq!(name(kernel, u32::MAX), None);
        }
        assert_eq!(name((6, 9), 17), Some("BLK_STS_OFFLINE"));
        assert_eq!(name((6, 10), 16), Some("BLK_STS_OFFLINE"));
        assert_eq!(name((6, 18), 18), None);
        assert_eq!(name((6, 18), 19), Some("BLK_STS_INVAL"));
    }

    #[test]
    fn version_of_releases() {
        assert_eq!(version("6.18.44-fc-v782"), (6, 18));
        assert_eq!(version("5.10.0-32-amd64"), (5, 10));
        assert_eq!(version("7.2-rc1"), (7, 2));
        assert_eq!(version("garbage"), (0, 0));
    }

    #[test]
    fn operation_is_in_the_low_byte() {
        assert_eq!(block_operation(0x8801), "write");
        assert_eq!(block_operation(0x0d), "operation 13");
    }
}
