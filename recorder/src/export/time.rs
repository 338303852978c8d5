//! Times as text.

use std::fmt::Write as _;

use jiff::Timestamp;

/// Writes timestamps; events come by the thousand in one second, whose text is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    const SECOND_NS: u64 = 1_000_000_000;

    /// Appends a time as RFC 3339 with nanoseconds, in UTC.
    pub(super) fn write(&mut self, line: &mut Vec<u8>, unix_ns: u64) {
        self.fraction(line, unix_ns, 9);
        line.push(b'Z');
    }

    /// Appends a time as ISO 8601 with microseconds and the offset of UTC.
    pub(super) fn write_micros(&mut self, line: &mut Vec<u8>, unix_ns: u64) {
        self.fraction(line, unix_ns, 6);
        line.extend_from_slice(b"+00:00");
    }

    /// Returns the day of a time: "2026-11-23".
    #[cfg_attr(
        not(feature = "parquet"),
        expect(dead_code, reason = "only Parquet files are parted by day")
    )]
    pub(super) fn day(&mut self, unix_ns: u64) -> &str {
        self.second(unix_ns / Self::SECOND_NS);
        self.text.split('T').next().unwrap_or_default()
    }

    fn second(&mut self, second: u64) {
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let seconds = i64::try_from(second).expect("a 64-bit count of nanoseconds");
            let time = Timestamp::from_second(seconds).expect("a time before the year 2555");
            let _ = write!(self.text, "{time}");
            // Without the "Z", which comes behind the fraction.
            self.text.pop();
        }
    }

    fn fraction(&mut self, line: &mut Vec<u8>, unix_ns: u64, digits: usize) {
        self.second(unix_ns / Self::SECOND_NS);
        line.extend_from_slice(self.text.as_bytes());
        let mut text = *b".000000000";
        let mut left = unix_ns % Self::SECOND_NS;
        for digit in text[1..].iter_mut().rev() {
            // A remainder of ten fits.
            *digit += (left % 10) as u8;
            left /= 10;
        }
        line.extend_from_slice(&text[..=digits]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_written() {
        let mut clock = Clock::default();
        for (unix_ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (1_000_000_000, "1970-01-01T00:00:01.000000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            let mut line = Vec::new();
            clock.write(&mut line, unix_ns);
            assert_eq!(String::from_utf8_lossy(&line), text);
        }
        let mut line = Vec::new();
        clock.write_micros(&mut line, 1_000_001_999);
        assert_eq!(line, b"1970-01-01T00:00:01.000001+00:00");
    }
}
