//! Processes that execute, end and hang.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, EXE_NAMES_MAX, EXEC_ARGV_TRUNCATED, EXEC_FILENAME_TRUNCATED,
    EventKind, Exec, Exit, FILENAME_BYTES_MAX, TaskHung,
};

use crate::emit::{own, reserve};
use crate::globals::{
    BPRM_FILENAME, CRED_EGID, CRED_EUID, DENTRY_NAME, DENTRY_PARENT, FILE_DENTRY, FILE_MNT,
    MM_ARG_END, MM_ARG_START, MM_EXE_FILE, MOUNT_MNT, MOUNT_PARENT, MOUNT_POINT, PAGE_KIB,
    SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE, SIGNAL_MAJ_FLT, SIGNAL_MAXRSS,
    SIGNAL_MIN_FLT, SIGNAL_NIVCSW, SIGNAL_NVCSW, SIGNAL_READ_BYTES, SIGNAL_RUNTIME, SIGNAL_STIME,
    SIGNAL_THREAD_HEAD, SIGNAL_THREADS, SIGNAL_UTIME, SIGNAL_WRITE_BYTES, TASK_CRED,
    TASK_EXIT_CODE, TASK_LEADER, TASK_MAJ_FLT, TASK_MIN_FLT, TASK_MM, TASK_NIVCSW, TASK_NVCSW,
    TASK_READ_BYTES, TASK_RUNTIME, TASK_SIGNAL, TASK_STIME, TASK_THREAD_NODE, TASK_UTIME,
    TASK_WRITE_BYTES, VFSMOUNT_ROOT,
};
use crate::kernel::{Object, Task, address, cpu_time, has, load, load_or_zero, read};

/// Arguments up to this length travel in the smaller of two sizes of record.
const ARGV_BYTES_SMALL: usize = 256;
/// Room for both paths.
const STRINGS_MIN: usize = EXE_BYTES_MAX + FILENAME_BYTES_MAX;

/// Bits of `signal_struct.flags`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched/signal.h#L258>
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Threads of one process whose accounting is added up at most: those that are on their way out as the last one leaves.
const THREADS_MAX: u32 = 64;

#[repr(C)]
struct ExecRecord<const STRINGS: usize> {
    exec: Exec,
    strings: [u8; STRINGS],
}

/// `sched_process_exec(struct task_struct *, pid_t, struct linux_binprm *)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    let program: Object = ctx.arg(2);
    let mm = load(task.0, &TASK_MM);
    let start: u64 = load(mm, &MM_ARG_START);
    let end: u64 = load(mm, &MM_ARG_END);
    let argv = end.wrapping_sub(start);
    let filename = load(program, &BPRM_FILENAME);
    let exe: Object = load(mm, &MM_EXE_FILE);
    if argv <= ARGV_BYTES_SMALL as u64 {
        exec::<{ STRINGS_MIN + ARGV_BYTES_SMALL }>(task, exe, filename, start, argv);
    } else {
        exec::<{ STRINGS_MIN + ARGV_BYTES_MAX }>(task, exe, filename, start, argv);
    }
    0
}

#[inline(always)]
fn exec<const STRINGS: usize>(task: Task, exe: Object, filename: u64, argv_start: u64, argv: u64) {
    let Some(mut slot) = reserve::<ExecRecord<STRINGS>>(EventKind::ProcessExec) else {
        return;
    };
    let record = slot.record();
    // SAFETY: `record` is room for one; no reference to it is made before it is initialised.
    let strings = unsafe { (&raw mut (*record).strings).cast::<u8>() };
    let exe_len = path_names(strings, exe) & (EXE_BYTES_MAX as u64 - 1);
    // SAFETY: after the executable's path, below EXE_BYTES_MAX, there is room for FILENAME_BYTES_MAX bytes.
    let filename_at = unsafe { strings.add(exe_len as usize) };
    // SAFETY: as above.
    let copied = unsafe {
        bpf_probe_read_kernel_str(
            filename_at.cast(),
            FILENAME_BYTES_MAX as u32,
            filename as *const _,
        )
    };
    // The length counts the NUL; an error is an empty path.
    let with_nul = if copied > 0 { copied as u64 } else { 1 };
    let filename_len = (with_nul - 1) & (FILENAME_BYTES_MAX as u64 - 1);
    let mut flags = 0;
    if with_nul == FILENAME_BYTES_MAX as u64 {
        flags |= EXEC_FILENAME_TRUNCATED;
    }
    let mut argv_len = argv;
    let room = (STRINGS - STRINGS_MIN) as u64;
    if argv_len > room {
        argv_len = room;
        flags |= EXEC_ARGV_TRUNCATED;
    }
    // SAFETY: both lengths are below their bounds, and `argv_len` is at most what the strings hold beyond those.
    let failed = unsafe {
        bpf_probe_read_user(
            filename_at.add(filename_len as usize).cast(),
            argv_len as u32,
            argv_start as *const _,
        ) != 0
    };
    if failed {
        argv_len = 0;
        flags |= EXEC_ARGV_TRUNCATED;
    }
    let len = (size_of::<Exec>() as u64 + exe_len + filename_len + argv_len + 7) & !7;
    let cred = load(task.0, &TASK_CRED);
    let exec = Exec {
        header: slot.header(task, len as u32, flags),
        memory_cgroup_id: task.memory_cgroup_id(),
        lineage: task.lineage(),
        euid: load(cred, &CRED_EUID),
        egid: load(cred, &CRED_EGID),
        exe_len: exe_len as u16,
        filename_len: filename_len as u16,
        argv_len: argv_len as u16,
        reserved: 0,
    };
    // SAFETY: as above.
    unsafe { (&raw mut (*record).exec).write(exec) };
    slot.submit();
}

/// Writes the names on the way from a file to the root of its mount namespace, and returns their length; 0 if there are too
/// many, or too long ones.
///
/// `strings` has room for [`STRINGS_MIN`] bytes.
#[inline(always)]
fn path_names(strings: *mut u8, file: Object) -> u64 {
    const _: () = assert!(STRINGS_MIN >= 2 * EXE_BYTES_MAX);
    let mut dentry: u64 = load(file, &FILE_DENTRY);
    let mut mount = load::<u64>(file, &FILE_MNT).wrapping_sub(u64::from(MOUNT_MNT.load()));
    let mut root = mount_root(mount);
    let mut len = 0_u64;
    for _ in 0..EXE_NAMES_MAX {
        // Here, so that both ways through the loop leave the verifier with the same bounds.
        len &= EXE_BYTES_MAX as u64 - 1;
        let parent = word(dentry, &DENTRY_PARENT);
        if dentry == root {
            let below = word(mount, &MOUNT_PARENT);
            if below == mount || below == 0 {
                return len;
            }
            dentry = word(mount, &MOUNT_POINT);
            mount = below;
            root = mount_root(mount);
            continue;
        }
        // SAFETY: `len` is below EXE_BYTES_MAX, and twice as many bytes are there.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                strings.add(len as usize).cast(),
                EXE_BYTES_MAX as u32,
                word(dentry, &DENTRY_NAME) as *const _,
            )
        };
        if copied <= 1 {
            return 0;
        }
        len += copied as u64;
        if len >= EXE_BYTES_MAX as u64 {
            return 0;
        }
        // A file that is in no directory.
        if parent == dentry {
            return len;
        }
        dentry = parent;
    }
    0
}

/// The top directory of a mount.
#[inline(always)]
fn mount_root(mount: u64) -> u64 {
    word(mount + u64::from(MOUNT_MNT.load()), &VFSMOUNT_ROOT)
}

/// Copies a word that lies `offset` bytes beyond an address; zero if it cannot be read.
#[inline(always)]
fn word(address: u64, offset: &aya_ebpf::Global<u32>) -> u64 {
    read(address + u64::from(offset.load()))
}

/// `sched_process_exit(struct task_struct *[, bool group_dead])`
///
/// The second argument is younger than some supported kernels; the count of live threads says the same on all of them.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    let signal: Object = load(task.0, &TASK_SIGNAL);
    if load::<u32>(signal, &SIGNAL_LIVE) != 0 {
        return 0;
    }
    let Some(mut slot) = reserve::<Exit>(EventKind::ProcessExit) else {
        return 0;
    };
    let mut usage = Usage::of_dead_threads(signal);
    if load::<u32>(signal, &SIGNAL_THREADS) == 1 {
        usage.add(&Usage::of_thread(task));
    } else {
        add_threads(&mut usage, signal);
    }
    let flags: u32 = load(signal, &SIGNAL_FLAGS);
    // Both loads before the choice: the compiler would otherwise choose the pointer and load once, through two types.
    let of_group: u32 = load(signal, &SIGNAL_GROUP_EXIT_CODE);
    let of_leader: u32 = load(load(task.0, &TASK_LEADER), &TASK_EXIT_CODE);
    let status = if flags & SIGNAL_GROUP_EXIT != 0 {
        of_group
    } else {
        of_leader
    };
    // Only failures can be incidents; a success costs nothing here.
    let own = if status == 0 { 0 } else { own(task) };
    let (user_ns, system_ns) = cpu_time(usage.user_ns, usage.system_ns, usage.runtime_ns);
    let exit = Exit {
        header: slot.header(task, size_of::<Exit>() as u32, task.process_flags() | own),
        user_ns,
        system_ns,
        read_bytes: usage.read_bytes,
        write_bytes: usage.write_bytes,
        max_rss_kib: (load::<u64>(signal, &SIGNAL_MAXRSS) as u32).wrapping_mul(PAGE_KIB.load()),
        status,
        parent_tgid: task.parent_tgid(),
        minor_faults: usage.minor_faults as u32,
        major_faults: usage.major_faults as u32,
        voluntary_switches: usage.voluntary_switches as u32,
        involuntary_switches: usage.involuntary_switches as u32,
        session: task.login().0,
    };
    // SAFETY: the slot has room for one.
    unsafe { slot.record().write(exit) };
    slot.submit();
    0
}

/// What threads used.
struct Usage {
    user_ns: u64,
    system_ns: u64,
    runtime_ns: u64,
    read_bytes: u64,
    write_bytes: u64,
    minor_faults: u64,
    major_faults: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl Usage {
    /// What the threads used that are already gone.
    #[inline(always)]
    fn of_dead_threads(signal: Object) -> Self {
        Self {
            user_ns: load(signal, &SIGNAL_UTIME),
            system_ns: load(signal, &SIGNAL_STIME),
            runtime_ns: load(signal, &SIGNAL_RUNTIME),
            read_bytes: load_or_zero(signal, &SIGNAL_READ_BYTES),
            write_bytes: load_or_zero(signal, &SIGNAL_WRITE_BYTES),
            minor_faults: load(signal, &SIGNAL_MIN_FLT),
            major_faults: load(signal, &SIGNAL_MAJ_FLT),
            voluntary_switches: load(signal, &SIGNAL_NVCSW),
            involuntary_switches: load(signal, &SIGNAL_NIVCSW),
        }
    }

    #[inline(always)]
    fn of_thread(task: Task) -> Self {
        let task = task.0;
        Self {
            user_ns: load(task, &TASK_UTIME),
            system_ns: load(task, &TASK_STIME),
            runtime_ns: load(task, &TASK_RUNTIME),
            read_bytes: load_or_zero(task, &TASK_READ_BYTES),
            write_bytes: load_or_zero(task, &TASK_WRITE_BYTES),
            minor_faults: load(task, &TASK_MIN_FLT),
            major_faults: load(task, &TASK_MAJ_FLT),
            voluntary_switches: load(task, &TASK_NVCSW),
            involuntary_switches: load(task, &TASK_NIVCSW),
        }
    }

    #[inline(always)]
    fn add(&mut self, other: &Self) {
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.runtime_ns += other.runtime_ns;
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
    }
}

/// Adds what the threads used that the kernel still lists: the caller, a leader that left first, others on their way out.
#[inline(always)]
fn add_threads(usage: &mut Usage, signal: Object) {
    let head = address(signal, &SIGNAL_THREAD_HEAD);
    let mut node = read::<u64>(head);
    for _ in 0..THREADS_MAX {
        // Zero: it could not be read.
        if node == head || node == 0 {
            break;
        }
        let task = node - u64::from(TASK_THREAD_NODE.load());
        usage.add(&copied_usage(task));
        node = read::<u64>(node);
    }
}

/// As [`Usage::of_thread`], of a task that the verifier knows nothing about.
#[inline(always)]
fn copied_usage(task: u64) -> Usage {
    let word = |offset: &aya_ebpf::Global<u32>| {
        if has(offset) {
            read::<u64>(task + u64::from(offset.load()))
        } else {
            0
        }
    };
    Usage {
        user_ns: word(&TASK_UTIME),
        system_ns: word(&TASK_STIME),
        runtime_ns: word(&TASK_RUNTIME),
        read_bytes: word(&TASK_READ_BYTES),
        write_bytes: word(&TASK_WRITE_BYTES),
        minor_faults: word(&TASK_MIN_FLT),
        major_faults: word(&TASK_MAJ_FLT),
        voluntary_switches: word(&TASK_NVCSW),
        involuntary_switches: word(&TASK_NIVCSW),
    }
}

/// `sched_process_hang(struct task_struct *)`
#[btf_tracepoint(function = "sched_process_hang")]
pub fn task_hung(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if let Some(mut slot) = reserve::<TaskHung>(EventKind::TaskHung) {
        let header = slot.header(task, size_of::<TaskHung>() as u32, 0);
        // SAFETY: the slot has room for one.
        unsafe { slot.record().write(TaskHung { header }) };
        slot.submit();
    }
    0
}
