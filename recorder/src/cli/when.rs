//! Points in time as people say them to the commands that look back over days.

use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What to write instead of what is no time.
const HOW: &str = "not a time: write 2026-11-23T09:00:00Z, 2026-11-23, today, yesterday, or how long ago: 90m, 24h, 7d";

/// A point in time; days begin at midnight UTC, as in everything that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Nanoseconds since 1970.
    pub unix_ns: i64,
}

/// Reads a point in time.
///
/// # Errors
///
/// What to write instead.
pub fn parse(text: &str) -> Result<When, String> {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    at(text, now)
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .map(|unix_ns| When { unix_ns })
        .ok_or_else(|| HOW.to_owned())
}

fn at(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    let today = now.to_zoned(TimeZone::UTC).date();
    let midnight = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
    match text {
        "now" => return Some(now),
        "today" => return midnight(today),
        "yesterday" => return midnight(today.yesterday().ok()?),
        _ => {}
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(date) = text.parse() {
        return midnight(date);
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim();
    let ago = ago.strip_prefix('-').unwrap_or(ago);
    let ago = match ago.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => SignedDuration::from_hours(days.checked_mul(24)?),
        Some(Err(_)) | None => ago.parse().ok()?,
    };
    match ago.is_negative() {
        true => None,
        false => now.checked_sub(ago).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now: Timestamp = "2026-11-24T18:30:00Z".parse().expect("a time");
        for (text, meant) in [
            ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z"),
            ("2026-11-23T10:00:00+01:00", "2026-11-23T09:00:00Z"),
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("today", "2026-11-24T00:00:00Z"),
            ("yesterday", "2026-11-23T00:00:00Z"),
            ("now", "2026-11-24T18:30:00Z"),
            ("90m", "2026-11-24T17:00:00Z"),
            ("-24h", "2026-11-23T18:30:00Z"),
            ("7d", "2026-11-17T18:30:00Z"),
            ("2d ago", "2026-11-22T18:30:00Z"),
        ] {
            let meant: Timestamp = meant.parse().expect("a time");
            assert_eq!(at(text, now), Some(meant), "{text}");
        }
        for bad in ["", "soon", "24", "99999999999999d", "--5m", "2026-13-01"] {
            assert_eq!(at(bad, now), None, "{bad}");
        }
    }
}
