//! Which host this is.

use std::fs;

use crate::dump::Host;

/// Asks the host who it is.
pub(super) fn identify(environment: Option<String>) -> Host {
    let system = rustix::system::uname();
    Host {
        hostname: system.nodename().to_string_lossy().into_owned(),
        environment,
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        kernel_release: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        cpus: possible_cpus().unwrap_or(1),
        recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns how many CPUs may come online: the kernel's list is "0-7", or "0".
fn possible_cpus() -> Option<u32> {
    let list = line("/sys/devices/system/cpu/possible")?;
    let last: u32 = list.rsplit(['-', ',']).next()?.parse().ok()?;
    Some(last + 1)
}
