//! Which fields the events of a guest have, for the table of what holds on which kernel.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

use serde_json::Value;

use crate::Event;

/// Names below the body that are followed: `sender.pid`, but not each register.
const DEPTH_MAX: usize = 2;

/// Adds a line "TYPE FIELD" for each field of `events` to the file that `RECORDER_VM_FIELDS` names, if it names one.
pub(crate) fn note(events: &[Event]) {
    let Some(path) = std::env::var_os("RECORDER_VM_FIELDS") else {
        return;
    };
    let mut lines = BTreeSet::new();
    for event in events {
        let kind = event.str("type");
        if !kind.starts_with("recorder.") {
            let body = event.get("body").cloned().unwrap_or_default();
            collect(&mut lines, kind, "", &body, 0);
        }
    }
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    let file = File::options().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn collect(lines: &mut BTreeSet<String>, kind: &str, within: &str, value: &Value, depth: usize) {
    let Value::Object(fields) = value else {
        return;
    };
    for (name, value) in fields {
        let path = format!("{within}{name}");
        lines.insert(format!("{kind} {path}"));
        if depth + 1 < DEPTH_MAX && name != "registers" {
            collect(lines, kind, &format!("{path}."), value, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_followed_two_deep() {
        let mut lines = BTreeSet::new();
        let body = serde_json::json!({
            "sender": { "pid": 1, "more": { "deep": 2 } },
            "registers": { "rip": "0x1" },
            "list": [{ "a": 1 }],
        });
        collect(&mut lines, "x", "", &body, 0);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            lines,
            [
                "x list",
                "x registers",
                "x sender",
                "x sender.more",
                "x sender.pid"
            ]
        );
    }
}
