//! One dump: its metadata and its events.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use mcap::records::op;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::attachments::Attachments;
use super::events::Events;
use super::lookup::Lookup;
use super::messages::Messages;
use super::source::Source;
use super::summary::Summary;
use super::walk::{Extent, Step, Walk, read_extent};
use super::wire::{Fields, MAGIC};
use crate::dump::{CLOCKS, COVERAGE, Clocks, Coverage, HOST, Host, INCIDENT, LOSS, LossLedger};
use crate::event::ClockPair;
use crate::incident::Incident;

/// Longest metadata record that is read, in bytes.
const METADATA_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of metadata records that are read, all together.
const METADATA_BYTES_ALL_MAX: u64 = 16 << 20;

/// Most metadata records that are read.
const METADATA_RECORDS_MAX: usize = 64;

/// Why a file was not read as a dump.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Neither the beginning nor the end is that of a dump.
    #[error("{}: not a dump (MCAP file)", .0.display())]
    NotADump(PathBuf),
}

/// An open dump.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    source: Source,
    summary: Option<Summary>,
    metadata: BTreeMap<String, BTreeMap<String, String>>,
}

impl Dump {
    /// Opens a dump and reads its metadata.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: a file that cannot be read, or that is something else. A broken dump opens.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let source = Source::open(path).map_err(failed)?;
        Self::read(path, source)
    }

    /// Reads the metadata of a dump from anywhere; `path` is its name.
    ///
    /// # Errors
    ///
    /// As [`Dump::open`].
    pub fn read(path: &Path, source: Source) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        if !is_dump(&source).map_err(failed)? {
            return Err(ReadError::NotADump(path.to_owned()));
        }
        let summary = Summary::read(&source).map_err(failed)?;
        let metadata = metadata(&source, summary.as_ref()).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            source,
            summary,
            metadata,
        })
    }

    /// Returns the path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.source.len()
    }

    /// Returns the events from the first one on.
    pub fn events(&self) -> Events<'_> {
        Events::new(self.messages(), self.clock())
    }

    /// Returns the messages behind the events from the first one on, as they are in the file.
    pub fn messages(&self) -> Messages<'_> {
        Messages::new(&self.source, self.summary.as_ref())
    }

    /// Returns a reader of single events, by their places.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup::new(&self.source, self.clock())
    }

    /// Returns the clock pair that the times of its messages were made by; `None` if that is gone.
    pub fn clock(&self) -> Option<ClockPair> {
        let clocks: Clocks = self.metadata(CLOCKS)?;
        Some(clocks.freeze)
    }

    /// Returns how many events its summary counts; `None` if that is gone.
    pub fn stated_events(&self) -> Option<u64> {
        let statistics = self.summary.as_ref()?.statistics.as_ref()?;
        Some(statistics.messages)
    }

    /// Returns how many of its bytes are metadata and attachments, by its summary.
    pub fn bytes_beside_events(&self) -> u64 {
        let summary = self.summary.iter();
        summary
            .flat_map(|summary| summary.metadata.iter().chain(&summary.attachments))
            .fold(0, |sum, extent| extent.len.saturating_add(sum))
    }

    /// Finds the attachments.
    ///
    /// # Errors
    ///
    /// What the file system reports; damage is part of the result.
    pub fn attachments(&self) -> io::Result<Attachments> {
        Attachments::read(&self.source, self.summary.as_ref())
    }

    /// Returns where its bytes are.
    pub fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Returns what it is about; `None` if that is gone.
    pub fn incident(&self) -> Option<Incident> {
        self.metadata(INCIDENT)
    }

    /// Returns the names of metadata records that are there and that this version does not understand.
    pub fn misread(&self) -> Vec<&'static str> {
        let mut misread = Vec::new();
        let mut expect = |name: &'static str, is_read: bool| {
            if self.metadata.contains_key(name) && !is_read {
                misread.push(name);
            }
        };
        expect(INCIDENT, self.incident().is_some());
        expect(HOST, self.metadata::<Host>(HOST).is_some());
        expect(CLOCKS, self.metadata::<Clocks>(CLOCKS).is_some());
        expect(COVERAGE, self.metadata::<Coverage>(COVERAGE).is_some());
        expect(LOSS, self.metadata::<LossLedger>(LOSS).is_some());
        misread
    }

    /// Returns a metadata record; `None` if it is gone or not of this shape.
    pub fn metadata<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.metadata.get(name)?.get("json")?).ok()
    }
}

/// Tells whether a file is a dump, perhaps cut or broken: it begins or ends as one.
fn is_dump(source: &Source) -> io::Result<bool> {
    let mut bytes = Vec::new();
    let magic = MAGIC.len() as u64;
    let len = source.len().min(magic);
    let len = usize::try_from(len).unwrap_or(0);
    source.read_into(&mut bytes, 0, len)?;
    if MAGIC.starts_with(&bytes) {
        return Ok(true);
    }
    source.read_into(&mut bytes, source.len() - len as u64, len)?;
    Ok(bytes == MAGIC)
}

/// Reads all metadata: by the summary, or by a walk through what is left.
fn metadata(
    source: &Source,
    summary: Option<&Summary>,
) -> io::Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut found = BTreeMap::new();
    let mut left = METADATA_BYTES_ALL_MAX;
    let mut take = |extent: &Extent| -> io::Result<()> {
        let fits = extent.len <= METADATA_BYTES_MAX.min(left) && found.len() < METADATA_RECORDS_MAX;
        let mut body = Vec::new();
        if fits && let Ok(len) = usize::try_from(extent.len) {
            left -= extent.len;
            source.read_into(&mut body, extent.body(), len)?;
            let mut fields = Fields(&body);
            if let (Some(name), Some(map)) = (fields.string(), fields.map()) {
                found.insert(name.to_owned(), map);
            }
        }
        Ok(())
    };
    if let Some(summary) = summary {
        for extent in &summary.metadata {
            // The record itself says whether the summary is right about it.
            if read_extent(source, extent.offset)? == Some(*extent) && extent.end() <= source.len()
            {
                take(extent)?;
            }
        }
        return Ok(found);
    }
    let mut walk = Walk::new(source, None);
    while let Some(step) = walk.step()? {
        if let Step::Record(extent) = step
            && extent.opcode == op::METADATA
        {
            take(&extent)?;
        }
    }
    Ok(found)
}
