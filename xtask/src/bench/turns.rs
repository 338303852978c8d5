//! Paired, interleaved runs: every run with something is between two without, and compared with their mean.

use anyhow::Result;

use super::table::Table;

/// What one variant did to one measurement, run by run.
pub struct Outcome {
    /// The measurement with it.
    pub with: Vec<f64>,
    /// How much more it was than the mean of the runs before and after, in percent.
    pub slower: Vec<f64>,
}

/// The measurements of all rounds.
pub struct Turns {
    /// Without anything, by measurement.
    pub bare: Vec<Vec<f64>>,
    /// By variant, then by measurement.
    pub variants: Vec<Vec<Outcome>>,
}

/// Takes `rounds` of turns: `measure` is asked for all its measurements without anything, with the first of `variants`,
/// without, with the second, and so on.
pub fn take<T>(
    rounds: usize,
    variants: &[T],
    mut measure: impl FnMut(Option<&T>) -> Result<Vec<f64>>,
) -> Result<Turns> {
    // The first run warms up: what is read for the first time is read from the disk.
    let metrics = measure(None)?.len();
    let mut before = measure(None)?;
    let mut turns = Turns {
        bare: before.iter().map(|first| vec![*first]).collect(),
        variants: (variants.iter())
            .map(|_| (0..metrics).map(|_| Outcome::new()).collect())
            .collect(),
    };
    for _ in 0..rounds {
        for (variant, outcomes) in variants.iter().zip(&mut turns.variants) {
            let with = measure(Some(variant))?;
            let after = measure(None)?;
            for (number, outcome) in outcomes.iter_mut().enumerate() {
                let bare = f64::midpoint(before[number], after[number]);
                outcome.with.push(with[number]);
                outcome.slower.push((with[number] / bare - 1.0) * 100.0);
            }
            for (all, one) in turns.bare.iter_mut().zip(&after) {
                all.push(*one);
            }
            before = after;
        }
    }
    Ok(turns)
}

impl Outcome {
    fn new() -> Self {
        Self {
            with: Vec::new(),
            slower: Vec::new(),
        }
    }
}

impl Turns {
    /// Adds rows to a table: each measurement (its name and unit) alone, then with each variant, then how much more that is.
    pub fn add(
        self,
        table: &mut Table,
        benchmark: &'static str,
        measurements: &[(&str, &'static str)],
        variants: &[&str],
    ) {
        for ((what, unit), values) in measurements.iter().zip(self.bare) {
            table.add(benchmark, format!("{what}, nobody watches"), unit, values);
        }
        for (variant, outcomes) in variants.iter().zip(self.variants) {
            for ((what, unit), outcome) in measurements.iter().zip(outcomes) {
                table.add(benchmark, format!("{what}, {variant}"), unit, outcome.with);
                let slower = format!("{what}, slowed by {variant}");
                table.add(benchmark, slower, "%", outcome.slower);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variant_is_compared_with_the_runs_around_it() {
        // Without anything the time grows from run to run: 10 (warming up), 10, 20, 30.
        let mut bare = [10.0, 10.0, 20.0, 30.0].into_iter();
        let turns = take(1, &[30.0, 50.0], |variant| {
            Ok(vec![match variant {
                Some(time) => *time,
                None => bare.next().expect("one before and one after each"),
            }])
        })
        .expect("nothing fails");
        assert_eq!(turns.bare, [[10.0, 20.0, 30.0]]);
        let [first, second] = turns.variants.as_slice() else {
            panic!("two variants were given");
        };
        assert_eq!(first[0].slower, [100.0]);
        assert_eq!(second[0].slower, [100.0]);
    }
}
