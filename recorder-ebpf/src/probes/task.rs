//! Every process that lives, for whoever reads the iterator.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use recorder_ebpf::abi::{LIVE_FORKED, LIVE_KERNEL_THREAD, LIVE_THREADS_CUT, LiveProcess};

use super::threads::{self, Walker};
use crate::globals::{
    FILE_INODE, INODE_INO, INODE_SB, MM_EXE_FILE, SB_DEV, SIGNAL_LIVE, SIGNAL_READ_BYTES,
    SIGNAL_RUNTIME, SIGNAL_STIME, SIGNAL_THREADS, SIGNAL_UTIME, SIGNAL_WRITE_BYTES, TASK_FLAGS,
    TASK_MM, TASK_READ_BYTES, TASK_RUNTIME, TASK_SIGNAL, TASK_STIME, TASK_UTIME, TASK_WRITE_BYTES,
};
use crate::kernel::{
    MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, Object, PF_FORKNOEXEC, PF_KTHREAD, Task, cpu_time,
    load, load_or_zero, rss_pages,
};

/// `struct bpf_iter__task`
#[repr(C)]
pub struct Iteration {
    meta: *const Meta,
    task: *const u8,
}

/// `struct bpf_iter_meta`
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// Writes a [`LiveProcess`] for each process; the kernel calls it for each thread.
///
/// A record that finds the reader's buffer full is written again, by the kernel's own doing, for the next read.
#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
pub extern "C" fn live_process(ctx: *mut Iteration) -> i32 {
    // SAFETY: the kernel passes a context of this layout.
    let task = Task(unsafe { (&raw const (*ctx).task).read_volatile() });
    if task.0.is_null() || task.pid() != task.tgid() {
        return 0;
    }
    let signal: Object = load(task.0, &TASK_SIGNAL);
    // Dead, and only waited for.
    if load::<u32, _>(signal, &SIGNAL_LIVE) == 0 {
        return 0;
    }
    let record = observe(task, signal);
    // SAFETY: the kernel passes a context of this layout.
    let meta = unsafe { (&raw const (*ctx).meta).read_volatile() };
    // SAFETY: as above; the metadata is there for every call.
    let seq = unsafe { (&raw const (*meta).seq).read_volatile() };
    // SAFETY: the record is initialised and has no padding.
    unsafe {
        bpf_seq_write(
            seq.cast(),
            (&raw const record).cast(),
            size_of::<LiveProcess>() as u32,
        );
    }
    0
}

#[inline(always)]
fn observe(task: Task, signal: Object) -> LiveProcess {
    let kernel_flags: u32 = load(task.0, &TASK_FLAGS);
    let listed: u32 = load(signal, &SIGNAL_THREADS);
    let mut flags = 0;
    if kernel_flags & PF_KTHREAD != 0 {
        flags |= LIVE_KERNEL_THREAD;
    } else if kernel_flags & PF_FORKNOEXEC != 0 {
        flags |= LIVE_FORKED;
    }
    let (mut user_ns, mut system_ns): (u64, u64) =
        (load(signal, &SIGNAL_UTIME), load(signal, &SIGNAL_STIME));
    let mut runtime_ns: u64 = load(signal, &SIGNAL_RUNTIME);
    let mut read_bytes = load_or_zero(signal, &SIGNAL_READ_BYTES);
    let mut write_bytes = load_or_zero(signal, &SIGNAL_WRITE_BYTES);
    if listed == 1 {
        user_ns += load::<u64, _>(task.0, &TASK_UTIME);
        system_ns += load::<u64, _>(task.0, &TASK_STIME);
        runtime_ns += load::<u64, _>(task.0, &TASK_RUNTIME);
        read_bytes += load_or_zero(task.0, &TASK_READ_BYTES);
        write_bytes += load_or_zero(task.0, &TASK_WRITE_BYTES);
    } else if let Some(others) = threads::sum(Walker::Iterator, signal) {
        user_ns += others.user_ns;
        system_ns += others.system_ns;
        runtime_ns += others.runtime_ns;
        read_bytes += others.read_bytes;
        write_bytes += others.write_bytes;
        if !threads::is_whole(others) {
            flags |= LIVE_THREADS_CUT;
        }
    }
    let (user_ns, system_ns) = cpu_time(user_ns, system_ns, runtime_ns);
    // The one that is looked at, by a way that costs the verifier less: see `Task::leader`.
    let leader = Task::leader_of(signal);
    let mm: Object = load(leader.0, &TASK_MM);
    let mut rss = 0;
    let mut exe_inode = 0;
    let mut exe_device = 0;
    if !mm.is_null() {
        rss = rss_pages(mm, MM_FILEPAGES)
            + rss_pages(mm, MM_ANONPAGES)
            + rss_pages(mm, MM_SHMEMPAGES);
        let inode: Object = load(load(mm, &MM_EXE_FILE), &FILE_INODE);
        exe_inode = load(inode, &INODE_INO);
        exe_device = load(load(inode, &INODE_SB), &SB_DEV);
    }
    // The memory may have been given up, and used anew, while it was read.
    if load::<Object, _>(leader.0, &TASK_MM) != mm {
        rss = 0;
        exe_inode = 0;
        exe_device = 0;
    }
    let (uid, gid) = leader.ids();
    let (session, login_uid) = task.login();
    LiveProcess {
        start_boot_ns: task.start(),
        user_ns,
        system_ns,
        read_bytes,
        write_bytes,
        rss_pages: rss,
        cgroup_id: leader.cgroup_id(),
        memory_cgroup_id: leader.memory_cgroup_id(),
        exe_inode,
        exe_device,
        tgid: task.tgid(),
        parent_tgid: leader.parent().tgid(),
        ns_tgid: leader.ns_pid(),
        uid,
        gid,
        session,
        login_uid,
        threads: listed,
        flags,
        // SAFETY: both are 16 bytes without padding.
        comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(task.comm()) },
    }
}
