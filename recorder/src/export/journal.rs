//! systemd's journal export format, by itself and in pcapng.
//!
//! `systemd-journal-remote` makes a journal of it, which `journalctl` reads like any other; in pcapng it stands beside
//! packets in Wireshark. The process that an event is about is in the `OBJECT_` fields, which `journalctl --unit` looks at;
//! the whole event is JSON in `RECORDER_BODY`. Every type of event has a `MESSAGE_ID`: [`message_id`].

use sha2::{Digest as _, Sha256};

use crate::event::TOPICS;
use crate::harmless::json;
use crate::read::Entry;

use super::{Origin, Stream, Urgency};

/// Returns the message id of a type of event: the first half of the SHA-256 of `recorder` and the type, marked as a UUID of
/// version 8.
pub fn message_id(topic: &str) -> String {
    let digest = Sha256::digest(format!("recorder {topic}"));
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the export format.
pub struct Journal {
    /// By position in [`TOPICS`].
    message_ids: Vec<String>,
    body: Vec<u8>,
    /// Last time that was written: a journal goes forward only.
    last_us: u64,
}

impl Default for Journal {
    fn default() -> Self {
        let ids = TOPICS.iter().map(|topic| message_id(topic.name));
        Self {
            message_ids: ids.collect(),
            body: Vec::new(),
            last_us: 0,
        }
    }
}

impl Stream for Journal {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        let topic = entry.body.topic();
        let us = (entry.unix_ns / 1_000).max(self.last_us);
        self.last_us = us;
        number(out, "__REALTIME_TIMESTAMP", us);
        let boot_us = origin.boot_ns(entry.unix_ns).map_or(us, |ns| ns / 1_000);
        number(out, "__MONOTONIC_TIMESTAMP", boot_us);
        let boot_id = origin.boot_id();
        // Without one, systemd takes no entry.
        let none = "00000000000000000000000000000001";
        field(out, "_BOOT_ID", boot_id.as_deref().unwrap_or(none));
        if let Some(machine_id) = origin.machine_id() {
            field(out, "_MACHINE_ID", &machine_id);
        }
        if let Some(host) = origin.hostname() {
            field(out, "_HOSTNAME", host);
        }
        // journalctl believes an OBJECT_SYSTEMD_UNIT from root only; root it was who recorded.
        field(out, "_UID", "0");
        field(out, "SYSLOG_IDENTIFIER", "recorder");
        number(out, "PRIORITY", Urgency::of(&entry.body) as u64);
        field(out, "MESSAGE", &(origin.describe)(&entry.body));
        if let Some(id) = self.message_ids.get(entry.body.topic_index()) {
            field(out, "MESSAGE_ID", id);
        }
        field(out, "RECORDER_TYPE", topic);
        number(out, "RECORDER_ORDER", entry.order);
        number(out, "RECORDER_UNIX_NS", entry.unix_ns);
        if let Some(cause) = entry.cause {
            number(out, "RECORDER_CAUSE", cause);
        }
        if let Some(environment) = origin.environment() {
            field(out, "RECORDER_ENVIRONMENT", environment);
        }
        if let Some(incident) = &origin.incident_id {
            field(out, "RECORDER_INCIDENT", incident);
        }
        if let Some(process) = entry.body.process() {
            let numbers = [
                ("OBJECT_PID", process.pid),
                ("OBJECT_UID", process.uid),
                ("OBJECT_GID", process.gid),
            ];
            for (name, value) in numbers {
                if let Some(value) = value {
                    number(out, name, value.into());
                }
            }
            let texts = [
                ("OBJECT_COMM", &process.comm),
                ("OBJECT_EXE", &process.exe),
                ("OBJECT_SYSTEMD_CGROUP", &process.cgroup),
                ("OBJECT_SYSTEMD_UNIT", &process.unit),
                ("CONTAINER_ID_FULL", &process.container_id),
            ];
            for (name, value) in texts {
                if let Some(value) = value {
                    field(out, name, value);
                }
            }
        }
        self.body.clear();
        json(&mut self.body, &entry.body);
        out.extend_from_slice(b"RECORDER_BODY=");
        out.extend_from_slice(&self.body);
        out.extend_from_slice(b"\n\n");
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    json(out, &value);
    out.push(b'\n');
}

/// Appends a field: as `NAME=text`, or by its length if the text has a control character in it.
fn field(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(name.as_bytes());
    if text.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        out.push(b'\n');
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// Writes the export format in blocks of a pcapng file.
#[derive(Default)]
pub struct Pcapng {
    journal: Journal,
    entry: Vec<u8>,
}

/// Type of the block that begins a section.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
/// Type of the block that holds one journal entry.
const SYSTEMD_JOURNAL: u32 = 9;

impl Stream for Pcapng {
    fn head(&mut self, out: &mut Vec<u8>) {
        let mut section = Vec::new();
        // Byte order, version 1.0, length not stated.
        section.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        section.extend_from_slice(&1_u16.to_le_bytes());
        section.extend_from_slice(&0_u16.to_le_bytes());
        section.extend_from_slice(&u64::MAX.to_le_bytes());
        let application = concat!("recorder ", env!("CARGO_PKG_VERSION"));
        option(&mut section, 4, application.as_bytes());
        option(&mut section, 0, b"");
        block(out, SECTION_HEADER, &section);
    }

    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        self.entry.clear();
        self.journal.event(&mut self.entry, origin, entry);
        block(out, SYSTEMD_JOURNAL, &self.entry);
    }
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    // The one text there is, and the end.
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    // Type and both lengths. An entry is the size of a message, far below 4 GiB.
    let len = (padded + 12) as u32;
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
    pad(out, body.len());
    out.extend_from_slice(&len.to_le_bytes());
}

fn pad(out: &mut Vec<u8>, len: usize) {
    out.extend(std::iter::repeat_n(0, len.next_multiple_of(4) - len));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_line_break_adds_no_field() {
        let mut out = Vec::new();
        field(&mut out, "OBJECT_COMM", "a\nMESSAGE=forged");
        let mut expected = b"OBJECT_COMM\n".to_vec();
        expected.extend_from_slice(&16_u64.to_le_bytes());
        expected.extend_from_slice(b"a\nMESSAGE=forged\n");
        assert_eq!(out, expected);
    }

    #[test]
    fn message_ids_stay_what_they_are() {
        // Others filter by them: they are as fixed as the names of the types.
        assert_eq!(message_id("signal.fatal").len(), 32);
        let ids: std::collections::BTreeSet<_> =
            TOPICS.iter().map(|topic| message_id(topic.name)).collect();
        assert_eq!(ids.len(), TOPICS.len());
    }

    #[test]
    fn blocks_are_a_multiple_of_four() {
        for len in 0..9 {
            let mut out = Vec::new();
            block(&mut out, 9, &vec![b'x'; len]);
            assert_eq!(out.len() % 4, 0);
            let stated = u32::try_from(out.len()).expect("small").to_le_bytes();
            assert_eq!(out[4..8], stated);
            assert_eq!(out[out.len() - 4..], stated);
        }
    }
}
