//! Time lost for want of CPU, memory and I/O: `/proc/pressure`.

use super::rate::advance;
use super::text::{decimal, lines, number, words};
use crate::event::proto::{Pressure, Stall};

/// The resources, by the names of their files.
pub(super) const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

/// What was lost up to the sample before, in microseconds, by resource: some, full.
#[derive(Debug, Default)]
pub(super) struct Pressures {
    before: [[Option<u64>; 2]; RESOURCES.len()],
}

impl Pressures {
    /// Takes in one of the files, by its place in [`RESOURCES`]; `None` if it says nothing.
    pub(super) fn take(&mut self, resource: usize, text: &[u8]) -> (Option<Stall>, Option<Stall>) {
        let (mut some, mut full) = (None, None);
        let mut now = [None; 2];
        for line in lines(text) {
            let mut words = words(line);
            let (slot, place) = match words.next() {
                Some(b"some") => (0, &mut some),
                Some(b"full") => (1, &mut full),
                _ => continue,
            };
            let before = self.before[resource][slot];
            let (stall, total) = stall(words, before);
            now[slot] = total;
            *place = Some(stall).filter(|stall| *stall != Stall::default());
        }
        self.before[resource] = now;
        (some, full)
    }
}

/// Returns a stall of "avg10=0.50 avg60=0.76 avg300=0.86 total=46443581", and its total in microseconds.
fn stall<'a>(words: impl Iterator<Item = &'a [u8]>, before: Option<u64>) -> (Stall, Option<u64>) {
    let mut stall = Stall::default();
    let mut total = None;
    for word in words {
        let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let value = &word[equals + 1..];
        match &word[..equals] {
            b"avg10" => stall.avg10_percent = decimal(value),
            b"avg60" => stall.avg60_percent = decimal(value),
            b"avg300" => stall.avg300_percent = decimal(value),
            b"total" => total = number(value),
            _ => {}
        }
    }
    let nanoseconds = |microseconds: u64| microseconds.checked_mul(1000);
    stall.total_ns = total.and_then(nanoseconds);
    stall.stalled_ns = before
        .zip(total)
        .and_then(|(before, now)| advance(before, now))
        .and_then(nanoseconds);
    (stall, total)
}

/// Puts what a file said into the list of a sample.
pub(super) fn put(
    slot: &mut Pressure,
    resource: &str,
    (some, full): (Option<Stall>, Option<Stall>),
) {
    super::text::set(&mut slot.resource, resource.as_bytes());
    slot.some = some;
    slot.full = full;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CUT_STEP;

    const BEFORE: &[u8] = b"some avg10=0.50 avg60=0.76 avg300=0.86 total=1000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=10\n";
    const NOW: &[u8] = b"some avg10=1.50 avg60=2.00 avg300=3.25 total=4000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";

    #[test]
    fn averages_totals_and_what_was_lost_in_between() {
        let mut pressures = Pressures::default();
        let (some, _) = pressures.take(1, BEFORE);
        assert_eq!(some.expect("it is there").stalled_ns, None);
        let (some, full) = pressures.take(1, NOW);
        assert_eq!(
            some,
            Some(Stall {
                avg10_percent: Some(1.5),
                avg60_percent: Some(2.0),
                avg300_percent: Some(3.25),
                stalled_ns: Some(3_000_000),
                total_ns: Some(4_000_000),
            })
        );
        assert_eq!(full.expect("it is there").stalled_ns, None, "it went back");
        // Another resource knows nothing of it.
        assert_eq!(pressures.take(2, NOW).0.expect("there").stalled_ns, None);
    }

    #[test]
    fn older_kernels_have_no_full_line_for_cpu_and_some_have_none() {
        let mut pressures = Pressures::default();
        let (some, full) =
            pressures.take(0, b"some avg10=0.50 avg60=0.76 avg300=0.86 total=1000\n");
        assert!(some.is_some() && full.is_none());
        assert_eq!(pressures.take(0, b""), (None, None));
        assert_eq!(
            pressures.take(0, b"some\nfull x y=z total=\n"),
            (None, None)
        );
    }

    #[test]
    fn whatever_the_text_is_nothing_fails() {
        let mut pressures = Pressures::default();
        for cut in (0..=NOW.len()).step_by(CUT_STEP) {
            pressures.take(0, BEFORE);
            pressures.take(0, &NOW[..cut]);
        }
        pressures.take(0, b"some avg10=\xff total=18446744073709551615");
        pressures.take(0, b"some =total total==1");
    }
}
