//! A trace in the Common Trace Format 1.8: a directory for babeltrace2 and Trace Compass.
//!
//! One stream in the order of the dump, one class of events for each type. Where records are missing a packet ends, and
//! the next one counts them as discarded: so a reader warns about the gap in its place.

mod fields;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::event::{Body, TOPICS, reflect};
use crate::harmless::json;
use crate::read::Entry;

use super::{Origin, Visitor};

/// Bytes of events at which a packet is closed.
const PACKET_BYTES: usize = 256 << 10;
const MAGIC: u32 = 0xc1fc_1fc1;
/// Magic, UUID and stream of the packet header.
const PACKET_HEADER_BYTES: usize = 4 + 16 + 4;
/// Two times, two sizes, the discarded events and the packet's number.
const PACKET_CONTEXT_BYTES: usize = 6 * 8;
/// Boot id of a dump without one.
const NO_BOOT: &str = "unknown";

/// Opens a new file.
type Create = Box<dyn FnMut(&Path) -> io::Result<File>>;

/// Writes a trace into a directory.
pub struct Ctf {
    directory: PathBuf,
    create: Create,
    stream: Option<File>,
    trace: Uuid,
    packet: Vec<u8>,
    packets: u64,
    begin: u64,
    last: u64,
    discarded: u64,
}

impl Ctf {
    /// Makes a trace in a directory that is there; `create` opens a file in it.
    pub fn new(create: impl FnMut(&Path) -> io::Result<File> + 'static, directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            create: Box::new(create),
            stream: None,
            trace: Uuid::nil(),
            packet: Vec::with_capacity(PACKET_BYTES * 2),
            packets: 0,
            begin: 0,
            last: 0,
            discarded: 0,
        }
    }

    fn start(&mut self, origin: &Origin) -> io::Result<()> {
        if self.stream.is_none() {
            let incident = origin.incident.as_ref().map(|incident| incident.id);
            self.trace = incident.unwrap_or_default();
            let text = metadata(origin, self.trace);
            let mut file = (self.create)(&self.directory.join("metadata"))?;
            file.write_all(text.as_bytes())?;
            file.flush()?;
            self.stream = Some((self.create)(&self.directory.join("events"))?);
        }
        Ok(())
    }

    /// Ends the packet.
    fn close(&mut self) -> io::Result<()> {
        if self.packet.is_empty() {
            return Ok(());
        }
        let header = PACKET_HEADER_BYTES + PACKET_CONTEXT_BYTES;
        let bits = ((header + self.packet.len()) as u64) * 8;
        let mut head = Vec::with_capacity(header);
        head.extend_from_slice(&MAGIC.to_le_bytes());
        head.extend_from_slice(self.trace.as_bytes());
        head.extend_from_slice(&0_u32.to_le_bytes());
        let context = [
            self.begin,
            self.last,
            bits,
            bits,
            self.discarded,
            self.packets,
        ];
        for number in context {
            head.extend_from_slice(&number.to_le_bytes());
        }
        self.packets += 1;
        if let Some(stream) = &mut self.stream {
            stream.write_all(&head)?;
            stream.write_all(&self.packet)?;
        }
        self.packet.clear();
        Ok(())
    }
}

impl Visitor for Ctf {
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        self.start(origin)?;
        if let Body::Loss(loss) = &entry.body {
            self.close()?;
            self.discarded += loss.count();
        }
        let at = origin.boot_ns(entry.unix_ns).unwrap_or(entry.unix_ns);
        // A stream goes forward.
        self.last = at.max(self.last);
        if self.packet.is_empty() {
            self.begin = self.last;
        }
        let out = &mut self.packet;
        // Topics are few.
        out.extend_from_slice(&(entry.body.topic_index() as u16).to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&entry.order.to_le_bytes());
        out.extend_from_slice(&entry.cause.unwrap_or(0).to_le_bytes());
        text(out, &(origin.describe)(&entry.body));
        fields::write(out, entry.body.message());
        json(out, &entry.body);
        out.push(0);
        if self.packet.len() >= PACKET_BYTES || matches!(entry.body, Body::Loss(_)) {
            self.close()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.close()?;
        match &mut self.stream {
            Some(stream) => stream.flush(),
            None => Ok(()),
        }
    }
}

/// Appends a text and the NUL behind it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// Returns the description of the trace in the language of the format.
fn metadata(origin: &Origin, trace: Uuid) -> String {
    let mut out = String::from(
        "/* CTF 1.8 */\n\
         typealias integer { size = 16; align = 8; signed = false; } := uint16_t;\n\
         typealias integer { size = 32; align = 8; signed = false; } := uint32_t;\n\
         typealias integer { size = 64; align = 8; signed = false; } := uint64_t;\n\
         typealias integer { size = 64; align = 8; signed = true; } := int64_t;\n\
         typealias integer { size = 8; align = 8; signed = true; } := int8_t;\n\
         typealias integer { size = 64; align = 8; signed = false; base = hex; } := address_t;\n\
         typealias floating_point { exp_dig = 11; mant_dig = 53; align = 8; } := double_t;\n",
    );
    let _ = write!(
        out,
        "trace {{\n    major = 1;\n    minor = 8;\n    uuid = \"{trace}\";\n    byte_order = le;\n    \
         packet.header := struct {{\n        uint32_t magic;\n        \
         integer {{ size = 8; align = 8; signed = false; }} uuid[16];\n        uint32_t stream_id;\n    }};\n}};\n"
    );
    let host = origin.host.as_ref();
    let env = [
        ("hostname", origin.hostname()),
        ("tracer_name", Some("recorder")),
        ("domain", Some("kernel")),
        (
            "kernel_release",
            host.map(|host| host.kernel_release.as_str()),
        ),
        ("boot_id", Some(host.map_or(NO_BOOT, |host| &host.boot_id))),
        ("environment", origin.environment()),
        ("incident", origin.incident_id.as_deref()),
    ];
    out.push_str("env {\n");
    for (name, value) in env {
        if let Some(value) = value {
            let _ = writeln!(out, "    {name} = \"{}\";", quoted(value));
        }
    }
    out.push_str("};\n");
    // The wall clock at boot: then readers show the wall clock.
    let offset = origin
        .clocks
        .map_or(0, |clocks| clocks.freeze.unix_ns_at(0));
    let _ = write!(
        out,
        "clock {{\n    name = boottime;\n    description = \"time since boot, suspend included\";\n    \
         freq = 1000000000;\n    offset_s = {};\n    offset = {};\n}};\n\
         typealias integer {{ size = 64; align = 8; signed = false; map = clock.boottime.value; }} := clock_t;\n\
         stream {{\n    id = 0;\n    packet.context := struct {{\n        clock_t timestamp_begin;\n        \
         clock_t timestamp_end;\n        uint64_t content_size;\n        uint64_t packet_size;\n        \
         uint64_t events_discarded;\n        uint64_t packet_seq_num;\n    }};\n    \
         event.header := struct {{\n        uint16_t id;\n        clock_t timestamp;\n    }};\n}};\n",
        offset / 1_000_000_000,
        offset % 1_000_000_000
    );
    for (id, topic) in TOPICS.iter().enumerate() {
        let _ = write!(
            out,
            "event {{\n    id = {id};\n    name = \"{}\";\n    stream_id = 0;\n    fields := struct {{\n        \
             uint64_t order;\n        uint64_t cause;\n        \
             string {{ encoding = UTF8; }} message;\n",
            topic.name
        );
        if let Some(message) = reflect::of_topic(topic.name) {
            fields::declare(&mut out, message);
        }
        out.push_str("        string { encoding = UTF8; } body;\n    };\n};\n");
    }
    out
}

/// Makes a text one that can stand in quotes.
fn quoted(text: &str) -> String {
    let harmless = |character: char| match character {
        '"' | '\\' => '_',
        other if other.is_control() => '_',
        other => other,
    };
    text.chars().map(harmless).collect()
}
