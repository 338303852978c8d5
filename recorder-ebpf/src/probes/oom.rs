//! Kills by the out-of-memory killer.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, OomKill};

use crate::emit::reserve;
use crate::globals::{MM_PGTABLES_BYTES, MM_TOTAL_VM, SIGNAL_OOM_SCORE_ADJ, TASK_MM, TASK_SIGNAL};
use crate::kernel::{
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, Object, Task, fetch, load, rss_pages,
};

/// `mark_victim(struct task_struct *, uid_t)`
#[btf_tracepoint(function = "mark_victim")]
pub fn oom_kill(ctx: BtfTracePointContext) -> i32 {
    record(Task(ctx.arg(0)));
    0
}

/// Records that `victim` was chosen, in the context of whoever wanted its memory.
#[inline(always)]
pub fn record(victim: Task) {
    let Some(mut slot) = reserve::<OomKill>(EventKind::OomKill) else {
        return;
    };
    let trigger = Task::current();
    let trigger_leader = trigger.leader();
    let mm: Object = fetch(victim.0, &TASK_MM);
    let signal: Object = load(victim.0, &TASK_SIGNAL);
    let leader = Task::leader_of(signal);
    let (trigger_uid, _) = trigger_leader.ids();
    let record = OomKill {
        header: slot.header(
            victim,
            leader,
            size_of::<OomKill>() as u32,
            leader.process_flags(),
        ),
        total_vm_pages: fetch(mm, &MM_TOTAL_VM),
        anon_rss_pages: rss_pages(mm, MM_ANONPAGES),
        file_rss_pages: rss_pages(mm, MM_FILEPAGES),
        shmem_rss_pages: rss_pages(mm, MM_SHMEMPAGES),
        pgtables_bytes: fetch(mm, &MM_PGTABLES_BYTES),
        trigger_cgroup_id: trigger_leader.cgroup_id(),
        memory_cgroup_id: leader.memory_cgroup_id(),
        lineage: leader.lineage(),
        trigger_pid: trigger.pid(),
        trigger_tgid: trigger.tgid(),
        oom_score_adj: i32::from(load::<i16, _>(signal, &SIGNAL_OOM_SCORE_ADJ)),
        trigger_uid,
        // SAFETY: both are 16 bytes without padding.
        trigger_comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(trigger.comm()) },
    };
    // SAFETY: the slot has room for one.
    unsafe { slot.record().write(record) };
    slot.submit();
}
