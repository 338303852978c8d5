//! Cgroups that come and go.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{CGROUP_PATH_BYTES_MAX, CgroupChange, EventKind};

use crate::emit::reserve;
use crate::globals::{CGROUP_NODE, CGROUP_ROOT, MEMORY_HIERARCHY, NODE_ID, ROOT_HIERARCHY};
use crate::kernel::{Object, Task, fetch};

#[repr(C)]
struct ChangeRecord {
    change: CgroupChange,
    path: [u8; CGROUP_PATH_BYTES_MAX],
}

/// `cgroup_mkdir(struct cgroup *, const char *path)`
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    record(EventKind::CgroupMkdir, ctx.arg(0), ctx.arg(1));
    0
}

/// `cgroup_rmdir(struct cgroup *, const char *path)`
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    record(EventKind::CgroupRmdir, ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn record(kind: EventKind, cgroup: Object, path: u64) {
    // The same names come again in every hierarchy of a host that has many: two say it all.
    let hierarchy: u32 = fetch(fetch(cgroup, &CGROUP_ROOT), &ROOT_HIERARCHY);
    if hierarchy != 0 && hierarchy != MEMORY_HIERARCHY.load() {
        return;
    }
    let Some(mut slot) = reserve::<ChangeRecord>(kind) else {
        return;
    };
    let record = slot.record();
    // SAFETY: `record` is room for one; no reference to it is made before it is initialised.
    let to = unsafe { (&raw mut (*record).path).cast::<u8>() };
    // SAFETY: there is room for so many bytes.
    let copied = unsafe {
        bpf_probe_read_kernel_str(to.cast(), CGROUP_PATH_BYTES_MAX as u32, path as *const _)
    };
    let with_nul = if copied > 0 { copied as u64 } else { 1 };
    let path_len = (with_nul - 1) & (CGROUP_PATH_BYTES_MAX as u64 - 1);
    let len = (size_of::<CgroupChange>() as u64 + path_len + 7) & !7;
    let task = Task::current();
    let change = CgroupChange {
        header: slot.header(task, task.leader(), len as u32, 0),
        id: fetch(fetch(cgroup, &CGROUP_NODE), &NODE_ID),
        hierarchy,
        path_len: path_len as u32,
    };
    // SAFETY: as above.
    unsafe { (&raw mut (*record).change).write(change) };
    slot.submit();
}
