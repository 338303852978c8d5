//! Kills by the out-of-memory killer, on kernels that say of the victim no more than its pid.

use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::{btf_map, btf_tracepoint};
use aya_ebpf::programs::BtfTracePointContext;

use super::oom::record;
use crate::kernel::{Object, Task};

/// The tasks that the kernel killed last, by pid. It holds a victim that it names afterwards.
#[btf_map]
static KILLED: LruHashMap<u32, u64, 64> = LruHashMap::new();

/// Remembers a task that the kernel sends SIGKILL on its own account.
#[inline(always)]
pub fn remember(task: Task) {
    // A full map forgets the oldest, and cannot refuse.
    let _ = KILLED.insert(task.pid(), task.0 as u64, 0);
}

/// `mark_victim(int pid)`
///
/// The kernel has just sent the victim SIGKILL, or it was about to end by itself and is the running task.
#[btf_tracepoint(function = "mark_victim")]
pub fn oom_kill_by_pid(ctx: BtfTracePointContext) -> i32 {
    let pid = ctx.arg::<u64>(0) as u32;
    let running = Task::current();
    let victim = if running.pid() == pid {
        running
    } else {
        match KILLED.get_ptr(pid) {
            // SAFETY: the map's values stay readable while the program runs.
            Some(task) => Task(unsafe { *task } as Object),
            None => return 0,
        }
    };
    // What was remembered may be a task of long ago.
    if victim.pid() == pid {
        record(victim);
    }
    0
}
