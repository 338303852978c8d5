//! System calls that are given up: whoever makes one is told that it is not permitted.

use std::collections::BTreeMap;
use std::{env, io};

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// `fchmodat2`, which has one number on all architectures; the library does not know it on each.
const FCHMODAT2: i64 = 452;

/// Calls that start programs, or reach into other processes.
pub(super) const PROGRAMS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
];

/// Calls that reach other hosts, and services of this one.
pub(super) const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
];

/// Calls that change what files may do and whose they are. Landlock does not ask about it.
pub(super) const ATTRIBUTES: &[i64] = &[
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// Calls that no reader has a use for, and that open large surfaces of the kernel.
pub(super) const SURFACES: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
    libc::SYS_pidfd_send_signal,
];

/// Calls that make, remove and rename files, or cut them.
const FILES: &[i64] = &[
    // Where it is asked for in memory, which a filter cannot look at.
    libc::SYS_openat2,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
];

/// Calls that open files, and which of their arguments says for what.
const OPEN: &[(i64, u8)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

/// Flags with which a file is opened to write to it, or made: each by itself.
const TO_WRITE: [libc::c_int; 4] = [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC];

/// Calls that change the kernel or the machine.
pub(super) const CHANGE_THE_KERNEL: &[i64] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// Takes calls from this thread and those that it starts, and every way to gain privileges by executing a program.
///
/// # Errors
///
/// A kernel without filters of system calls, or that refuses this one.
pub(super) fn give_up<'a>(calls: impl IntoIterator<Item = &'a i64>) -> io::Result<()> {
    let calls = calls.into_iter().map(|call| (*call, Vec::new()));
    apply(calls.collect())
}

/// Takes `calls` likewise, and all that change a file system: afterwards this thread can write to what is open, and nowhere else.
///
/// # Errors
///
/// As for [`give_up`].
pub(super) fn give_up_files<'a>(calls: impl IntoIterator<Item = &'a i64>) -> io::Result<()> {
    let calls = calls.into_iter().chain(FILES).chain(ATTRIBUTES);
    let mut rules: BTreeMap<i64, Vec<_>> = calls.map(|call| (*call, Vec::new())).collect();
    for (call, argument) in OPEN {
        let to_write = TO_WRITE.map(|flag| with_flag(*argument, flag));
        let to_write: Result<Vec<_>, _> = to_write.into_iter().collect();
        rules.insert(*call, to_write.map_err(io::Error::other)?);
    }
    apply(rules)
}

/// A call whose argument has a flag.
fn with_flag(argument: u8, flag: libc::c_int) -> Result<SeccompRule, BackendError> {
    let flag = u64::from(flag.unsigned_abs());
    let has = SeccompCmpOp::MaskedEq(flag);
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, has, flag)?;
    SeccompRule::new(vec![condition])
}

/// Refuses the calls that a rule says, or all of a call that has none.
fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>) -> io::Result<()> {
    let architecture = TargetArch::try_from(env::consts::ARCH).map_err(io::Error::other)?;
    let not_permitted = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, not_permitted, architecture);
    let program = BpfProgram::try_from(filter.map_err(io::Error::other)?);
    seccompiler::apply_filter(&program.map_err(io::Error::other)?).map_err(io::Error::other)
}
