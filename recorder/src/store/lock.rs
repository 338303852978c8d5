//! Turns: who changes what is in the directory of dumps does so alone.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How often to try again.
const PAUSE: Duration = Duration::from_millis(5);

/// Held while the directory is changed; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held for its drop")] File);

impl Turn {
    /// Takes the turn, waiting for it at most `patience`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another process does not let go of it, and what the file system reports.
    pub(super) fn take(directory: &Path, patience: Duration) -> io::Result<Self> {
        let file = File::open(directory)?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(error) if start.elapsed() >= patience => return Err(error.into()),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
