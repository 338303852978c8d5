//! A copy of a dump without what is nobody else's business, which says that it is one.
//!
//! | policy | removed |
//! |---|---|
//! | arguments | arguments of programs; each becomes `*` |
//! | names | names and paths of programs, files, users, units, containers, cgroups, the host and its ids: the same name becomes the same pseudonym throughout the copy, and another one in the next copy |
//! | addresses | registers and all addresses; offsets in files and build ids stay |
//!
//! Whatever the policy, what is free text or memory goes: the kernel's log, remarks, the incident's sentence, the stack's
//! bytes, the evidence, the configuration, and events of types that this version does not know. Numbers stay: pids, uids,
//! sizes, times.

mod policy;

use std::collections::BTreeMap;
use std::io::{self, Seek, Write};

use mcap::records::{MessageHeader, Metadata};
use mcap::{Compression, McapError, WriteOptions, Writer};
use serde::{Deserialize, Serialize};

use crate::death::DeathsOf;
use crate::dump::{CLOCKS, CONFIG, COVERAGE, HOST, INCIDENT, LOSS, PROBES, Probe};
use crate::event::{Body, TOPICS};
use crate::read::{Damages, Dump, Flaw};

use super::Origin;
pub use policy::{Policy, Redactor};

/// Name of the metadata record that says what was removed.
pub const REDACTION: &str = "recorder.redaction";

/// As in the dumps that the agent writes.
const CHUNK_BYTES: u64 = 1 << 20;

/// What was removed; the metadata record of the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// By which policies.
    pub policies: Vec<String>,
    /// Version of the recorder that did it.
    pub recorder_version: String,
    /// SHA-256 of the dump that it is a copy of, in hex.
    pub original_sha256: String,
    /// Attachments that are not in the copy.
    pub attachments_removed: u64,
}

/// What came of a copy.
#[derive(Debug)]
pub struct Copied {
    /// Events in it.
    pub events: u64,
    /// What the incident, the host and the rest are in it.
    pub origin: Origin,
    /// Who died, in the copy's names.
    pub deaths: crate::death::Deaths,
    /// Events of types that this version does not know, which are not in it.
    pub unknown: u64,
    /// What of the original is broken.
    pub damages: Damages,
}

/// Writes a copy of a dump.
///
/// # Errors
///
/// A failed read or write.
pub fn copy(
    dump: &Dump,
    origin: &Origin,
    redactor: &Redactor,
    redaction: &Redaction,
    out: &mut (impl Write + Seek),
    mut progress: impl FnMut(u64),
) -> io::Result<Copied> {
    let mut writer = WriteOptions::new()
        .profile("recorder")
        .library(concat!("recorder ", env!("CARGO_PKG_VERSION"), " redact"))
        .compression(Some(Compression::Zstd))
        .chunk_size(Some(CHUNK_BYTES))
        .emit_message_indexes(false)
        .create(out)
        .map_err(failed)?;
    let mut origin = origin.clone();
    redactor.origin(&mut origin);
    head(&mut writer, dump, &origin, redaction)?;

    let subject = origin.incident.as_ref().map(|one| one.subject.clone());
    let trigger = origin.trigger_unix_ns().unwrap_or_default();
    let mut deaths = DeathsOf::new(&subject.unwrap_or_default(), trigger);
    let mut messages = dump.messages();
    let clock = dump.clock();
    let mut channels: BTreeMap<u16, u16> = BTreeMap::new();
    let (mut events, mut unknown, mut data) = (0, 0, Vec::new());
    while let Some((message, channel)) = messages.advance()? {
        let decoded = Body::decode(&channel.topic, message.data);
        let header = MessageHeader {
            channel_id: channel.id,
            sequence: message.sequence,
            log_time: message.log_time,
            publish_time: message.log_time,
        };
        let mut body = match decoded {
            Ok(body) => body,
            Err(crate::event::DecodeError::Topic(_)) => {
                unknown += 1;
                continue;
            }
            Err(crate::event::DecodeError::Message { .. }) => {
                messages.broken(Flaw::Message);
                continue;
            }
        };
        let boot_ns = clock.map(|clock| clock.boot_ns_at(message.log_time));
        body.complete(boot_ns);
        redactor.body(&mut body);
        let channel_id = match channels.get(&channel.id) {
            Some(id) => *id,
            None => {
                let topic = &TOPICS[body.topic_index()];
                let schema = writer.add_schema(topic.message, "protobuf", topic.schema);
                let schema = schema.map_err(failed)?;
                let added = writer.add_channel(schema, topic.name, "protobuf", &channel.metadata);
                let id = added.map_err(failed)?;
                channels.insert(channel.id, id);
                id
            }
        };
        data.clear();
        match boot_ns {
            Some(boot_ns) => body.encode_brief(boot_ns, &mut data),
            None => body.encode(&mut data),
        }
        let header = MessageHeader {
            channel_id,
            ..header
        };
        writer
            .write_to_known_channel(&header, &data)
            .map_err(failed)?;
        events += 1;
        deaths.take(events, header.log_time, &body);
        progress(messages.position());
    }
    writer.finish().map_err(failed)?;
    Ok(Copied {
        events,
        origin,
        deaths: deaths.finish(),
        unknown,
        damages: messages.damages().clone(),
    })
}

fn head<W: Write + Seek>(
    writer: &mut Writer<W>,
    dump: &Dump,
    origin: &Origin,
    redaction: &Redaction,
) -> io::Result<()> {
    put(writer, INCIDENT, origin.incident.as_ref())?;
    put(writer, HOST, origin.host.as_ref())?;
    put(writer, CLOCKS, origin.clocks.as_ref())?;
    put(writer, PROBES, dump.metadata::<Vec<Probe>>(PROBES).as_ref())?;
    put(writer, COVERAGE, origin.coverage.as_ref())?;
    put(writer, LOSS, origin.loss.as_ref())?;
    put(writer, CONFIG, Some(&"redacted"))?;
    put(writer, REDACTION, Some(redaction))
}

fn put<W: Write + Seek>(
    writer: &mut Writer<W>,
    name: &str,
    value: Option<&impl Serialize>,
) -> io::Result<()> {
    let Some(value) = value else { return Ok(()) };
    let json = serde_json::to_string(value)?;
    let metadata = Metadata {
        name: name.to_owned(),
        metadata: BTreeMap::from([("json".to_owned(), json)]),
    };
    writer.write_metadata(&metadata).map_err(failed)
}

fn failed(error: McapError) -> io::Error {
    match error {
        McapError::Io(error) => error,
        other => io::Error::other(other),
    }
}
