//! Cgroups that come and go.

use recorder_ebpf::abi::{self, CGROUP_PATH_BYTES_MAX, CgroupChange};

use super::{process, proto, text};

pub(super) fn change(record: &[u8]) -> Option<proto::Cgroup> {
    let change = abi::decode::<CgroupChange>(record)?;
    let path = record
        .get(size_of::<CgroupChange>()..)?
        .get(..change.path_len as usize)?;
    Some(proto::Cgroup {
        process: Some(process::subject(&change.header)),
        id: Some(change.id),
        hierarchy: Some(change.hierarchy),
        path: text::name(path),
        // The last byte that there is room for is a NUL.
        path_truncated: Some(path.len() + 1 >= CGROUP_PATH_BYTES_MAX),
        ..proto::Cgroup::default()
    })
}
