//! What the directory of dumps may take, and what makes way for the next dump.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use thiserror::Error;

use super::directory::{Entry, dumps};
use crate::dump::TEMPORARY_PREFIX;

/// What is set aside for the file beside a dump, in bytes.
const SIDECAR_BYTES: u64 = 64 << 10;

/// What the directory of dumps may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes of all dumps.
    pub max_bytes: u64,
    /// Most dumps.
    pub max_count: u64,
    /// Bytes that stay free on the file system.
    pub keep_free_bytes: u64,
}

/// Why no dump can be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("cannot use {}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Even without any older dump there would be too little.
    #[error(
        "{} has {free_bytes} bytes free, of which {keep_free_bytes} are to stay free: make room, or lower --dumps-keep-free",
        directory.display()
    )]
    NoRoom {
        /// The directory.
        directory: PathBuf,
        /// Free on its file system.
        free_bytes: u64,
        /// To be left free.
        keep_free_bytes: u64,
    },
}

/// What a dump may take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most bytes of the dump itself; with the file beside it the budget holds.
    pub dump_bytes: u64,
    /// Older dumps that made way.
    pub removed: u64,
}

/// The agent's directory of dumps.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    budget: Budget,
}

impl Store {
    /// Opens the directory, makes it if need be, and removes what an agent that died left unfinished in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn open(directory: &Path, budget: Budget) -> Result<Self, StoreError> {
        let store = Self {
            directory: directory.to_owned(),
            budget,
        };
        store.prepare().map_err(|error| store.failed(error))?;
        Ok(store)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes room for a dump of `wanted` bytes: the oldest dumps go first, and the newest only if less than half of what is
    /// wanted would be left beside it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the directory cannot be used, or its file system is too full whatever is removed.
    pub fn make_room(&self, wanted: u64) -> Result<Room, StoreError> {
        let mut older = dumps(&self.directory).map_err(|error| self.failed(error))?;
        let mut removed = 0;
        loop {
            let room = self.room(&older).map_err(|error| self.failed(error))?;
            let is_enough = match older.as_slice() {
                [] => room > 0,
                [_newest] => room >= wanted / 2,
                [..] => room >= wanted,
            };
            if is_enough {
                return Ok(Room {
                    dump_bytes: room.min(wanted),
                    removed,
                });
            }
            if older.is_empty() {
                return Err(StoreError::NoRoom {
                    directory: self.directory.clone(),
                    free_bytes: self.free_bytes().map_err(|error| self.failed(error))?,
                    keep_free_bytes: self.budget.keep_free_bytes,
                });
            }
            older
                .remove(0)
                .remove()
                .map_err(|error| self.failed(error))?;
            removed += 1;
        }
    }

    /// Returns what a further dump may take beside the older ones.
    fn room(&self, older: &[Entry]) -> io::Result<u64> {
        if older.len() as u64 >= self.budget.max_count {
            return Ok(0);
        }
        let taken = older.iter().map(Entry::total_bytes).sum();
        let by_budget = self.budget.max_bytes.saturating_sub(taken);
        let by_disk = self
            .free_bytes()?
            .saturating_sub(self.budget.keep_free_bytes);
        Ok(by_budget.min(by_disk).saturating_sub(SIDECAR_BYTES))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stats = statvfs(&self.directory)?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    fn prepare(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))?;
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            let name = file.file_name();
            let is_ours = name
                .as_encoded_bytes()
                .starts_with(TEMPORARY_PREFIX.as_bytes());
            if is_ours && !file.file_type()?.is_dir() {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io {
            directory: self.directory.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNBOUNDED: Budget = Budget {
        max_bytes: u64::MAX,
        max_count: u64::MAX,
        keep_free_bytes: 0,
    };

    /// A store with dumps of these sizes, oldest first, each with a file of one byte beside it.
    fn store(budget: Budget, dumps: &[u64]) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let store = Store::open(directory.path(), budget).expect("the directory is ours");
        let mut time = std::time::SystemTime::UNIX_EPOCH;
        for (number, bytes) in dumps.iter().enumerate() {
            let path = directory.path().join(format!("{number}.mcap"));
            let file = fs::File::create(&path).expect("the directory is ours");
            file.set_len(*bytes).expect("a sparse file takes no room");
            time += std::time::Duration::from_secs(1);
            file.set_modified(time).expect("the file is ours");
            fs::write(path.with_extension("json"), b"x").expect("the directory is ours");
        }
        (directory, store)
    }

    fn names(store: &Store) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(store.directory())
            .expect("it is readable")
            .map(|file| {
                let name = file.expect("it is readable").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_removed_while_there_is_room() {
        let (_directory, store) = store(UNBOUNDED, &[1000, 1000]);
        let room = store.make_room(1 << 20).expect("there is room");
        assert_eq!(room.dump_bytes, 1 << 20);
        assert_eq!(room.removed, 0);
        assert_eq!(names(&store).len(), 4);
    }

    #[test]
    fn the_oldest_make_way_with_what_belongs_to_them() {
        let (_directory, store) = store(
            Budget {
                max_count: 3,
                ..UNBOUNDED
            },
            &[1000; 5],
        );
        let room = store.make_room(1000).expect("there is room");
        assert_eq!(room.removed, 3);
        assert_eq!(names(&store), ["3.json", "3.mcap", "4.json", "4.mcap"]);
    }

    #[test]
    fn bytes_are_kept_for_the_next_dump_and_the_file_beside_it() {
        let budget = Budget {
            max_bytes: 1 << 20,
            ..UNBOUNDED
        };
        let (_directory, store) = store(budget, &[400 << 10; 2]);
        let room = store.make_room(512 << 10).expect("there is room");
        assert_eq!(room.removed, 1);
        assert_eq!(room.dump_bytes, 512 << 10);
    }

    #[test]
    fn the_newest_stays_beside_a_smaller_one_to_come() {
        let budget = Budget {
            max_bytes: 1 << 20,
            ..UNBOUNDED
        };
        let (_directory, store) = store(budget, &[600 << 10]);
        let room = store.make_room(512 << 10).expect("there is room");
        assert_eq!(room.removed, 0);
        assert_eq!(room.dump_bytes, (1 << 20) - (600 << 10) - 1 - SIDECAR_BYTES);
    }

    #[test]
    fn the_newest_makes_way_only_for_a_newer_one() {
        let budget = Budget {
            max_bytes: 1 << 20,
            ..UNBOUNDED
        };
        let (_directory, store) = store(budget, &[900 << 10]);
        let room = store.make_room(512 << 10).expect("there is room");
        assert_eq!(room.removed, 1);
        assert_eq!(names(&store).len(), 0);
    }

    #[test]
    fn a_full_disk_is_said_with_what_to_do() {
        let (_directory, store) = store(
            Budget {
                keep_free_bytes: u64::MAX,
                ..UNBOUNDED
            },
            &[],
        );
        let error = store.make_room(1000).expect_err("nothing is left");
        assert!(error.to_string().contains("--dumps-keep-free"), "{error}");
    }

    #[test]
    fn what_an_agent_left_unfinished_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        for name in [".tmp-a.mcap", "b.mcap", "c.txt"] {
            fs::write(directory.path().join(name), b"x").expect("the directory is ours");
        }
        let store = Store::open(directory.path(), UNBOUNDED).expect("the directory is ours");
        assert_eq!(names(&store), ["b.mcap", "c.txt"]);
    }
}
