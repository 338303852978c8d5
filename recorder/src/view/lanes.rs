//! A window of time in columns: what failed, what came and went, what the host was like, what was not seen.

use std::ops::Range;

use super::index::{Index, Series};

/// Bars from nothing to all.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What was not recorded.
pub const NOT_SEEN: char = '░';

/// A span of time, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first nanosecond.
    pub from: u64,
    /// Its last one.
    pub to: u64,
}

impl Span {
    /// Returns its length, at least one nanosecond.
    pub fn len(self) -> u64 {
        self.to.saturating_sub(self.from).max(1)
    }

    /// Tells whether a time is in it.
    pub fn contains(self, unix_ns: u64) -> bool {
        (self.from..=self.to).contains(&unix_ns)
    }

    /// Returns the column of a time, of so many; `None` if it is outside.
    pub fn column(self, unix_ns: u64, columns: usize) -> Option<usize> {
        let inside = self.contains(unix_ns) && columns > 0;
        let place = u128::from(unix_ns.saturating_sub(self.from)) * columns as u128
            / u128::from(self.len());
        inside.then(|| {
            usize::try_from(place)
                .unwrap_or(columns)
                .min(columns.saturating_sub(1))
        })
    }

    /// Returns the columns that another span touches.
    pub fn columns(self, other: Self, columns: usize) -> Range<usize> {
        if other.to < self.from || self.to < other.from || columns == 0 {
            return 0..0;
        }
        let first = self.column(other.from.max(self.from), columns).unwrap_or(0);
        let last = self.column(other.to.min(self.to), columns);
        first..last.map_or(columns, |last| last + 1)
    }

    /// Returns a span of another length around a time, which keeps its place on the screen; inside `whole`.
    pub fn zoom(self, at: u64, into: bool, whole: Self) -> Self {
        let scale = |part: u64| match into {
            true => part / 2,
            false => part.saturating_mul(2).saturating_add(1),
        };
        let at = at.clamp(self.from, self.to);
        Self {
            from: at.saturating_sub(scale(at - self.from)).max(whole.from),
            to: at.saturating_add(scale(self.to - at)).min(whole.to),
        }
    }

    /// Returns the same length of time with a time in it.
    pub fn follow(self, unix_ns: u64, whole: Self) -> Self {
        if self.contains(unix_ns) {
            return self;
        }
        let half = self.len() / 2;
        let from = unix_ns.saturating_sub(half).max(whole.from);
        let to = from.saturating_add(self.len()).min(whole.to);
        Self { from, to }
    }
}

/// Events by column.
#[derive(Default)]
pub struct Counts {
    /// Failures.
    pub failures: Vec<u32>,
    /// What came and went.
    pub lifecycle: Vec<u32>,
    /// Whether records are known to be missing.
    pub lost: Vec<bool>,
}

impl Counts {
    /// Counts the rows of a span that `lane` says to be failures (`Some(true)`) or lifecycle (`Some(false)`).
    pub fn of(
        index: &Index<'_>,
        span: Span,
        columns: usize,
        lane: impl Fn(u8) -> Option<bool>,
    ) -> Self {
        let mut counts = Self {
            failures: vec![0; columns],
            lifecycle: vec![0; columns],
            lost: vec![false; columns],
        };
        for row in &index.rows {
            let (Some(column), Some(failure)) =
                (span.column(row.unix_ns, columns), lane(row.topic))
            else {
                continue;
            };
            let lane = match failure {
                true => &mut counts.failures,
                false => &mut counts.lifecycle,
            };
            if let Some(count) = lane.get_mut(column) {
                *count = count.saturating_add(1);
            }
        }
        for (from, to) in &index.gaps {
            let gap = Span {
                from: *from,
                to: *to,
            };
            for lost in counts
                .lost
                .get_mut(span.columns(gap, columns))
                .unwrap_or_default()
            {
                *lost = true;
            }
        }
        counts
    }
}

/// Draws how many failures a column has: up to nine as a digit.
pub fn digit(count: u32) -> char {
    match count {
        0 => ' ',
        1..=9 => char::from_digit(count, 10).unwrap_or('+'),
        10.. => '+',
    }
}

/// Draws counts as bars whose height doubles with each eightfold of the highest.
pub fn bars(counts: &[u32]) -> Vec<char> {
    let highest = counts.iter().max().copied().unwrap_or(0);
    let log = |count: u32| f64::from(count).ln_1p();
    let bar = |count: &u32| match count {
        0 => ' ',
        _ => level(log(*count) / log(highest)),
    };
    counts.iter().map(bar).collect()
}

/// Draws a series; a column without a sample shows the one before it, as long as samples come regularly.
pub fn line(series: &Series, span: Span, columns: usize) -> Vec<char> {
    let mut highest: Vec<Option<f64>> = vec![None; columns];
    let most = full(series);
    for (unix_ns, value) in &series.points {
        let column = span.column(*unix_ns, columns);
        if let Some(slot) = column.and_then(|column| highest.get_mut(column)) {
            *slot = Some(slot.map_or(*value, |known| known.max(*value)));
        }
    }
    let times = || series.points.iter().map(|(unix_ns, _)| *unix_ns);
    let pause = times().zip(times().skip(1)).map(|(one, next)| next - one);
    let pause = pause.min().unwrap_or(0);
    let together = u128::from(pause) * 2 * columns as u128 / u128::from(span.len());
    let together = usize::try_from(together).unwrap_or(columns);
    let mut last: Option<(usize, f64)> = None;
    let mut cells = Vec::with_capacity(columns);
    for (column, value) in highest.into_iter().enumerate() {
        if let Some(value) = value {
            last = Some((column, value));
        }
        cells.push(match last {
            Some((at, value)) if column - at <= together => match value > 0.0 {
                true => level(value / most),
                false => '▁',
            },
            _ => ' ',
        });
    }
    cells
}

/// Returns what fills a cell: a hundred percent, or the highest value there is.
fn full(series: &Series) -> f64 {
    if series.measure.unit == "percent" {
        return 100.0;
    }
    let values = series.points.iter().map(|(_, value)| *value);
    values.fold(f64::MIN_POSITIVE, f64::max)
}

/// Returns the last value of a series up to a time.
pub fn value_at(series: &Series, unix_ns: u64) -> Option<f64> {
    let next = series.points.partition_point(|(at, _)| *at <= unix_ns);
    let point = series.points.get(next.checked_sub(1)?);
    point.map(|(_, value)| *value)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the bars"
)]
fn level(share: f64) -> char {
    let last = BARS.len() - 1;
    let bar = (share.clamp(0.0, 1.0) * last as f64).ceil() as usize;
    BARS.get(bar.clamp(1, last)).copied().unwrap_or('█')
}
