//! The list of incidents as a page: no script, one table.

use std::path::Path;

use super::dumps::Row;
use crate::cli::text::{bytes, count, plural};
use crate::dump::Verdict;
use crate::report::{STYLE, plain};

/// Rows of a page.
const ROWS: usize = 500;

/// Writes the page of the dumps in which all words occur.
pub fn list(rows: &[Row], words: &str, page: usize) -> String {
    let wanted: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let found: Vec<&Row> = rows.iter().filter(|row| has(row, &wanted)).collect();
    let shown = found.iter().skip(page.saturating_mul(ROWS)).take(ROWS);
    let table: String = shown.map(|row| line(row)).collect();
    let mut links = String::new();
    let mut link = |to: usize, name: &str| {
        let words = plain(&encode(words));
        links.push_str(&format!(
            "<a href=\"/?q={words}&amp;page={to}\">{name}</a> "
        ));
    };
    if page > 0 {
        link(page - 1, "newer");
    }
    if found.len() > (page + 1).saturating_mul(ROWS) {
        link(page + 1, "older");
    }
    let body = format!(
        r#"<section>
<form class="tools" action="/"><input type="search" name="q" value="{query}" placeholder="Search: host, rule, what happened" aria-label="Search the incidents"><button>Search</button><span>{number}</span></form>
<div class="scroll"><table><thead><tr><th>Time</th><th>Host</th><th>Rule</th><th>What</th><th class="number">Events</th><th class="number">Size</th><th>Complete</th><th></th></tr></thead>
<tbody>{table}</tbody></table></div><p>{links}</p></section>"#,
        query = plain(words),
        number = plural(found.len() as u64, "incident"),
    );
    whole("Incidents", &body)
}

/// Writes a page that says why there is none.
pub fn failure(words: &str) -> String {
    let words = plain(words);
    let body = format!("<section><p>{words}</p><p><a href=\"/\">All incidents</a></p></section>");
    whole("recorder", &body)
}

/// Returns the name of a file as a header can carry it.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_safe = |one: char| one.is_ascii_alphanumeric() || matches!(one, '.' | '-' | '_');
    name.chars()
        .map(|one| if is_safe(one) { one } else { '_' })
        .collect()
}

fn whole(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>{STYLE}</style></head>
<body><header><h1>{title}</h1></header><main>{body}</main></body>
</html>"#
    )
}

fn has(row: &Row, wanted: &[String]) -> bool {
    let texts = [&row.time, &row.host, &row.rule, &row.what];
    let mut all = row.path.to_string_lossy().to_lowercase();
    for text in texts.into_iter().flatten() {
        all.push(' ');
        all.push_str(&text.to_lowercase());
    }
    wanted.iter().all(|word| all.contains(word))
}

fn line(row: &Row) -> String {
    let text = |value: Option<&String>| value.map_or("?".to_owned(), |value| plain(value));
    let verdict = match row.verdict {
        Some(Verdict::Complete) => "yes",
        Some(Verdict::Lossy) => "no",
        Some(Verdict::Unknown) | None => "?",
    };
    format!(
        "<tr><td class=\"short\">{time}</td><td>{host}</td><td class=\"short\">{rule}</td><td><a href=\"/dump/{key}\">{what}</a></td><td class=\"number\">{events}</td><td class=\"number\">{size}</td><td>{verdict}</td><td><a href=\"/file/{key}\">file</a></td></tr>\n",
        time = text(row.time.as_ref()),
        host = text(row.host.as_ref()),
        rule = text(row.rule.as_ref()),
        key = row.key,
        what = match &row.what {
            Some(what) => plain(what),
            None => plain(&row.path.display().to_string()),
        },
        events = row.events.map_or("?".to_owned(), count),
        size = bytes(row.bytes),
    )
}

/// Writes a text as part of an address.
fn encode(text: &str) -> String {
    let mut safe = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => safe.push(byte.into()),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}
