//! The dumps below some directories, and what is known of each without opening it twice.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::dump::{Sidecar, Verdict};
use crate::read::Dump;
use crate::store::{self, Entry};

/// Directories below each other that are looked through.
const DEPTH_MAX: usize = 6;
/// Longest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 16 << 20;
/// Most dumps that are listed.
const DUMPS_MAX: usize = 100_000;

/// A dump in the list; what is gone from a broken one is absent.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What its pages are called: part of a digest of its path.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// When it happened: RFC 3339.
    pub time: Option<String>,
    /// Where.
    pub host: Option<String>,
    /// The rule that fired.
    pub rule: Option<String>,
    /// What happened, in one sentence.
    pub what: Option<String>,
    /// Events in it.
    pub events: Option<u64>,
    /// Its length in bytes.
    pub bytes: u64,
    /// The ledger's verdict.
    pub verdict: Option<Verdict>,
}

/// What is known of a dump, as long as the file is the same one.
struct Known {
    modified: SystemTime,
    bytes: u64,
    row: Row,
}

/// The dumps below some directories.
pub struct Dumps {
    directories: Vec<PathBuf>,
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Dumps {
    pub fn new(directories: Vec<PathBuf>) -> Self {
        let known = Mutex::default();
        Self { directories, known }
    }

    /// Looks what is there now: the newest first.
    pub fn rows(&self) -> Vec<Row> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = HashMap::new();
        for entry in self
            .directories
            .iter()
            .flat_map(|one| below(one, DEPTH_MAX))
        {
            if fresh.len() == DUMPS_MAX {
                break;
            }
            let before = known.remove(&entry.path);
            let same =
                before.filter(|one| one.modified == entry.modified && one.bytes == entry.bytes);
            let one = same.unwrap_or_else(|| Known {
                modified: entry.modified,
                bytes: entry.bytes,
                row: row(&entry),
            });
            fresh.insert(entry.path, one);
        }
        let mut rows: Vec<Row> = fresh.values().map(|one| one.row.clone()).collect();
        *known = fresh;
        rows.sort_by(|one, other| (&other.time, &other.path).cmp(&(&one.time, &one.path)));
        rows
    }

    /// Returns the path of a dump by its key: nothing but what was listed has one.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        let mut rows = self.rows().into_iter();
        rows.find(|row| row.key == key).map(|row| row.path)
    }
}

/// Finds the dumps of a directory and of those below it; symbolic links are not followed.
fn below(directory: &Path, depth: usize) -> Vec<Entry> {
    let mut found = store::dumps(directory).unwrap_or_default();
    let Ok(inside) = fs::read_dir(directory) else {
        return found;
    };
    for one in inside.flatten() {
        if depth > 0 && one.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&one.path(), depth - 1));
        }
    }
    found
}

fn row(entry: &Entry) -> Row {
    let digest = Sha256::digest(entry.path.as_os_str().as_encoded_bytes());
    let mut row = Row {
        key: digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        path: entry.path.clone(),
        bytes: entry.bytes,
        ..Row::default()
    };
    let incident = if let Some(sidecar) = sidecar(entry) {
        row.time = Some(sidecar.time);
        row.host = Some(sidecar.host.hostname);
        row.events = Some(sidecar.events);
        row.verdict = Some(sidecar.verdict);
        Some(sidecar.incident)
    } else {
        Dump::open(&entry.path)
            .ok()
            .and_then(|dump| dump.incident())
    };
    if let Some(incident) = incident {
        row.rule = Some(incident.rule);
        row.what = Some(incident.summary);
    }
    row
}

/// Reads the file beside a dump; `None` if it is missing, too long or none.
fn sidecar(entry: &Entry) -> Option<Sidecar> {
    let text = store::read_plain(&entry.sidecar_path(), SIDECAR_BYTES_MAX).ok()?;
    serde_json::from_slice(&text).ok()
}
