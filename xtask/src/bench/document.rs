//! Puts results into a document, between marks: `<!-- bench storm -->` and `<!-- end -->`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const END: &str = "<!-- end -->";

/// Replaces the figures of some benchmarks in a file, each by its own text; all or none.
pub fn update(path: &Path, results: &[(String, String)]) -> Result<()> {
    let mut text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    for (benchmark, figures) in results {
        text = replace(&text, benchmark, figures)
            .with_context(|| format!("{} has no place for {benchmark}", path.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn replace(text: &str, benchmark: &str, figures: &str) -> Option<String> {
    let mark = format!("<!-- bench {benchmark} -->\n");
    let (before, rest) = text.split_once(&mark)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{mark}```text\n{figures}```\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_between_the_marks_of_a_benchmark() {
        let text =
            "a\n<!-- bench loss -->\nold\n<!-- end -->\nb\n<!-- bench storm -->\n<!-- end -->\nc\n";
        let new = replace(text, "storm", "1 ns\n").expect("it has a place");
        assert_eq!(
            new,
            "a\n<!-- bench loss -->\nold\n<!-- end -->\nb\n<!-- bench storm -->\n```text\n1 ns\n```\n<!-- end -->\nc\n"
        );
        assert_eq!(replace(text, "probes", ""), None);
    }
}
