//! Errors of file systems.

use recorder_ebpf::abi::{self, WritebackError};

use super::{known, names, proto, text};

pub(super) fn writeback_error(record: &[u8]) -> Option<proto::WritebackError> {
    let error = abi::decode::<WritebackError>(record)?;
    Some(proto::WritebackError {
        device: text::packed_device(error.device),
        name: text::name(&error.name),
        inode: Some(error.inode),
        errno: known(error.errno).map(names::errno),
    })
}
