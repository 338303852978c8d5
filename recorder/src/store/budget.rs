//! What the directory of dumps may take, and what makes way for the next dump.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::statvfs;
use serde_json::{Map, Value};
use thiserror::Error;

use super::annotations::Annotations;
use super::catalog::{Access, Catalog, CatalogError, ChangeError, Counted, FindError, Unwritten};
use super::chain::{Ledger, Linking};
use super::directory::{Entry, dumps, entry_at, read_plain};
use super::eviction::{Bounds, Candidate, decide};
use super::lock::Turn;
use crate::dump::{
    DUMP_EXTENSION, Link, SIDECAR_EXTENSION, SIGNATURE_EXTENSION, TEMPORARY_PREFIX, copy_file,
    write_file,
};
use crate::sign::SigningKey;
use crate::units::bytes;

/// What is set aside for the files beside a dump, in bytes.
const BESIDE_BYTES: u64 = 64 << 10;
/// What a dump needs at a time while it is written, in bytes.
const STEP_BYTES: u64 = 1 << 20;
/// How long a person's change may take; the dump does not wait for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest sidecar that is taken over, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;
/// Most evictions that wait for a catalog that can be written.
const PENDING_MAX: usize = 1024;

/// What the directory of dumps may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes of all dumps.
    pub max_bytes: u64,
    /// Most dumps.
    pub max_count: u64,
    /// Oldest dump.
    pub max_age: Option<Duration>,
    /// Bytes that stay free on the file system.
    pub keep_free_bytes: u64,
    /// The same as a part of the file system; whichever is more counts.
    pub keep_free_percent: u64,
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
        "{} has {} free, of which {} are to stay free: make room, or lower --dumps-keep-free",
        directory.display(), bytes(*free_bytes), bytes(*keep_free_bytes)
    )]
    NoRoom {
        /// The directory.
        directory: PathBuf,
        /// Free on its file system.
        free_bytes: u64,
        /// To be left free.
        keep_free_bytes: u64,
    },
    /// The catalog failed, and what stands in for it, too.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What a dump may take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most bytes of the dump itself; with the file beside it the budget holds.
    pub dump_bytes: u64,
    /// Older dumps that made way.
    pub removed: u64,
}

/// What the dumps take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Dumps that are there.
    pub count: u64,
    /// Bytes that they take, with what is beside them.
    pub bytes: u64,
    /// Those of them that are pinned.
    pub pinned: u64,
    /// Bytes that those take.
    pub pinned_bytes: u64,
    /// Dumps that made way since the agent started.
    pub evicted: u64,
    /// What people should do something about.
    pub warning: Option<String>,
}

/// The agent's directory of dumps.
#[derive(Debug)]
pub struct Store {
    state_dir: PathBuf,
    directory: PathBuf,
    budget: Budget,
    key: Option<Arc<SigningKey>>,
    memory: Mutex<Memory>,
}

/// What the store remembers.
#[derive(Debug, Default)]
struct Memory {
    usage: Usage,
    /// What the agent is to say.
    to_say: Vec<String>,
    /// What was wrong with the catalog when it was last said.
    said: Vec<String>,
    /// Evictions that the catalog does not know of: an id, and why.
    pending: VecDeque<(String, &'static str)>,
}

/// What the file system has.
struct Disk {
    free: u64,
    keep_free: u64,
}

impl Disk {
    fn spare(&self) -> i128 {
        i128::from(self.free) - i128::from(self.keep_free)
    }
}

impl Store {
    /// Opens the directory of dumps in a state directory, makes it if need be, and removes what an agent that died left
    /// unfinished in it. On a file system that is full or read-only nothing can be made: that is [said](Self::take_said), and
    /// tried again for each dump.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn open(state_dir: &Path, budget: Budget) -> Result<Self, StoreError> {
        let store = Self::new(state_dir, budget);
        if let Err(error) = store.prepare() {
            if !may_pass(&error) {
                return Err(store.failed(error));
            }
            store.memory().to_say.push(format!(
                "no dump can be written now: cannot use {}: {error}; recording goes on",
                store.directory.display()
            ));
        }
        Ok(store)
    }

    /// Returns the directory `state_dir/dumps` as it is, whose file system does not answer.
    pub fn unopened(state_dir: &Path, budget: Budget) -> Self {
        let store = Self::new(state_dir, budget);
        store.memory().to_say.push(format!(
            "no dump can be written now: {} does not answer; recording goes on",
            store.directory.display()
        ));
        store
    }

    fn new(state_dir: &Path, budget: Budget) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            directory: state_dir.join("dumps"),
            budget,
            key: None,
            memory: Mutex::default(),
        }
    }

    /// The same, whose dumps are signed by a key.
    #[must_use]
    pub fn with_key(mut self, key: Option<Arc<SigningKey>>) -> Self {
        self.key = key;
        self
    }

    /// Returns what links the next dump to those before it, and signs it.
    pub fn link(&self) -> impl Link + '_ {
        Linking::new(&self.directory, self.key.as_deref(), PATIENCE)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what the dumps take, as of the last look.
    pub fn usage(&self) -> Usage {
        self.memory().usage.clone()
    }

    /// Returns what is to be said, each sentence once.
    pub fn take_said(&self) -> Vec<String> {
        std::mem::take(&mut self.memory().to_say)
    }

    /// Makes room for a dump of `wanted` bytes: the least grave dumps go first, of those the oldest, and the newest only if less
    /// than half of what is wanted would be left beside it. What is pinned stays.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the directory cannot be used, or its file system is too full whatever is removed.
    pub fn make_room(&self, wanted: u64) -> Result<Room, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| self.failed(error))?;
        let disk = self.disk().map_err(|error| self.failed(error))?;
        let bounds = Bounds {
            max_bytes: self.budget.max_bytes.saturating_sub(BESIDE_BYTES),
            max_count: self.budget.max_count,
            spare_bytes: disk.spare() - i128::from(BESIDE_BYTES),
            wanted,
            ..self.age_alone()
        };
        let room = self.settle(&bounds)?;
        match room.dump_bytes {
            0 => Err(StoreError::NoRoom {
                directory: self.directory.clone(),
                free_bytes: disk.free,
                keep_free_bytes: disk.keep_free,
            }),
            _ => Ok(room),
        }
    }

    /// Takes the dumps over that had to be written into another directory; returns how many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: one that cannot be had stays where it is.
    pub fn fetch(&self, from: &Path) -> Result<u64, StoreError> {
        let failed = |error| self.failed(error);
        let mut fetched = 0;
        for entry in dumps(from).map_err(failed)? {
            let file = entry.path.file_name().unwrap_or_default();
            if entry_at(&self.directory.join(file)).is_none() {
                if self.make_room(entry.bytes)?.dump_bytes < entry.bytes {
                    continue;
                }
                self.adopt(&entry).map_err(failed)?;
            }
            let _turn = Turn::take(from, PATIENCE);
            entry.remove().map_err(failed)?;
            fetched += 1;
        }
        Ok(fetched)
    }

    /// Copies a dump of another directory, and links it to those of this one.
    fn adopt(&self, entry: &Entry) -> io::Result<()> {
        let beside = |path: &Path| self.directory.join(path.file_name().unwrap_or_default());
        let text = read_plain(&entry.sidecar_path(), SIDECAR_BYTES_MAX)?;
        let mut sidecar: Map<String, Value> = serde_json::from_slice(&text)?;
        let mut link = self.link();
        sidecar.insert("chain".to_owned(), serde_json::to_value(link.next())?);
        let mut text = serde_json::to_vec_pretty(&sidecar)?;
        text.push(b'\n');
        // The dump last: alone the others are none.
        if let Some(signature) = link.sign(&text) {
            write_file(&beside(&entry.signature_path()), &signature)?;
        }
        write_file(&beside(&entry.sidecar_path()), &text)?;
        copy_file(&entry.path, &self.directory)?;
        link.linked(&text);
        Ok(())
    }

    /// Tells whether a dump may go on growing: there is free space beyond what is to stay free, perhaps because another dump
    /// made way.
    pub fn may_grow(&self) -> bool {
        match self.disk() {
            Ok(disk) if disk.spare() >= 0 => true,
            Ok(_) => self.make_room(STEP_BYTES).is_ok(),
            // Whatever it is, the write itself will say.
            Err(_) => true,
        }
    }

    /// Removes the dumps that are too old.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn tidy(&self) -> Result<(), StoreError> {
        self.settle(&self.age_alone()).map(drop)
    }

    /// Takes a dump that was written into the catalog.
    ///
    /// # Errors
    ///
    /// [`StoreError::Catalog`].
    pub fn added(&self) -> Result<(), StoreError> {
        let mut catalog = self.catalog()?;
        let candidates = catalog.candidates()?;
        self.hear(&catalog);
        self.measure(&candidates);
        Ok(())
    }

    /// Proposes tags, and why, for the incident with this id. One that is gone again has none.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: then it has none either.
    pub fn propose(&self, id: &str, tags: &[(&str, String)]) -> Result<(), ChangeError> {
        let catalog = Catalog::open(&self.state_dir, Access::Write);
        let mut catalog = catalog.map_err(FindError::from)?;
        let propose = |said: &mut Annotations, _: &[String]| {
            tags.iter().for_each(|(tag, why)| said.propose(tag, why));
            Ok(())
        };
        let done = catalog.annotate(id, &propose);
        self.hear(&catalog);
        match done {
            Ok(_) | Err(ChangeError::Find(FindError::None { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps what is known of an incident that has no dump.
    ///
    /// # Errors
    ///
    /// [`StoreError::Catalog`].
    pub fn add_unwritten(&self, unwritten: &Unwritten<'_>) -> Result<(), StoreError> {
        let mut catalog = self.catalog()?;
        let done = catalog.add_unwritten(unwritten);
        self.hear(&catalog);
        Ok(done?)
    }

    /// Counts triggers that made no incident of their own.
    ///
    /// # Errors
    ///
    /// [`StoreError::Catalog`].
    pub fn add_counted(&self, counted: &Counted<'_>) -> Result<(), StoreError> {
        let mut catalog = self.catalog()?;
        let done = catalog.add_counted(counted);
        self.hear(&catalog);
        Ok(done?)
    }

    /// Opens the catalog and tells it what it could not be told before.
    fn catalog(&self) -> Result<Catalog, StoreError> {
        let mut catalog = Catalog::open(&self.state_dir, Access::Write)?;
        if catalog.is_durable() {
            let pending = std::mem::take(&mut self.memory().pending);
            for (id, why) in pending {
                catalog.was_evicted(&id, why)?;
            }
        }
        Ok(catalog)
    }

    /// Removes what has to go.
    fn settle(&self, bounds: &Bounds) -> Result<Room, StoreError> {
        // Without its turn, too: a person who does not let go must not cost a dump.
        let _turn = Turn::take(&self.directory, PATIENCE);
        let mut catalog = self.catalog()?;
        let candidates = catalog.candidates()?;
        let decision = decide(candidates.clone(), bounds);
        let mut done = Ok(());
        let mut removed = 0;
        for (key, reason) in &decision.victims {
            match catalog.evict(*key, reason.words()) {
                Ok(Some(id)) if !catalog.is_durable() => self.remember(id, reason.words()),
                Ok(_) => {}
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
            removed += 1;
        }
        self.hear(&catalog);
        let left: Vec<Candidate> = candidates
            .into_iter()
            .filter(|one| !decision.victims.iter().any(|(key, _)| *key == one.key))
            .collect();
        self.measure(&left);
        self.memory().usage.evicted += removed;
        done?;
        if decision.is_over {
            self.warn_of_pins(&left);
        } else {
            self.memory().usage.warning = None;
        }
        Ok(Room {
            dump_bytes: decision.room,
            removed,
        })
    }

    fn age_alone(&self) -> Bounds {
        let now = jiff::Timestamp::now().as_nanosecond();
        let oldest = self
            .budget
            .max_age
            .map_or(i128::MIN, |age| now - age.as_nanos() as i128);
        Bounds {
            max_bytes: u64::MAX,
            max_count: u64::MAX,
            oldest_ns: i64::try_from(oldest).unwrap_or(i64::MIN),
            spare_bytes: i128::from(u64::MAX),
            wanted: 0,
        }
    }

    /// Says, once as long as it lasts, that pinned dumps are all that the budget holds.
    fn warn_of_pins(&self, left: &[Candidate]) {
        let pinned: u64 = left.iter().map(|one| one.bytes).sum();
        let warning = format!(
            "pinned dumps ({}, {}) leave no room in the budget ({}, {}): the newest dump is written beyond it; unpin some \
             (recorder list --pinned), or raise --dumps-max-bytes or --dumps-max-count",
            left.len(),
            bytes(pinned),
            self.budget.max_count,
            bytes(self.budget.max_bytes),
        );
        let mut memory = self.memory();
        if memory.usage.warning.is_none() {
            memory.to_say.push(warning.clone());
        }
        memory.usage.warning = Some(warning);
    }

    fn remember(&self, id: String, why: &'static str) {
        let mut memory = self.memory();
        if memory.pending.len() == PENDING_MAX {
            memory.pending.pop_front();
        }
        memory.pending.push_back((id, why));
    }

    /// Takes note of what is wrong with the catalog, and that it is to be said if it was not.
    fn hear(&self, catalog: &Catalog) {
        let mut memory = self.memory();
        let new: Vec<String> = catalog
            .said()
            .iter()
            .filter(|sentence| !memory.said.contains(sentence))
            .cloned()
            .collect();
        memory.to_say.extend(new);
        memory.said = catalog.said().to_vec();
    }

    fn measure(&self, candidates: &[Candidate]) {
        let pinned = || candidates.iter().filter(|one| one.pinned);
        let mut memory = self.memory();
        let usage = &mut memory.usage;
        usage.count = candidates.len() as u64;
        usage.bytes = candidates.iter().map(|one| one.bytes).sum();
        usage.pinned = pinned().count() as u64;
        usage.pinned_bytes = pinned().map(|one| one.bytes).sum();
    }

    fn disk(&self) -> io::Result<Disk> {
        let stats = statvfs(&self.directory)?;
        let total = stats.f_blocks.saturating_mul(stats.f_frsize);
        let part = u128::from(total) * u128::from(self.budget.keep_free_percent) / 100;
        Ok(Disk {
            free: stats.f_bavail.saturating_mul(stats.f_frsize),
            keep_free: u64::try_from(part)
                .unwrap_or(u64::MAX)
                .max(self.budget.keep_free_bytes),
        })
    }

    fn prepare(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        // Where it is a link to somewhere else, that is somebody's to decide.
        if fs::symlink_metadata(&self.directory)?.is_dir() {
            fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))?;
        }
        // A person's note may be in the making.
        let _turn = Turn::take(&self.directory, PATIENCE);
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            let name = file.file_name();
            let is_ours = name
                .as_encoded_bytes()
                .starts_with(TEMPORARY_PREFIX.as_bytes());
            if !is_ours || file.file_type()?.is_dir() {
                continue;
            }
            let path = file.path();
            match finished(&path) {
                Some(target) => {
                    fs::rename(&path, &target)?;
                    self.say(format!(
                        "completed {}, which an agent that died had left unfinished",
                        target.display()
                    ));
                }
                None => {
                    fs::remove_file(&path)?;
                    self.say(format!(
                        "removed {}, which an agent that died had left unfinished; what it was made of is in that agent's ring",
                        path.display()
                    ));
                }
            }
        }
        Ledger::catch_up(&self.directory)
    }

    fn say(&self, sentence: String) {
        self.memory().to_say.push(sentence);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io {
            directory: self.directory.clone(),
            source,
        }
    }
}

/// Returns the name that an unfinished file is to have after all: that of a sidecar, or of its signature, whose dump has its
/// name already. All were durable before one of them got its name.
fn finished(unfinished: &Path) -> Option<PathBuf> {
    let name = unfinished.file_name()?.to_str()?;
    let target = unfinished.with_file_name(name.strip_prefix(TEMPORARY_PREFIX)?);
    let beside = [SIDECAR_EXTENSION, SIGNATURE_EXTENSION];
    let stem = beside.into_iter().find_map(|extension| {
        let target = target.to_str()?;
        target.strip_suffix(extension)?.strip_suffix('.')
    })?;
    let dump = PathBuf::from(format!("{stem}.{DUMP_EXTENSION}"));
    let is_file = |path: &Path| {
        path.symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file())
    };
    let is_free = target.symlink_metadata().is_err();
    (is_file(unfinished) && is_file(&dump) && is_free).then_some(target)
}

/// Tells whether it may be otherwise later, without anybody changing the configuration: a disk that is full, broken or gone.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{
        QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle, StorageFull, TimedOut,
    };
    let kinds = [
        QuotaExceeded,
        ReadOnlyFilesystem,
        StaleNetworkFileHandle,
        StorageFull,
        TimedOut,
    ];
    // Broken, gone, not connected, and a file system that finds itself damaged.
    let numbers = [
        libc::EIO,
        libc::ENODEV,
        libc::ENXIO,
        libc::ENOTCONN,
        libc::EUCLEAN,
        libc::ESHUTDOWN,
    ];
    kinds.contains(&error.kind())
        || error
            .raw_os_error()
            .is_some_and(|number| numbers.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNBOUNDED: Budget = Budget {
        max_bytes: u64::MAX,
        max_count: u64::MAX,
        max_age: None,
        keep_free_bytes: 0,
        keep_free_percent: 0,
    };

    /// A store with dumps of these sizes, oldest first, each with a file of one byte beside it.
    fn store(budget: Budget, dumps: &[u64]) -> (tempfile::TempDir, Store) {
        let state = tempfile::tempdir().expect("there is room for tests");
        let store = Store::open(state.path(), budget).expect("the directory is ours");
        let mut time = std::time::SystemTime::UNIX_EPOCH;
        for (number, bytes) in dumps.iter().enumerate() {
            let path = store.directory().join(format!("{number}.mcap"));
            let file = fs::File::create(&path).expect("the directory is ours");
            file.set_len(*bytes).expect("a sparse file takes no room");
            time += Duration::from_secs(1);
            file.set_modified(time).expect("the file is ours");
            fs::write(path.with_extension("json"), b"x").expect("the directory is ours");
        }
        (state, store)
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
        let (_state, store) = store(UNBOUNDED, &[1000, 1000]);
        let room = store.make_room(1 << 20).expect("there is room");
        assert_eq!(room.dump_bytes, 1 << 20);
        assert_eq!(room.removed, 0);
        assert_eq!(names(&store).len(), 4);
    }

    #[test]
    fn the_oldest_make_way_with_what_belongs_to_them() {
        let (_state, store) = store(
            Budget {
                max_count: 3,
                ..UNBOUNDED
            },
            &[1000; 5],
        );
        let room = store.make_room(1000).expect("there is room");
        assert_eq!(room.removed, 3);
        assert_eq!(names(&store), ["3.json", "3.mcap", "4.json", "4.mcap"]);
        let usage = store.usage();
        assert_eq!((usage.count, usage.bytes, usage.evicted), (2, 2002, 3));
    }

    #[test]
    fn bytes_are_kept_for_the_next_dump_and_the_file_beside_it() {
        let budget = Budget {
            max_bytes: 1 << 20,
            ..UNBOUNDED
        };
        let (_state, store) = store(budget, &[400 << 10; 2]);
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
        let (_state, store) = store(budget, &[600 << 10]);
        let room = store.make_room(512 << 10).expect("there is room");
        assert_eq!(room.removed, 0);
        assert_eq!(room.dump_bytes, (1 << 20) - (600 << 10) - 1 - BESIDE_BYTES);
    }

    #[test]
    fn a_full_disk_is_said_with_what_to_do() {
        for (keep_free_bytes, keep_free_percent) in [(u64::MAX, 0), (0, 100)] {
            let budget = Budget {
                keep_free_bytes,
                keep_free_percent,
                ..UNBOUNDED
            };
            let (_state, store) = store(budget, &[1000]);
            let error = store.make_room(1000).expect_err("nothing is left");
            assert!(error.to_string().contains("--dumps-keep-free"), "{error}");
            assert_eq!(names(&store).len(), 2, "it would not have helped");
            assert!(!store.may_grow());
        }
    }

    #[test]
    fn what_is_too_old_goes_without_a_new_one() {
        let budget = Budget {
            max_age: Some(Duration::from_secs(3600)),
            ..UNBOUNDED
        };
        let (_state, store) = store(budget, &[1000; 2]);
        fs::write(store.directory().join("new.mcap"), b"x").expect("ours");
        store.tidy().expect("the directory is ours");
        assert_eq!(names(&store), ["new.mcap"]);
    }

    #[test]
    fn pins_that_fill_the_budget_are_said_once_and_stay() {
        let budget = Budget {
            max_count: 2,
            ..UNBOUNDED
        };
        let (_state, store) = store(budget, &[1000; 3]);
        for number in 0..2 {
            let beside = store.directory().join(format!("{number}.notes.json"));
            fs::write(beside, br#"{"pinned": true}"#).expect("ours");
        }
        for _ in 0..2 {
            let room = store.make_room(1000).expect("there is room on the disk");
            assert_eq!(room.dump_bytes, 1000);
        }
        assert_eq!(names(&store).len(), 6, "{:?}", names(&store));
        let said = store.take_said();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("recorder list --pinned"), "{said:?}");
        assert_eq!(store.usage().warning.as_ref(), Some(&said[0]));
        fs::remove_file(store.directory().join("0.notes.json")).expect("ours");
        store.make_room(1000).expect("there is room");
        assert_eq!(store.usage().warning, None);
    }

    #[test]
    fn what_an_agent_left_unfinished_is_removed_and_nothing_else() {
        let (state, store) = store(UNBOUNDED, &[]);
        for name in [".tmp-a.mcap", "b.mcap", "c.txt"] {
            fs::write(store.directory().join(name), b"x").expect("the directory is ours");
        }
        let store = Store::open(state.path(), UNBOUNDED).expect("the directory is ours");
        assert_eq!(names(&store), ["b.mcap", "c.txt"]);
        let said = store.take_said();
        assert!(
            said.iter().any(|line| line.contains(".tmp-a.mcap")),
            "{said:?}"
        );
    }

    #[test]
    fn a_dump_whose_sidecar_has_no_name_yet_gets_it() {
        let (state, store) = store(UNBOUNDED, &[]);
        let files = [
            // Killed between the two names.
            "a.mcap",
            ".tmp-a.json",
            // Before either.
            ".tmp-b.mcap",
            ".tmp-b.json",
            // A person's note: what there was stays.
            "c.mcap",
            "c.json",
            ".tmp-c.notes.json",
            ".tmp-c.json",
        ];
        for name in files {
            fs::write(store.directory().join(name), name).expect("the directory is ours");
        }
        let store = Store::open(state.path(), UNBOUNDED).expect("the directory is ours");
        assert_eq!(names(&store), ["a.json", "a.mcap", "c.json", "c.mcap"]);
        let completed = fs::read(store.directory().join("a.json")).expect("it is there");
        assert_eq!(completed, b".tmp-a.json");
        let kept = fs::read(store.directory().join("c.json")).expect("it is there");
        assert_eq!(kept, b"c.json");
    }
}
