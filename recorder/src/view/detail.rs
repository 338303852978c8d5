//! One event in lines: when, what, who, why, and every field.

use serde_json::Value;

use crate::death::Joiner;
use crate::event::Body;
use crate::harmless::{escape, escape_short};
use crate::read::Entry;

use super::Words;
use super::index::Index;

/// Most links of a chain of causes that are followed.
const CHAIN_MAX: usize = 8;
/// Most effects that are named.
pub const EFFECTS_MAX: usize = 8;

/// Most characters of a value: a memory of a stack has thousands, and `show --json` has them all.
const VALUE_MAX: usize = 256;

/// How a line stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What most lines are.
    Plain,
    /// The head of a part.
    Head,
    /// What may be overlooked.
    Quiet,
    /// What went wrong.
    Bad,
}

/// A line, escaped.
pub type Line = (Tone, String);

/// Tells an event. `when` is its time in words.
pub fn lines(
    row: u32,
    index: &mut Index<'_>,
    words: &mut Words,
    resolve: bool,
    when: &str,
) -> Vec<Line> {
    let Some(mut entry) = index.entry(row) else {
        return vec![(
            Tone::Bad,
            "this event can no longer be read from the file".to_owned(),
        )];
    };
    if resolve && let Body::SignalFatal(fatal) = &mut entry.body {
        (words.resolve)(fatal);
    }
    let mut lines = vec![
        (
            Tone::Head,
            format!("#{} {}", entry.order, entry.body.topic()),
        ),
        (Tone::Quiet, when.to_owned()),
        (Tone::Plain, (words.describe)(&entry.body)),
    ];
    links(&entry, index, words, &mut lines);
    certificate(&entry, index, &mut lines);
    if let Body::SignalFatal(fatal) = &entry.body {
        head("crash", &mut lines);
        lines.extend((words.crash)(fatal).into_iter().map(plain));
    }
    fields(&entry.body, &mut lines);
    lines
}

fn plain(text: String) -> Line {
    (Tone::Plain, text)
}

fn head(text: &str, lines: &mut Vec<Line>) {
    lines.push((Tone::Plain, String::new()));
    lines.push((Tone::Head, text.to_owned()));
}

/// Tells what is behind an event, and what it is behind.
fn links(entry: &Entry, index: &mut Index<'_>, words: &Words, lines: &mut Vec<Line>) {
    let mut linked = Vec::new();
    let order = |order: u64| u32::try_from(order).unwrap_or(u32::MAX);
    if let Some(cause) = entry.cause {
        linked.extend(index.row_of(order(cause)).map(|row| ("c  because of", row)));
    }
    let effects = index.effects(order(entry.order), EFFECTS_MAX);
    linked.extend(effects.into_iter().map(|row| ("e  led to", row)));
    if !linked.is_empty() {
        lines.push((Tone::Plain, String::new()));
    }
    for (how, row) in linked {
        if let Some(other) = index.entry(row) {
            let what = (words.describe)(&other.body);
            let topic = other.body.topic();
            lines.push(plain(format!("{how} #{} {topic}: {what}", other.order)));
        }
    }
}

/// Certifies a death, from the events that it is linked to.
fn certificate(entry: &Entry, index: &mut Index<'_>, lines: &mut Vec<Line>) {
    let Body::ProcessExit(exit) = &entry.body else {
        return;
    };
    let mut chain = Vec::new();
    let mut cause = entry.cause;
    while let Some(order) = cause
        && chain.len() < CHAIN_MAX
        && let Some(row) = index.row_of(u32::try_from(order).unwrap_or(u32::MAX))
        && let Some(behind) = index.entry(row)
    {
        cause = behind.cause;
        chain.push(behind);
    }
    let mut joiner = Joiner::default();
    for behind in chain.iter().rev() {
        joiner.take(behind.order, behind.unix_ns, &behind.body);
    }
    let death = joiner.take(entry.order, entry.unix_ns, &entry.body).death;
    if let Some(death) = death {
        let certificate = death.certify(exit);
        head("death certificate", lines);
        let tone = match certificate.verdict.is_signal() || certificate.status != 0 {
            true => Tone::Bad,
            false => Tone::Plain,
        };
        lines.push((tone, escape(&certificate.text).into_owned()));
        lines.push(plain(format!(
            "verdict {}, status {}",
            certificate.verdict.name(),
            certificate.status
        )));
    }
}

/// Lists all fields: those of the process apart.
fn fields(body: &Body, lines: &mut Vec<Line>) {
    let Ok(Value::Object(mut body)) = serde_json::to_value(body) else {
        return;
    };
    for (name, value) in [
        ("process", body.remove("process")),
        ("fields", Some(Value::Object(body))),
    ] {
        let Some(value) = value else { continue };
        let mut all = Vec::new();
        flatten("", &value, &mut all);
        if all.is_empty() {
            continue;
        }
        head(name, lines);
        let width = all.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
        let width = width.min(24);
        let line = |(path, value): &(String, String)| {
            plain(format!(
                "{:width$}  {}",
                escape(path),
                escape_short(value, VALUE_MAX)
            ))
        };
        lines.extend(all.iter().map(line));
    }
}

/// Writes the values of a message with the paths to them: "sender.pid".
fn flatten(path: &str, value: &Value, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                flatten(&path, value, all);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (number, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{number}]"), value, all);
            }
        }
        Value::Array(values) => {
            let texts: Vec<String> = values.iter().map(text).collect();
            all.push((path.to_owned(), texts.join(" ")));
        }
        _ => all.push((path.to_owned(), text(value))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
