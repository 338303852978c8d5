//! The host's memory, and what waits for it.

use std::io::Write;

use super::{Collected, read_text, section, section_if_there};

/// Slabs that are listed.
const SLABS_SHOWN: usize = 25;

/// Puts out totals, pressure, free blocks and the largest slabs.
pub(super) fn collect(out: &mut dyn Write) -> Collected {
    for path in [
        "/proc/meminfo",
        "/proc/pressure/memory",
        "/proc/pressure/io",
        "/proc/pressure/cpu",
        "/proc/loadavg",
        "/proc/swaps",
        "/proc/buddyinfo",
        "/proc/vmstat",
    ] {
        section(out, path)?;
    }
    section_if_there(out, "/proc/sys/vm/overcommit_memory")?;
    writeln!(out, "==> largest of /proc/slabinfo <==")?;
    match read_text("/proc/slabinfo") {
        Ok(text) => {
            writeln!(out, "{:>10} KiB  {:>10} objects  name", "", "active")?;
            for slab in largest(&text) {
                writeln!(
                    out,
                    "{:>10} KiB  {:>10} objects  {}",
                    slab.bytes / 1024,
                    slab.active,
                    slab.name
                )?;
            }
        }
        Err(error) => writeln!(out, "({error})")?,
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Slab<'a> {
    name: &'a str,
    active: u64,
    bytes: u64,
}

/// Returns the slabs that take most: objects times their size.
fn largest(slabinfo: &str) -> Vec<Slab<'_>> {
    let slab = |line| {
        let mut words = str::split_whitespace(line);
        let name = words.next()?;
        let active = words.next()?.parse().ok()?;
        let objects: u64 = words.next()?.parse().ok()?;
        let size: u64 = words.next()?.parse().ok()?;
        Some(Slab {
            name,
            active,
            bytes: objects.saturating_mul(size),
        })
    };
    let mut slabs: Vec<Slab<'_>> = slabinfo.lines().filter_map(slab).collect();
    slabs.sort_by_key(|slab| std::cmp::Reverse(slab.bytes));
    slabs.truncate(SLABS_SHOWN);
    slabs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_slab_is_first_and_headings_are_none() {
        let text = "slabinfo - version: 2.1\n# name <active_objs>\n\
                    small 10 20 8 1 1 : tunables\ndentry 100 200 192 21 1 : tunables\nbroken x y\n";
        let names: Vec<&str> = largest(text).iter().map(|slab| slab.name).collect();
        assert_eq!(names, ["dentry", "small"]);
    }
}
