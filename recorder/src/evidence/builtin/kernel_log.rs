//! The last lines that the kernel logged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;

use super::{Collected, Lack};

/// Lines that are kept.
const LINES_MAX: usize = 400;
/// The kernel gives one record for each read, and none is longer.
///
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/printk/internal.h#L22>
const RECORD_BYTES_MAX: usize = 2048;
/// Most records that are read: more than any log buffer holds.
const RECORDS_MAX: usize = 1 << 20;

/// Puts out the end of the kernel's log: seconds since boot, level, text.
pub(super) fn collect(out: &mut dyn Write) -> Collected {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg");
    let mut file = file.map_err(|error| Lack::Absent(format!("/dev/kmsg: {error}")))?;
    let mut lines = VecDeque::with_capacity(LINES_MAX);
    let mut record = [0; RECORD_BYTES_MAX * 4];
    for _ in 0..RECORDS_MAX {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                let record = record.get(..count).unwrap_or_default();
                lines.extend(line(&String::from_utf8_lossy(record)));
            }
            // Overwritten while it was read: the next read goes on behind it.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Makes a line of a record: "6,339,5140900,-;NET: Registered".
fn line(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let text = text.lines().next().unwrap_or_default();
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    const LEVELS: [&str; 8] = [
        "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
    ];
    let level = LEVELS.get(priority as usize & 7).unwrap_or(&"?");
    Some(format!(
        "[{:>5}.{:06}] {level}: {text}",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_a_line() {
        let record = "3,339,5140900,-;sda: I/O error\n SUBSYSTEM=block\n";
        assert_eq!(
            line(record).as_deref(),
            Some("[    5.140900] err: sda: I/O error")
        );
        assert_eq!(line("nonsense"), None);
        assert_eq!(line("x,1,2;y"), None);
    }
}
