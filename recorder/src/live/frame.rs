//! Events as server-sent events.

use crate::event::Body;
use crate::export::{Envelope, JsonLines};
use crate::read::Entry;

use super::Format;

/// Name of the event that says how many a reader lost.
pub const LOST: &str = "lost";
/// Name of the event that says how many records never came by.
pub const MISSED: &str = "missed";

/// Writes frames.
#[derive(Debug)]
pub(super) struct Frames {
    lines: JsonLines,
}

impl Frames {
    pub(super) fn new(envelope: &Envelope<'_>) -> Self {
        Self {
            lines: JsonLines::new(envelope),
        }
    }

    /// Appends the frame of an event.
    pub(super) fn event(&mut self, frame: &mut Vec<u8>, format: Format, entry: &Entry) {
        frame.extend_from_slice(b"data: ");
        match format {
            // One line, with its end.
            Format::Json => self.lines.write(frame, entry),
            Format::Protobuf => protobuf(frame, entry.unix_ns, &entry.body),
        }
        frame.push(b'\n');
    }
}

fn protobuf(frame: &mut Vec<u8>, unix_ns: u64, body: &Body) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut message = Vec::new();
    body.encode(&mut message);
    let head = format!(
        "{{\"unix_ns\":{unix_ns},\"type\":\"{}\",\"message\":\"",
        body.topic()
    );
    frame.extend_from_slice(head.as_bytes());
    for byte in message {
        frame.push(DIGITS[usize::from(byte >> 4)]);
        frame.push(DIGITS[usize::from(byte & 15)]);
    }
    frame.extend_from_slice(b"\"}\n");
}

/// Appends the frame that says what is missing here: `count` since the last such frame, `total` since the start.
pub(super) fn missing(frame: &mut Vec<u8>, name: &str, count: u64, total: u64) {
    let text = format!("event: {name}\ndata: {{\"{name}\":{count},\"total\":{total}}}\n\n");
    frame.extend_from_slice(text.as_bytes());
}
