//! A copy of a dump whose crashes say more than they did.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use mcap::records::Record;
use mcap::{
    Attachment, Channel, Compression, McapError, Message, MessageStream, Schema, WriteOptions,
};
use prost::Message as _;
use recorder_ebpf::abi::EventKind;

use super::{Derived, sink};
use crate::event::{TOPICS, proto};
use crate::incident::Incident;

/// As in the dumps that the agent writes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Returns a copy of the dump `bytes` in which `resolve` has seen every fatal signal, and how many those are.
///
/// Everything else is as it was: the order and the numbers of the events, the metadata, the evidence. A sidecar that vouches
/// for the copy is [`beside_copy`]'s.
///
/// # Errors
///
/// A dump that is not whole.
pub fn with_names(
    bytes: &[u8],
    mut resolve: impl FnMut(&mut proto::SignalFatal),
) -> Result<(Vec<u8>, u64), McapError> {
    let library = concat!("recorder ", env!("CARGO_PKG_VERSION"), " symbolize");
    let mut writer = WriteOptions::new()
        .profile("recorder")
        .library(library)
        .compression(Some(Compression::Zstd))
        .chunk_size(Some(CHUNK_BYTES))
        .emit_message_indexes(false)
        .create(Cursor::new(Vec::new()))?;
    for record in mcap::read::LinearReader::new(bytes)? {
        if let Record::Metadata(metadata) = record? {
            writer.write_metadata(&metadata)?;
        }
    }
    let mut channels: BTreeMap<u16, Arc<Channel<'_>>> = BTreeMap::new();
    let mut crashes = 0;
    for message in MessageStream::new(bytes)? {
        let mut message = message?;
        if message.channel.topic == EventKind::SignalFatal.name()
            && let Ok(mut fatal) = proto::SignalFatal::decode(&*message.data)
        {
            resolve(&mut fatal);
            crashes += 1;
            let channel = channels
                .entry(message.channel.id)
                .or_insert_with(|| of_today(&message));
            message.channel = Arc::clone(channel);
            message.data = Cow::Owned(fatal.encode_to_vec());
        }
        writer.write(&message)?;
    }
    for record in mcap::read::LinearReader::new(bytes)? {
        if let Record::Attachment { header, data, .. } = record? {
            writer.attach(&Attachment {
                log_time: header.log_time,
                create_time: header.create_time,
                name: header.name,
                media_type: header.media_type,
                data,
            })?;
        }
    }
    writer.finish()?;
    Ok((writer.into_inner().into_inner(), crashes))
}

/// Returns the sidecar of a copy: that of the dump, if it has one, but for what is said of the file, and what it was made of.
pub fn beside_copy(name: &str, copy: &[u8], of: &Original<'_>) -> serde_json::Value {
    let mut beside = of.sidecar.cloned().unwrap_or_default();
    // A copy has no place among the dumps.
    beside.remove("chain");
    let derived = Derived {
        file: of.name.to_owned(),
        sha256: sink::sha256(of.bytes),
        by: concat!("recorder ", env!("CARGO_PKG_VERSION"), " symbolize").to_owned(),
        vouched_for: of.vouched_for,
    };
    beside.insert("file".into(), name.into());
    beside.insert("bytes".into(), copy.len().into());
    beside.insert("sha256".into(), sink::sha256(copy).into());
    beside.insert("derived_from".into(), serde_json::json!(derived));
    if let (false, Some(incident)) = (beside.contains_key("incident"), of.incident) {
        beside.insert("incident".into(), serde_json::json!(incident));
    }
    beside.into()
}

/// A dump that a copy was made of.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Name of its file.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
    /// Its sidecar.
    pub sidecar: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Whether that is the sidecar of this content.
    pub vouched_for: bool,
    /// Its incident.
    pub incident: Option<&'a Incident>,
}

/// Returns the channel of a message with today's schema: that of an older dump may lack the fields for names.
fn of_today<'a>(message: &Message<'a>) -> Arc<Channel<'a>> {
    let channel = &message.channel;
    let mut schema = channel.schema.as_deref().cloned();
    let topic = TOPICS.iter().find(|topic| topic.name == channel.topic);
    if let (Some(schema), Some(topic)) = (&mut schema, topic) {
        *schema = Schema {
            data: Cow::Borrowed(topic.schema),
            ..schema.clone()
        };
    }
    Arc::new(Channel {
        schema: schema.map(Arc::new),
        ..(**channel).clone()
    })
}
