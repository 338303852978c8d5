//! Dumps: whatever the file, readers end, and what they say agrees with itself.

use std::io;
use std::path::Path;

use recorder::event::TOPICS;
use recorder::read::source::Source;
use recorder::read::{Dump, verify_alone};

const HEADER: u8 = 0x01;
const FOOTER: u8 = 0x02;
const CHANNEL: u8 = 0x04;
const CHUNK: u8 = 0x06;
const DATA_END: u8 = 0x0f;
const MAGIC: &[u8] = b"\x89MCAP0\r\n";

/// The first byte says what the others are: a file, the records of a chunk, those of a summary, or all between two magics.
pub fn run(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let file = match how {
        // As dumps begin, so that they can be seeds.
        0x89 => [&[0x89], bytes].concat(),
        0 | 1 => finish(chunk(start(), bytes, *how == 1), &[]),
        2 => finish(start(), bytes),
        3 => finish([start(), bytes.to_vec()].concat(), &[]),
        _ => [start(), bytes.to_vec()].concat(),
    };
    let stated = file.len();
    let Ok(dump) = Dump::read(Path::new("fuzz.mcap"), Source::Memory(file)) else {
        return;
    };
    let mut events = dump.events();
    let mut order = 0;
    let mut places = Vec::new();
    while let Some(entry) = events.next() {
        let entry = entry.expect("memory can be read");
        assert!(entry.order > order, "the order is total");
        assert!(
            entry.cause.is_none_or(|cause| cause < entry.order),
            "a cause is before"
        );
        order = entry.order;
        if places.len() < 16 {
            places.push((events.place(), entry.body));
        }
    }
    assert!(events.position() <= stated as u64);
    let mut lookup = dump.lookup();
    for (place, body) in places {
        let again = lookup
            .body(place, body.topic())
            .expect("memory can be read");
        let topic = again.as_ref().map(recorder::event::Body::topic);
        assert_eq!(topic, Some(body.topic()), "an event is found again");
    }
    let report = verify_alone(&dump).expect("memory can be read");
    assert_eq!(report.damage.is_empty(), report.damage.len() == 0);
    let attachments = dump.attachments().expect("memory can be read");
    for attachment in &attachments.found {
        attachment
            .copy_to(dump.source(), &mut io::sink())
            .expect("memory can be read");
    }
}

fn record(out: &mut Vec<u8>, opcode: u8, body: &[u8]) {
    out.push(opcode);
    out.extend((body.len() as u64).to_le_bytes());
    out.extend(body);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text);
}

/// A file with a channel for each type of event, as many as there are.
fn start() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    record(&mut out, HEADER, &[0; 8]);
    for (id, topic) in (1_u16..).zip(TOPICS.iter()) {
        let mut body = id.to_le_bytes().to_vec();
        body.extend([0, 0]);
        text(&mut body, topic.name.as_bytes());
        text(&mut body, b"protobuf");
        text(&mut body, b"");
        record(&mut out, CHANNEL, &body);
    }
    out
}

fn chunk(mut out: Vec<u8>, records: &[u8], is_compressed: bool) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend((records.len() as u64).to_le_bytes());
    body.extend(crc32fast::hash(records).to_le_bytes());
    let compressed = zstd::bulk::compress(records, 1).expect("memory");
    let (name, stored) = match is_compressed {
        true => (&b"zstd"[..], &compressed[..]),
        false => (&b""[..], records),
    };
    text(&mut body, name);
    body.extend((stored.len() as u64).to_le_bytes());
    body.extend(stored);
    record(&mut out, CHUNK, &body);
    out
}

fn finish(mut out: Vec<u8>, summary: &[u8]) -> Vec<u8> {
    record(&mut out, DATA_END, &[0; 4]);
    let at = out.len() as u64;
    let mut checked = summary.to_vec();
    checked.push(FOOTER);
    checked.extend(20_u64.to_le_bytes());
    checked.extend(at.to_le_bytes());
    checked.extend(0_u64.to_le_bytes());
    out.extend(&checked);
    out.extend(crc32fast::hash(&checked).to_le_bytes());
    out.extend(MAGIC);
    out
}
