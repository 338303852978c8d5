//! Block devices, and what their drivers say of their health.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Collected, section_if_there, value};

/// Most devices that are listed.
const DISKS_MAX: usize = 512;

/// What is put out of a device, below its directory in /sys/block: what a driver does not say is left out.
const VALUES: [&str; 31] = [
    "size",
    "ro",
    "stat",
    "inflight",
    "hidden",
    "events",
    "queue/scheduler",
    "queue/rotational",
    "queue/logical_block_size",
    "queue/nr_requests",
    "queue/write_cache",
    "queue/io_timeout",
    "device/vendor",
    "device/model",
    "device/rev",
    "device/firmware_rev",
    "device/state",
    "device/timeout",
    "device/iorequest_cnt",
    "device/iodone_cnt",
    "device/ioerr_cnt",
    "device/iotmo_cnt",
    "device/device_busy",
    "device/eh_timeout",
    "loop/backing_file",
    "dm/name",
    "dm/suspended",
    "md/array_state",
    "md/degraded",
    "md/mismatch_cnt",
    "md/sync_action",
];

/// Puts out every device that has a size.
pub(super) fn collect(out: &mut dyn Write) -> Collected {
    section_if_there(out, "/proc/mdstat")?;
    for disk in below(Path::new("/sys/block")).into_iter().take(DISKS_MAX) {
        let size = fs::read_to_string(disk.join("size")).unwrap_or_default();
        // Loop devices and floppies without a medium.
        if size.trim() == "0" {
            continue;
        }
        writeln!(out, "==> {} <==", disk.display())?;
        for name in VALUES {
            value(out, &disk, name)?;
        }
        for sensors in below(&disk.join("device")) {
            let is_sensors = |path: &Path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with("hwmon"))
            };
            let sensors = match is_sensors(&sensors) {
                true => below(&sensors)
                    .into_iter()
                    .find(|path| is_sensors(path))
                    .unwrap_or(sensors),
                false => continue,
            };
            for name in ["temp1_input", "temp1_crit", "temp1_crit_alarm"] {
                value(out, &sensors, name)?;
            }
        }
        writeln!(out)?;
        out.flush()?;
    }
    section_if_there(out, "/proc/diskstats")?;
    Ok(())
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
