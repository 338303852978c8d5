//! JSON Lines: one event, one line, the same everywhere.
//!
//! ```json
//! {"timestamp":"2026-11-23T09:00:00.123456789Z","order":812,"environment":"paris-1","host":"web-3","incident":"019ab…",
//!  "type":"process.exit","cause":809,"body":{…}}
//! ```
//!
//! What is unknown is absent. Characters that would act on a terminal are written as `\u` escapes: to a program it is the
//! same text, and `cat` shows it harmlessly.

use crate::harmless::json;
use crate::read::Entry;

use super::time::Clock;
use super::{Origin, Stream};

/// What all lines of one dump have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Label that the configuration gives to this host's environment.
    pub environment: Option<&'a str>,
    /// Name of the host.
    pub host: Option<&'a str>,
    /// Id of the incident.
    pub incident: Option<&'a str>,
}

/// Writes events as lines.
#[derive(Clone, Debug)]
pub struct JsonLines {
    /// The fields of the envelope, each with its comma before it.
    common: Vec<u8>,
    clock: Clock,
}

impl JsonLines {
    /// Prepares the lines of a dump.
    pub fn new(envelope: &Envelope<'_>) -> Self {
        let mut common = Vec::new();
        let fields = [
            ("environment", envelope.environment),
            ("host", envelope.host),
            ("incident", envelope.incident),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                common.extend_from_slice(b",\"");
                common.extend_from_slice(name.as_bytes());
                common.extend_from_slice(b"\":");
                json(&mut common, value);
            }
        }
        Self {
            common,
            clock: Clock::default(),
        }
    }

    /// Appends the line of an event.
    pub fn write(&mut self, line: &mut Vec<u8>, entry: &Entry) {
        line.extend_from_slice(b"{\"timestamp\":\"");
        self.clock.write(line, entry.unix_ns);
        line.push(b'"');
        // Live events have no place among all.
        if entry.order != 0 {
            line.extend_from_slice(b",\"order\":");
            json(line, &entry.order);
        }
        line.extend_from_slice(&self.common);
        line.extend_from_slice(b",\"type\":\"");
        line.extend_from_slice(entry.body.topic().as_bytes());
        line.push(b'"');
        if let Some(cause) = entry.cause {
            line.extend_from_slice(b",\"cause\":");
            json(line, &cause);
        }
        line.extend_from_slice(b",\"body\":");
        json(line, &entry.body);
        line.extend_from_slice(b"}\n");
    }
}

/// The lines of one dump or of several, each with what is common to its own.
#[derive(Default)]
pub struct Lines {
    /// File of the dump that the lines are of now.
    of: Option<(String, JsonLines)>,
}

impl Stream for Lines {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        let lines = match &mut self.of {
            Some((file, lines)) if *file == origin.file => lines,
            of => {
                let lines = JsonLines::new(&origin.envelope());
                &mut of.insert((origin.file.clone(), lines)).1
            }
        };
        lines.write(out, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, proto};
    use crate::harmless::is_hostile;

    fn line(entry: &Entry, envelope: &Envelope<'_>) -> String {
        let mut line = Vec::new();
        JsonLines::new(envelope).write(&mut line, entry);
        String::from_utf8(line).expect("JSON is UTF-8")
    }

    fn exit(comm: &str) -> Entry {
        Entry {
            order: 812,
            cause: Some(809),
            unix_ns: 1_795_424_400_123_456_789,
            sequence: 5,
            body: Body::ProcessExit(proto::ProcessExit {
                process: Some(proto::Process {
                    pid: Some(7),
                    comm: Some(comm.to_owned()),
                    ..proto::Process::default()
                }),
                exit_code: Some(1),
                ..proto::ProcessExit::default()
            }),
        }
    }

    #[test]
    fn a_line_is_the_envelope_and_the_body() {
        let envelope = Envelope {
            environment: Some("paris-1"),
            host: Some("web-3"),
            incident: Some("019ab"),
        };
        assert_eq!(
            line(&exit("sh"), &envelope),
            concat!(
                r#"{"timestamp":"2026-11-23T09:00:00.123456789Z","order":812,"environment":"paris-1","host":"web-3","#,
                r#""incident":"019ab","type":"process.exit","cause":809,"body":{"process":{"pid":7,"comm":"sh"},"exit_code":1}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let entry = Entry {
            cause: None,
            body: Body::Note(proto::Note::default()),
            ..exit("")
        };
        assert_eq!(
            line(&entry, &Envelope::default()),
            "{\"timestamp\":\"2026-11-23T09:00:00.123456789Z\",\"order\":812,\"type\":\"recorder.note\",\"body\":{}}\n"
        );
    }

    #[test]
    fn hostile_text_is_the_same_text_and_harmless() {
        let comm = "a\x1b[2J\n\"\\\u{7f}\u{9b}\u{202e}\u{e0041}é";
        let line = line(&exit(comm), &Envelope::default());
        assert!(!line.trim_end().chars().any(is_hostile), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["body"]["process"]["comm"], comm);
    }
}
