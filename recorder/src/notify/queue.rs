//! What waits for one target, and when it is tried next. Time is an argument.
//!
//! In order, one at a time: a target that does not take the first would not take the second. After a failure the next
//! attempt waits, twice as long each time: 1 s, 2 s, … up to 5 min.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Again, Notice};

/// Most that wait.
pub(super) const WAITING_MAX: usize = 256;
/// Wait after the first failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait, also if the target wants a longer one.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What waits for a target.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    retry_for: Duration,
    failures_in_a_row: u32,
    not_before: Duration,
    /// Given up, and not told yet.
    given_up: u64,
    pub(super) dropped: u64,
    pub(super) expired: u64,
}

#[derive(Debug)]
struct Waiting {
    notice: Arc<Notice>,
    since: Duration,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Try this; so many before it were given up.
    Try(Arc<Notice>, u64),
    /// Nothing for so long.
    Wait(Duration),
    /// Nothing.
    Nothing,
}

impl Queue {
    pub(super) fn new(retry_for: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            retry_for,
            failures_in_a_row: 0,
            not_before: Duration::ZERO,
            given_up: 0,
            dropped: 0,
            expired: 0,
        }
    }

    /// Takes something to tell; what is too much is dropped: the first of many tell most.
    pub(super) fn push(&mut self, notice: Arc<Notice>, now: Duration) {
        if self.waiting.len() >= WAITING_MAX {
            self.dropped += 1;
            self.given_up += 1;
            return;
        }
        self.waiting.push_back(Waiting { notice, since: now });
    }

    /// Counts what did not even get here.
    pub(super) fn missed(&mut self, notices: u64) {
        self.dropped += notices;
        self.given_up += notices;
    }

    /// Returns what to do now.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        while let Some(first) = self.waiting.front()
            && self.failures_in_a_row > 0
            && now.saturating_sub(first.since) > self.retry_for
        {
            self.waiting.pop_front();
            self.expired += 1;
            self.given_up += 1;
        }
        match self.waiting.front() {
            None => Next::Nothing,
            Some(_) if now < self.not_before => Next::Wait(self.not_before - now),
            Some(first) => Next::Try(Arc::clone(&first.notice), self.given_up),
        }
    }

    /// The first was taken, with what was told of those given up.
    pub(super) fn delivered(&mut self, told: u64) {
        self.waiting.pop_front();
        self.failures_in_a_row = 0;
        self.not_before = Duration::ZERO;
        self.given_up = self.given_up.saturating_sub(told);
    }

    /// The first was not taken.
    pub(super) fn failed(&mut self, now: Duration, again: Again) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let exponent = (self.failures_in_a_row - 1).min(16);
        let usual = (BACKOFF_MIN * (1 << exponent)).min(BACKOFF_MAX);
        let wait = match again {
            Again::Yes => usual.mul_f64(self.jitter()),
            Again::After(wanted) => wanted.clamp(BACKOFF_MIN, BACKOFF_MAX),
            Again::No => {
                self.waiting.pop_front();
                self.given_up += 1;
                Duration::ZERO
            }
        };
        self.not_before = now + wait;
    }

    /// Returns a factor between three quarters and one, so that many hosts do not come back at once.
    fn jitter(&self) -> f64 {
        let id = self.waiting.front().map(|first| first.notice.incident);
        let random = id.map_or(0, |id| id.as_bytes()[15]);
        1.0 - f64::from(random.wrapping_add(self.failures_in_a_row as u8)) / 1024.0
    }

    /// Lets the next attempt be now.
    pub(super) fn hurry(&mut self) {
        self.not_before = Duration::ZERO;
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::notice;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Runs a target that is away from the start until `back`, by a clock that only this test moves.
    ///
    /// Returns when each notice was delivered, and how many attempts there were.
    fn outage(queue: &mut Queue, back: Duration) -> (Vec<Duration>, u32) {
        let (mut now, mut attempts, mut delivered) = (Duration::ZERO, 0, Vec::new());
        loop {
            match queue.next(now) {
                Next::Nothing => return (delivered, attempts),
                Next::Wait(time) => now += time,
                Next::Try(_, told) => {
                    attempts += 1;
                    match now >= back {
                        true => {
                            queue.delivered(told);
                            delivered.push(now);
                        }
                        false => queue.failed(now, Again::Yes),
                    }
                }
            }
        }
    }

    #[test]
    fn a_target_that_comes_back_after_an_hour_gets_everything_within_five_minutes() {
        let mut queue = Queue::new(24 * HOUR);
        let notices: Vec<_> = (0..10).map(|_| Arc::new(notice())).collect();
        for notice in &notices {
            queue.push(Arc::clone(notice), Duration::ZERO);
        }
        let (delivered, attempts) = outage(&mut queue, HOUR);
        assert_eq!(delivered.len(), 10);
        assert!(delivered[0] >= HOUR && delivered[0] <= HOUR + BACKOFF_MAX);
        assert_eq!(delivered[0], delivered[9], "then all at once");
        assert!((20..40).contains(&attempts), "{attempts}");
        assert_eq!((queue.dropped, queue.expired), (0, 0));
    }

    #[test]
    fn what_is_too_much_or_too_old_is_given_up_and_told_once() {
        let mut queue = Queue::new(HOUR);
        for _ in 0..WAITING_MAX + 44 {
            queue.push(Arc::new(notice()), Duration::ZERO);
        }
        assert_eq!((queue.len(), queue.dropped), (WAITING_MAX, 44));
        queue.failed(Duration::ZERO, Again::Yes);
        queue.push(Arc::new(notice()), HOUR);
        assert_eq!(queue.dropped, 45, "there was no room for it");
        assert_eq!(queue.next(2 * HOUR), Next::Nothing);
        assert_eq!(queue.expired, WAITING_MAX as u64);
        queue.push(Arc::new(notice()), 2 * HOUR);
        let Next::Try(_, told) = queue.next(2 * HOUR) else {
            panic!("there is one");
        };
        assert_eq!(told, 45 + WAITING_MAX as u64);
        queue.delivered(told);
        queue.push(Arc::new(notice()), 2 * HOUR);
        assert!(matches!(queue.next(2 * HOUR), Next::Try(_, 0)));
    }

    #[test]
    fn a_target_that_says_when_is_believed_within_bounds_and_one_that_refuses_is_not_asked_again() {
        let mut queue = Queue::new(HOUR);
        for _ in 0..2 {
            queue.push(Arc::new(notice()), Duration::ZERO);
        }
        queue.failed(Duration::ZERO, Again::After(Duration::from_secs(30)));
        assert_eq!(
            queue.next(Duration::ZERO),
            Next::Wait(Duration::from_secs(30))
        );
        queue.failed(Duration::ZERO, Again::After(HOUR));
        assert_eq!(queue.next(Duration::ZERO), Next::Wait(BACKOFF_MAX));
        queue.failed(Duration::ZERO, Again::No);
        assert!(matches!(queue.next(Duration::ZERO), Next::Try(_, 1)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn what_waits_long_without_a_failure_is_not_too_old() {
        let mut queue = Queue::new(Duration::from_secs(1));
        queue.push(Arc::new(notice()), Duration::ZERO);
        assert!(matches!(queue.next(HOUR), Next::Try(..)));
    }
}
