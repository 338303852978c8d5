//! Names of files.

use jiff::Timestamp;
use uuid::Uuid;

/// Extension of a dump.
pub const DUMP_EXTENSION: &str = "mcap";
/// Extension of the file beside it.
pub const SIDECAR_EXTENSION: &str = "json";

/// Extension of the signature of that.
pub const SIGNATURE_EXTENSION: &str = "json.sig";

/// Most bytes of a rule in a name.
const RULE_BYTES_MAX: usize = 64;

/// Returns the wall clock as RFC 3339, in UTC, for nanoseconds since 1970.
pub(super) fn time(unix_ns: u64) -> String {
    timestamp(unix_ns).to_string()
}

/// Returns `<UTC time>-<rule>-<short id>`.
///
/// The time sorts. Of the rule, whatever could mean something to a shell or a path becomes `_`; the id is what follows the last `-`.
pub(super) fn stem(unix_ns: u64, rule: &str, id: Uuid) -> String {
    let time = timestamp(unix_ns).strftime("%Y%m%dT%H%M%SZ");
    format!("{time}{}", ending(rule, id))
}

/// Returns what such a name ends with, whenever it was.
pub(super) fn ending(rule: &str, id: Uuid) -> String {
    let harmless = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let rule: String = rule.chars().take(RULE_BYTES_MAX).map(harmless).collect();
    format!("-{rule}-{}", short_id(id))
}

/// Returns the last eight digits of an id: the first ones of a UUIDv7 are the time, and equal for a minute.
pub fn short_id(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits[digits.len() - 8..].into()
}

fn timestamp(unix_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(unix_ns.into()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_1234_abcd);

    #[test]
    fn stem_is_harmless() {
        assert_eq!(
            stem(1_795_424_400_123_456_789, "signal.fatal", ID),
            "20261123T090000Z-signal.fatal-1234abcd"
        );
        assert_eq!(
            stem(0, "../a b\n-", ID),
            "19700101T000000Z-.._a_b_--1234abcd"
        );
        assert!(stem(u64::MAX, &"x".repeat(1000), ID).len() < 100);
    }

    #[test]
    fn time_is_rfc_3339() {
        assert_eq!(
            time(1_795_424_400_123_456_789),
            "2026-11-23T09:00:00.123456789Z"
        );
    }
}
