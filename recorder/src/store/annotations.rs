//! What people say about a dump: tags, notes, and whether it is pinned.
//!
//! It stands in a file of its own beside the dump, `<dump>.notes.json`, so that neither the dump nor the file that vouches for
//! it is ever written again, and so that it is not lost with the catalog. Two commands at once take turns by a [lock](super::lock)
//! on the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use uuid::Uuid;

use super::directory::read_plain;
use crate::dump::write_file;

/// Extension of the file that keeps what people say about a dump.
pub const ANNOTATIONS_EXTENSION: &str = "notes.json";

/// Longest file that is read, in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Longest tag, in bytes.
const TAG_MAX: usize = 64;
/// Most tags of one dump.
const TAGS_MAX: usize = 64;
/// Longest note, in bytes.
const NOTE_MAX: usize = 16 << 10;

/// What people say about a dump.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// The incident of the dump.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incident: Option<Uuid>,
    /// Whether it is to stay, whatever the budgets say.
    #[serde(default)]
    pub pinned: bool,
    /// Tags that people gave it.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Tags that the recorder proposes, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proposed: BTreeMap<String, String>,
    /// Tags of its rule, or proposed, that people took away.
    #[serde(default)]
    pub removed_tags: BTreeSet<String>,
    /// What they wrote, oldest first.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What a newer version keeps here.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was written: RFC 3339, UTC.
    pub time: String,
    /// Who wrote it, by the user id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The text.
    pub text: String,
}

/// Why something cannot be said about a dump.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnnotationError {
    /// Not a tag.
    #[error("{0:?} is no tag: write up to {TAG_MAX} letters, digits or any of . _ - : / =")]
    NotATag(String),
    /// Too many tags.
    #[error("a dump has at most {TAGS_MAX} tags")]
    TooManyTags,
    /// Nothing to note.
    #[error("the note is empty")]
    EmptyNote,
    /// Too long a note.
    #[error("the note has more than {NOTE_MAX} bytes")]
    LongNote,
    /// There is no room for it.
    #[error("there is no room for a further note about this dump")]
    Full,
}

impl Annotations {
    /// Reads the file; nothing if there is none.
    ///
    /// # Errors
    ///
    /// A file that is there and cannot be read or understood.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        match read_plain(path, BYTES_MAX) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file, durable, in place of the old one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_file(path, &text)
    }

    /// Returns what is assumed of a file that cannot be understood.
    pub(super) fn unreadable() -> Self {
        Self {
            pinned: true,
            ..Self::default()
        }
    }

    /// Returns whether nobody has said anything.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            incident: _,
            pinned,
            tags,
            proposed,
            removed_tags,
            notes,
            other,
        } = self;
        !pinned
            && tags.is_empty()
            && proposed.is_empty()
            && removed_tags.is_empty()
            && notes.is_empty()
            && other.is_empty()
    }

    /// Adds a tag.
    ///
    /// # Errors
    ///
    /// [`AnnotationError`]: it is no tag, or there are too many.
    pub fn tag(&mut self, tag: &str) -> Result<(), AnnotationError> {
        let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/=".contains(&byte);
        if tag.is_empty() || tag.len() > TAG_MAX || !tag.bytes().all(is_tag) {
            return Err(AnnotationError::NotATag(tag.to_owned()));
        }
        self.removed_tags.remove(tag);
        self.tags.insert(tag.to_owned());
        match self.tags.len() > TAGS_MAX {
            true => Err(AnnotationError::TooManyTags),
            false => Ok(()),
        }
    }

    /// Takes a tag away; `by_rule` if it came with the incident.
    pub fn untag(&mut self, tag: &str, by_rule: bool) {
        self.tags.remove(tag);
        let by_rule = by_rule || self.proposed.contains_key(tag);
        if by_rule && self.removed_tags.len() < TAGS_MAX {
            self.removed_tags.insert(tag.to_owned());
        }
    }

    /// Proposes a tag; what people took away stays away.
    pub fn propose(&mut self, tag: &str, why: &str) {
        if self.proposed.len() < TAGS_MAX {
            self.proposed.insert(tag.to_owned(), why.to_owned());
        }
    }

    /// Adds a note.
    ///
    /// # Errors
    ///
    /// [`AnnotationError`]: it is empty or too long, or there are too many.
    pub fn note(&mut self, note: Note) -> Result<(), AnnotationError> {
        if note.text.trim().is_empty() {
            return Err(AnnotationError::EmptyNote);
        }
        if note.text.len() > NOTE_MAX {
            return Err(AnnotationError::LongNote);
        }
        // An escaped byte takes up to six.
        let taken: usize = self
            .notes
            .iter()
            .map(|note| 6 * note.text.len() + 128)
            .sum();
        if taken + 6 * note.text.len() > BYTES_MAX as usize / 2 {
            return Err(AnnotationError::Full);
        }
        self.notes.push(note);
        Ok(())
    }

    /// Returns the tags that hold, of those that came with the incident and those that people gave.
    pub(super) fn effective_tags(&self, of_incident: &[String]) -> Vec<String> {
        let kept = of_incident
            .iter()
            .chain(self.proposed.keys())
            .filter(|tag| !self.removed_tags.contains(*tag));
        let all: BTreeSet<&String> = kept.chain(&self.tags).collect();
        all.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Note {
        Note {
            time: "2026-11-23T09:00:00Z".to_owned(),
            uid: Some(0),
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_was_said_is_read_back_and_what_a_newer_version_said_is_kept() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let path = directory.path().join("a.notes.json");
        assert!(Annotations::read(&path).expect("nothing yet").is_empty());
        std::fs::write(&path, br#"{"pinned":true,"mood":"bad"}"#).expect("ours");
        let mut said = Annotations::read(&path).expect("it is ours");
        assert!(said.pinned);
        said.tag("disk").expect("a tag");
        said.note(note("cable\u{1b}[31m")).expect("a note");
        said.write(&path).expect("ours");
        let again = Annotations::read(&path).expect("it is ours");
        assert_eq!(again, said);
        let text = std::fs::read_to_string(&path).expect("ours");
        assert!(text.contains("\"mood\": \"bad\""), "{text}");
        std::fs::write(&path, b"{").expect("ours");
        assert!(Annotations::read(&path).is_err(), "never taken for empty");
    }

    #[test]
    fn tags_of_the_rule_can_be_taken_away_and_given_back() {
        let mut said = Annotations::default();
        let of_rule = ["crash".to_owned(), "disk".to_owned()];
        said.untag("crash", true);
        said.tag("mine").expect("a tag");
        assert_eq!(said.effective_tags(&of_rule), ["disk", "mine"]);
        said.propose("memory", "it ran out");
        assert_eq!(said.effective_tags(&of_rule), ["disk", "memory", "mine"]);
        said.untag("memory", false);
        // It is not proposed again.
        said.propose("memory", "it ran out");
        assert_eq!(said.effective_tags(&of_rule), ["disk", "mine"]);
        said.removed_tags.remove("memory");
        said.proposed.clear();
        said.tag("crash").expect("a tag");
        said.untag("mine", false);
        assert_eq!(said.effective_tags(&of_rule), ["crash", "disk"]);
        assert!(said.removed_tags.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        let mut said = Annotations::default();
        for bad in ["", "two words", "a\u{1b}b", "ü", &"x".repeat(65)] {
            assert!(said.tag(bad).is_err(), "{bad:?}");
        }
        assert_eq!(said.note(note(" \n")), Err(AnnotationError::EmptyNote));
        let long = note(&"x".repeat(NOTE_MAX + 1));
        assert_eq!(said.note(long), Err(AnnotationError::LongNote));
        let mut written = 0;
        while said.note(note(&"x".repeat(NOTE_MAX))).is_ok() {
            written += 1;
        }
        assert!(written > 2, "{written}");
    }
}
