//! Memory, swap and paging: `/proc/meminfo`, `/proc/vmstat`.

use super::rate::{advance, per_second};
use super::text::{lines, number, words};
use crate::event::proto::{Memory, Paging};

/// Takes in `/proc/meminfo`: lines like "MemTotal:  24684084 kB".
pub(super) fn meminfo(text: &[u8], memory: &mut Memory) {
    *memory = Memory::default();
    for line in lines(text) {
        let mut words = words(line);
        let field = match words.next().unwrap_or_default() {
            b"MemTotal:" => &mut memory.total_bytes,
            b"MemFree:" => &mut memory.free_bytes,
            b"MemAvailable:" => &mut memory.available_bytes,
            b"Buffers:" => &mut memory.buffers_bytes,
            b"Cached:" => &mut memory.cached_bytes,
            b"AnonPages:" => &mut memory.anonymous_bytes,
            b"Shmem:" => &mut memory.shared_bytes,
            b"Mapped:" => &mut memory.mapped_bytes,
            b"Slab:" => &mut memory.slab_bytes,
            b"SUnreclaim:" => &mut memory.slab_unreclaimable_bytes,
            b"PageTables:" => &mut memory.page_tables_bytes,
            b"KernelStack:" => &mut memory.kernel_stack_bytes,
            b"Dirty:" => &mut memory.dirty_bytes,
            b"Writeback:" => &mut memory.writeback_bytes,
            b"Committed_AS:" => &mut memory.committed_bytes,
            b"Hugetlb:" => &mut memory.hugetlb_bytes,
            b"SwapTotal:" => &mut memory.swap_total_bytes,
            b"SwapFree:" => &mut memory.swap_free_bytes,
            _ => continue,
        };
        *field = words
            .next()
            .and_then(number)
            .and_then(|kib| kib.checked_mul(1024));
    }
}

/// The counters that are looked for, in the order of [`Vmstat::counters`].
const COUNTERS: [&[u8]; 7] = [
    b"pgpgin",
    b"pgpgout",
    b"pswpin",
    b"pswpout",
    b"pgfault",
    b"pgmajfault",
    b"oom_kill",
];

/// What `/proc/vmstat` counted up to the sample before.
#[derive(Debug, Default)]
pub(super) struct Vmstat {
    counters: [Option<u64>; COUNTERS.len()],
    /// Over all zones: older kernels count each by itself.
    direct_scan: Option<u64>,
    background_scan: Option<u64>,
}

impl Vmstat {
    /// Takes in `/proc/vmstat`: lines like "pgpgin 14284350".
    pub(super) fn take(
        &mut self,
        text: &[u8],
        page_bytes: u64,
        interval_ns: Option<u64>,
        to: &mut Paging,
    ) {
        let mut now = Self::default();
        for line in lines(text) {
            // Two of three lines are neither.
            if !matches!(line.first(), Some(b'p' | b'o')) {
                continue;
            }
            let mut words = words(line);
            let name = words.next().unwrap_or_default();
            let value = words.next().and_then(number);
            if let Some(index) = COUNTERS.iter().position(|counter| *counter == name) {
                now.counters[index] = value;
            } else if name.starts_with(b"pgscan_direct") && name != b"pgscan_direct_throttle" {
                add(&mut now.direct_scan, value);
            } else if name.starts_with(b"pgscan_kswapd") {
                add(&mut now.background_scan, value);
            }
        }
        let amount = |index: usize, unit: u64| {
            let amount = advance(self.counters[index]?, now.counters[index]?)?;
            Some(amount.saturating_mul(unit))
        };
        let rate = |amount: Option<u64>| Some(per_second(amount?, interval_ns?));
        let scanned = |before: Option<u64>, now: Option<u64>| rate(advance(before?, now?));
        *to = Paging {
            // These two are in KiB, the others in pages and times.
            in_bytes_per_second: rate(amount(0, 1024)),
            out_bytes_per_second: rate(amount(1, 1024)),
            swap_in_bytes_per_second: rate(amount(2, page_bytes)),
            swap_out_bytes_per_second: rate(amount(3, page_bytes)),
            faults_per_second: rate(amount(4, 1)),
            major_faults_per_second: rate(amount(5, 1)),
            direct_scan_pages_per_second: scanned(self.direct_scan, now.direct_scan),
            background_scan_pages_per_second: scanned(self.background_scan, now.background_scan),
            oom_kills: amount(6, 1),
            oom_kills_total: now.counters[6],
        };
        *self = now;
    }
}

fn add(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CUT_STEP;

    #[test]
    fn meminfo_is_in_bytes_and_what_is_not_there_is_absent() {
        let mut memory = Memory {
            dirty_bytes: Some(1),
            ..Memory::default()
        };
        meminfo(
            b"MemTotal:       24684084 kB\nMemFree:        x kB\nActive(anon):       1544 kB\n\
              Shmem:\nSwapTotal: 18446744073709551615 kB\nSwapFree:     0 kB\n\xff\xff: 1 kB",
            &mut memory,
        );
        assert_eq!(
            memory,
            Memory {
                total_bytes: Some(24_684_084 * 1024),
                swap_free_bytes: Some(0),
                ..Memory::default()
            }
        );
    }

    fn paging(texts: &[&[u8]]) -> Paging {
        let mut vmstat = Vmstat::default();
        let mut paging = Paging::default();
        for text in texts {
            vmstat.take(text, 4096, Some(500_000_000), &mut paging);
        }
        paging
    }

    const BEFORE: &[u8] =
        b"nr_free_pages 7\npgpgin 100\npgpgout 5\npswpin 1\npswpout 2\npgfault 10\npgmajfault 3\n\
        pgscan_kswapd 1\npgscan_direct 2\npgscan_direct_throttle 50\noom_kill 4\n";
    const NOW: &[u8] = b"pgpgin 110\npgpgout 5\npswpin 2\npswpout 4\npgfault 30\npgmajfault 4\n\
        pgscan_kswapd 2\npgscan_direct 6\npgscan_direct_throttle 99\noom_kill 6\n";

    #[test]
    fn paging_has_rates_in_its_units() {
        let paging = paging(&[BEFORE, NOW]);
        assert_eq!(
            paging,
            Paging {
                in_bytes_per_second: Some(20 * 1024),
                out_bytes_per_second: Some(0),
                swap_in_bytes_per_second: Some(2 * 4096),
                swap_out_bytes_per_second: Some(4 * 4096),
                faults_per_second: Some(40),
                major_faults_per_second: Some(2),
                direct_scan_pages_per_second: Some(8),
                background_scan_pages_per_second: Some(2),
                oom_kills: Some(2),
                oom_kills_total: Some(6),
            }
        );
    }

    #[test]
    fn the_first_sample_and_a_counter_set_back_have_no_rates() {
        let first = paging(&[BEFORE]);
        assert_eq!((first.oom_kills, first.oom_kills_total), (None, Some(4)));
        let back = paging(&[NOW, BEFORE]);
        assert_eq!((back.oom_kills, back.in_bytes_per_second), (None, None));
        assert_eq!(back.out_bytes_per_second, Some(0));
    }

    #[test]
    fn scans_of_zones_are_added_up() {
        let before = b"pgscan_direct_dma 1\npgscan_direct_normal 2\n";
        let now = b"pgscan_direct_dma 2\npgscan_direct_normal 4\n";
        let paging = paging(&[before, now]);
        assert_eq!(paging.direct_scan_pages_per_second, Some(6));
    }

    #[test]
    fn whatever_the_text_is_nothing_fails() {
        for cut in (0..=NOW.len()).step_by(CUT_STEP) {
            paging(&[BEFORE, &NOW[..cut], NOW]);
        }
        paging(&[b"pgpgin\npgpgin x\npgpgin 99999999999999999999\npgscan_direct 18446744073709551615\npgscan_direct 9"]);
    }
}
