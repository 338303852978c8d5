//! What the probes are told about the running kernel: see [`recorder_ebpf::fields`].

use std::fs;

use recorder_ebpf::abi::Arch;
use recorder_ebpf::fields::{ABSENT, FIELDS};
use rustix::param::page_size;

use super::btf::Btf;
use super::requirements;

/// The value of every global, and what could not be found.
#[derive(Debug)]
pub struct Facts {
    /// Offsets of the fields, by their numbers; [`ABSENT`] of those that this kernel does not have.
    pub offsets: Vec<u32>,
    /// Name and value of each global.
    pub globals: Vec<(&'static str, u32)>,
    /// Fields that every supported kernel should have and this one has not, as `structure.member`.
    pub missing: Vec<String>,
}

/// The user registers as this architecture's kernel saves them.
struct Registers {
    arch: Arch,
    bytes: u32,
    ip: u32,
    sp: u32,
    /// Bytes from the start of a kernel stack to the registers at its end.
    top: Option<u32>,
    /// Where a thread keeps the processor's word about a fault, if not where x86-64 does: a member of its `task_struct`.
    error_code: Option<&'static str>,
}

/// `struct pt_regs`: <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/ptrace.h#L103>
#[cfg(target_arch = "x86_64")]
const REGISTERS: Registers = Registers {
    arch: Arch::X86_64,
    bytes: 21 * 8,
    ip: 16 * 8,
    sp: 19 * 8,
    // Four pages, the registers last: <https://github.com/torvalds/linux/blob/v5.10/arch/x86/include/asm/processor.h#L810>
    top: Some((16 << 10) - 21 * 8),
    error_code: None,
};

/// `struct user_pt_regs`: <https://github.com/torvalds/linux/blob/v6.12/arch/arm64/include/uapi/asm/ptrace.h#L94>
#[cfg(target_arch = "aarch64")]
const REGISTERS: Registers = Registers {
    arch: Arch::Aarch64,
    bytes: 34 * 8,
    ip: 32 * 8,
    sp: 31 * 8,
    // It depends on the kernel's configuration.
    top: None,
    // The syndrome: <https://github.com/torvalds/linux/blob/v6.12/arch/arm64/include/asm/processor.h#L161>
    error_code: Some("thread.fault_code"),
};

/// What the probes call the field that has the processor's word about a fault.
const ERROR_CODE: &str = "TASK_ERROR_CODE";

/// Returns the kernel's number of this process: that of its pid namespace, if that is the first one.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L46>
fn own_tgid() -> Option<u32> {
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    (namespace.to_str()? == "pid:[4026531836]").then(std::process::id)
}

impl Facts {
    /// Finds out.
    pub fn of(btf: &Btf<'_>) -> Self {
        let mut missing = Vec::new();
        let offsets = FIELDS
            .iter()
            .map(|field| {
                let own = REGISTERS.error_code.filter(|_| field.name == ERROR_CODE);
                let offset = btf.offset(field.structure, own.unwrap_or(field.member));
                if offset.is_none() && !field.optional {
                    missing.push(format!("{}.{}", field.structure, field.member));
                }
                offset.unwrap_or(ABSENT)
            })
            .collect();
        let hierarchies = Hierarchies::of_host();
        let globals = vec![
            ("ARCH", REGISTERS.arch as u32),
            ("PAGE_KIB", u32::try_from(page_size() / 1024).unwrap_or(4)),
            ("REGISTERS_BYTES", REGISTERS.bytes),
            ("REGISTERS_TOP", registers_top(btf)),
            ("REGISTER_IP", REGISTERS.ip),
            ("REGISTER_SP", REGISTERS.sp),
            (
                "MEMORY_SUBSYSTEM",
                btf.enumerator("cgroup_subsys_id", "memory_cgrp_id")
                    .unwrap_or(ABSENT),
            ),
            ("COUNTER_BYTES", btf.size("percpu_counter").unwrap_or(0)),
            ("MEMORY_HIERARCHY", hierarchies.memory.unwrap_or(ABSENT)),
            ("PLACING_HIERARCHY", hierarchies.placing),
            (
                "SUBREAPER_BIT",
                btf.bit("signal_struct", "is_child_subreaper")
                    .unwrap_or(ABSENT),
            ),
            ("AGENT", own_tgid().unwrap_or(0)),
            ("PREEMPTIBLE", u32::from(preemptible())),
            ("UPID_BYTES", btf.size("upid").unwrap_or(0)),
        ];
        Self {
            offsets,
            globals,
            missing,
        }
    }
}

/// Whether a program at a tracepoint may be preempted on this kernel: from 7.0 on.
///
/// <https://github.com/torvalds/linux/commit/a46023d5616ed3ed781e56ca93400eb9490e3646>
pub(super) fn preemptible() -> bool {
    requirements::running().is_some_and(|version| version >= (7, 0))
}

/// Returns where the user registers are in a kernel stack, for kernels without the helper that tells, which came with 5.15.
fn registers_top(btf: &Btf<'_>) -> u32 {
    match has_helper(btf, "task_pt_regs") {
        true => ABSENT,
        false => REGISTERS.top.unwrap_or(ABSENT),
    }
}

/// Whether programs can call the helper of this name.
pub(super) fn has_helper(btf: &Btf<'_>, name: &str) -> bool {
    btf.enumerator("bpf_func_id", &format!("BPF_FUNC_{name}"))
        .is_some()
}

/// Which cgroup hierarchies say where a process belongs, by number; 0 is the unified one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// The one that places processes: the unified one, or on a host that does not use that, the memory controller's.
    pub placing: u32,
    /// The one that has the memory controller.
    pub memory: Option<u32>,
}

impl Hierarchies {
    /// Finds out.
    pub fn of_host() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn of(cgroups: &str, mountinfo: &str) -> Self {
        let memory = hierarchy_of(cgroups, "memory");
        // What is mounted nowhere has nobody who puts a process anywhere in it.
        let is_unified_used = mountinfo.lines().any(|line| line.contains(" - cgroup2 "));
        Self {
            placing: memory.filter(|_| !is_unified_used).unwrap_or(0),
            memory,
        }
    }
}

/// Lines are "number:controllers:path"; what no line names is in the unified hierarchy, if there is one.
fn hierarchy_of(cgroups: &str, controller: &str) -> Option<u32> {
    let mut unified = None;
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?.parse().ok()?, fields.next()?);
        if controllers.split(',').any(|each| each == controller) {
            return Some(number);
        }
        if number == 0 {
            unified = Some(number);
        }
    }
    unified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controllers_hierarchy_places_where_nobody_uses_the_unified_one() {
        let both = "4:memory:/a\n0::/\n";
        let memory = "34 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let unified = "35 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let placing = |cgroups: &str, mounts: &str| Hierarchies::of(cgroups, mounts).placing;
        assert_eq!(placing(both, memory), 4);
        assert_eq!(placing(both, &format!("{memory}{unified}")), 0);
        assert_eq!(placing("0::/user.slice\n", unified), 0);
        assert_eq!(placing("", ""), 0);
    }

    #[test]
    fn the_field_that_differs_between_processors_is_one_of_the_probes() {
        assert!(FIELDS.iter().any(|field| field.name == ERROR_CODE));
    }

    #[test]
    fn the_memory_controller_is_found_in_both_worlds() {
        let hybrid = "9:name=systemd:/\n4:cpu,memory:/a:b\n0::/\n";
        assert_eq!(hierarchy_of(hybrid, "memory"), Some(4));
        assert_eq!(hierarchy_of("0::/user.slice\n", "memory"), Some(0));
        assert_eq!(hierarchy_of("3:cpuset:/\n", "memory"), None);
        assert_eq!(hierarchy_of("", "memory"), None);
    }
}
