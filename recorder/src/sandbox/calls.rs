//! System calls that are given up: whoever makes one is told that it is not permitted.

use std::collections::BTreeMap;
use std::{env, io};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// `fchmodat2`, which has one number on all architectures; the library does not know it on each.
const FCHMODAT2: i64 = 452;

/// Calls that start programs, reach other processes or hosts, or change what files may do.
pub(super) const REACH_OUT: &[i64] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    // Other hosts, and services of this one.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    // What files may do and whose they are. Landlock does not ask about it.
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
    // Large surfaces of the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
];

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
    let rules: BTreeMap<i64, Vec<_>> = calls.collect();
    let architecture = TargetArch::try_from(env::consts::ARCH).map_err(io::Error::other)?;
    let not_permitted = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, not_permitted, architecture);
    let program = BpfProgram::try_from(filter.map_err(io::Error::other)?);
    seccompiler::apply_filter(&program.map_err(io::Error::other)?).map_err(io::Error::other)
}
