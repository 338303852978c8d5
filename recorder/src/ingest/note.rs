//! The agent's own remarks, as records of the sample lane.

use recorder_ebpf::abi::{EventKind, Header, Lane, Note, NoteKind};
use zerocopy::IntoBytes as _;

use super::clock::now_boot_ns;
use crate::ring::FlightRing;

/// Longest text of a note, in bytes; more is cut.
const TEXT_MAX: usize = 512;

/// Writes notes, numbered.
#[derive(Debug, Default)]
pub(super) struct Notes {
    written: u64,
}

impl Notes {
    /// Writes a note into the ring and returns its sequence number.
    pub(super) fn write(&mut self, ring: &mut FlightRing, kind: NoteKind, text: &str) -> u64 {
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)];
        let len = (size_of::<Note>() + text.len()).next_multiple_of(8);
        let note = Note {
            header: Header {
                boot_ns: now_boot_ns(),
                seq: self.written,
                start_boot_ns: 0,
                cgroup_id: 0,
                pid: std::process::id(),
                tgid: std::process::id(),
                uid: 0,
                gid: 0,
                // At most a few hundred.
                len: len as u32,
                cpu: 0,
                kind: EventKind::Note as u8,
                flags: 0,
                comm: *b"recorder\0\0\0\0\0\0\0\0",
            },
            kind: kind as u32,
            text_len: text.len() as u32,
        };
        let mut record = [0; size_of::<Note>() + TEXT_MAX.next_multiple_of(8)];
        record[..size_of::<Note>()].copy_from_slice(note.as_bytes());
        record[size_of::<Note>()..][..text.len()].copy_from_slice(text);
        // A refusal is counted by the ring.
        let _ = ring.push(Lane::Sample, &record[..len]);
        self.written += 1;
        note.header.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{self, Body};
    use crate::ring::{RingConfig, Share};

    #[test]
    fn a_note_comes_back_with_its_text_cut_at_a_character() {
        let mut ring = FlightRing::create(None, &RingConfig::default()).expect("memory for a ring");
        let mut notes = Notes::default();
        let long = "é".repeat(TEXT_MAX);
        for (sequence, text) in (0..).zip(["started", "", &long]) {
            assert_eq!(notes.write(&mut ring, NoteKind::Start, text), sequence);
        }
        let window = ring.freeze(0, Share::SevenEighths);
        let texts: Vec<String> = window
            .records(Lane::Sample)
            .map(|record| match event::decode(Lane::Sample, record).body {
                Body::Note(note) => note.text.unwrap_or_default(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["started", "", &long[..TEXT_MAX]]);
    }
}
