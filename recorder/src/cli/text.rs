//! Text for people: escaping, colours, numbers with their units, progress.
//!
//! Nothing that came from a process, a file or a device reaches a terminal but through [`escape`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use crate::harmless::{escape, escape_short};
pub use crate::units::{bytes, duration};

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What the reader looks for first.
    Bold,
    /// What may be overlooked.
    Dim,
    /// Failures.
    Red,
    /// Warnings and losses.
    Yellow,
    /// What is as it should be.
    Green,
    /// Names.
    Cyan,
}

/// Writes styles, or leaves them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// Leaves every style out.
    pub const PLAIN: Self = Self { colours: false };
    /// Writes every style.
    pub const COLOURS: Self = Self { colours: true };

    /// Writes styles if standard output is a terminal that wants them (`NO_COLOR`, `TERM=dumb`).
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            colours: io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// Returns a text in a style.
    pub fn paint(self, style: Style, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Yellow => 33,
            Style::Green => 32,
            Style::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes a number with its thousands apart: "1,234,567".
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes a number with its noun: "1 event", "2,000 events".
pub fn plural(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", count(number)),
    }
}

/// Writes the distance from one time to another in seconds, signed, to the microsecond: "-12.345678".
pub fn offset(ns: i128) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    let micros = ns.unsigned_abs() / 1_000;
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Writes a wall-clock time in UTC to the millisecond: "2026-11-23 09:00:00.123 UTC".
pub fn time(unix_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => time
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S%.3f UTC")
            .to_string(),
        Err(_) => format!("{unix_ns} ns after 1970"),
    }
}

/// A line on standard error that says how far a long work has come; nothing at all if that is no terminal.
pub struct Progress {
    what: &'static str,
    total: u64,
    next: Option<Instant>,
    drawn: bool,
}

impl Progress {
    /// How long a work may take before it is said how far it is, and how often.
    const EVERY: Duration = Duration::from_millis(250);

    /// Starts at nothing of `total`.
    pub fn new(what: &'static str, total: u64) -> Self {
        let next = io::stderr()
            .is_terminal()
            .then(|| Instant::now() + Self::EVERY);
        Self {
            what,
            total,
            next,
            drawn: false,
        }
    }

    /// Says that `done` of the total is behind.
    pub fn at(&mut self, done: u64) {
        let Some(next) = self.next else { return };
        let now = Instant::now();
        if now >= next {
            self.next = Some(now + Self::EVERY);
            self.drawn = true;
            let percent = done.saturating_mul(100) / self.total.max(1);
            let mut line = String::new();
            let _ = write!(line, "\r{} {}%\x1b[K", self.what, percent.min(100));
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_palette_writes_no_escape() {
        assert_eq!(Palette::PLAIN.paint(Style::Red, "x"), "x");
        assert_eq!(Palette::COLOURS.paint(Style::Red, "x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn numbers_have_the_unit_people_use() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123_456), "123,456");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(350_999), "350 µs");
        assert_eq!(duration(1_500_000_000), "1.5 s");
        assert_eq!(duration(10_000_000_000), "10 s");
        assert_eq!(duration(184_000_000_000), "3 min 4 s");
        assert_eq!(duration(7_200_000_000_000), "2 h");
        assert_eq!(duration(90_000_000_000_000), "1 d 1 h");
        assert_eq!(offset(-12_345_678_901), "-12.345678");
        assert_eq!(offset(0), "+0.000000");
        assert_eq!(
            time(1_795_424_400_123_456_789),
            "2026-11-23 09:00:00.123 UTC"
        );
    }
}
