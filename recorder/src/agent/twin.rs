//! The thread that keeps the twin of the ring on disk: the one thread that waits for that disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::spawn;
use crate::api::TwinStatus;
use crate::config::saturating_ns;
use crate::ingest::now_pair;
use crate::ring::Twin;

/// How long after a failure the twin is made anew.
const RETRY: Duration = Duration::from_secs(30);
/// Longest that the last flush may take: a disk may not answer.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// The least part of an interval that is left to the disk between two flushes which take longer than one.
const REST: u32 = 4;

/// Copies the ring to disk at an interval.
struct Keeper {
    ring: PathBuf,
    path: PathBuf,
    interval: Duration,
    status: Arc<Mutex<TwinStatus>>,
}

/// A twin that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl Kept {
    /// Starts to keep at `path` a twin of the ring at `ring`; also returns what is known of it.
    pub(super) fn start(
        ring: PathBuf,
        path: PathBuf,
        interval: Duration,
    ) -> Result<(Self, Arc<Mutex<TwinStatus>>)> {
        let status = Arc::new(Mutex::new(TwinStatus {
            path: path.display().to_string(),
            interval_ns: saturating_ns(interval),
            ..TwinStatus::default()
        }));
        let keeper = Keeper {
            ring,
            path,
            interval,
            status: Arc::clone(&status),
        };
        let (stop, stopping) = bounded(0);
        let (done, stopped) = bounded(0);
        // Not waited for without end: a file system may not answer.
        let _keeper = spawn("twin", move || keeper.run(&stopping, done))?;
        Ok((Self { stop, stopped }, status))
    }

    /// Copies what has come since, as the last of all. To be called when nothing more comes into the ring.
    pub(super) fn finish(self) {
        drop(self.stop);
        if self.stopped.recv_timeout(LAST_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            super::warn("the last flush of the ring to disk does not come to its end");
        }
    }
}

impl Keeper {
    fn run(&self, stopping: &Receiver<()>, done: Sender<()>) {
        super::give_way(super::NICENESS);
        let mut twin = None;
        let mut is_last = false;
        loop {
            let begun = Instant::now();
            let outcome = self.flush(&mut twin);
            let took = begun.elapsed();
            let wait = match &outcome {
                Ok(_) => self.interval.saturating_sub(took).max(self.interval / REST),
                // What the disk holds now nobody knows.
                Err(_) => {
                    twin = None;
                    RETRY
                }
            };
            self.take_note(&outcome, took);
            if is_last {
                break;
            }
            is_last = stopping.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
        }
        drop(done);
    }

    /// Flushes the twin once, and makes it before if there is none; returns how many bytes of records that were.
    fn flush(&self, twin: &mut Option<Twin>) -> Result<u64> {
        let twin = match twin {
            Some(twin) => twin,
            None => twin.insert(Twin::create(&self.path, &self.ring)?),
        };
        let now = now_pair();
        let bytes = twin.flush(now)?;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.flushed_unix_ns = Some(now.unix_ns);
        Ok(bytes)
    }

    fn take_note(&self, outcome: &Result<u64>, took: Duration) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.took_ns = saturating_ns(took);
        match outcome {
            Ok(bytes) => {
                status.flushes += 1;
                status.bytes += bytes;
                status.last_error = None;
            }
            Err(error) => {
                status.failures += 1;
                let error = format!("{error:#}");
                let is_known = status.last_error.as_ref() == Some(&error);
                let path = status.path.clone();
                status.last_error = Some(error.clone());
                drop(status);
                if !is_known {
                    super::warn(&format!(
                        "the ring is not copied to {path}, and a crash of the kernel loses it: {error}"
                    ));
                }
            }
        }
    }
}
