//! What the disks did: `/proc/diskstats`.

use super::list::Refill;
use super::rate::{advance, advance_32, hundredths, per_second, percent};
use super::text::{lines, number, numbers, set, words};
use crate::event::proto::DiskUsage;

/// Most disks of a sample.
const DISKS_MAX: usize = 128;
/// Counters after the name, as far as any kernel has them.
///
/// <https://github.com/torvalds/linux/blob/v6.12/Documentation/admin-guide/iostats.rst>
const FIELDS: usize = 17;
/// Counters that every kernel has.
const FIELDS_MIN: usize = 11;
const SECTOR_BYTES: u64 = 512;
const MILLISECOND_NS: u64 = 1_000_000;

type Counters = [u64; FIELDS];

/// What a disk had done up to the sample before.
#[derive(Clone, Copy, Debug)]
struct Disk {
    device: (u64, u64),
    counters: Counters,
    /// The sample in which it was seen last.
    round: u64,
}

/// What all disks had done.
#[derive(Debug, Default)]
pub(super) struct Disks {
    before: Vec<Disk>,
    round: u64,
}

impl Disks {
    /// Takes in `/proc/diskstats`; returns how many disks were left out.
    pub(super) fn take(
        &mut self,
        text: &[u8],
        interval_ns: Option<u64>,
        to: &mut Vec<DiskUsage>,
    ) -> u32 {
        self.round += 1;
        let mut list = Refill::new(to, DISKS_MAX);
        let mut disk: &[u8] = b"";
        for line in lines(text) {
            let mut words = words(line);
            let device = (words.next().and_then(number), words.next().and_then(number));
            let ((Some(major), Some(minor)), Some(name)) = (device, words.next()) else {
                continue;
            };
            if is_partition(name, disk) {
                continue;
            }
            disk = name;
            let mut counters = [0; FIELDS];
            if numbers(words, &mut counters) < FIELDS_MIN
                || counters.iter().all(|count| *count == 0)
            {
                continue;
            }
            let before = self.replace((major, minor), counters);
            if let Some(slot) = list.next() {
                usage(slot, before.as_ref().zip(interval_ns), &counters);
                set(&mut slot.name, name);
                device_of(slot, major, minor);
            }
        }
        let round = self.round;
        self.before.retain(|disk| disk.round == round);
        list.finish()
    }

    /// Remembers what a disk has done; returns what it had done before.
    fn replace(&mut self, device: (u64, u64), counters: Counters) -> Option<Counters> {
        let round = self.round;
        match self.before.iter_mut().find(|disk| disk.device == device) {
            Some(disk) => {
                disk.round = round;
                Some(std::mem::replace(&mut disk.counters, counters))
            }
            None => {
                self.before.push(Disk {
                    device,
                    counters,
                    round,
                });
                None
            }
        }
    }
}

/// Tells whether the kernel would name a partition of `disk` so: "sda1" of "sda", "nvme0n1p1" of "nvme0n1".
fn is_partition(name: &[u8], disk: &[u8]) -> bool {
    let Some(mut rest) = name.strip_prefix(disk) else {
        return false;
    };
    match disk.last() {
        None => return false,
        Some(last) if last.is_ascii_digit() => match rest.strip_prefix(b"p") {
            Some(number) => rest = number,
            None => return false,
        },
        Some(_) => {}
    }
    !rest.is_empty() && rest.iter().all(u8::is_ascii_digit)
}

fn device_of(slot: &mut DiskUsage, major: u64, minor: u64) {
    use std::fmt::Write as _;
    let text = slot.device.get_or_insert_default();
    text.clear();
    // A string takes it.
    let _ = write!(text, "{major}:{minor}");
}

fn usage(slot: &mut DiskUsage, before: Option<(&Counters, u64)>, now: &Counters) {
    let [
        reads,
        _,
        read_sectors,
        read_ms,
        writes,
        _,
        write_sectors,
        write_ms,
        _,
        busy_ms,
        queue_ms,
        _,
        _,
        discard_sectors,
        _,
        flushes,
        _,
    ]: [usize; FIELDS] = std::array::from_fn(|index| index);
    let moved = |index: usize| before.and_then(|(before, _)| advance(before[index], now[index]));
    // Times are kept in 32 bits.
    let spent = |index: usize| before.and_then(|(before, _)| advance_32(before[index], now[index]));
    let rate = |index: usize, unit: u64| {
        let (_, interval_ns) = before?;
        Some(per_second(moved(index)?.saturating_mul(unit), interval_ns))
    };
    let latency = |count: usize, time: usize| {
        let times = moved(count).filter(|times| *times > 0)?;
        Some(spent(time)?.saturating_mul(MILLISECOND_NS) / times)
    };
    let share = |index: usize| {
        let (_, interval_ns) = before?;
        Some((spent(index)?.saturating_mul(MILLISECOND_NS), interval_ns))
    };
    let (device, name) = (slot.device.take(), slot.name.take());
    *slot = DiskUsage {
        device,
        name,
        reads_per_second: rate(reads, 1),
        writes_per_second: rate(writes, 1),
        flushes_per_second: rate(flushes, 1),
        read_bytes_per_second: rate(read_sectors, SECTOR_BYTES),
        write_bytes_per_second: rate(write_sectors, SECTOR_BYTES),
        discard_bytes_per_second: rate(discard_sectors, SECTOR_BYTES),
        read_latency_ns: latency(reads, read_ms),
        write_latency_ns: latency(writes, write_ms),
        in_flight: Some(now[8]),
        queue_length: share(queue_ms)
            .map(|(time, all)| hundredths(time as f64 / all.max(1) as f64)),
        // The kernel's clock for it ticks in milliseconds and may run ahead of the interval.
        busy_percent: share(busy_ms).map(|(time, all)| percent(time, all).min(100.0)),
        read_bytes: now[read_sectors].checked_mul(SECTOR_BYTES),
        write_bytes: now[write_sectors].checked_mul(SECTOR_BYTES),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CUT_STEP;

    const BEFORE: &[u8] = b"   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         254       0 vda 100 0 1000 50 200 0 4000 4294967290 0 100 500 0 0 0 0 7 0\n\
         254       1 vda1 100 0 1000 50 200 0 4000 300 0 100 500 0 0 0 0 0 0\n\
         259       0 nvme0n1 1 0 8 1 0 0 0 0 0 1 1\n\
         259       1 nvme0n1p1 1 0 8 1 0 0 0 0 0 1 1\n";
    const NOW: &[u8] = b"   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n\
         254       0 vda 110 0 1200 150 200 0 8000 10 3 600 2500 0 0 0 0 9 0\n\
         254       1 vda1 100 0 1000 50 200 0 4000 300 0 100 500 0 0 0 0 0 0\n\
         259       0 nvme0n1 1 0 8 1 2 0 16 4 0 1 1\n\
         259       1 nvme0n1p1 1 0 8 1 0 0 0 0 0 1 1\n";

    fn disks(texts: &[&[u8]]) -> Vec<DiskUsage> {
        let mut disks = Disks::default();
        let mut list = Vec::new();
        for text in texts {
            disks.take(text, Some(1_000_000_000), &mut list);
        }
        list
    }

    fn names(list: &[DiskUsage]) -> Vec<&str> {
        list.iter().map(DiskUsage::name).collect()
    }

    #[test]
    fn disks_that_did_anything_and_no_partitions() {
        let list = disks(&[BEFORE, NOW]);
        assert_eq!(names(&list), ["vda", "nvme0n1"]);
        let vda = &list[0];
        assert_eq!(vda.device(), "254:0");
        assert_eq!(vda.reads_per_second, Some(10));
        assert_eq!(vda.read_bytes_per_second, Some(200 * 512));
        assert_eq!(vda.write_bytes_per_second, Some(4000 * 512));
        assert_eq!(vda.flushes_per_second, Some(2));
        assert_eq!(vda.read_latency_ns, Some(10_000_000));
        assert_eq!(vda.write_latency_ns, None, "none completed");
        assert_eq!(vda.in_flight, Some(3));
        assert_eq!(vda.queue_length, Some(2.0));
        assert_eq!(vda.busy_percent, Some(50.0));
        assert_eq!(vda.read_bytes, Some(1200 * 512));
        // An older kernel's line, without discards and flushes.
        assert_eq!(list[1].write_latency_ns, Some(2_000_000));
    }

    #[test]
    fn a_disk_that_was_not_there_before_has_no_rates() {
        let list = disks(&[b"", NOW]);
        assert_eq!(names(&list), ["vda", "nvme0n1"]);
        assert_eq!(list[0].reads_per_second, None);
        // Gone for one sample: it may be another disk that took its number.
        let list = disks(&[BEFORE, b"", NOW]);
        assert_eq!(list[0].reads_per_second, None);
    }

    #[test]
    fn another_disk_under_the_same_number_has_no_rates_of_the_old() {
        let other = b" 254 0 vda 1 0 8 1 1 0 8 1 0 1 1 0 0 0 0 0 0\n";
        let list = disks(&[NOW, other]);
        assert_eq!(list[0].reads_per_second, None);
        assert_eq!(list[0].write_bytes_per_second, None);
        assert_eq!(list[0].in_flight, Some(0));
    }

    #[test]
    fn partitions_are_known_by_their_names() {
        for (name, disk, is) in [
            ("sda1", "sda", true),
            ("sdaa", "sda", false),
            ("sda", "sda", false),
            ("md12", "md1", false),
            ("md1p2", "md1", true),
            ("loop10", "loop1", false),
            ("dm-1", "dm-0", false),
            ("mmcblk0p1", "mmcblk0", true),
            ("mmcblk0boot0", "mmcblk0", false),
            ("7", "", false),
        ] {
            assert_eq!(
                is_partition(name.as_bytes(), disk.as_bytes()),
                is,
                "{name} of {disk}"
            );
        }
    }

    #[test]
    fn more_disks_than_a_sample_holds_are_counted() {
        let many: String = (0..200)
            .map(|minor| {
                format!(
                    "8 {minor} sd{} 1 0 8 1 1 0 8 1 0 1 1\n",
                    "x".repeat(minor + 1)
                )
            })
            .collect();
        let mut list = Vec::new();
        let left_out = Disks::default().take(many.as_bytes(), None, &mut list);
        assert_eq!((list.len(), left_out), (DISKS_MAX, 200 - DISKS_MAX as u32));
    }

    #[test]
    fn whatever_the_text_is_nothing_fails() {
        for cut in (0..=NOW.len()).step_by(CUT_STEP) {
            disks(&[BEFORE, &NOW[..cut], NOW]);
        }
        let hostile = b"8 0 \xff\x1b[2J 18446744073709551615 0 18446744073709551615 1 1 0 8 1 0 1 1\n8 0\n\n8 x y 1\n";
        let list = disks(&[hostile, hostile]);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].read_bytes, None, "too large to be true");
    }
}
