//! What the dumps take, and what is free beside them.
//!
//! Looked at in a thread of its own: a disk that does not answer costs that thread, and whoever asks is told nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::statvfs;

use super::spawn;
use crate::api::SpaceStatus;
use crate::config::RecordConfig;
use crate::store;

/// How long whoever asks waits, once: a directory of many dumps takes a few milliseconds, on a busy host more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who looks.
pub(super) struct Space {
    asked: Sender<()>,
    answers: Receiver<Option<SpaceStatus>>,
    /// Whether the last answer has not come yet.
    is_waiting: Mutex<bool>,
}

impl Space {
    /// Starts the thread that looks at `directory`; it ends with this.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn start(directory: PathBuf, config: &RecordConfig) -> Result<Self> {
        let limits = Limits {
            dumps: config.dumps_max_count,
            bytes: config.dumps_max_bytes.0,
            keep_free: config.dumps_keep_free.0,
        };
        Self::start_with(move || look(&directory, &limits).ok())
    }

    fn start_with(mut look: impl FnMut() -> Option<SpaceStatus> + Send + 'static) -> Result<Self> {
        let (asked, questions) = bounded(1);
        let (answer, answers) = bounded(1);
        let _looker = spawn("space", move || {
            for () in questions {
                if answer.send(look()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            asked,
            answers,
            is_waiting: Mutex::new(false),
        })
    }

    /// Returns what is so now; `None` if it cannot be told, or not in time.
    pub(super) fn now(&self) -> Option<SpaceStatus> {
        let mut is_waiting = self
            .is_waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_waiting {
            // The answer to an earlier question: what it says may be old.
            self.answers.try_recv().ok()?;
        }
        *is_waiting = self.asked.send(()).is_ok();
        let answer = self.answers.recv_timeout(PATIENCE).ok()?;
        *is_waiting = false;
        answer
    }
}

struct Limits {
    dumps: u64,
    bytes: u64,
    keep_free: u64,
}

/// Looks at the directory of the dumps.
fn look(directory: &Path, limits: &Limits) -> io::Result<SpaceStatus> {
    let dumps = store::dumps(directory)?;
    let bytes = dumps.iter().map(|entry| entry.bytes + entry.beside_bytes);
    let stats = statvfs(directory)?;
    Ok(SpaceStatus {
        dumps: dumps.len() as u64,
        max_dumps: limits.dumps,
        used_bytes: bytes.sum(),
        max_bytes: limits.bytes,
        free_bytes: stats.f_bavail.saturating_mul(stats.f_frsize),
        keep_free_bytes: limits.keep_free,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(dumps: u64) -> Option<SpaceStatus> {
        Some(SpaceStatus {
            dumps,
            ..SpaceStatus::default()
        })
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up_and_is_asked_again_when_it_has() {
        let (let_go, held) = bounded::<u64>(0);
        let space = Space::start_with(move || some(held.recv().ok()?)).expect("a thread");
        assert!(space.now().is_none(), "it does not answer");
        assert!(space.now().is_none(), "and is not waited for");
        let_go.send(1).expect("it waits");
        // What it said then is not what is so now.
        let other = std::thread::spawn(move || let_go.send(2).expect("it waits"));
        let mut answer = None;
        while answer.is_none() {
            answer = space.now();
        }
        assert_eq!(answer.map(|space| space.dumps), Some(2));
        other.join().expect("it does not panic");
    }
}
