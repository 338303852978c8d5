//! What the kernel's log says of the end of an agent: whether it was killed for memory, and for whose.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::time::{ClockId, clock_gettime};

use crate::ingest::now_boot_ns;

/// The kernel's log.
const PATH: &str = "/dev/kmsg";
/// Longest record of it.
const RECORD_MAX: usize = 16 << 10;
/// Records of it that are looked at: far more than its buffer has.
const RECORDS_MAX: u32 = 1 << 20;
/// How much the clock of the log and that of the records may differ, in nanoseconds.
const CLOCKS_DIFFER_NS: u64 = 10_000_000_000;

/// Returns how the kernel killed process `pid` after `since_boot_ns`, as "killed for memory: ...", if its log says so.
pub(super) fn for_memory(pid: u32, since_boot_ns: u64) -> Option<String> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let log = File::options().read(true).custom_flags(flags).open(PATH);
    let mut log = log.ok()?;
    let mut search = Search::new(pid, since_boot_ns.saturating_sub(suspended_ns()));
    let mut record = vec![0; RECORD_MAX];
    for _ in 0..RECORDS_MAX {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(len) => search.look(&record[..len]),
            // What was to be read next was overwritten, or is too long: the read after it goes on behind that.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL)) => {}
            Err(_) => break,
        }
    }
    search.found
}

/// Returns how long the host has slept: the clock of the log stood still meanwhile.
fn suspended_ns() -> u64 {
    let awake = clock_gettime(ClockId::Monotonic);
    let awake = u64::try_from(awake.tv_sec).unwrap_or(0) * 1_000_000_000;
    // By seconds, as both clocks are read one after the other.
    now_boot_ns().saturating_sub(awake) / 1_000_000_000 * 1_000_000_000
}

/// Looks for the kill among the lines of the log.
struct Search {
    pid: u32,
    since_ns: u64,
    /// Whose memory the last kill was about, from the line before that of the kill.
    whose: Option<String>,
    found: Option<String>,
}

impl Search {
    fn new(pid: u32, since_ns: u64) -> Self {
        Self {
            pid,
            since_ns,
            whose: None,
            found: None,
        }
    }

    /// Looks at a record: "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT".
    fn look(&mut self, record: &[u8]) {
        let record = String::from_utf8_lossy(record);
        let Some((head, text)) = record.split_once(';') else {
            return;
        };
        let text = text.lines().next().unwrap_or_default();
        let time = head.split(',').nth(2).and_then(|time| time.parse().ok());
        let time_ns = time.unwrap_or(0_u64).saturating_mul(1000);
        if time_ns.saturating_add(CLOCKS_DIFFER_NS) < self.since_ns {
            return;
        }
        // https://github.com/torvalds/linux/blob/v6.12/mm/oom_kill.c#L441
        if let Some(of_kill) = text.strip_prefix("oom-kill:") {
            let field = |name: &str| {
                let mut fields = of_kill.split(',').filter_map(|field| field.split_once('='));
                fields.find_map(|(found, value)| (found == name).then_some(value))
            };
            self.whose = match (field("constraint"), field("oom_memcg")) {
                (Some("CONSTRAINT_MEMCG"), Some(cgroup)) => {
                    Some(format!("cgroup {cgroup} had reached its limit"))
                }
                (Some("CONSTRAINT_NONE"), _) => Some("the host had none left".to_owned()),
                _ => None,
            };
        }
        // https://github.com/torvalds/linux/blob/v6.12/mm/oom_kill.c#L947
        if text.contains(&format!("Killed process {} (", self.pid)) {
            let whose = self.whose.take();
            let of_cgroup = text.starts_with("Memory cgroup");
            let whose = whose.unwrap_or_else(|| match of_cgroup {
                true => "its cgroup had reached its limit".to_owned(),
                false => "the host had none left".to_owned(),
            });
            self.found = Some(format!("killed for memory: {whose}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: &[u8] = b"6,10,90000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
        oom_memcg=/system.slice/recorder.service,task_memcg=/system.slice/recorder.service,task=recorder,pid=71,uid=0\n";
    const KILLED: &[u8] =
        b"3,11,90000009,-;Memory cgroup out of memory: Killed process 71 (recorder) total-vm:1kB\n";

    fn found(pid: u32, since_s: u64, records: &[&[u8]]) -> Option<String> {
        let mut search = Search::new(pid, since_s * 1_000_000_000);
        for record in records {
            search.look(record);
        }
        search.found
    }

    #[test]
    fn a_kill_is_found_by_its_process_and_time_with_the_cgroup_whose_memory_it_was() {
        let of_cgroup =
            "killed for memory: cgroup /system.slice/recorder.service had reached its limit";
        assert_eq!(found(71, 85, &[KILL, KILLED]).as_deref(), Some(of_cgroup));
        // The first of the two lines is left out by the kernel when there are many.
        let unnamed = "killed for memory: its cgroup had reached its limit";
        assert_eq!(found(71, 85, &[KILLED]).as_deref(), Some(unnamed));
        let host = b"3,11,90000009,-;Out of memory: Killed process 71 (recorder) total-vm:1kB\n";
        let of_host = "killed for memory: the host had none left";
        assert_eq!(found(71, 85, &[host]).as_deref(), Some(of_host));
        // Of another process, or long before.
        assert_eq!(found(7, 85, &[KILL, KILLED]), None);
        assert_eq!(found(71, 101, &[KILL, KILLED]), None);
        assert_eq!(found(71, 0, &[b"", b"x", b";", b"6,1;oom-kill:"]), None);
    }
}
