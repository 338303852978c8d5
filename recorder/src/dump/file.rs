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
    #[cfg(test)]
    plan: Option<std::sync::Arc<faults::Plan>>,
}

impl NewFile {
    /// Creates it in the directory that it is to stand in, readable by its owner alone.
    pub(super) fn create(dir: &Path, name: &str) -> io::Result<Self> {
        let temporary = dir.join(format!("{TEMPORARY_PREFIX}{name}"));
        #[cfg(test)]
        let plan = faults::plan();
        #[cfg(test)]
        faults::step(plan.as_ref())?;
        #[cfg(test)]
        faults::created(&temporary);
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
            #[cfg(test)]
            plan,
        })
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes what was written durable under the temporary name.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::step(self.plan.as_ref())?;
        #[cfg(test)]
        faults::synced(&self.temporary);
        self.file.sync_all()
    }

    /// Gives it its name; durable once the directory is [synced](sync_dir).
    pub(super) fn commit(mut self) -> io::Result<PathBuf> {
        #[cfg(test)]
        faults::step(self.plan.as_ref())?;
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        Ok(self.target.clone())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        if let Err(error) = faults::step(self.plan.as_ref()) {
            // Torn: some of it is there.
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
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
            let _ = remove_file(&self.temporary);
        }
    }
}

/// Removes a file.
///
/// # Errors
///
/// What the file system reports.
pub fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::alive()?;
    fs::remove_file(path)
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

/// Copies a file into another directory, under the same name; returns when it is durable. A link is not followed.
///
/// # Errors
///
/// What the file systems report; then there is nothing new.
pub fn copy_file(from: &Path, dir: &Path) -> io::Result<()> {
    let name = from.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = NewFile::create(dir, &name.to_string_lossy())?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut from = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(from)?;
    if !from.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    io::copy(&mut from, &mut file)?;
    file.sync()?;
    file.commit()?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Storage that fails, or an agent that dies over it, when a simulation says so: in the thread that says it.
#[cfg(test)]
pub(crate) mod faults {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// What happens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum How {
        /// One operation fails.
        Fails,
        /// The agent dies over it: nothing happens any more.
        Dies,
    }

    /// What happens, and before which operation.
    #[derive(Debug)]
    pub(crate) struct Plan {
        how: How,
        left: AtomicU64,
        is_over: AtomicBool,
    }

    impl Plan {
        /// Tells whether the agent has died.
        pub(crate) fn is_dead(&self) -> bool {
            self.how == How::Dies && self.is_over.load(Ordering::Relaxed)
        }
    }

    thread_local! {
        static PLAN: RefCell<Option<Arc<Plan>>> = const { RefCell::new(None) };
        static SYNCED: RefCell<BTreeSet<PathBuf>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// From now on: lets so many operations pass, then it happens.
    pub(crate) fn begin(how: How, operations: u64) -> Arc<Plan> {
        let plan = Arc::new(Plan {
            how,
            left: AtomicU64::new(operations),
            is_over: AtomicBool::new(false),
        });
        PLAN.set(Some(Arc::clone(&plan)));
        plan
    }

    /// All is well again.
    pub(crate) fn end() {
        PLAN.set(None);
    }

    /// Tells whether a file was durable under its temporary name.
    pub(crate) fn is_synced(path: &Path) -> bool {
        SYNCED.with_borrow(|synced| synced.contains(path))
    }

    pub(super) fn created(path: &Path) {
        SYNCED.with_borrow_mut(|synced| synced.remove(path));
    }

    pub(super) fn synced(path: &Path) {
        SYNCED.with_borrow_mut(|synced| synced.insert(path.to_owned()));
    }

    pub(super) fn plan() -> Option<Arc<Plan>> {
        PLAN.with_borrow(Clone::clone)
    }

    /// An operation begins.
    pub(super) fn step(plan: Option<&Arc<Plan>>) -> io::Result<()> {
        let Some(plan) = plan else { return Ok(()) };
        if plan.is_dead() {
            return Err(io::Error::other("dead"));
        }
        let left = plan
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() || plan.is_over.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// The dead remove nothing.
    pub(super) fn alive() -> io::Result<()> {
        match plan() {
            Some(plan) if plan.is_dead() => Err(io::Error::other("dead")),
            _ => Ok(()),
        }
    }
}
