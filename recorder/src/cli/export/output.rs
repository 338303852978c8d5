//! Files that are written: never over what is there, unless that is asked for, and not left behind half.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::dump::SIDECAR_EXTENSION;

/// Creates a file that its owner alone can read: a dump tells what nobody else may know.
///
/// # Errors
///
/// One that is there already without `force`; what the file system says. A link is replaced, not followed.
pub fn create(path: &Path, force: bool) -> io::Result<File> {
    if force && path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        fs::remove_file(path)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).read(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        _ => error,
    })
}

/// Returns where the sidecar of a copy of a dump belongs.
///
/// # Errors
///
/// A copy that would take the place of the dump, or of its own sidecar.
pub fn sidecar_of_copy(dump: &Path, copy: &Path) -> Result<PathBuf> {
    let sidecar = copy.with_extension(SIDECAR_EXTENSION);
    if sidecar == copy {
        bail!("a dump ends in .mcap: its sidecar ends in .json");
    }
    if copy.exists() && copy.canonicalize()? == dump.canonicalize()? {
        bail!("{} is the dump itself: it stays as it is", copy.display());
    }
    Ok(sidecar)
}

/// Makes a directory, with those above it, or takes an empty one.
///
/// # Errors
///
/// One with something in it without `force`; what the file system says.
pub fn directory(path: &Path, force: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)?;
    match fs::read_dir(path)?.next() {
        Some(_) if !force => Err(taken(path)),
        _ => Ok(()),
    }
}

fn taken(path: &Path) -> io::Error {
    let kind = io::ErrorKind::AlreadyExists;
    let path = path.display();
    io::Error::new(
        kind,
        format!("{path} is there already: --force replaces it"),
    )
}

/// Removes a file when dropped, unless it is kept.
#[derive(Debug)]
pub struct Unfinished(Option<PathBuf>);

impl Unfinished {
    /// Removes this file if it is not kept.
    pub fn new(path: &Path) -> Self {
        Self(Some(path.to_owned()))
    }

    /// Keeps it.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The failure that led here is what is reported.
            let _ = fs::remove_file(path);
        }
    }
}
