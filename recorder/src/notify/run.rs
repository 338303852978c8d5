//! The threads of the targets.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::queue::{Next, Queue, WAITING_MAX};
use super::webhook::Webhook;
use super::{Again, Failure, Kind, Notice, Target, exec, journal, syslog};
use crate::api::NotifyStatus;

/// How long what still waits is tried when the agent ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Tells every target, and never waits for one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    targets: Arc<Vec<Told>>,
}

/// A target as the rest of the agent sees it.
#[derive(Debug)]
struct Told {
    target: Arc<Target>,
    sender: Sender<Arc<Notice>>,
    shared: Arc<Shared>,
}

/// What its thread says of it.
#[derive(Debug, Default)]
struct Shared {
    status: Mutex<NotifyStatus>,
    /// Not taken by the thread, which is busy, and not told to it yet.
    missed: AtomicU64,
}

/// The threads, to be waited for.
#[derive(Debug)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until each has told what it can; the last [`Notifier`] must be gone.
    pub fn join(self) {
        for thread in self.0 {
            // One that panicked has nothing more to tell.
            let _ = thread.join();
        }
    }
}

impl Notifier {
    /// Starts a thread for each target that is enabled. `log` takes what people should know.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(targets: &[Target], log: fn(&str)) -> io::Result<(Self, Threads)> {
        let mut told = Vec::new();
        let mut threads = Vec::new();
        for target in targets.iter().filter(|target| target.enabled) {
            let target = Arc::new(target.clone());
            let (sender, receiver) = bounded(WAITING_MAX);
            let shared = Arc::new(Shared::default());
            let worker = Worker {
                queue: Queue::new(target.retry_for),
                sender: Way::new(&target)?,
                target: Arc::clone(&target),
                shared: Arc::clone(&shared),
                start: Instant::now(),
                log,
            };
            worker.publish(|_| {});
            let thread = thread::Builder::new().name("notify".to_owned());
            threads.push(thread.spawn(move || worker.run(&receiver))?);
            told.push(Told {
                target,
                sender,
                shared,
            });
        }
        let notifier = Self {
            targets: Arc::new(told),
        };
        Ok((notifier, Threads(threads)))
    }

    /// Tells those that want to hear of this.
    pub fn tell(&self, notice: Notice) {
        let notice = Arc::new(notice);
        for told in self.targets.iter() {
            if told.target.wants(&notice) && told.sender.try_send(Arc::clone(&notice)).is_err() {
                told.shared.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns what became of the notifications.
    pub fn status(&self) -> Vec<NotifyStatus> {
        let of = |told: &Told| {
            let status = told.shared.status.lock();
            let mut status = status.unwrap_or_else(PoisonError::into_inner).clone();
            status.waiting += told.sender.len() as u64;
            status.dropped += told.shared.missed.load(Ordering::Relaxed);
            status
        };
        self.targets.iter().map(of).collect()
    }
}

/// Tries a target once, here and now.
///
/// # Errors
///
/// Why it did not take it.
pub fn test(target: &Target, notice: &Notice) -> Result<(), String> {
    let mut way = Way::new(target).map_err(|error| error.to_string())?;
    way.send(target, notice, 0, target.timeout)
        .map_err(|failure| failure.why)
}

/// How a target is reached.
enum Way {
    Exec,
    Webhook(Box<Webhook>),
    Journal,
    Syslog,
}

impl Way {
    fn new(target: &Target) -> io::Result<Self> {
        Ok(match target.kind {
            Kind::Exec => Self::Exec,
            Kind::Webhook => Self::Webhook(Box::new(Webhook::new()?)),
            Kind::Journal => Self::Journal,
            Kind::Syslog => Self::Syslog,
        })
    }

    fn send(
        &mut self,
        target: &Target,
        notice: &Notice,
        lost_before: u64,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let socket = |default| target.socket.as_deref().unwrap_or(Path::new(default));
        match self {
            Self::Exec => exec::send(&target.command, notice, lost_before, timeout),
            Self::Webhook(webhook) => webhook.send(target, notice, lost_before, timeout),
            Self::Journal => journal::send(socket(journal::SOCKET), notice, lost_before, timeout),
            Self::Syslog => {
                let format = target.format.unwrap_or_default();
                syslog::send(socket(syslog::SOCKET), format, notice, timeout)
            }
        }
    }
}

struct Worker {
    target: Arc<Target>,
    queue: Queue,
    sender: Way,
    shared: Arc<Shared>,
    start: Instant,
    log: fn(&str),
}

impl Worker {
    fn run(mut self, notices: &Receiver<Arc<Notice>>) {
        loop {
            let received = match self.queue.next(self.start.elapsed()) {
                Next::Try(notice, lost_before) => {
                    self.attempt(&notice, lost_before, self.target.timeout);
                    notices
                        .try_recv()
                        .map_err(|error| match error.is_disconnected() {
                            true => RecvTimeoutError::Disconnected,
                            false => RecvTimeoutError::Timeout,
                        })
                }
                Next::Wait(time) => notices.recv_timeout(time),
                Next::Nothing => notices.recv().map_err(RecvTimeoutError::from),
            };
            match received {
                Ok(notice) => self.take(notice, notices),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.farewell(),
            }
            self.publish(|_| {});
        }
    }

    fn take(&mut self, first: Arc<Notice>, notices: &Receiver<Arc<Notice>>) {
        let now = self.start.elapsed();
        self.queue.push(first, now);
        for notice in notices.try_iter().take(WAITING_MAX) {
            self.queue.push(notice, now);
        }
        self.queue
            .missed(self.shared.missed.swap(0, Ordering::Relaxed));
    }

    fn attempt(&mut self, notice: &Notice, lost_before: u64, timeout: Duration) {
        let sent = self.sender.send(&self.target, notice, lost_before, timeout);
        let Err(failure) = sent else {
            if self.queue.failures_in_a_row() > 0 {
                (self.log)(&format!(
                    "notifications to {} are taken again",
                    self.target.name
                ));
            }
            self.queue.delivered(lost_before);
            return self.publish(|status| status.delivered += 1);
        };
        if self.queue.failures_in_a_row() == 0 || failure.again == Again::No {
            let name = &self.target.name;
            (self.log)(&format!("notification to {name} failed: {}", failure.why));
        }
        self.queue.failed(self.start.elapsed(), failure.again);
        self.publish(|status| {
            status.failures += 1;
            status.refused += u64::from(failure.again == Again::No);
            status.last_error = Some(failure.why.clone());
        });
    }

    /// Tries everything that waits once more, as far as there is time.
    fn farewell(mut self) {
        let deadline = Instant::now() + FAREWELL;
        self.queue.hurry();
        while let Next::Try(notice, lost_before) = self.queue.next(self.start.elapsed()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let failures = self.queue.failures_in_a_row();
            self.attempt(&notice, lost_before, left.min(self.target.timeout));
            if self.queue.failures_in_a_row() > failures {
                break;
            }
        }
        if self.queue.len() > 0 {
            (self.log)(&format!(
                "{} notifications to {} were not delivered before the end",
                self.queue.len(),
                self.target.name
            ));
        }
    }

    /// Says how it goes.
    fn publish(&self, change: impl FnOnce(&mut NotifyStatus)) {
        let status = self.shared.status.lock();
        let mut status = status.unwrap_or_else(PoisonError::into_inner);
        if status.name.is_empty() {
            status.name.clone_from(&self.target.name);
            status.kind = self.target.kind.name().to_owned();
        }
        change(&mut status);
        status.waiting = self.queue.len() as u64;
        status.failures_in_a_row = self.queue.failures_in_a_row();
        status.dropped = self.queue.dropped;
        status.expired = self.queue.expired;
    }
}
