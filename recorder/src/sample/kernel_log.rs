//! The kernel's log: `/dev/kmsg`, from now on.
//!
//! A record of it is "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT", then lines " KEY=value". The kernel writes what does not
//! show as `\xNN`; here it becomes the byte again. Whoever shows a line escapes it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::{Errno, read};

use super::pattern::Pattern;
use super::text::{lines, number, set};
use crate::event::proto::KernelLog;

/// Where the log is.
pub(super) const PATH: &str = "/dev/kmsg";
/// Longest text of a line; more is cut. The kernel's own limit is near it.
const TEXT_MAX: usize = 1024;
/// Longest record: a shorter buffer would lose it.
///
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/printk/internal.h#L33>
const RECORD_MAX: usize = 16 << 10;
/// Lines of this level and graver ones are never filtered: "err".
const NEVER_FILTERED: u64 = 3;
/// Lines that are taken in a second, in the long run: a flood must not push the samples out of their lane.
const LINES_PER_SECOND: u64 = 200;
/// Lines that are taken at once: the kernel's report of an OOM kill on a large host.
const LINES_AT_ONCE: u64 = 4000;

const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// What became of a look into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// There is a line in [`Log::line`].
    Taken,
    /// There was a line that is not wanted.
    Filtered,
    /// There was a line too many.
    LeftOut,
    /// There is none now.
    None,
    /// The log ended, as it does when the device goes away.
    Ended,
}

/// Reads the log.
#[derive(Debug)]
pub(super) struct Log {
    device: File,
    reader: Reader,
    buffer: Box<[u8]>,
}

/// Knows what was read.
#[derive(Debug)]
struct Reader {
    ignored: Vec<Pattern>,
    budget: Budget,
    /// Sequence number of the next line.
    expected: Option<u64>,
    /// Lines lost, and left out, since the last that was taken.
    lost: u64,
    left_out: u64,
    bytes: Vec<u8>,
    line: KernelLog,
}

impl Log {
    /// Opens the log at its end.
    ///
    /// # Errors
    ///
    /// If there is none, or not for this user.
    pub(super) fn open(ignored: &[String]) -> io::Result<Self> {
        let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
        let device = File::options()
            .read(true)
            // The flags of open(2) are a positive int.
            .custom_flags(flags as i32)
            .open(PATH)?;
        seek(&device, SeekFrom::End(0))?;
        Ok(Self {
            device,
            reader: Reader::new(ignored),
            buffer: vec![0; RECORD_MAX].into(),
        })
    }

    /// The descriptor that is readable when there are lines.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Takes the next line.
    pub(super) fn next(&mut self, now_boot_ns: u64) -> Line {
        loop {
            match read(&self.device, &mut self.buffer[..]) {
                Ok(0) => return Line::Ended,
                Ok(len) => {
                    let record = self.buffer.get(..len).unwrap_or_default();
                    return self.reader.take(record, now_boot_ns);
                }
                Err(Errno::AGAIN) => return Line::None,
                // Overwritten: the next read has the oldest line there is, whose number says how many are gone.
                // Interrupted, or longer than the buffer: the same.
                Err(Errno::PIPE | Errno::INTR | Errno::INVAL) => {}
                Err(_) => return Line::Ended,
            }
        }
    }

    /// The line that was taken last.
    pub(super) fn line(&self) -> &KernelLog {
        &self.reader.line
    }
}

impl Reader {
    fn new(ignored: &[String]) -> Self {
        Self {
            ignored: ignored.iter().map(|text| Pattern::new(text)).collect(),
            budget: Budget::default(),
            expected: None,
            lost: 0,
            left_out: 0,
            bytes: Vec::with_capacity(TEXT_MAX),
            line: KernelLog::default(),
        }
    }

    /// Takes in a record.
    fn take(&mut self, record: &[u8], now_boot_ns: u64) -> Line {
        let head_len = record.iter().position(|byte| *byte == b';');
        let (head, body) = record.split_at(head_len.unwrap_or(0));
        let body = body.strip_prefix(b";").unwrap_or(body);
        let mut numbers = head.split(|byte| *byte == b',').map(number);
        let mut next = || numbers.next().flatten();
        let (priority, sequence, microseconds) = (next(), next(), next());
        if let Some(sequence) = sequence {
            if let Some(expected) = self.expected {
                self.lost += sequence.saturating_sub(expected);
            }
            self.expected = Some(sequence.saturating_add(1));
        }
        let mut lines = lines(body);
        unescape(lines.next().unwrap_or_default(), &mut self.bytes);
        let level = priority.map(|priority| priority & 7);
        if level.is_none_or(|level| level > NEVER_FILTERED)
            && self
                .ignored
                .iter()
                .any(|pattern| pattern.matches(&self.bytes))
        {
            return Line::Filtered;
        }
        if !self.budget.take(now_boot_ns) {
            self.left_out += 1;
            return Line::LeftOut;
        }
        let line = &mut self.line;
        name(&mut line.level, level, &LEVELS);
        name(
            &mut line.facility,
            priority.map(|priority| priority >> 3),
            &FACILITIES,
        );
        line.sequence = sequence;
        line.log_time_ns = microseconds.and_then(|time| time.checked_mul(1000));
        text(line, &self.bytes);
        (line.subsystem, line.device) = (None, None);
        for property in lines {
            if let Some(value) = property.strip_prefix(b" SUBSYSTEM=") {
                set(&mut line.subsystem, value);
            } else if let Some(value) = property.strip_prefix(b" DEVICE=") {
                set(&mut line.device, value);
            }
        }
        let count = |count: &mut u64| Some(std::mem::take(count)).filter(|count| *count > 0);
        line.lost_before = count(&mut self.lost);
        line.left_out_before = count(&mut self.left_out);
        Line::Taken
    }
}

/// Sets the text of a line, and the bytes too if they are no text.
fn text(line: &mut KernelLog, bytes: &[u8]) {
    let mut end = bytes.len().min(TEXT_MAX);
    line.truncated = (end < bytes.len()).then_some(true);
    // Not in the middle of a character.
    while end < bytes.len() && end > 0 && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let bytes = &bytes[..end];
    line.raw = match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => None,
        Cow::Owned(_) => Some(bytes.to_vec()),
    };
    set(&mut line.text, bytes);
}

/// Sets a name by its number; a number without a name stands for itself.
fn name(to: &mut Option<String>, number: Option<u64>, names: &[&str]) {
    let Some(number) = number else {
        *to = None;
        return;
    };
    let known = usize::try_from(number)
        .ok()
        .and_then(|index| names.get(index));
    match known {
        Some(name) => set(to, name.as_bytes()),
        None => *to = Some(number.to_string()),
    }
}

/// Turns `\xNN` into the byte it stands for.
fn unescape(text: &[u8], to: &mut Vec<u8>) {
    to.clear();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                to.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                to.push(*first);
                rest = after;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// How many lines may still be taken.
#[derive(Debug)]
struct Budget {
    left: u64,
    filled_boot_ns: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: LINES_AT_ONCE,
            filled_boot_ns: 0,
        }
    }
}

impl Budget {
    fn take(&mut self, now_boot_ns: u64) -> bool {
        const LINE_NS: u64 = 1_000_000_000 / LINES_PER_SECOND;
        let more = now_boot_ns.saturating_sub(self.filled_boot_ns) / LINE_NS;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(LINES_AT_ONCE);
            self.filled_boot_ns = now_boot_ns;
        }
        let taken = self.left > 0;
        self.left -= u64::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(&["* entered * state".into(), "noise".into()])
    }

    #[test]
    fn a_record_becomes_a_line() {
        let mut reader = reader();
        let record = b"3,339,5140900,-;sd 0:0:0:0: [sda] tag#0 FAILED\n SUBSYSTEM=scsi\n DEVICE=+scsi:0:0:0:0\n";
        assert_eq!(reader.take(record, 0), Line::Taken);
        assert_eq!(
            reader.line,
            KernelLog {
                level: Some("err".into()),
                facility: Some("kern".into()),
                sequence: Some(339),
                log_time_ns: Some(5_140_900_000),
                text: Some("sd 0:0:0:0: [sda] tag#0 FAILED".into()),
                subsystem: Some("scsi".into()),
                device: Some("+scsi:0:0:0:0".into()),
                ..KernelLog::default()
            }
        );
        // Nothing of it stays for the next.
        assert_eq!(
            reader.take(b"14,340,5140901,-,caller=T1;hello\n", 0),
            Line::Taken
        );
        assert_eq!(reader.line.facility(), "user");
        assert_eq!(reader.line.level(), "info");
        assert_eq!(
            (reader.line.subsystem.as_ref(), reader.line.lost_before),
            (None, None)
        );
    }

    #[test]
    fn noise_is_filtered_unless_it_is_grave() {
        let mut reader = reader();
        assert_eq!(reader.take(b"6,1,1,-;noise\n", 0), Line::Filtered);
        assert_eq!(
            reader.take(b"6,2,1,-;br0: port 1(veth1) entered blocking state\n", 0),
            Line::Filtered
        );
        assert_eq!(reader.take(b"3,3,1,-;noise\n", 0), Line::Taken);
        assert_eq!(reader.take(b"6,4,1,-;noises\n", 0), Line::Taken);
        assert_eq!(reader.line.lost_before, None, "filtered is not lost");
    }

    #[test]
    fn lines_that_were_overwritten_are_counted_in_their_place() {
        let mut reader = reader();
        reader.take(b"6,10,1,-;a\n", 0);
        reader.take(b"6,15,1,-;b\n", 0);
        assert_eq!(reader.line.lost_before, Some(4));
        // A line that is filtered does not hide a loss.
        reader.take(b"6,18,1,-;noise\n", 0);
        reader.take(b"6,19,1,-;c\n", 0);
        assert_eq!(reader.line.lost_before, Some(2));
    }

    #[test]
    fn a_flood_is_bounded_and_what_is_left_out_is_counted() {
        let mut reader = reader();
        let taken = (0..10_000)
            .filter(|sequence| {
                let record = format!("6,{sequence},1,-;flood\n");
                reader.take(record.as_bytes(), 1_000_000_000) == Line::Taken
            })
            .count();
        assert_eq!(taken as u64, LINES_AT_ONCE);
        assert_eq!(
            reader.take(b"6,10000,1,-;after\n", 2_000_000_000),
            Line::Taken
        );
        assert_eq!(reader.line.left_out_before, Some(10_000 - LINES_AT_ONCE));
        assert_eq!(reader.line.lost_before, None);
    }

    #[test]
    fn escaped_bytes_are_bytes_again() {
        let mut reader = reader();
        reader.take(b"6,1,1,-;a\\x1b[2J\\x5cx41 \\xc3\\xa9 \\xzz \\x4\n", 0);
        assert_eq!(reader.line.text(), "a\u{1b}[2J\\x41 \u{e9} \\xzz \\x4");
        assert_eq!(reader.line.raw, None);
        reader.take(b"6,2,1,-;bad \\xff\\x00 end\n", 0);
        assert_eq!(reader.line.text(), "bad \u{fffd}\0 end");
        assert_eq!(reader.line.raw.as_deref(), Some(&b"bad \xff\0 end"[..]));
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut reader = reader();
        let long = format!("6,1,1,-;a{}\n", "\u{e9}".repeat(TEXT_MAX));
        reader.take(long.as_bytes(), 0);
        assert_eq!(reader.line.truncated, Some(true));
        assert_eq!(reader.line.text().len(), TEXT_MAX - 1);
        assert_eq!(reader.line.raw, None);
        reader.take(b"6,2,1,-;short\n", 0);
        assert_eq!(reader.line.truncated, None);
    }

    #[test]
    fn whatever_a_record_is_nothing_fails() {
        let mut reader = reader();
        for record in [
            &b""[..],
            b";",
            b"no head at all",
            b",,,;x",
            b"99999999999999999999,1,1,-;x",
            b"18446744073709551615,18446744073709551615,18446744073709551615,-;x\n\n SUBSYSTEM=\n",
            b"6,0,1,-;back\n",
            b"6,1,1,-;\\x",
        ] {
            for cut in 0..=record.len() {
                reader.take(&record[..cut], 0);
            }
        }
    }
}
