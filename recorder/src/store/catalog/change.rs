//! What people change: tags, notes, pins, and dumps that they remove.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::params;
use thiserror::Error;

use super::details::tags_of;
use super::record::Record;
use super::sync;
use super::{Catalog, FindError};
use crate::store::annotations::{AnnotationError, Annotations};
use crate::store::directory::entry_at;
use crate::store::lock::Turn;

/// How long another change may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes what people say, given the tags that came with the incident.
pub type Change<'a> = &'a dyn Fn(&mut Annotations, &[String]) -> Result<(), AnnotationError>;

/// Why something was not changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// There is nothing to change.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It makes no sense.
    #[error(transparent)]
    Nonsense(#[from] AnnotationError),
    /// Another process changes something all the time.
    #[error("another process does not let go of {}", .0.display())]
    Busy(PathBuf),
    /// What people said before cannot be understood, and is not overwritten.
    #[error("cannot understand {}: mend it, or remove it", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is pinned.
    #[error("{0} is pinned: unpin it first, or give --force")]
    Pinned(String),
    /// It has no dump, and the catalog cannot keep anything about it.
    #[error("{0} has no dump, and the catalog cannot be written: nothing is kept about it")]
    NotKept(String),
    /// There is no dump to pin.
    #[error("{0} has no dump that could be pinned")]
    NothingToPin(String),
    /// The file system refused.
    #[error("cannot change {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl Catalog {
    /// Changes what people say about an incident, given the tags that came with it. What is said about a dump is durable beside
    /// it when this returns.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; then nothing has changed.
    pub fn annotate(&mut self, name: &str, change: Change<'_>) -> Result<Record, ChangeError> {
        let _turn = self.turn()?;
        let record = self.find(name)?;
        let of_incident = tags_of(record.incident.as_ref());
        let id = record.id.clone().unwrap_or_default();
        let Some(path) = &record.path else {
            return self.annotate_row(&id, &record, &of_incident, change);
        };
        let entry = entry_at(path).ok_or_else(|| FindError::None {
            name: name.to_owned(),
            directory: self.directory.clone(),
        })?;
        let beside = entry.annotations_path();
        let mut said = Annotations::read(&beside)
            .map_err(|error| ChangeError::Unreadable(beside.clone(), error))?;
        change(&mut said, &of_incident)?;
        said.incident = id.parse().ok();
        let written = match said.is_empty() {
            true => match std::fs::remove_file(&beside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
            false => said.write(&beside),
        };
        written.map_err(|error| ChangeError::Io(beside, error))?;
        self.refresh().map_err(FindError::from)?;
        // By the whole id; what has none was found by its file, and is found so again.
        Ok(self.find(if id.is_empty() { name } else { &id })?)
    }

    /// Changes what is said about an incident without a dump: only the catalog knows it.
    fn annotate_row(
        &mut self,
        id: &str,
        record: &Record,
        of_incident: &[String],
        change: Change<'_>,
    ) -> Result<Record, ChangeError> {
        let short = || record.short_id().unwrap_or_default().to_owned();
        if !self.is_durable() {
            return Err(ChangeError::NotKept(short()));
        }
        let mut said = Annotations::default();
        said.notes.clone_from(&record.notes);
        said.tags.extend(
            record
                .tags
                .iter()
                .filter(|tag| !of_incident.contains(tag))
                .cloned(),
        );
        let is_removed = |tag: &&String| !record.tags.contains(tag);
        said.removed_tags
            .extend(of_incident.iter().filter(is_removed).cloned());
        change(&mut said, of_incident)?;
        if said.pinned {
            return Err(ChangeError::NothingToPin(short()));
        }
        let json = |text: serde_json::Result<String>| text.unwrap_or_else(|_| "[]".to_owned());
        let tags = json(serde_json::to_string(&said.effective_tags(of_incident)));
        let notes = json(serde_json::to_string(&said.notes));
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE incident SET tags = ?2, notes = ?3 WHERE id = ?1")?
                .execute(params![id, tags, notes])?;
            Ok(())
        })
        .map_err(FindError::from)?;
        match self.is_durable() {
            true => Ok(self.find(id)?),
            false => Err(ChangeError::NotKept(short())),
        }
    }

    /// Removes a dump with all that is beside it and all that is known of its incident; one that is pinned only by `force`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub fn remove(&mut self, name: &str, force: bool) -> Result<Record, ChangeError> {
        let _turn = self.turn()?;
        let record = self.find(name)?;
        if record.pinned && !force {
            let id = record.short_id().unwrap_or(name);
            return Err(ChangeError::Pinned(id.to_owned()));
        }
        if let Some(entry) = record.path.as_deref().and_then(entry_at) {
            let path = entry.path.clone();
            entry
                .remove()
                .map_err(|error| ChangeError::Io(path, error))?;
        }
        let key = record.key;
        let id = record.id.clone().unwrap_or_default();
        self.write(|transaction| {
            transaction
                .prepare_cached("DELETE FROM counted WHERE incident = ?1 AND incident != ''")?
                .execute([&id])?;
            sync::forget(transaction, key)
        })
        .map_err(FindError::from)?;
        Ok(record)
    }

    fn turn(&self) -> Result<Option<Turn>, ChangeError> {
        match Turn::take(&self.directory, PATIENCE) {
            Ok(turn) => Ok(Some(turn)),
            // There is nothing that could be changed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(ChangeError::Busy(self.directory.clone()))
            }
            Err(error) => Err(ChangeError::Io(self.directory.clone(), error)),
        }
    }
}
