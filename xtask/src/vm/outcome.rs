//! What became of the tests in a guest, read off what it reported.

use std::collections::{BTreeMap, BTreeSet};

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// The guest cannot run it, and why.
    Skipped(String),
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file it is in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// All that a guest reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The release of the kernel that ran.
    pub kernel: String,
    /// What `recorder doctor --json` said.
    pub doctor: String,
    /// The tests.
    pub cases: Vec<Case>,
    /// Files of tests that ended in no proper way.
    pub broken: Vec<String>,
    /// The fields that events had, as "TYPE FIELD".
    pub fields: BTreeSet<String>,
    /// The fields that events may have, in the same way.
    pub known: BTreeSet<String>,
    /// Seconds that its files of tests took.
    pub seconds: f64,
    /// The guest came to its end.
    pub is_complete: bool,
}

impl Outcome {
    /// Reads a report.
    pub fn read(report: &str) -> Self {
        let mut outcome = Self::default();
        let mut file = None;
        let mut open: Option<(String, Option<String>)> = None;
        for line in report.lines() {
            if let Some(said) = line.strip_prefix("guest: ") {
                let words: Vec<&str> = said.split(' ').collect();
                match words.as_slice() {
                    ["kernel", release] => outcome.kernel = (*release).to_owned(),
                    ["begin", name] => file = Some((*name).to_owned()),
                    ["end", name, code, ..] => {
                        if let Some((name, _)) = open.take() {
                            outcome.close(file.as_deref(), name, Verdict::Failed);
                        }
                        let mut times = words[3..].iter().flat_map(|at| at.parse::<f64>());
                        if let (Some(start), Some(end)) = (times.next(), times.next()) {
                            outcome.seconds += end - start;
                        }
                        if !["0", "101"].contains(code) {
                            outcome.broken.push(format!("{name} (exit code {code})"));
                        }
                        file = None;
                    }
                    ["field", kind, field] => {
                        outcome.fields.insert(format!("{kind} {field}"));
                    }
                    ["known", kind, field] => outcome.known.extend(known(kind, field)),
                    ["done"] => outcome.is_complete = true,
                    _ => {}
                }
                continue;
            }
            let Some(file) = &file else {
                outcome.doctor.push_str(line);
                outcome.doctor.push('\n');
                continue;
            };
            let mut rest = line;
            if let Some((name, after)) = line
                .strip_prefix("test ")
                .and_then(|line| line.split_once(" ... "))
            {
                open = Some((name.to_owned(), None));
                rest = after;
            }
            let Some((name, why)) = &mut open else {
                continue;
            };
            let verdict = match rest.split(' ').next() {
                Some("ok") => match why.take() {
                    Some(why) => Verdict::Skipped(why),
                    None => Verdict::Passed,
                },
                Some("FAILED") => Verdict::Failed,
                Some("ignored") => Verdict::Skipped("ignored".to_owned()),
                Some("SKIPPED:") => {
                    *why = rest.splitn(3, ": ").nth(2).map(str::to_owned);
                    continue;
                }
                _ => continue,
            };
            let name = std::mem::take(name);
            open = None;
            let file = file.clone();
            outcome.close(Some(&file), name, verdict);
        }
        outcome
    }

    fn close(&mut self, file: Option<&str>, name: String, verdict: Verdict) {
        let file = file.unwrap_or_default().to_owned();
        self.cases.push(Case {
            file,
            name,
            verdict,
        });
    }

    /// Returns how many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Verdict) -> bool| {
            let cases = self.cases.iter();
            cases.filter(|case| is(&case.verdict)).count()
        };
        (
            count(|verdict| *verdict == Verdict::Passed),
            count(|verdict| *verdict == Verdict::Failed),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        )
    }

    /// Takes in what another guest with the same kernel reported.
    pub fn add(&mut self, other: Self) {
        self.cases.extend(other.cases);
        self.broken.extend(other.broken);
        self.fields.extend(other.fields);
        self.known.extend(other.known);
        self.seconds += other.seconds;
        self.is_complete &= other.is_complete;
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        let (passed, failed, _) = self.counts();
        self.is_complete && self.broken.is_empty() && failed == 0 && passed > 0
    }
}

/// Splits a report by files of tests: each with what the guest said of itself before the first, and as if there were no other.
/// What was cut short is left out.
pub fn by_file(report: &str) -> BTreeMap<String, String> {
    let mut head = String::new();
    let mut open: Option<(&str, String)> = None;
    let mut files = BTreeMap::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["guest:", "begin", name] = words.as_slice() {
            open = Some((name, head.clone()));
        }
        let text = open.as_mut().map_or(&mut head, |(_, text)| text);
        text.push_str(line);
        text.push('\n');
        if let ["guest:", "end", ..] = words.as_slice()
            && let Some((name, text)) = open.take()
        {
            files.insert(name.to_owned(), text + "guest: done\n");
        }
    }
    files
}

/// Returns a field as those that events had are named: two deep, and not what each of a list has.
fn known(kind: &str, field: &str) -> Option<String> {
    let field = field.strip_suffix("[]").unwrap_or(field);
    (!field.contains("[]") && field.split('.').count() <= 2).then(|| format!("{kind} {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_two_deep() {
        assert_eq!(known("x", "a.b"), Some("x a.b".to_owned()));
        assert_eq!(known("x", "stack[]"), Some("x stack".to_owned()));
        assert_eq!(known("x", "stack[].address"), None);
        assert_eq!(known("x", "a.b.c"), None);
    }

    const REPORT: &str = "guest: kernel 6.1.0
guest: doctor
{}
guest: begin oom
running 3 tests
test a ... ok
test b ... SKIPPED: b: no loop devices
ok
test c::d ... FAILED

failures:
---- c::d stdout ----
test x ... ok
guest: end oom 101 1.0 2.0
";

    #[test]
    fn a_report_is_read_to_its_last_line_and_no_further() {
        let outcome = Outcome::read(&format!(
            "{REPORT}guest: begin dump\ntest e ... \nguest: end dump 137 1.0 2.0\nguest: field oom.kill trigger\nguest: done\n"
        ));
        assert_eq!(outcome.kernel, "6.1.0");
        assert_eq!(outcome.doctor, "{}\n");
        let verdicts: Vec<_> = outcome
            .cases
            .iter()
            .map(|case| (case.file.as_str(), case.name.as_str(), case.verdict.clone()))
            .collect();
        assert!(verdicts.contains(&("oom", "a", Verdict::Passed)));
        assert!(verdicts.contains(&("oom", "b", Verdict::Skipped("no loop devices".into()))));
        assert!(verdicts.contains(&("oom", "c::d", Verdict::Failed)));
        assert!(verdicts.contains(&("dump", "e", Verdict::Failed)));
        assert!(outcome.fields.contains("oom.kill trigger"));
        assert_eq!(outcome.broken, ["dump (exit code 137)"]);
        assert!(outcome.is_complete && !outcome.is_good());
    }

    #[test]
    fn a_report_is_the_sum_of_its_files() {
        let report = "guest: kernel 6.1.0\n{}\nguest: known x y\nguest: begin a\ntest b ... ok\nguest: field x y\n\
                      guest: end a 0 1.5 3\nguest: begin c\ntest d ... FAILED\nguest: end c 101 3 4\nguest: begin e\n";
        let files = by_file(report);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "c"]);
        let mut sum = Outcome::read(&files["a"]);
        assert!(sum.is_good());
        assert_eq!(sum.fields.len(), 1);
        sum.add(Outcome::read(&files["c"]));
        let all = Outcome::read(&format!("{report}guest: done\n"));
        assert_eq!(sum, all);
        assert!((sum.seconds - 2.5).abs() < 1e-9, "{}", sum.seconds);
    }

    #[test]
    fn a_guest_that_did_not_come_to_its_end_is_not_good() {
        let good = "guest: begin a\ntest b ... ok\nguest: end a 0 1 2\n";
        assert!(!Outcome::read(good).is_good());
        assert!(Outcome::read(&format!("{good}guest: done\n")).is_good());
        assert!(!Outcome::read("guest: done\n").is_good(), "nothing ran");
    }
}
