//! What the agent says of itself.

use recorder_ebpf::abi::{self, Note, NoteKind};

use super::proto;

pub(super) fn note(record: &[u8]) -> Option<proto::Note> {
    let note = abi::decode::<Note>(record)?;
    let text = record
        .get(size_of::<Note>()..)?
        .get(..note.text_len as usize)?;
    Some(proto::Note {
        kind: Some(
            NoteKind::from_number(note.kind)
                .map_or_else(|| note.kind.to_string(), |kind| kind.name().into()),
        ),
        text: Some(String::from_utf8_lossy(text).into_owned()),
    })
}
