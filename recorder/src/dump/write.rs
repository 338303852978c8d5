//! Writing a dump.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use recorder_ebpf::abi::{self, EventKind, Header, Lane, Note, NoteKind};
use serde::Serialize;
use thiserror::Error;

use super::{
    CLOCKS, CONFIG, COVERAGE, DELIVERY, DUMP_EXTENSION, DumpInput, HOST, INCIDENT, LANES, LOSS,
    Limits, Link, PROBES, RECOVERY, SIDECAR_EXTENSION, SIGNATURE_EXTENSION, Sidecar, Verdict,
    compress::{Compressed, Compressor, Stopped},
    encode::{Contents, Encoder, Source},
    evidence::{self, AttachError, EVIDENCE, Taken},
    file::{self, NewFile},
    gaps::Gaps,
    ledger::Ledger,
    mcap::{self, AttachmentIndex, MetadataIndex, Statistics, Summary},
    name,
    sink::{self, Sink, SinkError},
    size,
    survey::{Span, Survey},
    timeline::Timeline,
};
use crate::death::{Deaths, DeathsOf};
use crate::event::{self, Body, Event, proto};
use crate::identity::Naming;
use crate::incident::Incident;

const PROFILE: &str = "recorder";

/// A dump that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The dump.
    pub path: PathBuf,
    /// The file beside it.
    pub sidecar: PathBuf,
    /// Length of the dump in bytes.
    pub bytes: u64,
    /// SHA-256 of the dump, in hex.
    pub sha256: String,
    /// Messages in it.
    pub events: u64,
    /// Whether it has every record of its window.
    pub verdict: Verdict,
}

/// Why there is no dump.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file system has no room.
    #[error("no space left for a dump in {}", dir.display())]
    StorageFull {
        /// Directory of the dumps.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else filled the file system meanwhile.
    #[error("what is free in {} fell below what is to stay free while the dump was written", .0.display())]
    LowSpace(PathBuf),
    /// The file system refused.
    #[error("write a dump in {}", dir.display())]
    Io {
        /// Directory of the dumps.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not even the incident itself fits.
    #[error(
        "a dump of at most {max_dump_bytes} bytes cannot hold the incident: raise max_dump_bytes"
    )]
    TooSmall {
        /// The limit.
        max_dump_bytes: u64,
    },
}

/// Writes a dump and its sidecar into `dir`; returns when both are durable.
///
/// # Errors
///
/// [`WriteError`]; then the directory is as it was.
pub fn write(dir: &Path, input: &DumpInput<'_>, limits: &Limits) -> Result<Written, WriteError> {
    DumpWriter::default().write(dir, input, limits, None)
}

/// Writes dumps one after the other, with a thread and buffers that stay.
#[derive(Default)]
pub struct DumpWriter {
    compressor: Option<Compressor>,
}

impl DumpWriter {
    /// Starts the thread and makes the buffers, which else the first dump does.
    ///
    /// # Errors
    ///
    /// What the system reports if there can be no thread; the next dump tries again.
    pub fn prepare(&mut self) -> io::Result<()> {
        if self.compressor.is_none() {
            self.compressor = Some(Compressor::start()?);
        }
        Ok(())
    }

    /// Writes a dump and its sidecar into `dir`, and links it to the dumps before it; returns when both are durable.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; then the directory is as it was.
    pub fn write(
        &mut self,
        dir: &Path,
        input: &DumpInput<'_>,
        limits: &Limits,
        mut link: Option<&mut dyn Link>,
    ) -> Result<Written, WriteError> {
        let failed = |source: io::Error| {
            let dir = dir.to_owned();
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            if full.contains(&source.kind()) {
                WriteError::StorageFull { dir, source }
            } else {
                WriteError::Io { dir, source }
            }
        };
        let mut evidence = Taken::new(input.evidence, limits.max_dump_bytes);
        let mut spans = size::asked(input);
        loop {
            self.prepare().map_err(failed)?;
            let attempt = Attempt::new(dir, input, &spans, &evidence);
            // Borrowed anew for each attempt.
            let link = link.as_mut().map(|link| &mut **link as &mut dyn Link);
            match attempt.run(&mut self.compressor, limits.max_dump_bytes, link) {
                Ok(written) => return Ok(written),
                Err(Failure::Io(error)) => return Err(failed(error)),
                Err(Failure::LowSpace) => return Err(WriteError::LowSpace(dir.to_owned())),
                // Evidence never costs the dump.
                Err(Failure::Evidence) => {
                    evidence = Taken::nothing(input.evidence, "it could not be read back");
                }
                Err(Failure::TooLarge { fitted }) => {
                    let shorter = size::shorter(input, &spans, &attempt.survey, fitted);
                    match shorter {
                        Some(shorter) => spans = shorter,
                        None if !evidence.attachments.is_empty() => {
                            evidence = Taken::nothing(input.evidence, "no room in the dump");
                            spans = size::asked(input);
                        }
                        None => {
                            return Err(WriteError::TooSmall {
                                max_dump_bytes: limits.max_dump_bytes,
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Returns the dump of an incident that is in the directory already: whoever wrote it may have come no further.
///
/// A sidecar gets its name last, so with it the dump is whole.
pub fn find_written(dir: &Path, incident: &Incident) -> Option<Written> {
    let ending = name::ending(&incident.rule, incident.id);
    let ending = format!("{ending}.{SIDECAR_EXTENSION}");
    let mut paths = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let path = paths.find(|path| file_name(path).ends_with(&ending))?;
    let sidecar: Sidecar = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let is_there =
        fs::metadata(dir.join(&sidecar.file)).is_ok_and(|file| file.len() == sidecar.bytes);
    is_there.then(|| Written {
        path: dir.join(&sidecar.file),
        sidecar: path,
        bytes: sidecar.bytes,
        sha256: sidecar.sha256,
        events: sidecar.events,
        verdict: sidecar.verdict,
    })
}

/// Why an attempt failed.
enum Failure {
    TooLarge {
        fitted: u64,
    },
    /// Evidence could not be read back.
    Evidence,
    LowSpace,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::TooLarge => Self::TooLarge { fitted: 0 },
            SinkError::LowSpace => Self::LowSpace,
            SinkError::Io(error) => Self::Io(error),
        }
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Unreadable => Self::Evidence,
            AttachError::Sink(error) => error.into(),
        }
    }
}

/// One attempt to write the records of these spans.
struct Attempt<'a> {
    dir: &'a Path,
    input: &'a DumpInput<'a>,
    spans: &'a [Span; LANES],
    evidence: &'a Taken<'a>,
    survey: Survey,
    ledger: Ledger,
}

impl<'a> Attempt<'a> {
    fn new(
        dir: &'a Path,
        input: &'a DumpInput<'a>,
        spans: &'a [Span; LANES],
        evidence: &'a Taken<'a>,
    ) -> Self {
        let survey = Survey::new(input.frozen, spans);
        Self {
            dir,
            input,
            spans,
            evidence,
            ledger: Ledger::new(input, &survey, spans),
            survey,
        }
    }

    fn run(
        &self,
        compressor: &mut Option<Compressor>,
        bytes_max: u64,
        link: Option<&mut dyn Link>,
    ) -> Result<Written, Failure> {
        let incident = self.input.incident;
        let triggered = self
            .input
            .clocks
            .freeze
            .unix_ns_at(incident.trigger.boot_ns);
        let stem = name::stem(triggered, &incident.rule, incident.id);
        let file = NewFile::create(self.dir, &format!("{stem}.{DUMP_EXTENSION}"))?;
        let name = file_name(file.target());
        let attached = self.evidence.bytes();
        let bytes_max = bytes_max.saturating_sub(attached);
        let mut sink = Sink::new(file, bytes_max, Arc::clone(self.input.may_grow));
        let metadata = self.head(&mut sink)?;
        let (mut written, contents, deaths) = self.messages(compressor, sink)?;
        written.sink.allow(attached);
        if let Err(error) = self.tail(&mut written, &contents, &metadata) {
            return Err(match error {
                Failure::TooLarge { .. } => Failure::TooLarge {
                    fitted: written.messages,
                },
                other @ (Failure::Evidence | Failure::LowSpace | Failure::Io(_)) => other,
            });
        }
        let bytes = written.sink.bytes();
        let (file, sha256) = written.sink.finish();
        let sidecar = Sidecar {
            file: name,
            bytes,
            sha256,
            events: contents.events(),
            time: name::time(triggered),
            verdict: self.ledger.loss.verdict,
            incident: incident.clone(),
            deaths,
            host: self.input.host.clone(),
            clocks: self.input.clocks,
            coverage: self.ledger.coverage.clone(),
            loss: self.ledger.loss.clone(),
            derived_from: None,
            chain: None,
        };
        self.commit(file, sidecar, &stem, link).map_err(Failure::Io)
    }

    /// Writes what stands before the messages, so that a file without an end has it too.
    fn head(&self, sink: &mut Sink) -> Result<Vec<MetadataIndex>, Failure> {
        let input = self.input;
        let config = json(input.config)?;
        let mut records = vec![
            (INCIDENT, json(input.incident)?),
            (HOST, json(input.host)?),
            (CLOCKS, json(&input.clocks)?),
            (PROBES, json(input.probes)?),
            (COVERAGE, json(&self.ledger.coverage)?),
            (LOSS, json(&self.ledger.loss)?),
            (EVIDENCE, json(&self.evidence.report)?),
        ];
        if let Some(recovery) = input.recovery {
            records.push((RECOVERY, json(recovery)?));
        }
        if !input.refused.is_empty() {
            records.push((DELIVERY, json(input.refused)?));
        }
        let mut out = mcap::MAGIC.to_vec();
        let library = concat!("recorder ", env!("CARGO_PKG_VERSION"));
        mcap::header(&mut out, PROFILE, library);
        let mut index = Vec::new();
        let mut metadata = |name: &'static str, map: &[(&str, &str)]| {
            index.push(MetadataIndex {
                name,
                offset: out.len() as u64,
                bytes: mcap::metadata(&mut out, name, map),
            });
        };
        for (name, json) in &records {
            metadata(name, &[("json", json)]);
        }
        let hash = sink::sha256(config.as_bytes());
        metadata(CONFIG, &[("json", &config), ("sha256", &hash)]);
        sink.write(&out)?;
        Ok(index)
    }

    /// Encodes the messages here, while another thread compresses them.
    fn messages(
        &self,
        place: &mut Option<Compressor>,
        sink: Sink,
    ) -> Result<(Compressed, Contents, Deaths), Failure> {
        let ended = |_: Stopped| Failure::Io(io::Error::other("the thread that compresses ended"));
        // One that was left in the middle of a file is of no use any more.
        let compressor = place.take().ok_or(Stopped).map_err(ended)?;
        compressor.begin(sink).map_err(ended)?;
        let encoded = self.encode(&compressor);
        let mut written = compressor.end().map_err(ended)?;
        *place = Some(compressor);
        match (std::mem::replace(&mut written.result, Ok(())), encoded) {
            (Ok(()), Ok((contents, deaths))) => Ok((written, contents, deaths)),
            (Err(SinkError::Io(error)), _) => Err(Failure::Io(error)),
            (Err(SinkError::LowSpace), _) => Err(Failure::LowSpace),
            // The encoder stops early only when the compressor does, which says why.
            (Err(SinkError::TooLarge), _) | (Ok(()), Err(Stopped)) => Err(Failure::TooLarge {
                fitted: written.messages,
            }),
        }
    }

    fn encode(&self, compressor: &Compressor) -> Result<(Contents, Deaths), Stopped> {
        let mut encoder = Encoder::new(self.input.clocks.freeze, compressor)?;
        let incident = self.input.incident;
        let clock = self.input.clocks.freeze;
        let triggered = clock.unix_ns_at(incident.trigger.boot_ns);
        let mut deaths = DeathsOf::new(&incident.subject, triggered);
        let mut gaps = Gaps::new(&self.ledger);
        let mut note = self.note();
        let mut naming = Naming::new(self.input.directory);
        // What is too old for the dump still names what is in it.
        let lifecycle = self.spans[Lane::Lifecycle as usize];
        let is_known = self.input.frozen.is_known();
        for record in self.input.frozen.records(Lane::Lifecycle) {
            if abi::decode::<Header>(record).is_some_and(|header| header.boot_ns < lifecycle.from) {
                naming.pass(record);
            }
        }
        for entry in Timeline::new(self.input.frozen, self.spans, &self.survey) {
            if let Some(mut note) = note.take_if(|note| note.boot_ns < entry.boot_ns) {
                encoder.event(&mut note, Source::Writer)?;
            }
            let mut event = match is_known {
                true => event::decode(entry.lane, entry.record),
                false => event::unknown(entry.lane, entry.record),
            };
            if is_known {
                naming.name(entry.record, &mut event);
            }
            (self.input.enrich)(&mut event.body);
            if let Some(mut loss) = gaps.before(&event) {
                encoder.event(&mut loss, Source::Writer)?;
            }
            let order = encoder.event(&mut event, Source::Record)?;
            deaths.take(order, clock.unix_ns_at(event.boot_ns), &event.body);
            naming.reuse(event);
        }
        if let Some(mut note) = note {
            encoder.event(&mut note, Source::Writer)?;
        }
        for mut loss in gaps.at_end(incident.window_end_boot_ns) {
            encoder.event(&mut loss, Source::Writer)?;
        }
        Ok((encoder.finish()?, deaths.finish()))
    }

    /// Returns the remark that marks the incident among the events, unless the agent's own is among them.
    fn note(&self) -> Option<Event> {
        let incident = self.input.incident;
        let id = format!("({})", incident.id);
        let is_same = |record: &[u8]| {
            let note = abi::decode::<Note>(record);
            note.is_some_and(|note| {
                note.header.kind == EventKind::Note as u8
                    && note.kind == NoteKind::Incident as u32
                    && self.spans[Lane::Sample as usize].contains(note.header.boot_ns)
                    && record
                        .get(size_of::<Note>()..)
                        .and_then(|text| text.get(..note.text_len as usize))
                        .is_some_and(|text| text.ends_with(id.as_bytes()))
            })
        };
        if self.input.frozen.records(Lane::Sample).any(is_same) {
            return None;
        }
        Some(Event {
            boot_ns: incident.trigger.boot_ns,
            sequence: 0,
            lane: Lane::Sample,
            cpu: 0,
            body: Body::Note(proto::Note {
                kind: Some(NoteKind::Incident.name().into()),
                text: Some(incident.summary.clone()),
            }),
        })
    }

    fn tail(
        &self,
        written: &mut Compressed,
        contents: &Contents,
        metadata: &[MetadataIndex],
    ) -> Result<(), Failure> {
        let mut attachments: Vec<AttachmentIndex<'_>> = Vec::new();
        for attachment in &self.evidence.attachments {
            attachments.push(evidence::write(&mut written.sink, attachment)?);
        }
        let (start_time, end_time) = contents.times.unwrap_or_default();
        let summary = Summary {
            schemas: &contents.schema_records,
            channels: &contents.channel_records,
            statistics: Statistics {
                schemas: contents.schemas(),
                attachments: attachments.len() as u32,
                metadata: metadata.len() as u32,
                chunks: written.chunks.len() as u32,
                start_time,
                end_time,
                messages: &contents.messages,
            },
            chunks: &written.chunks,
            metadata,
            attachments: &attachments,
        };
        let bytes = summary.encode(written.sink.bytes(), written.sink.crc());
        Ok(written.sink.write(&bytes)?)
    }

    /// Makes the files durable, then gives them their names: the sidecar last, which has its place in the chain.
    fn commit(
        &self,
        file: NewFile,
        mut sidecar: Sidecar,
        stem: &str,
        mut link: Option<&mut dyn Link>,
    ) -> io::Result<Written> {
        file.sync()?;
        sidecar.chain = link.as_mut().map(|link| link.next());
        let mut text = serde_json::to_vec_pretty(&sidecar)?;
        text.push(b'\n');
        let beside = self.beside(stem, SIDECAR_EXTENSION, &text)?;
        let signature = link.as_ref().and_then(|link| link.sign(&text));
        let signature = signature
            .map(|bytes| self.beside(stem, SIGNATURE_EXTENSION, &bytes))
            .transpose()?;
        let path = file.commit()?;
        let mut named = Named(vec![path.clone()]);
        if let Some(signature) = signature {
            named.0.push(signature.commit()?);
        }
        let sidecar_path = beside.commit()?;
        named.0.clear();
        file::sync_dir(self.dir)?;
        if let Some(link) = link {
            link.linked(&text);
        }
        Ok(Written {
            path,
            sidecar: sidecar_path,
            bytes: sidecar.bytes,
            sha256: sidecar.sha256,
            events: sidecar.events,
            verdict: sidecar.verdict,
        })
    }

    /// Writes a file beside the dump, durable under its temporary name.
    fn beside(&self, stem: &str, extension: &str, bytes: &[u8]) -> io::Result<NewFile> {
        let mut file = NewFile::create(self.dir, &format!("{stem}.{extension}"))?;
        file.write_all(bytes)?;
        file.sync()?;
        Ok(file)
    }
}

/// Files that have their names already; without the rest of the dump they go again.
struct Named(Vec<PathBuf>);

impl Drop for Named {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = file::remove_file(path);
        }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::from)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
