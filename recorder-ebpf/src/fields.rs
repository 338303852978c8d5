//! What the probes must be told about the running kernel.
//!
//! No offset is compiled in. The instructions of the object have the number of a field where its offset is to stand, beyond a
//! mark; the agent resolves each field against the running kernel's type information and writes the offset there before it
//! loads the object. The verifier then checks every load against the kernel's own types and refuses a wrong one. One list
//! serves both sides: the probes number it, the agent has it as a table. Other facts are frozen globals.

/// Offset of a field, or value of a global, that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// What the number of a field is added to where an instruction loads it: a displacement.
///
/// Larger than any that is meant: no structure of the probes' own is as large.
pub const DISPLACEMENT_MARK: i16 = 0x7e00;

/// What the number of a field is added to where an instruction has its offset as a number.
pub const NUMBER_MARK: i32 = 0x7e5f_0000;

/// A field of the kernel that the probes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the probes.
    pub name: &'static str,
    /// The kernel's structure.
    pub structure: &'static str,
    /// Path of members inside it, separated by dots.
    pub member: &'static str,
    /// Whether only some of the supported kernels have it: the probes then do without.
    pub optional: bool,
}

/// Calls `$callback!` with every field, first those that all supported kernels have, then the others.
#[macro_export]
macro_rules! for_each_field {
    ($callback:ident) => {
        $callback! {
            required {
                TASK_PID = task_struct.pid;
                TASK_TGID = task_struct.tgid;
                TASK_COMM = task_struct.comm;
                TASK_FLAGS = task_struct.flags;
                TASK_START = task_struct.start_boottime;
                TASK_LEADER = task_struct.group_leader;
                TASK_PARENT = task_struct.real_parent;
                TASK_CRED = task_struct.real_cred;
                TASK_CGROUPS = task_struct.cgroups;
                TASK_SIGNAL = task_struct.signal;
                TASK_SIGHAND = task_struct.sighand;
                TASK_BLOCKED = task_struct.blocked;
                TASK_MM = task_struct.mm;
                TASK_EXIT_CODE = task_struct.exit_code;
                TASK_UTIME = task_struct.utime;
                TASK_STIME = task_struct.stime;
                TASK_RUNTIME = task_struct.se.sum_exec_runtime;
                TASK_NVCSW = task_struct.nvcsw;
                TASK_NIVCSW = task_struct.nivcsw;
                TASK_MIN_FLT = task_struct.min_flt;
                TASK_MAJ_FLT = task_struct.maj_flt;
                TASK_THREAD_NODE = task_struct.thread_node;
                TASK_THREAD_PID = task_struct.thread_pid;
                PID_LEVEL = pid.level;
                PID_NUMBERS = pid.numbers;
                CRED_UID = cred.uid;
                CRED_GID = cred.gid;
                CRED_EUID = cred.euid;
                CRED_EGID = cred.egid;
                CSS_SET_CGROUP = css_set.dfl_cgrp;
                CSS_SET_SUBSYS = css_set.subsys;
                CSS_CGROUP = cgroup_subsys_state.cgroup;
                CGROUP_NODE = cgroup.kn;
                NODE_ID = kernfs_node.id;
                CGROUP_ROOT = cgroup.root;
                ROOT_HIERARCHY = cgroup_root.hierarchy_id;
                SIGNAL_LIVE = signal_struct.live;
                SIGNAL_THREAD = signal_struct.curr_target;
                SIGNAL_THREADS = signal_struct.nr_threads;
                SIGNAL_THREAD_HEAD = signal_struct.thread_head;
                SIGNAL_FLAGS = signal_struct.flags;
                SIGNAL_GROUP_EXIT_CODE = signal_struct.group_exit_code;
                SIGNAL_UTIME = signal_struct.utime;
                SIGNAL_STIME = signal_struct.stime;
                SIGNAL_RUNTIME = signal_struct.sum_sched_runtime;
                SIGNAL_NVCSW = signal_struct.nvcsw;
                SIGNAL_NIVCSW = signal_struct.nivcsw;
                SIGNAL_MIN_FLT = signal_struct.min_flt;
                SIGNAL_MAJ_FLT = signal_struct.maj_flt;
                SIGNAL_MAXRSS = signal_struct.maxrss;
                SIGNAL_OOM_SCORE_ADJ = signal_struct.oom_score_adj;
                SIGHAND_ACTION = sighand_struct.action;
                KSIGACTION_HANDLER = k_sigaction.sa.sa_handler;
                BPRM_FILENAME = linux_binprm.filename;
                MM_ARG_START = mm_struct.arg_start;
                MM_ARG_END = mm_struct.arg_end;
                MM_TOTAL_VM = mm_struct.total_vm;
                MM_EXE_FILE = mm_struct.exe_file;
                MM_AUXV = mm_struct.saved_auxv;
                FILE_INODE = file.f_inode;
                FILE_DENTRY = file.f_path.dentry;
                FILE_MNT = file.f_path.mnt;
                DENTRY_PARENT = dentry.d_parent;
                DENTRY_NAME = dentry.d_name.name;
                VFSMOUNT_ROOT = vfsmount.mnt_root;
                MOUNT_MNT = mount.mnt;
                MOUNT_PARENT = mount.mnt_parent;
                MOUNT_POINT = mount.mnt_mountpoint;
                MM_RSS_STAT = mm_struct.rss_stat;
                MM_PGTABLES_BYTES = mm_struct.pgtables_bytes;
                RQ_QUEUE = request.q;
                RQ_CMD_FLAGS = request.cmd_flags;
                RQ_SECTOR = request.__sector;
                RQ_PART = request.part;
                RQ_BIO = request.bio;
                BIO_STATUS = bio.bi_status;
                BIO_CMD_FLAGS = bio.bi_opf;
                BIO_SECTOR = bio.bi_iter.bi_sector;
                BIO_BYTES = bio.bi_iter.bi_size;
                BDEV_DISK = block_device.bd_disk;
                DISK_MAJOR = gendisk.major;
                DISK_MINOR = gendisk.first_minor;
                DISK_NAME = gendisk.disk_name;
                MAPPING_HOST = address_space.host;
                MAPPING_ERROR = address_space.wb_err;
                INODE_SB = inode.i_sb;
                INODE_INO = inode.i_ino;
                INODE_RDEV = inode.i_rdev;
                SB_DEV = super_block.s_dev;
                SB_MAGIC = super_block.s_magic;
                SB_ID = super_block.s_id;
                PERCPU_COUNTER_COUNT = percpu_counter.count;
            }
            optional {
                TASK_READ_BYTES = task_struct.ioac.read_bytes;
                TASK_WRITE_BYTES = task_struct.ioac.write_bytes;
                TASK_ERROR_CODE = task_struct.thread.error_code;
                TASK_TRAP_NR = task_struct.thread.trap_nr;
                SIGNAL_READ_BYTES = signal_struct.ioac.read_bytes;
                SIGNAL_WRITE_BYTES = signal_struct.ioac.write_bytes;
                RQ_DISK = request.rq_disk;
                QUEUE_DISK = request_queue.disk;
                BDEV_DEV = block_device.bd_dev;
                BIO_BDEV = bio.bi_bdev;
                BIO_DISK = bio.bi_disk;
                PART_DEV = hd_struct.__dev.devt;
                BIO_BLKG = bio.bi_blkg;
                BLKG_BLKCG = blkcg_gq.blkcg;
                BLKCG_CGROUP = blkcg.css.cgroup;
                MM_RSS_COUNTS = mm_struct.rss_stat.count;
                TASK_STACK = task_struct.stack;
                TASK_SESSION = task_struct.sessionid;
                TASK_LOGIN_UID = task_struct.loginuid;
                TASK_EXECS = task_struct.self_exec_id;
                MCE_STATUS = mce.status;
                MCE_ADDRESS = mce.addr;
                MCE_MISC = mce.misc;
                MCE_GLOBAL_STATUS = mce.mcgstatus;
                MCE_IP = mce.ip;
                MCE_CPU = mce.extcpu;
                MCE_SOCKET = mce.socketid;
                MCE_APIC_ID = mce.apicid;
                MCE_SIGNATURE = mce.cpuid;
                MCE_MICROCODE = mce.microcode;
                MCE_BANK = mce.bank;
                TASK_FS_BASE = task_struct.thread.fsbase;
                TASK_GS_BASE = task_struct.thread.gsbase;
                MM_MAPPINGS = mm_struct.mm_mt.ma_root;
                MAPLE_RANGE_SLOTS = maple_range_64.slot;
                MAPLE_ARANGE_SLOTS = maple_arange_64.slot;
                VMA_START = vm_area_struct.vm_start;
                VMA_END = vm_area_struct.vm_end;
                VMA_FLAGS = vm_area_struct.vm_flags;
                VMA_OFFSET = vm_area_struct.vm_pgoff;
                VMA_FILE = vm_area_struct.vm_file;
                DENTRY_INODE = dentry.d_inode;
                INODE_CTIME_SEC = inode.i_ctime_sec;
                INODE_CTIME_NSEC = inode.i_ctime_nsec;
                INODE_CTIME = inode.i_ctime.tv_sec;
                INODE_CTIME_PRIVATE = inode.__i_ctime.tv_sec;
            }
        }
    };
}

/// Calls `$callback!` with the name of every other fact: a `u32` global that the agent sets.
///
/// - `ARCH`: an [`Arch`](crate::abi::Arch) as number.
/// - `PAGE_KIB`: size of a page in KiB.
/// - `REGISTERS_BYTES`: bytes of the saved user registers.
/// - `REGISTERS_TOP`: how far below the end of the kernel stack they begin; `ABSENT` where a helper finds them.
/// - `REGISTER_IP`, `REGISTER_SP`: their offsets in the saved registers.
/// - `MEMORY_SUBSYSTEM`: index of the memory controller among a task's cgroup subsystems.
/// - `COUNTER_BYTES`: size of a `percpu_counter`.
/// - `MEMORY_HIERARCHY`: number of the cgroup hierarchy that has the memory controller.
/// - `SUBREAPER_BIT`: bit offset in `signal_struct` of the mark of processes that take in orphans.
/// - `AGENT`: tgid of the recorder itself, 0 if it does not know the kernel's number of it.
/// - `PREEMPTIBLE`: 1 where a program at a tracepoint may be preempted, so that a second one stands behind it.
/// - `UPID_BYTES`: size of a `upid`: a pid's number in one namespace, and the namespace.
#[macro_export]
macro_rules! for_each_fact {
    ($callback:ident) => {
        $callback! {
            ARCH PAGE_KIB REGISTERS_BYTES REGISTERS_TOP REGISTER_IP REGISTER_SP MEMORY_SUBSYSTEM COUNTER_BYTES
            MEMORY_HIERARCHY PLACING_HIERARCHY SUBREAPER_BIT UPID_BYTES AGENT PREEMPTIBLE LIMIT_FAILURES LIMIT_PROCESSES
        }
    };
}

macro_rules! table {
    (required { $($global:ident = $structure:ident . $($member:ident).+;)+ }
     optional { $($other:ident = $place:ident . $($inside:ident).+;)+ }) => {
        &[
            $(field(stringify!($global), stringify!($structure), concat_path!($($member)+), false),)+
            $(field(stringify!($other), stringify!($place), concat_path!($($inside)+), true),)+
        ]
    };
}

macro_rules! concat_path {
    ($first:ident $($rest:ident)*) => { concat!(stringify!($first) $(, ".", stringify!($rest))*) };
}

const fn field(
    name: &'static str,
    structure: &'static str,
    member: &'static str,
    optional: bool,
) -> Field {
    Field {
        name,
        structure,
        member,
        optional,
    }
}

/// Every field, as a table: the number of a field is its index.
pub const FIELDS: &[Field] = for_each_field!(table);

const _: () = assert!(FIELDS.len() <= (i16::MAX - DISPLACEMENT_MARK) as usize);
