//! What counters did between two samples.

const SECOND_NS: u128 = 1_000_000_000;

/// Returns how far a counter went; `None` if it went back: what it counted is another thing now.
pub(super) fn advance(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before)
}

/// As [`advance`], for a counter of 32 bits that starts over from zero.
pub(super) fn advance_32(before: u64, now: u64) -> Option<u64> {
    let (before, now) = (u32::try_from(before).ok()?, u32::try_from(now).ok()?);
    // More than half of its range in one interval is a counter that was set back.
    let advance = now.wrapping_sub(before);
    (advance <= u32::MAX / 2).then(|| advance.into())
}

/// Returns how much that is in a second.
pub(super) fn per_second(amount: u64, interval_ns: u64) -> u64 {
    let rate = u128::from(amount) * SECOND_NS / u128::from(interval_ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Returns the share in percent, to a hundredth.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    hundredths(part as f64 * 100.0 / whole.max(1) as f64)
}

/// Returns a number to a hundredth: as exact as what it is made of, and short to write.
pub(super) fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_back_says_nothing() {
        assert_eq!(advance(5, 7), Some(2));
        assert_eq!(advance(7, 7), Some(0));
        assert_eq!(advance(7, 5), None);
    }

    #[test]
    fn a_counter_of_32_bits_starts_over_or_was_set_back() {
        assert_eq!(advance_32(u32::MAX.into(), 4), Some(5));
        assert_eq!(advance_32(10, 4), None);
        assert_eq!(advance_32(1 << 40, 4), None);
    }

    #[test]
    fn rates_are_exact_and_do_not_overflow() {
        assert_eq!(per_second(3, 1_500_000_000), 2);
        assert_eq!(per_second(u64::MAX, 1), u64::MAX);
        assert_eq!(per_second(1, 0), 1_000_000_000);
        assert_eq!(percent(1, 3), 33.33);
        assert_eq!(percent(0, 0), 0.0);
    }
}
