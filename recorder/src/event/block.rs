//! Errors of block devices.

use recorder_ebpf::abi::{self, IoError};

use super::{known, names, proto, text};

/// What the probe writes for a status if the kernel gave only an errno.
const STATUS_UNKNOWN: u32 = 255;
const SECTOR_BYTES: u64 = 512;

pub(super) fn io_error(record: &[u8]) -> Option<proto::IoError> {
    let error = abi::decode::<IoError>(record)?;
    let status_number = (error.status != STATUS_UNKNOWN).then_some(error.status);
    let status = status_number.and_then(names::block_status);
    let device = text::device(error.major, error.minor);
    Some(proto::IoError {
        process: known(error.header.cgroup_id).map(|cgroup_id| proto::Process {
            cgroup_id: Some(cgroup_id),
            ..proto::Process::default()
        }),
        disk: text::name(&error.disk),
        partition: text::packed_device(error.partition).filter(|partition| *partition != device),
        operation: Some(names::block_operation(error.cmd_flags)),
        sector: Some(error.sector),
        sectors: Some(error.bytes / SECTOR_BYTES),
        bytes: Some(error.bytes),
        status: status.map(|status| status.name.into()),
        errno: known(error.errno)
            .or(status.map(|status| status.errno))
            .map(names::errno),
        status_number,
        device: Some(device),
    })
}
