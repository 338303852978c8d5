//! What a host must have, checked before anything is loaded.

use std::fs;
use std::path::Path;

use thiserror::Error;

use super::btf::VMLINUX;

/// The oldest kernel that is supported, as major and minor version.
pub const KERNEL_MIN: (u32, u32) = (5, 10);

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Something that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lacking {
    /// The kernel is too old.
    #[error("Linux {0} is too old: recorder needs {min_major}.{min_minor} or newer", min_major = KERNEL_MIN.0, min_minor = KERNEL_MIN.1)]
    Kernel(String),
    /// The kernel does not show its types.
    #[error(
        "this kernel has no type information at {VMLINUX}: use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are"
    )]
    TypeInformation,
    /// The process may not load programs.
    #[error(
        "not permitted to load BPF programs: run as root, or give the program CAP_BPF and CAP_PERFMON"
    )]
    Privileges,
}

/// Checks the version of the running kernel and returns its release.
pub fn kernel() -> Result<String, Lacking> {
    let release = release();
    match version(&release) {
        Some(found) if found < KERNEL_MIN => Err(Lacking::Kernel(release)),
        Some(_) | None => Ok(release),
    }
}

/// Returns the major and minor version of the running kernel, where its release says them.
pub(super) fn running() -> Option<(u32, u32)> {
    version(&release())
}

fn release() -> String {
    let system = rustix::system::uname();
    system.release().to_string_lossy().into_owned()
}

/// Checks that the kernel shows its types.
pub fn type_information() -> Result<(), Lacking> {
    match Path::new(VMLINUX).exists() {
        true => Ok(()),
        false => Err(Lacking::TypeInformation),
    }
}

/// Checks that this process may load tracing programs.
pub fn privileges() -> Result<(), Lacking> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match effective_capabilities(&status) {
        Some(capabilities) if !may_load(capabilities) => Err(Lacking::Privileges),
        Some(_) | None => Ok(()),
    }
}

/// Checks all that [`Kernel::load`](super::Kernel::load) needs.
pub(super) fn all() -> Result<(), Lacking> {
    kernel()?;
    type_information()?;
    privileges()
}

fn may_load(capabilities: u64) -> bool {
    capabilities & CAP_SYS_ADMIN != 0
        || capabilities & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_off_releases() {
        assert_eq!(version("6.12.0-rc1+deb13"), Some((6, 12)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert!(version("5.4.0").expect("a version") < KERNEL_MIN);
        assert_eq!(version("custom"), None);
    }

    #[test]
    fn both_capabilities_or_the_old_one_are_needed() {
        assert!(may_load(CAP_SYS_ADMIN));
        assert!(may_load(CAP_BPF | CAP_PERFMON));
        assert!(!may_load(CAP_BPF));
        assert!(!may_load(CAP_PERFMON));
        assert_eq!(
            effective_capabilities("Name:\tx\nCapEff:\t000000c000000000\n"),
            Some(CAP_BPF | CAP_PERFMON)
        );
    }
}
