//! Kills by the out-of-memory killer.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{EventKind, OomKill};

use crate::emit::reserve;
use crate::globals::{
    COUNTER_BYTES, MM_PGTABLES_BYTES, MM_RSS_COUNTS, MM_RSS_STAT, MM_TOTAL_VM,
    PERCPU_COUNTER_COUNT, SIGNAL_OOM_SCORE_ADJ, TASK_MM, TASK_SIGNAL,
};
use crate::kernel::{Object, Task, address, copy, has, load};

/// Slots of `rss_stat`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/mm_types_task.h#L27>
const MM_FILEPAGES: u32 = 0;
const MM_ANONPAGES: u32 = 1;
const MM_SHMEMPAGES: u32 = 3;

/// `mark_victim(struct task_struct *, uid_t)`
#[btf_tracepoint(function = "mark_victim")]
pub fn oom_kill(ctx: BtfTracePointContext) -> i32 {
    let victim = Task(ctx.arg(0));
    let Some(mut slot) = reserve::<OomKill>(EventKind::OomKill) else {
        return 0;
    };
    let trigger = Task::current();
    let mm: Object = load(victim.0, &TASK_MM);
    let signal: Object = load(victim.0, &TASK_SIGNAL);
    let (trigger_uid, _) = trigger.ids();
    let record = OomKill {
        header: slot.header(victim, size_of::<OomKill>() as u32, 0),
        total_vm_pages: load(mm, &MM_TOTAL_VM),
        anon_rss_pages: rss_pages(mm, MM_ANONPAGES),
        file_rss_pages: rss_pages(mm, MM_FILEPAGES),
        shmem_rss_pages: rss_pages(mm, MM_SHMEMPAGES),
        pgtables_bytes: load(mm, &MM_PGTABLES_BYTES),
        trigger_cgroup_id: trigger.cgroup_id(),
        memory_cgroup_id: victim.memory_cgroup_id(),
        trigger_pid: trigger.pid(),
        trigger_tgid: trigger.tgid(),
        oom_score_adj: i32::from(load::<i16>(signal, &SIGNAL_OOM_SCORE_ADJ)),
        trigger_uid,
        // SAFETY: both are 16 bytes without padding.
        trigger_comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(trigger.comm()) },
    };
    // SAFETY: the slot has room for one.
    unsafe { slot.record().write(record) };
    slot.submit();
    0
}

/// Pages of one kind, as the kernel's own report of the kill has them.
#[inline(always)]
fn rss_pages(mm: Object, kind: u32) -> u64 {
    let at = if has(&MM_RSS_COUNTS) {
        // Before 6.2 the counters were plain words.
        address(mm, &MM_RSS_COUNTS) + u64::from(8 * kind)
    } else {
        let counter = COUNTER_BYTES.load().wrapping_mul(kind);
        address(mm, &MM_RSS_STAT) + u64::from(counter) + u64::from(PERCPU_COUNTER_COUNT.load())
    };
    // A counter's central word can be below zero while CPUs hold the rest.
    let pages = copy::<i64>(at).unwrap_or(0);
    if pages > 0 { pages as u64 } else { 0 }
}
