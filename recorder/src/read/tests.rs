//! A small file, cut at every byte and flipped at every bit.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::damage::Damages;
use super::messages::Messages;
use super::source::Source;
use super::summary::Summary;

/// Writes a file of `chunks` chunks with `messages` each; the sequence numbers count through.
fn file(chunks: u32, messages: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = mcap::WriteOptions::new()
        .chunk_size(None)
        .create(&mut bytes)
        .expect("memory can be written");
    let metadata = mcap::records::Metadata {
        name: "recorder.host".to_owned(),
        metadata: BTreeMap::from([("json".to_owned(), "{}".to_owned())]),
    };
    writer.write_metadata(&metadata).expect("metadata");
    let channel = writer
        .add_channel(0, "process.exit", "protobuf", &BTreeMap::new())
        .expect("channel");
    for chunk in 0..chunks {
        for message in 0..messages {
            let sequence = chunk * messages + message;
            let header = mcap::records::MessageHeader {
                channel_id: channel,
                sequence,
                log_time: u64::from(sequence),
                publish_time: u64::from(sequence),
            };
            writer
                .write_to_known_channel(&header, &[b'x'; 20])
                .expect("message");
        }
        writer.flush().expect("flush");
    }
    writer.finish().expect("finish");
    drop(writer);
    bytes.into_inner()
}

fn read(bytes: Vec<u8>) -> (Vec<u32>, Damages) {
    let source = Source::Memory(bytes);
    let summary = Summary::read(&source).expect("memory can be read");
    let mut messages = Messages::new(&source, summary.as_ref());
    let mut sequences = Vec::new();
    while let Some((message, channel)) = messages.advance().expect("memory can be read") {
        assert_eq!(channel.topic, "process.exit");
        sequences.push(message.sequence);
    }
    (sequences, messages.damages().clone())
}

/// Returns where each chunk of an intact file ends.
fn chunk_ends(bytes: &[u8]) -> Vec<u64> {
    let summary = mcap::Summary::read(bytes)
        .expect("intact")
        .expect("with a summary");
    let chunks = summary.chunk_indexes.iter();
    chunks
        .map(|chunk| chunk.chunk_start_offset + chunk.chunk_length)
        .collect()
}

#[test]
fn an_intact_file_has_no_damage() {
    let (sequences, damages) = read(file(4, 5));
    assert_eq!(sequences, Vec::from_iter(0..20));
    assert_eq!(damages, Damages::default());
}

#[test]
fn a_file_cut_at_any_byte_gives_every_whole_chunk() {
    let bytes = file(4, 5);
    let ends = chunk_ends(&bytes);
    for len in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= len as u64).count();
        let (sequences, damages) = read(bytes[..len].to_vec());
        let expected = u32::try_from(whole * 5).expect("small");
        assert_eq!(sequences, Vec::from_iter(0..expected), "{len}");
        assert!(!damages.is_empty(), "{len}");
    }
}

#[test]
fn a_flipped_bit_costs_at_most_one_chunk() {
    let bytes = file(4, 5);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (sequences, damages) = read(flipped);
        let chunks: Vec<_> = (0..4)
            .map(|chunk| Vec::from_iter(chunk * 5..chunk * 5 + 5))
            .filter(|chunk| !chunk.iter().all(|sequence| sequences.contains(sequence)))
            .collect();
        assert!(chunks.len() <= 1, "bit {bit}: {chunks:?} {damages:?}");
        assert_eq!(
            sequences.len(),
            20 - chunks.len() * 5,
            "bit {bit}: nothing twice, nothing half"
        );
        if !chunks.is_empty() {
            let incomplete = !damages.is_empty();
            assert!(incomplete, "bit {bit}: lost without a word");
        }
    }
}
