//! How many dumps have been made lately.

use std::collections::VecDeque;

use super::{Limits, NoDump};

const HOUR_NS: u64 = 60 * 60 * 1_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;
/// Bytes written are kept by the minute.
const MINUTE_NS: u64 = 60 * 1_000_000_000;

/// What counts against the limits.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// When the dumps of the last hour began; no more than are allowed.
    dumps: VecDeque<u64>,
    /// Bytes written in the last day, by the minute.
    bytes: VecDeque<(u64, u64)>,
}

impl Spent {
    /// Returns why a dump may not begin now, if it may not.
    pub(super) fn forbids(&mut self, limits: &Limits, now_boot_ns: u64) -> Option<NoDump> {
        let is_old = |at: u64, span: u64| at.saturating_add(span) <= now_boot_ns;
        while self.dumps.front().is_some_and(|at| is_old(*at, HOUR_NS)) {
            self.dumps.pop_front();
        }
        while self
            .bytes
            .front()
            .is_some_and(|(at, _)| is_old(*at, DAY_NS))
        {
            self.bytes.pop_front();
        }
        let written = self.bytes.iter().fold(0_u64, |sum, (_, bytes)| {
            // What is over the limit is over it by how much ever.
            sum.saturating_add(*bytes)
        });
        if limits.dumps_per_hour > 0 && self.dumps.len() as u64 >= limits.dumps_per_hour {
            Some(NoDump::DumpsPerHour)
        } else if limits.bytes_per_day > 0 && written >= limits.bytes_per_day {
            Some(NoDump::BytesPerDay)
        } else {
            None
        }
    }

    /// A dump begins.
    pub(super) fn begin(&mut self, limits: &Limits, now_boot_ns: u64) {
        if limits.dumps_per_hour > 0 {
            self.dumps.push_back(now_boot_ns);
        }
    }

    /// A dump has been written.
    pub(super) fn written(&mut self, bytes: u64, now_boot_ns: u64) {
        match self.bytes.back_mut() {
            Some((at, sum)) if now_boot_ns < at.saturating_add(MINUTE_NS) => {
                *sum = sum.saturating_add(bytes);
            }
            Some(_) | None => self.bytes.push_back((now_boot_ns, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_and_a_day_are_over_when_they_are_over() {
        let limits = Limits {
            dumps_per_hour: 2,
            bytes_per_day: 100,
        };
        let mut spent = Spent::default();
        spent.begin(&limits, 0);
        assert_eq!(spent.forbids(&limits, 1), None);
        spent.begin(&limits, 10);
        assert_eq!(spent.forbids(&limits, 11), Some(NoDump::DumpsPerHour));
        assert_eq!(spent.forbids(&limits, HOUR_NS), None);
        spent.written(60, 5);
        spent.written(60, 6);
        assert_eq!(spent.forbids(&limits, HOUR_NS), Some(NoDump::BytesPerDay));
        assert_eq!(spent.forbids(&limits, DAY_NS + 5), None);
    }

    #[test]
    fn without_limits_nothing_is_forbidden() {
        let mut spent = Spent::default();
        for at in 0..1000 {
            spent.begin(&Limits::default(), at);
            spent.written(u64::MAX, at);
        }
        assert_eq!(spent.forbids(&Limits::default(), 1000), None);
        assert!(spent.dumps.is_empty());
    }
}
