//! One agent for each directory: a second one would empty the other's ring, or remove the dump that it is writing.

use std::fs::{File, Metadata};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::harmless::escape;

/// Held while an agent runs; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its drop")] File);

impl Lock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    ///
    /// If another agent has it.
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        // What it is emptied for must be its own: a link, or a file with a further name, may be anybody's.
        let is_own = |metadata: Metadata| metadata.is_file() && metadata.nlink() == 1;
        if !file.metadata().is_ok_and(is_own) {
            bail!(
                "{} is not a lock of the recorder's: remove it, or give another directory",
                path.display()
            );
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Whatever stands there: it is at most a number.
                let _ = (&mut file).take(16).read_to_string(&mut holder);
                bail!(
                    "another recorder (process {}) already uses {}: stop it, or give this one its own --run-dir and --state-dir",
                    escape(holder.trim()),
                    directory.display()
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Lock::take(directory.path()).expect("nobody else is here");
        let error = Lock::take(directory.path()).expect_err("taken");
        let process = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&process), "{error}");
        drop(first);
        Lock::take(directory.path()).expect("free again");
    }

    #[test]
    fn nothing_else_is_emptied_for_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "precious").expect("ours");
        let lock = directory.path().join("lock");
        std::os::unix::fs::symlink(&precious, &lock).expect("ours");
        Lock::take(directory.path()).expect_err("a link");
        std::fs::remove_file(&lock).expect("ours");
        std::fs::hard_link(&precious, &lock).expect("ours");
        Lock::take(directory.path()).expect_err("a file with a further name");
        std::fs::remove_file(&lock).expect("ours");
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RWXU).expect("ours");
        Lock::take(directory.path()).expect_err("a pipe");
        assert_eq!(std::fs::read(&precious).expect("still there"), b"precious");
    }
}
