//! Reads of kernel memory.
//!
//! [`load`] is a plain load: the verifier knows the type behind the pointer and checks the access, and the kernel turns a bad
//! address into zeros. [`copy`] asks a helper: for what the verifier has no type for.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use core::ffi::c_void;
use recorder_ebpf::fields::ABSENT;

use crate::globals::{
    CGROUP_NODE, CRED_GID, CRED_UID, CSS_CGROUP, CSS_SET_CGROUP, CSS_SET_SUBSYS, MEMORY_SUBSYSTEM,
    NODE_ID, TASK_CGROUPS, TASK_COMM, TASK_CRED, TASK_LEADER, TASK_PARENT, TASK_PID, TASK_START,
    TASK_TGID,
};

/// A pointer to a kernel structure whose type the verifier knows.
pub type Object = *const u8;

/// Loads the field at `offset` of `object`.
#[inline(always)]
pub fn load<T: Copy>(object: Object, offset: &Global<u32>) -> T {
    load_at(object, offset.load())
}

/// Loads what lies `offset` bytes into `object`.
#[inline(always)]
pub fn load_at<T: Copy>(object: Object, offset: u32) -> T {
    // SAFETY: the verifier accepts the program only if the kernel's type information has a field of this size there; a bad
    // address faults inside the kernel's own handler and gives zeros.
    unsafe { core::ptr::read_volatile(object.add(offset as usize).cast()) }
}

/// Whether the running kernel has this field.
#[inline(always)]
pub fn has(offset: &Global<u32>) -> bool {
    offset.load() != ABSENT
}

/// Loads an optional field, zero if the running kernel does not have it.
#[inline(always)]
pub fn load_or_zero(object: Object, offset: &Global<u32>) -> u64 {
    if has(offset) { load(object, offset) } else { 0 }
}

/// Returns the address of the field at `offset` of the structure at `address`.
#[inline(always)]
pub fn address(object: Object, offset: &Global<u32>) -> u64 {
    object as u64 + u64::from(offset.load())
}

/// Copies a `T` from any address; `None` if it cannot be read.
#[inline(always)]
pub fn copy<T: Copy + Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    copy_to(&mut value, size_of::<T>() as u32, address).then_some(value)
}

/// Copies `bytes` bytes from any address to `to`; zeros, and false, if they cannot be read.
#[inline(always)]
pub fn copy_to<T>(to: *mut T, bytes: u32, address: u64) -> bool {
    // SAFETY: every caller passes room for `bytes`, and the verifier checks that it did.
    unsafe { bpf_probe_read_kernel(to.cast::<c_void>(), bytes, address as *const c_void) == 0 }
}

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

    /// When its process started, in nanoseconds since boot.
    #[inline(always)]
    pub fn process_start(self) -> u64 {
        load(load(self.0, &TASK_LEADER), &TASK_START)
    }

    /// The tgid of the parent.
    #[inline(always)]
    pub fn parent_tgid(self) -> u32 {
        load(load(self.0, &TASK_PARENT), &TASK_TGID)
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

    /// The id of its cgroup in the unified hierarchy.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
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
