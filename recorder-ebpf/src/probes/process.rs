//! Processes that execute, end and hang.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use recorder_ebpf::abi::{
    ARGV_BYTES_MAX, EXE_BYTES_MAX, EXE_NAMES_MAX, EXEC_ARGV_TRUNCATED, EXEC_FILENAME_TRUNCATED,
    EventKind, Exec, Exit, FILENAME_BYTES_MAX, PROCESS_REDUCED, Saving, TaskHung, Turns,
};

use super::threads::{self, Walker};
use crate::budget::{count_filtered, leaves_out, savings};
use crate::emit::{attempt_for, own, reserve, reserve_for};
use crate::globals::{
    BPRM_FILENAME, CRED_EGID, CRED_EUID, DENTRY_NAME, DENTRY_PARENT, FILE_DENTRY, FILE_INODE,
    FILE_MNT, INODE_CTIME, INODE_CTIME_NSEC, INODE_CTIME_PRIVATE, INODE_CTIME_SEC, INODE_INO,
    INODE_SB, MM_ARG_END, MM_ARG_START, MM_EXE_FILE, MOUNT_MNT, MOUNT_PARENT, MOUNT_POINT, Offset,
    PAGE_KIB, SB_DEV, SIGNAL_FLAGS, SIGNAL_GROUP_EXIT_CODE, SIGNAL_LIVE, SIGNAL_MAJ_FLT,
    SIGNAL_MAXRSS, SIGNAL_MIN_FLT, SIGNAL_NIVCSW, SIGNAL_NVCSW, SIGNAL_READ_BYTES, SIGNAL_RUNTIME,
    SIGNAL_STIME, SIGNAL_THREADS, SIGNAL_UTIME, SIGNAL_WRITE_BYTES, TASK_CRED, TASK_EXIT_CODE,
    TASK_MAJ_FLT, TASK_MIN_FLT, TASK_MM, TASK_NIVCSW, TASK_NVCSW, TASK_READ_BYTES, TASK_RUNTIME,
    TASK_SIGNAL, TASK_STIME, TASK_UTIME, TASK_WRITE_BYTES, VFSMOUNT_ROOT,
};
use crate::kernel::{Object, Task, cpu_time, has, load, load_at, load_or_zero, read, unknown};
use crate::maps::{ENDED, EXEC_STRINGS_BYTES, EXECUTED, Executed, Process, Threads};
use crate::turn::Turn;

/// Bits of `signal_struct.flags`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched/signal.h#L258>
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `sched_process_exec(struct task_struct *, pid_t, struct linux_binprm *)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    exec(Turn::First, Task(ctx.arg(0)), ctx.arg(2))
}

/// As [`process_exec`], behind it.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec_second(ctx: BtfTracePointContext) -> i32 {
    exec(Turn::Second, Task(ctx.arg(0)), ctx.arg(2))
}

#[inline(always)]
fn exec(turn: Turn, task: Task, program: Object) -> i32 {
    if !turn.takes(Turns::Exec, task) {
        return 0;
    }
    let savings = savings();
    if leaves_out(savings, Saving::Exec) {
        count_filtered(EventKind::ProcessExec);
        return 0;
    }
    // What executes leads its process. All pointers by way of the leader: see `Task::leader`.
    let leader = task.leader();
    let mm = load(leader.0, &TASK_MM);
    let exe: Object = load(mm, &MM_EXE_FILE);
    let Some(executed) = EXECUTED.get_ptr_mut(turn as u32) else {
        return 0;
    };
    // SAFETY: this CPU's slot, valid while the program runs, and the kernel runs a program once at a time on each CPU. What
    // a number is for the verifier once it is written it lets pass to the function.
    unsafe {
        (&raw mut (*executed).dentry).write_volatile(load(exe, &FILE_DENTRY));
        (&raw mut (*executed).mount).write_volatile(load(exe, &FILE_MNT));
    }
    let path_len = match turn {
        Turn::First => exe_path(),
        Turn::Second => exe_path_second(),
    };
    let exe_len = unknown(path_len) & (EXE_BYTES_MAX as u64 - 1);
    // SAFETY: this only makes an address.
    let strings = unsafe { (&raw mut (*executed).strings).cast::<u8>() };
    // SAFETY: after the executable's path, below EXE_BYTES_MAX, there is room for FILENAME_BYTES_MAX bytes.
    let filename_at = unsafe { strings.add(exe_len as usize) };
    let filename: u64 = load(program, &BPRM_FILENAME);
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
    let start: u64 = load(mm, &MM_ARG_START);
    let mut argv_len = load::<u64, _>(mm, &MM_ARG_END).wrapping_sub(start);
    if leaves_out(savings, Saving::Argv) {
        argv_len = 0;
        flags |= PROCESS_REDUCED;
    }
    if argv_len > ARGV_BYTES_MAX as u64 {
        argv_len = ARGV_BYTES_MAX as u64;
        flags |= EXEC_ARGV_TRUNCATED;
    }
    // SAFETY: both paths are below their bounds, and room for ARGV_BYTES_MAX bytes is behind those.
    let failed = unsafe {
        bpf_probe_read_user(
            filename_at.add(filename_len as usize).cast(),
            argv_len as u32,
            start as *const _,
        ) != 0
    };
    if failed {
        argv_len = 0;
        flags |= EXEC_ARGV_TRUNCATED;
    }
    // A mask and no comparison: a number that lies on the stack as well is not bounded there by one, for old verifiers.
    let strings_len =
        unknown(exe_len + filename_len + argv_len + 7) & (EXEC_STRINGS_BYTES as u64 - 8);
    let len = size_of::<Exec>() as u64 + strings_len;
    let Some(attempt) = attempt_for(EventKind::ProcessExec, leader) else {
        return 0;
    };
    let cred = load(leader.0, &TASK_CRED);
    let inode: Object = load(exe, &FILE_INODE);
    let (changed_s, changed_ns) = changed(inode);
    let exec = Exec {
        header: attempt.header(task, leader, len as u32, flags),
        memory_cgroup_id: leader.memory_cgroup_id(),
        inode: load(inode, &INODE_INO),
        changed_s,
        changed_ns,
        device: load(load(inode, &INODE_SB), &SB_DEV),
        lineage: leader.lineage(),
        euid: load(cred, &CRED_EUID),
        egid: load(cred, &CRED_EGID),
        exe_len: exe_len as u16,
        filename_len: filename_len as u16,
        argv_len: argv_len as u16,
        reserved: 0,
    };
    // SAFETY: the record lies in this CPU's slot, and the strings right behind it.
    unsafe {
        let record = &raw mut (*executed).record;
        record.write(exec);
        attempt.submit(record, len);
    }
    0
}

/// When an inode last changed, in seconds and nanoseconds; zeros if this kernel keeps it elsewhere.
#[inline(always)]
fn changed(inode: Object) -> (u64, u32) {
    if has(&INODE_CTIME_SEC) {
        let seconds = load(inode, &INODE_CTIME_SEC);
        return (seconds, load(inode, &INODE_CTIME_NSEC));
    }
    // Before 6.11 both are in one structure, two words long, which was renamed in 6.6.
    let both = match (has(&INODE_CTIME), has(&INODE_CTIME_PRIVATE)) {
        (true, _) => INODE_CTIME.load(),
        (false, true) => INODE_CTIME_PRIVATE.load(),
        (false, false) => return (0, 0),
    };
    let nanoseconds: u64 = load_at(inode, both + 8);
    (load_at(inode, both), nanoseconds as u32)
}

const _: () = assert!(
    core::mem::offset_of!(Executed, strings)
        == core::mem::offset_of!(Executed, record) + size_of::<Exec>()
);

/// Writes the names on the way from the executed file to the root of its mount namespace, and returns their length; 0 if
/// there are too many, or too long ones.
///
/// A function of its own for the verifier, which checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exe_path() -> u64 {
    path(Turn::First)
}

/// As [`exe_path`], for the second turn.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn exe_path_second() -> u64 {
    path(Turn::Second)
}

#[inline(always)]
fn path(turn: Turn) -> u64 {
    const _: () = assert!(EXEC_STRINGS_BYTES >= 2 * EXE_BYTES_MAX);
    let Some(executed) = EXECUTED.get_ptr_mut(turn as u32) else {
        return 0;
    };
    // SAFETY: as in `exec`.
    let executed = unsafe { &mut *executed };
    let mut dentry = executed.dentry;
    let mut mount = Mount::at(executed.mount.wrapping_sub(u64::from(MOUNT_MNT.load())));
    let mut len = 0_u64;
    for _ in 0..EXE_NAMES_MAX {
        // Here, so that all ways through the loop leave the verifier with the same bounds.
        len = unknown(len) & (EXE_BYTES_MAX as u64 - 1);
        if dentry == mount.root {
            if mount.below == mount.address || mount.below == 0 {
                return len;
            }
            dentry = mount.point;
            mount = Mount::at(mount.below);
            continue;
        }
        let (parent, name) = names(dentry);
        // SAFETY: `len` is below EXE_BYTES_MAX, and twice as many bytes are there.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                (&raw mut executed.strings)
                    .cast::<u8>()
                    .add(len as usize)
                    .cast(),
                EXE_BYTES_MAX as u32,
                name as *const _,
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

/// A mount: where it is, what it is mounted on, and its top directory.
struct Mount {
    address: u64,
    below: u64,
    point: u64,
    root: u64,
}

impl Mount {
    #[inline(always)]
    fn at(address: u64) -> Self {
        let parent = MOUNT_PARENT.load();
        let root = MOUNT_MNT.load() + VFSMOUNT_ROOT.load();
        // Side by side on all kernels so far, so that one copy does.
        let [below, point, root] = if MOUNT_POINT.load() == parent + 8 && root == parent + 16 {
            read(address + u64::from(parent))
        } else {
            [
                word(address, &MOUNT_PARENT),
                word(address, &MOUNT_POINT),
                read(address + u64::from(root)),
            ]
        };
        Self {
            address,
            below,
            point,
            root,
        }
    }
}

/// The parent of a dentry, and the address of its name.
#[inline(always)]
fn names(dentry: u64) -> (u64, u64) {
    let parent = DENTRY_PARENT.load();
    // The name's hash and length lie between the two on all kernels so far.
    if DENTRY_NAME.load() == parent + 16 {
        let [parent, _, name] = read::<[u64; 3]>(dentry + u64::from(parent));
        (parent, name)
    } else {
        (word(dentry, &DENTRY_PARENT), word(dentry, &DENTRY_NAME))
    }
}

/// Copies a word that lies `offset` bytes beyond an address; zero if it cannot be read.
#[inline(always)]
fn word<const FIELD: i16>(address: u64, offset: &Offset<FIELD>) -> u64 {
    read(address + u64::from(offset.load()))
}

/// `sched_process_exit(struct task_struct *[, bool group_dead])`
///
/// The second argument is younger than some supported kernels. The count of live threads says on all of them that none is
/// left; but it says so to each thread that is on its way out by then, of which one is the process's end.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    exit(Turn::First, Task(ctx.arg(0)))
}

/// As [`process_exit`], behind it.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit_second(ctx: BtfTracePointContext) -> i32 {
    exit(Turn::Second, Task(ctx.arg(0)))
}

#[inline(always)]
fn exit(turn: Turn, task: Task) -> i32 {
    if !turn.takes(Turns::Exit, task) {
        return 0;
    }
    let signal: Object = load(task.0, &TASK_SIGNAL);
    if load::<u32, _>(signal, &SIGNAL_LIVE) != 0 {
        return 0;
    }
    let leader = Task::leader_of(signal);
    if !is_alone(signal) && !is_first_to_end(task, leader) {
        return 0;
    }
    let Some(mut slot) = reserve_for::<Exit>(EventKind::ProcessExit, leader) else {
        return 0;
    };
    let mut usage = Usage::default();
    let mut reduced = PROCESS_REDUCED;
    if !leaves_out(savings(), Saving::ExitDetail) {
        reduced = 0;
        usage = Usage::of_dead_threads(signal);
        let gone_ns = usage.runtime_ns;
        if load::<u32, _>(signal, &SIGNAL_THREADS) == 1 {
            usage.add(&Usage::of_thread(task));
        } else if let Some(others) = threads::sum(walker(turn), signal) {
            usage.add_listed(others);
        }
        // One that left in between is in neither: a program may be preempted, and most often that was the last other one.
        if load::<u64, _>(signal, &SIGNAL_RUNTIME) != gone_ns {
            usage = Usage::of_dead_threads(signal);
            usage.add(&Usage::of_thread(task));
        }
    }
    let flags: u32 = load(signal, &SIGNAL_FLAGS);
    // Both loads before the choice: the compiler would otherwise choose the pointer and load once, through two types.
    let of_group: u32 = load(signal, &SIGNAL_GROUP_EXIT_CODE);
    let of_leader: u32 = load(leader.0, &TASK_EXIT_CODE);
    let status = if flags & SIGNAL_GROUP_EXIT != 0 {
        of_group
    } else {
        of_leader
    };
    // Only failures can be incidents; a success costs nothing here.
    let own = if status == 0 { 0 } else { own(leader) };
    let (user_ns, system_ns) = cpu_time(usage.user_ns, usage.system_ns, usage.runtime_ns);
    let exit = Exit {
        header: slot.header(
            task,
            leader,
            size_of::<Exit>() as u32,
            leader.process_flags() | own | reduced,
        ),
        user_ns,
        system_ns,
        read_bytes: usage.read_bytes,
        write_bytes: usage.write_bytes,
        max_rss_kib: (load::<u64, _>(signal, &SIGNAL_MAXRSS) as u32).wrapping_mul(PAGE_KIB.load()),
        status,
        parent_tgid: leader.parent().tgid(),
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

/// Who adds up what the threads used.
#[inline(always)]
fn walker(turn: Turn) -> Walker {
    match turn {
        Turn::First => Walker::Exit,
        Turn::Second => Walker::SecondExit,
    }
}

/// Tells whether a process has one thread and has had no other.
#[inline(always)]
fn is_alone(signal: Object) -> bool {
    // What threads that are gone have run is not nothing.
    load::<u32, _>(signal, &SIGNAL_THREADS) == 1 && load::<u64, _>(signal, &SIGNAL_RUNTIME) == 0
}

/// Tells whether the process's end has not been seen yet.
#[inline(always)]
fn is_first_to_end(task: Task, leader: Task) -> bool {
    let process = Process {
        start_boot_ns: leader.start(),
        tgid: task.tgid(),
        reserved: 0,
    };
    ENDED.insert(process, 1, u64::from(BPF_NOEXIST)).is_ok()
}

/// What threads used.
#[derive(Default)]
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
        let runtime_ns = load(signal, &SIGNAL_RUNTIME);
        // Most processes have one thread: none has run that is gone.
        if runtime_ns == 0 {
            return Self::default();
        }
        Self {
            user_ns: load(signal, &SIGNAL_UTIME),
            system_ns: load(signal, &SIGNAL_STIME),
            runtime_ns,
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

    /// Adds what the threads used that the kernel still lists: the caller, a leader that left first, others on their way out.
    #[inline(always)]
    fn add_listed(&mut self, others: &Threads) {
        self.user_ns += others.user_ns;
        self.system_ns += others.system_ns;
        self.runtime_ns += others.runtime_ns;
        self.read_bytes += others.read_bytes;
        self.write_bytes += others.write_bytes;
        self.minor_faults += others.minor_faults;
        self.major_faults += others.major_faults;
        self.voluntary_switches += others.voluntary_switches;
        self.involuntary_switches += others.involuntary_switches;
    }
}

/// `sched_process_hang(struct task_struct *)`
#[btf_tracepoint(function = "sched_process_hang")]
pub fn task_hung(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if let Some(mut slot) = reserve::<TaskHung>(EventKind::TaskHung) {
        let header = slot.header(task, task.leader(), size_of::<TaskHung>() as u32, 0);
        // SAFETY: the slot has room for one.
        unsafe { slot.record().write(TaskHung { header }) };
        slot.submit();
    }
    0
}
