//! What is in a directory of dumps.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Stat, statat};

use super::annotations::ANNOTATIONS_EXTENSION;
use super::chain::Ledger;
use crate::dump::{DUMP_EXTENSION, SIDECAR_EXTENSION, SIGNATURE_EXTENSION, TEMPORARY_PREFIX};

/// Extensions of what stands beside a dump.
const BESIDE: [&str; 3] = [
    SIDECAR_EXTENSION,
    ANNOTATIONS_EXTENSION,
    SIGNATURE_EXTENSION,
];
/// Bytes of a block as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// A dump in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The dump.
    pub path: PathBuf,
    /// Length of the dump in bytes.
    pub bytes: u64,
    /// Length of the files beside it in bytes, 0 if there are none.
    pub beside_bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
    /// Bytes that the file system gets back if it is removed: none for a file that has a further name elsewhere.
    pub(super) freed_bytes: u64,
    /// Equal as long as neither the dump nor a file beside it was written again.
    pub(super) stamp: String,
}

impl Entry {
    /// Returns the name of the dump's file.
    pub(super) fn file(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns the path of the file beside the dump that says what it is.
    pub fn sidecar_path(&self) -> PathBuf {
        self.path.with_extension(SIDECAR_EXTENSION)
    }

    /// Returns the path of the file beside the dump that keeps what people said about it.
    pub fn annotations_path(&self) -> PathBuf {
        self.path.with_extension(ANNOTATIONS_EXTENSION)
    }

    /// Returns the path of the signature of the file that says what it is.
    pub fn signature_path(&self) -> PathBuf {
        self.path.with_extension(SIGNATURE_EXTENSION)
    }

    /// Returns how much of the directory it takes, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.bytes + self.beside_bytes
    }

    /// Removes the dump and what is beside it, that first: what is left if that is all that happens is still a dump. The chain
    /// knows of it before, or, on a disk that is full until then, after.
    pub fn remove(&self) -> io::Result<()> {
        let removal = Ledger::removal(self);
        let is_noted = removal.note().is_ok();
        self.remove_files()?;
        match is_noted {
            true => Ok(()),
            // That it is gone counts for more.
            false => {
                let _ = removal.note();
                Ok(())
            }
        }
    }

    fn remove_files(&self) -> io::Result<()> {
        for path in [
            self.annotations_path(),
            self.signature_path(),
            self.sidecar_path(),
            self.path.clone(),
        ] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
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
    let mut names = BTreeSet::new();
    for file in files {
        names.insert(file?.file_name());
    }
    let at = File::open(directory)?;
    let mut entries: Vec<Entry> = names
        .iter()
        .filter_map(|name| entry(directory, &at, name, &names))
        .collect();
    entries.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
    Ok(entries)
}

/// Returns the dump of this path.
pub(super) fn entry_at(path: &Path) -> Option<Entry> {
    let directory = path.parent()?;
    let name = path.file_name()?.to_owned();
    let mut names: BTreeSet<OsString> = BESIDE
        .map(|extension| Path::new(&name).with_extension(extension).into())
        .into();
    names.insert(name.clone());
    entry(directory, &File::open(directory).ok()?, &name, &names)
}

fn entry(
    directory: &Path,
    at: &File,
    name: &OsString,
    names: &BTreeSet<OsString>,
) -> Option<Entry> {
    let is_unfinished = name
        .as_encoded_bytes()
        .starts_with(TEMPORARY_PREFIX.as_bytes());
    let path = Path::new(name);
    if is_unfinished || path.extension()? != DUMP_EXTENSION {
        return None;
    }
    let stat = |name: &Path| -> Option<Stat> {
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        FileType::from_raw_mode(stat.st_mode)
            .is_file()
            .then_some(stat)
    };
    let dump = stat(path)?;
    let mut entry = Entry {
        path: directory.join(name),
        bytes: bytes(&dump),
        beside_bytes: 0,
        modified: modified(&dump),
        freed_bytes: freed(&dump),
        stamp: String::new(),
    };
    stamp(&mut entry.stamp, &dump);
    for extension in BESIDE {
        let beside = path.with_extension(extension);
        if !names.contains(beside.as_os_str()) {
            entry.stamp.push('-');
        } else if let Some(beside) = stat(&beside) {
            entry.beside_bytes += bytes(&beside);
            entry.freed_bytes += freed(&beside);
            stamp(&mut entry.stamp, &beside);
        } else {
            // Something that is not read: not the same as nothing.
            entry.stamp.push('?');
        }
    }
    Some(entry)
}

fn bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn freed(stat: &Stat) -> u64 {
    match stat.st_nlink {
        0 | 1 => u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES,
        _ => 0,
    }
}

fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

fn stamp(stamp: &mut String, stat: &Stat) {
    let _ = write!(
        stamp,
        "{}.{}.{}.{};",
        stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec
    );
}

/// Reads a file of at most `bytes_max` bytes that stands in the directory itself: no link out of it, no pipe, no device.
///
/// # Errors
///
/// What the file system reports, [`io::ErrorKind::InvalidInput`] for what is no such file.
pub(crate) fn read_plain(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.size() > bytes_max {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("there is room for tests")
    }

    fn file(directory: &Path, name: &str, age_s: u64) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, name).expect("the directory is ours");
        let time = SystemTime::now() - Duration::from_secs(age_s);
        let file = File::options().append(true).open(&path);
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
        assert_eq!(found, [old, new]);
        let nowhere = path.join("nowhere");
        assert_eq!(dumps(&nowhere).expect("none").len(), 0);
    }

    #[test]
    fn a_link_beside_a_dump_is_not_followed() {
        let directory = directory();
        let path = directory.path();
        file(path, "a.mcap", 1);
        let outside = file(path, "outside", 1);
        symlink(&outside, path.join("a.json")).expect("the directory is ours");
        let entries = dumps(path).expect("it is readable");
        assert_eq!(entries[0].beside_bytes, 0);
        fs::remove_file(path.join("a.json")).expect("ours");
        let without = dumps(path).expect("it is readable").remove(0);
        assert_ne!(without.stamp, entries[0].stamp);
        symlink(&outside, path.join("a.json")).expect("the directory is ours");
        let error = read_plain(&entries[0].sidecar_path(), 100).expect_err("a link");
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert_eq!(read_plain(&outside, 100).expect("plain"), b"outside");
        assert!(read_plain(&outside, 3).is_err(), "too long");
        entries[0].remove().expect("ours");
        assert!(outside.exists());
    }

    #[test]
    fn what_has_a_further_name_frees_nothing() {
        let directory = directory();
        let path = directory.path();
        let dump = file(path, "a.mcap", 1);
        let before = dumps(path).expect("it is readable").remove(0);
        assert!(before.freed_bytes > 0);
        fs::hard_link(&dump, path.join("backup")).expect("the directory is ours");
        let after = dumps(path).expect("it is readable").remove(0);
        assert_eq!((after.freed_bytes, after.bytes), (0, before.bytes));
        assert_eq!(after.stamp, before.stamp);
    }
}
