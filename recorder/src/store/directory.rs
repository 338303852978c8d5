//! What is in a directory of dumps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::dump::{DUMP_EXTENSION, SIDECAR_EXTENSION, Sidecar, TEMPORARY_PREFIX, short_id};
use crate::incident::Incident;
use crate::read::Dump;

/// Longest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;

/// A dump in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dump.
    pub path: PathBuf,
    /// Length of the dump in bytes.
    pub bytes: u64,
    /// Length of the file beside it in bytes, 0 if there is none.
    pub sidecar_bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Entry {
    /// Returns the path of the file beside the dump.
    pub fn sidecar_path(&self) -> PathBuf {
        self.path.with_extension(SIDECAR_EXTENSION)
    }

    /// Reads the file beside the dump; `None` if it is missing or is none.
    pub fn sidecar(&self) -> Option<Sidecar> {
        if self.sidecar_bytes > SIDECAR_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&fs::read(self.sidecar_path()).ok()?).ok()
    }

    /// Returns what the dump is about: by the file beside it, or by the dump itself.
    pub fn incident(&self) -> Option<Incident> {
        match self.sidecar() {
            Some(sidecar) => Some(sidecar.incident),
            None => Dump::open(&self.path).ok()?.incident(),
        }
    }

    /// Returns how much of the directory it takes, in bytes.
    pub(super) fn total_bytes(&self) -> u64 {
        self.bytes + self.sidecar_bytes
    }
}

/// Why a dump was not found.
#[derive(Debug, Error)]
pub enum FindError {
    /// No dump has this id.
    #[error("no dump {name:?} in {}: `recorder list` says which there are", directory.display())]
    None {
        /// What was asked for.
        name: String,
        /// Where.
        directory: PathBuf,
    },
    /// There are no dumps.
    #[error("no dump in {} yet", .0.display())]
    Empty(PathBuf),
    /// Several ids begin so.
    #[error("{name:?} may be any of {}: give more of the id", among.join(", "))]
    Several {
        /// What was asked for.
        name: String,
        /// Short ids of the dumps that it may be.
        among: Vec<String>,
    },
    /// The directory cannot be read.
    #[error("cannot read {}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Lists the dumps of a directory, oldest first; a directory that does not exist has none.
///
/// # Errors
///
/// What the file system reports of the directory itself. A dump that vanishes meanwhile is not listed.
pub fn dumps(directory: &Path) -> io::Result<Vec<Entry>> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut entries = Vec::new();
    for file in files {
        entries.extend(entry(&file?.path()));
    }
    entries.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
    Ok(entries)
}

fn entry(path: &Path) -> Option<Entry> {
    let name = path.file_name()?.as_encoded_bytes();
    if name.starts_with(TEMPORARY_PREFIX.as_bytes()) || path.extension()? != DUMP_EXTENSION {
        return None;
    }
    let metadata = fs::symlink_metadata(path).ok()?;
    let beside = fs::symlink_metadata(path.with_extension(SIDECAR_EXTENSION)).ok();
    metadata.is_file().then(|| Entry {
        path: path.to_owned(),
        bytes: metadata.len(),
        sidecar_bytes: beside.map_or(0, |beside| beside.len()),
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// Finds a dump: "latest", or the beginning of its id, long or as short as lists show it.
///
/// # Errors
///
/// [`FindError`].
pub fn find(directory: &Path, name: &str) -> Result<PathBuf, FindError> {
    let mut entries = dumps(directory).map_err(|source| FindError::Io {
        directory: directory.to_owned(),
        source,
    })?;
    if name == "latest" {
        let latest = entries.pop();
        return latest
            .map(|entry| entry.path)
            .ok_or_else(|| FindError::Empty(directory.to_owned()));
    }
    let wanted = name.to_ascii_lowercase();
    let is_wanted = |entry: &Entry| {
        entry.incident().is_some_and(|incident| {
            let id = incident.id;
            [id.to_string(), id.simple().to_string(), short_id(id)]
                .iter()
                .any(|id| !wanted.is_empty() && id.starts_with(&wanted))
        })
    };
    entries.retain(is_wanted);
    match entries.as_mut_slice() {
        [] => Err(FindError::None {
            name: name.to_owned(),
            directory: directory.to_owned(),
        }),
        [one] => Ok(std::mem::take(&mut one.path)),
        several => Err(FindError::Several {
            name: name.to_owned(),
            among: several
                .iter()
                .filter_map(|entry| Some(short_id(entry.incident()?.id)))
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("there is room for tests")
    }

    fn file(directory: &Path, name: &str, age_s: u64) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, name).expect("the directory is ours");
        let time = SystemTime::now() - Duration::from_secs(age_s);
        let file = fs::File::options().append(true).open(&path);
        let set = file.and_then(|file| file.set_modified(time));
        set.expect("the file is ours");
        path
    }

    #[test]
    fn dumps_are_listed_by_age_and_nothing_else_is() {
        let directory = directory();
        let path = directory.path();
        let new = file(path, "a.mcap", 1);
        let old = file(path, "b.mcap", 60);
        file(path, ".tmp-c.mcap", 1);
        file(path, "notes.txt", 1);
        fs::create_dir(path.join("d.mcap")).expect("the directory is ours");
        symlink("/etc/passwd", path.join("e.mcap")).expect("the directory is ours");
        let found: Vec<PathBuf> = dumps(path)
            .expect("it is readable")
            .into_iter()
            .map(|entry| entry.path)
            .collect();
        assert_eq!(found, [old, new.clone()]);
        assert_eq!(find(path, "latest").expect("there are two"), new);
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        let directory = directory();
        let nowhere = directory.path().join("nowhere");
        assert_eq!(dumps(&nowhere).expect("none").len(), 0);
        assert!(matches!(find(&nowhere, "latest"), Err(FindError::Empty(_))));
        let missing = find(&nowhere, "0123");
        assert!(matches!(missing, Err(FindError::None { .. })));
    }
}
