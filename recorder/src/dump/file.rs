//! Files that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// How the names of unfinished files begin.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A file under a temporary name, which is removed unless it is [committed](NewFile::commit).
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl NewFile {
    /// Creates it in the directory that it is to stand in, readable by its owner alone.
    pub(super) fn create(dir: &Path, name: &str) -> io::Result<Self> {
        let temporary = dir.join(format!("{TEMPORARY_PREFIX}{name}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Self {
            file,
            temporary,
            target: dir.join(name),
            committed: false,
        })
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes what was written durable under the temporary name.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name; durable once the directory is [synced](sync_dir).
    pub(super) fn commit(mut self) -> io::Result<PathBuf> {
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        Ok(self.target.clone())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is cleaned up when the store is opened.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file in place of the one of that name, if there is one; returns when it is durable.
///
/// # Errors
///
/// What the file system reports; then what was there is as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = name.to_string_lossy();
    let mut file = match NewFile::create(dir, &name) {
        // Of somebody who was killed: two at once take turns.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(dir.join(format!("{TEMPORARY_PREFIX}{name}")))?;
            NewFile::create(dir, &name)?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    file.sync()?;
    file.commit()?;
    sync_dir(dir)
}

/// Copies a file into another directory, under the same name; returns when it is durable.
///
/// # Errors
///
/// What the file systems report; then there is nothing new.
pub fn copy_file(from: &Path, dir: &Path) -> io::Result<()> {
    let name = from.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = NewFile::create(dir, &name.to_string_lossy())?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync()?;
    file.commit()?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
