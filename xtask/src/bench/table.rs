//! Results: a table for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Several measurements of one thing.
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes measurements; there is at least one.
    pub fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Returns the measurement that `share` of all do not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a few measurements"
        )]
        let index = (share * last as f64).round() as usize;
        self.0[index.min(last)]
    }

    /// Returns the middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// What was measured.
pub struct Table {
    host: Value,
    rows: Vec<Row>,
}

struct Row {
    benchmark: &'static str,
    what: String,
    unit: &'static str,
    sample: Sample,
}

impl Table {
    /// Returns an empty one for this host.
    pub fn new(host: Value) -> Self {
        Self {
            host,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn add(
        &mut self,
        benchmark: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
    ) {
        let what = what.into();
        let sample = Sample::new(values);
        eprintln!("{benchmark}: {what}: {} {unit}", shown(sample.median()));
        self.rows.push(Row {
            benchmark,
            what,
            unit,
            sample,
        });
    }

    /// Returns the table as text: medians, with the smallest and the largest.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let host = |key: &str| self.host[key].as_str().unwrap_or("?").to_owned();
        let _ = writeln!(
            text,
            "{}, {} CPUs, Linux {}, recorder {}, {}",
            host("machine"),
            self.host["cpus"],
            host("kernel"),
            host("recorder"),
            host("peers"),
        );
        let width = self
            .rows
            .iter()
            .map(|row| row.what.len())
            .max()
            .unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<9} {:<width$} {:>12} {:>12} {:>12} {:>4}  unit",
            "benchmark", "what", "median", "min", "max", "n"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<9} {:<width$} {:>12} {:>12} {:>12} {:>4}  {}",
                row.benchmark,
                row.what,
                shown(row.sample.median()),
                shown(row.sample.quantile(0.0)),
                shown(row.sample.quantile(1.0)),
                row.sample.0.len(),
                row.unit
            );
        }
        text
    }

    /// Returns everything as one JSON object.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "benchmark": row.benchmark,
                    "what": row.what,
                    "unit": row.unit,
                    "median": row.sample.median(),
                    "values": row.sample.0,
                })
            })
            .collect();
        let mut text = json!({ "host": self.host, "rows": rows }).to_string();
        text.push('\n');
        text
    }
}

/// Writes a number with three digits or more.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let sample = Sample::new(vec![3.0, 1.0, 2.0]);
        assert!((sample.median() - 2.0).abs() < f64::EPSILON);
        assert!((sample.quantile(1.0) - 3.0).abs() < f64::EPSILON);
        assert!((sample.quantile(0.0) - 1.0).abs() < f64::EPSILON);
    }
}
