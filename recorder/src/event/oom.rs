//! Kills by the out-of-memory killer.

use recorder_ebpf::abi::{self, OomKill};
use rustix::param::page_size;

use super::{known, process, proto, text};

pub(super) fn kill(record: &[u8]) -> Option<proto::OomKill> {
    let kill = abi::decode::<OomKill>(record)?;
    let bytes = |pages: u64| Some(pages.saturating_mul(page_size() as u64));
    Some(proto::OomKill {
        process: Some(process::descendant(&kill.header, &kill.lineage)),
        total_vm_bytes: bytes(kill.total_vm_pages),
        anon_rss_bytes: bytes(kill.anon_rss_pages),
        file_rss_bytes: bytes(kill.file_rss_pages),
        shmem_rss_bytes: bytes(kill.shmem_rss_pages),
        pgtables_bytes: Some(kill.pgtables_bytes),
        oom_score_adj: Some(kill.oom_score_adj),
        trigger: Some(proto::Process {
            pid: Some(kill.trigger_tgid),
            tid: Some(kill.trigger_pid),
            comm: text::name(&kill.trigger_comm),
            uid: Some(kill.trigger_uid),
            cgroup_id: known(kill.trigger_cgroup_id),
            ..proto::Process::default()
        }),
        memory_cgroup_id: known(kill.memory_cgroup_id),
        memory_cgroup: None,
    })
}
