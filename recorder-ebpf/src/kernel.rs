//! Reads of kernel memory.
//!
//! [`load`] is a plain load: the verifier knows the type behind the pointer and checks the access, and the kernel turns a bad
//! address into zeros. [`copy`] asks a helper: for what the verifier has no type for.
//!
//! Kernels before 5.11 give a program the running task as a mere number. The object for them is built with the feature
//! `untyped`: there, [`load`] copies as well.

#[cfg(feature = "untyped")]
use aya_ebpf::helpers::generated::bpf_get_current_task as bpf_get_current_task_btf;
#[cfg(not(feature = "untyped"))]
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
#[cfg(not(feature = "untyped"))]
use core::arch::asm;
use core::ffi::c_void;
use recorder_ebpf::abi::{Lineage, PROCESS_ADOPTED, PROCESS_FORKED};
use recorder_ebpf::fields::ABSENT;
#[cfg(not(feature = "untyped"))]
use recorder_ebpf::fields::DISPLACEMENT_MARK;

use crate::globals::{
    AGENT, CGROUP_NODE, COUNTER_BYTES, CRED_GID, CRED_UID, CSS_CGROUP, CSS_SET_CGROUP,
    CSS_SET_SUBSYS, MEMORY_SUBSYSTEM, MM_RSS_COUNTS, MM_RSS_STAT, NODE_ID, Offset,
    PERCPU_COUNTER_COUNT, PID_LEVEL, PID_NUMBERS, PLACING_HIERARCHY, SIGNAL_FLAGS, SIGNAL_THREAD,
    SUBREAPER_BIT, TASK_CGROUPS, TASK_COMM, TASK_CRED, TASK_FLAGS, TASK_LEADER, TASK_LOGIN_UID,
    TASK_PARENT, TASK_PID, TASK_SESSION, TASK_SIGNAL, TASK_START, TASK_TGID, TASK_THREAD_PID,
    UPID_BYTES,
};

/// Bytes of the numbers of one pid, one for each level of namespaces: no more than 33 of 16 bytes.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/pid_namespace.h#L17>
const NUMBERS_MASK: u64 = 1023;

/// Ancestors looked at: a collector's script, what that starts, and so on.
const ANCESTORS_MAX: usize = 8;

/// A pointer to a kernel structure whose type the verifier knows.
pub type Object = *const u8;

/// Loads a field of `object`: one instruction, whose displacement the agent sets.
#[inline(always)]
#[cfg(not(feature = "untyped"))]
pub fn load<T: Copy, const FIELD: i16>(object: Object, _: &Offset<FIELD>) -> T {
    macro_rules! load {
        ($instruction:literal) => {{
            let value: u64;
            // SAFETY: as in [`load_at`].
            unsafe {
                asm!(
                    $instruction,
                    value = out(reg) value,
                    object = in(reg) object,
                    field = const DISPLACEMENT_MARK + FIELD,
                    options(readonly, nostack, preserves_flags),
                );
            }
            value
        }};
    }
    let value = match size_of::<T>() {
        1 => load!("{value} = *(u8 *)({object} + {field})"),
        2 => load!("{value} = *(u16 *)({object} + {field})"),
        4 => load!("{value} = *(u32 *)({object} + {field})"),
        _ => {
            const { assert!(size_of::<T>() <= 8, "a word at most") };
            load!("{value} = *(u64 *)({object} + {field})")
        }
    };
    // SAFETY: fields are numbers and addresses, any of which is valid; the lowest bytes come first on this machine.
    unsafe { core::mem::transmute_copy(&value) }
}

#[cfg(feature = "untyped")]
pub use fetch as load;

/// Copies a field of `object`; zeros if it cannot be read. What it returns is a mere number to the verifier.
///
/// For probes of what is rare: slower than [`load`] and quicker to verify, since the verifiers of 6.3 and newer look through
/// the names of all types, four times, for each pointer that is loaded off an object they vouch for.
#[inline(always)]
pub fn fetch<T: Copy, const FIELD: i16>(object: Object, offset: &Offset<FIELD>) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: `value` is room for a `T`, which the helper fills whatever happens; fields are numbers and addresses, of which
    // any is valid.
    unsafe {
        let from = (object as u64).wrapping_add(u64::from(offset.load()));
        copy_to(value.as_mut_ptr(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}

/// Loads what lies `offset` bytes into `object`.
#[inline(always)]
#[cfg(not(feature = "untyped"))]
pub fn load_at<T: Copy>(object: Object, offset: u32) -> T {
    // SAFETY: the verifier accepts the program only if the kernel's type information has a field of this size there; a bad
    // address faults inside the kernel's own handler and gives zeros.
    unsafe { core::ptr::read_volatile(object.add(offset as usize).cast()) }
}

/// Copies what lies `offset` bytes into `object`; zeros if it cannot be read.
#[inline(always)]
#[cfg(feature = "untyped")]
pub fn load_at<T: Copy>(object: Object, offset: u32) -> T {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: `value` is room for a `T`, which the helper fills whatever happens; fields are numbers, of which any is valid.
    unsafe {
        let from = (object as u64).wrapping_add(u64::from(offset));
        copy_to(value.as_mut_ptr(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}

/// Whether the running kernel has this field.
#[inline(always)]
pub fn has<const FIELD: i16>(offset: &Offset<FIELD>) -> bool {
    offset.load() != ABSENT
}

/// Loads an optional field, zero if the running kernel does not have it.
#[inline(always)]
pub fn load_or_zero<const FIELD: i16>(object: Object, offset: &Offset<FIELD>) -> u64 {
    if has(offset) { load(object, offset) } else { 0 }
}

/// Returns the address of the field at `offset` of the structure at `address`.
#[inline(always)]
pub fn address<const FIELD: i16>(object: Object, offset: &Offset<FIELD>) -> u64 {
    object as u64 + u64::from(offset.load())
}

/// Returns `value` as one that the compiler knows nothing about.
///
/// What one function returns to another the compiler knows and the verifier does not: a bound would be left out.
#[inline(always)]
pub fn unknown(mut value: u64) -> u64 {
    // SAFETY: it moves a register to itself; no instruction at all would leave line information without one.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// Copies a `T` from any address; `None` if it cannot be read.
#[inline(always)]
pub fn copy<T: Copy + Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    copy_to(&mut value, size_of::<T>() as u32, address).then_some(value)
}

/// Copies a `T` from any address; zeros if it cannot be read.
///
/// Without a branch, as the helper clears what it cannot read: what is read in a loop costs the verifier one path then, not
/// two for each word.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    copy_to(&raw mut value, size_of::<T>() as u32, address);
    value
}

/// Copies `bytes` bytes from any address to `to`; zeros, and false, if they cannot be read.
#[inline(always)]
pub fn copy_to<T>(to: *mut T, bytes: u32, address: u64) -> bool {
    // SAFETY: every caller passes room for `bytes`, and the verifier checks that it did.
    unsafe { bpf_probe_read_kernel(to.cast::<c_void>(), bytes, address as *const c_void) == 0 }
}

/// Bits of `task_struct.flags`: it has executed nothing since it was forked; it is a thread of the kernel's own.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h#L1705>
pub const PF_FORKNOEXEC: u32 = 0x40;
/// See [`PF_FORKNOEXEC`].
pub const PF_KTHREAD: u32 = 0x0020_0000;

/// Flag of `signal_struct.flags`: init, which only what it asks for can end.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched/signal.h#L268>
pub const SIGNAL_UNKILLABLE: u32 = 0x40;

/// A task of the kernel: a thread.
#[derive(Clone, Copy)]
pub struct Task(pub Object);

impl Task {
    /// Returns the running task.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper takes no argument and always has a task to return.
        Self(unsafe { bpf_get_current_task_btf() } as Object)
    }

    /// The kernel's pid.
    #[inline(always)]
    pub fn pid(self) -> u32 {
        load(self.0, &TASK_PID)
    }

    /// The kernel's tgid.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        load(self.0, &TASK_TGID)
    }

    /// When it started, in nanoseconds since boot.
    #[inline(always)]
    pub fn start(self) -> u64 {
        load(self.0, &TASK_START)
    }

    /// The first thread of its process, which stands for the process until the last one is gone.
    ///
    /// By way of a thread that the kernel keeps for the delivery of signals, and which one does not matter. The verifiers of
    /// 6.3 and newer look through the names of all types, four times, for each pointer that is loaded off a task they vouch
    /// for: that took most of the time to start. What lies two steps away they vouch for no more.
    #[inline(always)]
    pub fn leader(self) -> Self {
        Self::leader_of(load(self.0, &TASK_SIGNAL))
    }

    /// As [`Task::leader`], by what all threads of the process share.
    #[inline(always)]
    pub fn leader_of(signal: Object) -> Self {
        Self(load(load(signal, &SIGNAL_THREAD), &TASK_LEADER))
    }

    /// The parent, of one that [`Task::leader`] returned.
    #[inline(always)]
    pub fn parent(self) -> Self {
        Self(load(self.0, &TASK_PARENT))
    }

    /// One if the recorder started the process that it leads, or started what started it, else zero: its crash is no failure of the host.
    ///
    /// Without a branch, since the verifier would follow all that comes behind it once for each ancestor.
    #[inline(always)]
    pub fn is_own(self) -> u8 {
        let agent = AGENT.load();
        let mut ancestor = self.0;
        let mut found = 0;
        for _ in 0..ANCESTORS_MAX {
            ancestor = load(ancestor, &TASK_PARENT);
            let mut same = u64::from(load::<u32, _>(ancestor, &TASK_TGID) ^ agent);
            // SAFETY: arithmetic in a register: one below zero has the highest bit set, and no other 32-bit difference has.
            unsafe {
                core::arch::asm!("{same} += -1", "{same} >>= 63", same = inout(reg) same, options(pure, nomem, nostack));
            }
            found |= same;
        }
        found as u8
    }

    /// Its name, as two words.
    #[inline(always)]
    pub fn comm(self) -> [u64; 2] {
        let offset = TASK_COMM.load();
        [load_at(self.0, offset), load_at(self.0, offset + 8)]
    }

    /// Its real uid and gid.
    #[inline(always)]
    pub fn ids(self) -> (u32, u32) {
        let cred = load(self.0, &TASK_CRED);
        (load(cred, &CRED_UID), load(cred, &CRED_GID))
    }

    /// Where the process belongs that it leads.
    #[inline(always)]
    pub fn lineage(self) -> Lineage {
        let (session, login_uid) = self.login();
        Lineage {
            parent_tgid: self.parent().tgid(),
            ns_tgid: self.ns_pid(),
            session,
            login_uid,
        }
    }

    /// The `PROCESS_*` flags of the process that it leads.
    #[inline(always)]
    pub fn process_flags(self) -> u8 {
        if load::<u32, _>(self.0, &TASK_FLAGS) & PF_FORKNOEXEC == 0 {
            return 0;
        }
        let parent: Object = load(self.parent().0, &TASK_SIGNAL);
        let mut takes_in_orphans = load::<u32, _>(parent, &SIGNAL_FLAGS) & SIGNAL_UNKILLABLE != 0;
        let bit = SUBREAPER_BIT.load();
        if bit == ABSENT {
            takes_in_orphans = true;
        } else {
            // One byte: a word would reach beyond the member where it is the last bit field.
            takes_in_orphans |= load_at::<u8>(parent, bit / 8) >> (bit % 8) & 1 != 0;
        }
        if takes_in_orphans {
            PROCESS_FORKED | PROCESS_ADOPTED
        } else {
            PROCESS_FORKED
        }
    }

    /// Its pid inside its own pid namespace, 0 if unknown.
    #[inline(always)]
    pub fn ns_pid(self) -> u32 {
        let pid: Object = load(self.0, &TASK_THREAD_PID);
        let level: u32 = load(pid, &PID_LEVEL);
        // The verifiers of old kernels want the bound said.
        let number = u64::from(level) * u64::from(UPID_BYTES.load()) & NUMBERS_MASK;
        read(address(pid, &PID_NUMBERS) + number)
    }

    /// Its audit session and the user who logged in, each `u32::MAX` if there is none.
    #[inline(always)]
    pub fn login(self) -> (u32, u32) {
        if has(&TASK_SESSION) && has(&TASK_LOGIN_UID) {
            (load(self.0, &TASK_SESSION), load(self.0, &TASK_LOGIN_UID))
        } else {
            (u32::MAX, u32::MAX)
        }
    }

    /// The id of its cgroup in the hierarchy that places processes.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        if PLACING_HIERARCHY.load() != 0 {
            return self.memory_cgroup_id();
        }
        cgroup_id(load(load(self.0, &TASK_CGROUPS), &CSS_SET_CGROUP))
    }

    /// The id of its cgroup in the hierarchy of the memory controller.
    #[inline(always)]
    pub fn memory_cgroup_id(self) -> u64 {
        let subsystem = MEMORY_SUBSYSTEM.load();
        if subsystem == ABSENT {
            return 0;
        }
        let subsystems = CSS_SET_SUBSYS.load();
        let state = load_at(load(self.0, &TASK_CGROUPS), subsystems + 8 * subsystem);
        cgroup_id(load(state, &CSS_CGROUP))
    }
}

/// Returns the id of a cgroup.
#[inline(always)]
pub fn cgroup_id(cgroup: Object) -> u64 {
    load(load(cgroup, &CGROUP_NODE), &NODE_ID)
}

/// Slots of `rss_stat`.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/mm_types_task.h#L27>
/// Pages of files.
pub const MM_FILEPAGES: u32 = 0;
/// Anonymous pages.
pub const MM_ANONPAGES: u32 = 1;
/// Shared memory.
pub const MM_SHMEMPAGES: u32 = 3;

/// Pages of one kind, as the kernel's own report of the kill has them.
#[inline(always)]
pub fn rss_pages(mm: Object, kind: u32) -> u64 {
    let at = if has(&MM_RSS_COUNTS) {
        // Before 6.2 the counters were plain words.
        address(mm, &MM_RSS_COUNTS) + u64::from(8 * kind)
    } else {
        let counter = COUNTER_BYTES.load().wrapping_mul(kind);
        address(mm, &MM_RSS_STAT) + u64::from(counter) + u64::from(PERCPU_COUNTER_COUNT.load())
    };
    // A counter's central word can be below zero while CPUs hold the rest.
    let pages = read::<i64>(at);
    if pages > 0 { pages as u64 } else { 0 }
}

/// The scheduler's exact run time, split into user and system as the ticks fell: what `getrusage` reports.
///
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/sched/cputime.c#L550>
#[inline(always)]
pub fn cpu_time(user_ns: u64, system_ns: u64, runtime_ns: u64) -> (u64, u64) {
    let ticks = user_ns + system_ns;
    if system_ns == 0 || ticks == 0 {
        return (runtime_ns, 0);
    }
    if user_ns == 0 {
        return (0, runtime_ns);
    }
    // In 65536ths, so that nothing overflows below years of run time.
    let share = (system_ns << 16) / ticks;
    let system = (runtime_ns >> 16) * share + (((runtime_ns & 0xffff) * share) >> 16);
    (runtime_ns - system, system)
}
