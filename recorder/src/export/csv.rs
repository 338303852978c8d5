//! CSV: one event, one row (RFC 4180), for spreadsheets.
//!
//! The columns that most questions are about, then the whole body as JSON. A text that a spreadsheet would take for a
//! formula begins with `'`; one that would act on a terminal is escaped: `body` has it as it was.

use crate::event::proto::Process;
use crate::harmless::{escape, json};
use crate::read::Entry;

use super::time::Clock;
use super::{Origin, Stream};

/// Names of the columns.
pub const COLUMNS: [&str; 18] = [
    "timestamp",
    "order",
    "environment",
    "host",
    "incident",
    "type",
    "cause",
    "pid",
    "tid",
    "ppid",
    "comm",
    "exe",
    "uid",
    "cgroup",
    "unit",
    "container_id",
    "message",
    "body",
];

/// Writes rows.
#[derive(Default)]
pub struct Csv {
    clock: Clock,
    body: Vec<u8>,
}

impl Stream for Csv {
    fn head(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(COLUMNS.join(",").as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        self.clock.write(out, entry.unix_ns);
        number(out, Some(entry.order));
        text(out, origin.environment());
        text(out, origin.hostname());
        text(out, origin.incident_id.as_deref());
        text(out, Some(entry.body.topic()));
        number(out, entry.cause);
        process(out, entry.body.process());
        text(out, Some(&(origin.describe)(&entry.body)));
        self.body.clear();
        json(&mut self.body, &entry.body);
        out.push(b',');
        quoted(out, &self.body);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the columns from `pid` to `container_id`.
pub(super) fn process(out: &mut Vec<u8>, process: Option<&Process>) {
    let none = Process::default();
    let process = process.unwrap_or(&none);
    number(out, process.pid.map(u64::from));
    number(out, process.tid.map(u64::from));
    number(out, process.ppid.map(u64::from));
    text(out, process.comm.as_deref());
    text(out, process.exe.as_deref());
    number(out, process.uid.map(u64::from));
    text(out, process.cgroup.as_deref());
    text(out, process.unit.as_deref());
    text(out, process.container_id.as_deref());
}

/// Appends a comma and a number.
pub(super) fn number(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(b',');
    if let Some(number) = number {
        json(out, &number);
    }
}

/// Appends a comma and a text.
pub(super) fn text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(b',');
    first(out, text.unwrap_or_default());
}

/// Appends a text, which is harmless then.
pub(super) fn first(out: &mut Vec<u8>, text: &str) {
    let is_formula = text.starts_with(['=', '+', '-', '@']);
    let text = escape(text);
    let is_plain = |byte: u8| !matches!(byte, b',' | b'"' | b'\r' | b'\n');
    match text.bytes().all(is_plain) {
        true if !is_formula => out.extend_from_slice(text.as_bytes()),
        true => {
            out.push(b'\'');
            out.extend_from_slice(text.as_bytes());
        }
        false => {
            let sign = if is_formula { "'" } else { "" };
            quoted(out, format!("{sign}{text}").as_bytes());
        }
    }
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut parts = text.split(|byte| *byte == b'"');
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(b"\"\"");
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(value: &str) -> String {
        let mut out = Vec::new();
        first(&mut out, value);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(cell("a b"), "a b");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("a\"b"), "\"a\"\"b\"");
        assert_eq!(cell("a\r\n\x1b[2J"), "a\\r\\n\\u{1b}[2J");
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@SUM(1,2)"), "\"'@SUM(1,2)\"");
        assert_eq!(cell("-rf"), "'-rf");
    }
}
