//! Mounts, and the space on each.

use std::io::Write;

use rustix::fs::statvfs;

use super::{Collected, read_text};

/// File systems that hold no data of their own.
const WITHOUT_SPACE: [&str; 18] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];
/// Most mounts that are asked for their space.
const MOUNTS_MAX: usize = 512;

/// Puts out all mounts, then asks each for its space: each is named before it is asked, since one whose server is gone never
/// answers.
pub(super) fn collect(out: &mut dyn Write) -> Collected {
    let mounts = read_text("/proc/self/mountinfo")?;
    writeln!(out, "==> /proc/self/mountinfo <==\n{mounts}\n==> space <==")?;
    for (kind, place) in mounts.lines().filter_map(mount).take(MOUNTS_MAX) {
        if WITHOUT_SPACE.contains(&kind) {
            continue;
        }
        write!(out, "{place} ({kind}): ")?;
        out.flush()?;
        match statvfs(unescape(place).as_slice()) {
            Ok(space) => {
                let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
                writeln!(
                    out,
                    "{} bytes, {} free, {} available; {} inodes, {} free",
                    bytes(space.f_blocks),
                    bytes(space.f_bfree),
                    bytes(space.f_bavail),
                    space.f_files,
                    space.f_ffree,
                )?;
            }
            Err(error) => writeln!(out, "({error})")?,
        }
    }
    Ok(())
}

/// Takes type and place out of a line.
fn mount(line: &str) -> Option<(&str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    Some((after.split(' ').next()?, before.split(' ').nth(4)?))
}

/// Undoes the kernel's escapes of blanks: "\040".
fn unescape(place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = place.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| {
            *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        match octal {
            Some(digits) => {
                bytes.push(digits.iter().fold(0_u8, |value, digit| {
                    value.wrapping_mul(8).wrapping_add(digit - b'0')
                }));
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_with_blanks_is_asked_by_its_name() {
        let line = "36 35 98:0 / /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/sda1 rw";
        assert_eq!(mount(line), Some(("ext4", "/mnt/my\\040disk")));
        assert_eq!(unescape("/mnt/my\\040disk\\"), b"/mnt/my disk\\");
        assert_eq!(mount("nonsense"), None);
    }
}
