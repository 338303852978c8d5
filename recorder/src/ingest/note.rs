//! The sample lane, which the agent writes itself: its own remarks, and the samples.
//!
//! One numbering for both, and times that ascend with it, so that a gap in the numbers is a loss in its place.

use recorder_ebpf::abi::{EventKind, Header, Lane, Note, NoteKind, decode};
use zerocopy::IntoBytes as _;

use super::clock::now_boot_ns;
use super::flight::Flight;

/// Longest text of a note, in bytes; more is cut.
const TEXT_MAX: usize = 512;

/// Writes notes and samples, numbered.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Records written or dropped: the next number.
    attempted: u64,
    last_boot_ns: u64,
}

impl Notes {
    /// Writes a sample into the ring, with its number.
    ///
    /// One that was taken before the last record was written, and comes after it, takes that one's time.
    pub(super) fn sample(&mut self, ring: &mut Flight, record: &mut [u8]) {
        let Some(mut header) = decode::<Header>(record) else {
            return;
        };
        header.seq = self.attempted;
        header.boot_ns = header.boot_ns.max(self.last_boot_ns);
        self.last_boot_ns = header.boot_ns;
        self.attempted += 1;
        // It was read from there.
        let _ = header.write_to_prefix(record);
        ring.record(Lane::Sample, record);
    }

    /// Counts samples that never came: a gap in the numbers, and dropped records of the lane.
    pub(super) fn dropped(&mut self, ring: &mut Flight, records: u64) {
        self.attempted += records;
        ring.refuse(Lane::Sample, records);
    }

    /// Writes a note into the ring and returns its sequence number.
    pub(super) fn write(&mut self, ring: &mut Flight, kind: NoteKind, text: &str) -> u64 {
        let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)];
        let len = (size_of::<Note>() + text.len()).next_multiple_of(8);
        let note = Note {
            header: Header {
                boot_ns: now_boot_ns().max(self.last_boot_ns),
                seq: self.attempted,
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
        ring.record(Lane::Sample, &record[..len]);
        self.attempted += 1;
        self.last_boot_ns = note.header.boot_ns;
        note.header.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{self, Body};
    use crate::ring::{FlightRing, RingConfig, Share};

    fn flight() -> Flight {
        let ring = FlightRing::create(None, &RingConfig::default()).expect("memory for a ring");
        Flight::new(ring, super::super::tap::tap().0)
    }

    #[test]
    fn numbers_and_times_ascend_together_and_a_drop_is_a_gap() {
        let mut ring = flight();
        let mut notes = Notes::default();
        let (mut outlet, inlet) = super::super::samples::samples().expect("a descriptor");
        let message = event::proto::KernelLog::default();
        // Taken before the note, written after it.
        outlet.send(EventKind::KernelLog, 5, &message);
        notes.write(&mut ring, NoteKind::Start, "started");
        let mut record = inlet.next().expect("it was sent");
        notes.sample(&mut ring, &mut record);
        notes.dropped(&mut ring, 3);
        notes.sample(&mut ring, &mut record);
        let window = ring.freeze(0, Share::SevenEighths);
        let events: Vec<_> = window
            .records(Lane::Sample)
            .map(|record| event::decode(Lane::Sample, record))
            .collect();
        let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, [0, 1, 5]);
        assert!(events.is_sorted_by_key(|event| event.boot_ns));
        let stats = ring.stats();
        let lane = stats.lane(Lane::Sample);
        assert_eq!((lane.pushed, lane.records, lane.dropped), (6, 3, 3));
        assert_eq!(window.lane(Lane::Sample).dropped, 3);
    }

    #[test]
    fn a_note_comes_back_with_its_text_cut_at_a_character() {
        let mut ring = flight();
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
