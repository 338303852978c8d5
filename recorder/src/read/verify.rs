//! Whether a dump is as it was written.
//!
//! | verdict | what was found |
//! |---|---|
//! | damaged | the structure is broken or a CRC is wrong: bytes were lost or changed by accident, and where |
//! | tampered | structure and CRCs hold, yet the file is not the one that its sidecar describes, or contradicts itself: somebody wrote it so |
//! | complete | neither |
//!
//! Checked are: every record and its length; the CRC of every chunk and attachment, of the data section and of the summary; that every
//! event is the message that its topic promises; the counts of the summary against what is there; and, with a sidecar,
//! its length and SHA-256 against the file, and its incident against the one in the file. Without a sidecar a changed file
//! whose CRCs were made again looks complete: [`Seal::Missing`] says that nothing vouched for it. A sidecar is a file like
//! any other: who can change both can forge both, unless it is [signed](Signature).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::damage::{Damage, Damages, Flaw};
use super::dump::{Dump, ReadError};
use super::messages::Counts;
use super::summary::Summary;
use super::wire::Statistics;
use crate::dump::{Derived, SIGNATURE_EXTENSION};
use crate::incident::Incident;
use crate::sign::{PublicKey, SIGNATURE_BYTES};

/// Bytes read at a time for the checksums.
const READ_BYTES: usize = 1 << 20;

/// Longest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it was written, as far as can be told.
    Complete,
    /// Broken by accident.
    Damaged,
    /// Changed on purpose.
    Tampered,
}

/// What the sidecar says of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seal {
    /// Length and SHA-256 are those of the file.
    Matches,
    /// They are not.
    Differs,
    /// There is no sidecar.
    Missing,
    /// There is one, and it cannot be understood.
    Unreadable,
}

/// What signs the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// Nothing does.
    Missing,
    /// Something does, and no key was given to check it.
    Unchecked,
    /// The key that was given.
    Matches,
    /// Not that key, or not this sidecar.
    Differs,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// The verdict.
    pub state: State,
    /// What the sidecar says.
    pub sidecar: Seal,
    /// What signs that.
    pub signature: Signature,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Events that can be read.
    pub events: u64,
    /// Events that the summary counts and that cannot be read; `None` if the summary is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_missing: Option<u64>,
    /// What is broken.
    pub damage: Damages,
    /// In what the file contradicts itself or its sidecar.
    pub contradictions: Vec<String>,
    /// Of a copy: what its sidecar says that it was made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<Derived>,
}

/// The part of a sidecar that vouches for the file.
#[derive(Debug, Deserialize)]
struct Sidecar {
    bytes: u64,
    sha256: String,
    incident: Option<Incident>,
    derived_from: Option<Derived>,
}

/// Checks a file; `progress` is told how many of its bytes are behind, of twice their number.
///
/// # Errors
///
/// [`ReadError`]: the file cannot be read, or is no dump at all.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Report, ReadError> {
    verify_signed(path, None, progress)
}

/// The same; with a key the sidecar must be signed by it.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_signed(
    path: &Path,
    key: Option<&PublicKey>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, ReadError> {
    let dump = Dump::open(path)?;
    let text = text_of_sidecar(path);
    let signature = match &text {
        Ok(text) => signature(path, text, key),
        Err(_) => Signature::Missing,
    };
    let sidecar = text.and_then(|text| serde_json::from_slice(&text).map_err(|_| Seal::Unreadable));
    let report = examine(&dump, sidecar, progress).map_err(|source| ReadError::Io {
        path: path.to_owned(),
        source,
    });
    let mut report = report?;
    report.signature = signature;
    let doubt = match signature {
        Signature::Missing if key.is_some() => "no signature of its sidecar",
        Signature::Differs => "the signature is not by this key, or not of this sidecar",
        Signature::Missing | Signature::Unchecked | Signature::Matches => return Ok(report),
    };
    report.contradictions.push(doubt.to_owned());
    if report.state == State::Complete {
        report.state = State::Tampered;
    }
    Ok(report)
}

/// Compares the signature beside a dump with the text of its sidecar.
fn signature(path: &Path, text: &[u8], key: Option<&PublicKey>) -> Signature {
    let path = path.with_extension(SIGNATURE_EXTENSION);
    let signature = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Signature::Missing,
        Ok(metadata) if metadata.is_file() && metadata.len() == SIGNATURE_BYTES as u64 => {
            std::fs::read(&path).ok()
        }
        Ok(_) | Err(_) => None,
    };
    match (signature, key) {
        (Some(signature), Some(key)) if key.has_signed(text, &signature) => Signature::Matches,
        (_, Some(_)) => Signature::Differs,
        (_, None) => Signature::Unchecked,
    }
}

/// Checks an open dump by itself, without its sidecar.
///
/// # Errors
///
/// What the file system reports.
pub fn verify_alone(dump: &Dump) -> io::Result<Report> {
    examine(dump, Err(Seal::Missing), &mut |_| {})
}

/// Reads the sidecar of a dump.
fn text_of_sidecar(path: &Path) -> Result<Vec<u8>, Seal> {
    let path = path.with_extension("json");
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= SIDECAR_BYTES_MAX => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Seal::Missing),
        _ => return Err(Seal::Unreadable),
    }
    std::fs::read(&path).map_err(|_| Seal::Unreadable)
}

fn examine(
    dump: &Dump,
    sidecar: Result<Sidecar, Seal>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Report> {
    let mut events = dump.events();
    let mut seen = 0_u64;
    while let Some(entry) = events.next() {
        entry?;
        seen += 1;
        if seen.is_multiple_of(4096) {
            progress(events.position());
        }
    }
    let mut damage = events.damages().clone();
    let counts = events.counts();
    for broken in broken_attachments(dump)? {
        damage.push(broken);
    }
    let sums = Sums::of(dump, |bytes| progress(dump.bytes() + bytes))?;
    if let Some(flaw) = sums.flaw(dump.summary()) {
        damage.push(flaw);
    }
    let stated = dump
        .summary()
        .and_then(|summary| summary.statistics.as_ref());
    if dump.summary().is_none() && damage.is_empty() {
        damage.push(Damage {
            offset: dump.bytes(),
            bytes: 0,
            flaw: Flaw::Malformed("summary"),
        });
    }
    let mut contradictions = match (stated, damage.is_empty()) {
        (Some(stated), true) => contradictions(stated, counts),
        _ => Vec::new(),
    };
    let seal = match &sidecar {
        Err(seal) => *seal,
        Ok(sidecar) => {
            let matches = sidecar.bytes == dump.bytes() && sidecar.sha256 == sums.sha256;
            if !matches {
                contradictions
                    .push("the SHA-256 or the length in the sidecar is another".to_owned());
            }
            if damage.is_empty() && sidecar.incident != dump.incident() {
                contradictions.push("the incident in the sidecar is another".to_owned());
            }
            if matches {
                Seal::Matches
            } else {
                Seal::Differs
            }
        }
    };
    if seal == Seal::Unreadable {
        contradictions.push("the sidecar cannot be read".to_owned());
    }
    let state = match (damage.is_empty(), contradictions.is_empty()) {
        (false, _) => State::Damaged,
        (true, false) if seal == Seal::Unreadable => State::Damaged,
        (true, false) => State::Tampered,
        (true, true) => State::Complete,
    };
    Ok(Report {
        path: dump.path().to_owned(),
        state,
        sidecar: seal,
        signature: Signature::Missing,
        bytes: dump.bytes(),
        sha256: sums.sha256,
        events: seen,
        events_missing: stated.map(|stated| stated.messages.saturating_sub(counts.messages())),
        damage,
        contradictions,
        derived_from: sidecar.ok().and_then(|sidecar| sidecar.derived_from),
    })
}

/// Returns which attachments are not as they were written.
fn broken_attachments(dump: &Dump) -> io::Result<Vec<Damage>> {
    let attachments = dump.attachments()?;
    let mut broken = attachments.broken;
    for attachment in attachments.found {
        broken.extend(attachment.copy_to(dump.source(), &mut io::sink())?);
    }
    Ok(broken)
}

/// Compares what the summary counts with what is there.
fn contradictions(stated: &Statistics, found: &Counts) -> Vec<String> {
    let mut contradictions = Vec::new();
    let mut compare = |what: &str, stated: u64, found: u64| {
        if stated != found {
            contradictions.push(format!(
                "the summary counts {stated} {what}, there are {found}"
            ));
        }
    };
    compare("events", stated.messages, found.messages());
    compare("chunks", stated.chunks.into(), found.chunks.into());
    compare(
        "metadata records",
        stated.metadata.into(),
        found.metadata.into(),
    );
    compare(
        "attachments",
        stated.attachments.into(),
        found.attachments.into(),
    );
    let channels = stated.per_channel.keys().chain(found.per_channel.keys());
    for channel in channels.collect::<std::collections::BTreeSet<_>>() {
        let count = |counts: &std::collections::BTreeMap<u16, u64>| {
            counts.get(channel).copied().unwrap_or(0)
        };
        compare(
            &format!("events in channel {channel}"),
            count(&stated.per_channel),
            count(&found.per_channel),
        );
    }
    contradictions
}

/// Checksums of a whole file.
struct Sums {
    sha256: String,
    /// Of everything before the data end record.
    data_crc: u32,
}

impl Sums {
    fn of(dump: &Dump, mut progress: impl FnMut(u64)) -> io::Result<Self> {
        let source = dump.source();
        let data_end = dump.summary().map_or(0, |summary| summary.data_end);
        let mut sha256 = Sha256::new();
        let mut crc = crc32fast::Hasher::new();
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < source.len() {
            let left = usize::try_from(source.len() - at).unwrap_or(usize::MAX);
            source.read_into(&mut buffer, at, left.min(READ_BYTES))?;
            sha256.update(&buffer);
            let data = usize::try_from(data_end.saturating_sub(at)).unwrap_or(usize::MAX);
            crc.update(&buffer[..data.min(buffer.len())]);
            at += buffer.len() as u64;
            progress(at);
        }
        Ok(Self {
            sha256: format!("{:x}", sha256.finalize()),
            data_crc: crc.finalize(),
        })
    }

    fn flaw(&self, summary: Option<&Summary>) -> Option<Damage> {
        let summary = summary.filter(|summary| summary.data_crc != 0)?;
        (summary.data_crc != self.data_crc).then_some(Damage {
            offset: 0,
            bytes: summary.data_end,
            flaw: Flaw::Crc {
                of: "data section",
                stated: summary.data_crc,
                found: self.data_crc,
            },
        })
    }
}
