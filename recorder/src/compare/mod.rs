//! In what two dumps differ: two incidents, or an incident and a dump of healthier times.
//!
//! Each is read once into a [`Profile`], which is bounded whatever is in the dump; [`compare`] puts two side by side.

mod profile;

use std::collections::BTreeMap;

use serde::Serialize;

pub use profile::Profile;

/// How many times as much something must be to be called different.
const FACTOR: f64 = 1.5;

/// Something that is not the same in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// What kind of thing: "host", "events", "deaths".
    pub section: &'static str,
    /// Which one.
    pub name: String,
    /// What it is in the first; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<String>,
    /// What it is in the second; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<String>,
}

/// Returns in what the second differs from the first, by section.
pub fn compare(a: &Profile, b: &Profile) -> Vec<Difference> {
    let mut differences = Vec::new();
    texts(&mut differences, "host", &a.host, &b.host);
    texts(&mut differences, "incident", &a.incident, &b.incident);
    texts(&mut differences, "probes", &a.probes, &b.probes);
    texts(&mut differences, "configuration", &a.config, &b.config);
    let (seconds_a, seconds_b) = (a.seconds(), b.seconds());
    let rates = |counts: &BTreeMap<String, u64>, seconds: f64| {
        let rate = |(name, count): (&String, &u64)| (name.clone(), *count as f64 / seconds);
        counts.iter().map(rate).collect::<BTreeMap<_, _>>()
    };
    numbers(
        &mut differences,
        "events per second",
        &rates(&a.types, seconds_a),
        &rates(&b.types, seconds_b),
    );
    counts(&mut differences, "deaths", &a.deaths, &b.deaths);
    counts(&mut differences, "failures", &a.failures, &b.failures);
    counts(&mut differences, "kernel log", &a.log, &b.log);
    presence(&mut differences, "programs", &a.programs, &b.programs);
    numbers(&mut differences, "samples, mean", &a.means(), &b.means());
    differences
}

fn texts(
    out: &mut Vec<Difference>,
    section: &'static str,
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) {
    both(out, section, a, b, |a, b| a != b, Clone::clone);
}

fn counts(
    out: &mut Vec<Difference>,
    section: &'static str,
    a: &BTreeMap<String, u64>,
    b: &BTreeMap<String, u64>,
) {
    both(out, section, a, b, |a, b| a != b, u64::to_string);
}

fn presence(
    out: &mut Vec<Difference>,
    section: &'static str,
    a: &BTreeMap<String, u64>,
    b: &BTreeMap<String, u64>,
) {
    both(out, section, a, b, |_, _| false, u64::to_string);
}

fn numbers(
    out: &mut Vec<Difference>,
    section: &'static str,
    a: &BTreeMap<String, f64>,
    b: &BTreeMap<String, f64>,
) {
    let differ = |a: &f64, b: &f64| {
        let (low, high) = (a.min(*b), a.max(*b));
        high > low * FACTOR && high - low > 0.01
    };
    both(out, section, a, b, differ, |number| short(*number));
}

fn both<T>(
    out: &mut Vec<Difference>,
    section: &'static str,
    a: &BTreeMap<String, T>,
    b: &BTreeMap<String, T>,
    differ: impl Fn(&T, &T) -> bool,
    text: impl Fn(&T) -> String,
) {
    let only_b = b.keys().filter(|name| !a.contains_key(*name));
    for name in a.keys().chain(only_b) {
        let (a, b) = (a.get(name), b.get(name));
        if let (Some(a), Some(b)) = (a, b)
            && !differ(a, b)
        {
            continue;
        }
        out.push(Difference {
            section,
            name: name.clone(),
            a: a.map(&text),
            b: b.map(&text),
        });
    }
}

/// Writes a number with three digits that matter.
fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<T: Copy>(of: &[(&str, T)]) -> BTreeMap<String, T> {
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn what_is_much_the_same_is_no_difference() {
        let mut out = Vec::new();
        let a = map(&[("load", 1.0), ("idle", 90.0), ("gone", 1.0)]);
        let b = map(&[("load", 4.0), ("idle", 80.0), ("new", 2.0)]);
        numbers(&mut out, "samples", &a, &b);
        let names: Vec<_> = out.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["gone", "load", "new"]);
        assert_eq!(out[0].b, None);
        assert_eq!(out[1].a.as_deref(), Some("1.00"));
        assert_eq!(out[2].a, None);
    }

    #[test]
    fn a_dump_does_not_differ_from_itself() {
        let mut profile = Profile::default();
        profile.types = map(&[("process.exit", 7)]);
        profile.deaths = map(&[("web of SIGSEGV", 1)]);
        assert_eq!(compare(&profile, &profile.clone()), []);
    }
}
