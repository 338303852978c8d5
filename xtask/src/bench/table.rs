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
    /// What was measured, or why nothing was.
    sample: Result<Sample, String>,
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
            sample: Ok(sample),
        });
    }

    /// Adds a row that says why something cannot be measured here.
    pub fn add_missing(
        &mut self,
        benchmark: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        let (what, why) = (what.into(), why.into());
        eprintln!("{benchmark}: {what}: not measured: {why}");
        self.rows.push(Row {
            benchmark,
            what,
            unit: "",
            sample: Err(why),
        });
    }

    /// Returns the table as text: medians, with the smallest and the largest.
    pub fn text(&self) -> String {
        self.text_of(&self.rows.iter().collect::<Vec<_>>())
    }

    /// Returns the text of each benchmark by itself, with its name.
    pub fn texts(&self) -> Vec<(String, String)> {
        let mut texts: Vec<(String, String)> = Vec::new();
        for rows in self
            .rows
            .chunk_by(|one, next| one.benchmark == next.benchmark)
        {
            let rows: Vec<&Row> = rows.iter().collect();
            if let Some(first) = rows.first() {
                texts.push((first.benchmark.to_owned(), self.text_of(&rows)));
            }
        }
        texts
    }

    fn text_of(&self, rows: &[&Row]) -> String {
        let mut text = String::new();
        let host = |key: &str| self.host[key].as_str().unwrap_or("?").to_owned();
        let _ = writeln!(
            text,
            "{}, {} CPUs, Linux {}, recorder {}\nbeside {}",
            host("machine"),
            self.host["cpus"],
            host("kernel"),
            host("recorder"),
            host("peers"),
        );
        let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<9} {:<width$} {:>12} {:>12} {:>12} {:>4}  unit",
            "benchmark", "what", "median", "min", "max", "n"
        );
        for row in rows {
            let (benchmark, what) = (row.benchmark, &row.what);
            let _ = match &row.sample {
                Ok(sample) => writeln!(
                    text,
                    "{benchmark:<9} {what:<width$} {:>12} {:>12} {:>12} {:>4}  {}",
                    shown(sample.median()),
                    shown(sample.quantile(0.0)),
                    shown(sample.quantile(1.0)),
                    sample.0.len(),
                    row.unit
                ),
                Err(why) => writeln!(text, "{benchmark:<9} {what:<width$} not measured: {why}"),
            };
        }
        text
    }

    /// Returns everything as one JSON object.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| match &row.sample {
                Ok(sample) => json!({
                    "benchmark": row.benchmark,
                    "what": row.what,
                    "unit": row.unit,
                    "median": sample.median(),
                    "values": sample.0,
                }),
                Err(why) => json!({
                    "benchmark": row.benchmark,
                    "what": row.what,
                    "not_measured": why,
                }),
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

    #[test]
    fn what_cannot_be_measured_says_why() {
        let mut table = Table::new(json!({ "cpus": 2 }));
        table.add("storm", "with recorder", "ns", vec![3.0]);
        table.add_missing("storm", "with perf", "not installed");
        assert!(table.text().contains("not measured: not installed"));
        let json: Value = serde_json::from_str(&table.json()).expect("it is JSON");
        assert_eq!(json["rows"][0]["median"], 3.0);
        assert_eq!(json["rows"][1]["not_measured"], "not installed");
    }
}
