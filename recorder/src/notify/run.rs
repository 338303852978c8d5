//! The threads of the targets.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::queue::{Next, Queue, WAITING_MAX};
use super::webhook::Webhook;
use super::{Again, Failure, Kind, Notice, Target, exec, journal, syslog};
use crate::api::NotifyStatus;
use crate::sandbox::Starter;

/// How long what still waits is tried when the agent ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Tells every target, and never waits for one.
#[derive(Clone, Debug)]
pub struct Notifier {
    targets: Arc<Mutex<Vec<Told>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    starter: Starter,
    log: fn(&str),
}

/// Targets that are ready to take the place of others.
#[derive(Debug)]
pub struct Prepared(Vec<Told>);

/// A target as the rest of the agent sees it.
#[derive(Clone, Debug)]
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
pub struct Threads(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Threads {
    /// Waits until each has told what it can; the last [`Notifier`] must be gone.
    pub fn join(self) {
        for thread in locked(&self.0).drain(..) {
            // One that panicked has nothing more to tell.
            let _ = thread.join();
        }
    }
}

impl Notifier {
    /// Starts a thread for each target that is enabled. `starter` starts their programs, `log` takes what people should know.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(
        targets: &[Target],
        starter: Starter,
        log: fn(&str),
    ) -> io::Result<(Self, Threads)> {
        let notifier = Self {
            targets: Arc::default(),
            threads: Arc::default(),
            starter,
            log,
        };
        notifier.put(notifier.prepare(targets)?);
        let threads = Threads(Arc::clone(&notifier.threads));
        Ok((notifier, threads))
    }

    /// Makes other targets ready: each that is as before keeps what waits for it.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started; then nothing has changed.
    pub fn prepare(&self, targets: &[Target]) -> io::Result<Prepared> {
        let old = locked(&self.targets).clone();
        let told = |target: &Target| match old.iter().find(|told| *told.target == *target) {
            Some(told) => Ok(told.clone()),
            None => self.begin(target),
        };
        let enabled = targets.iter().filter(|target| target.enabled);
        Ok(Prepared(enabled.map(told).collect::<io::Result<_>>()?))
    }

    /// Tells these from now on. The others are told once more what waits for them, and then nothing.
    pub fn put(&self, Prepared(targets): Prepared) {
        *locked(&self.targets) = targets;
        locked(&self.threads).retain(|thread| !thread.is_finished());
    }

    fn begin(&self, target: &Target) -> io::Result<Told> {
        let target = Arc::new(target.clone());
        let (sender, receiver) = bounded(WAITING_MAX);
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            queue: Queue::new(target.retry_for),
            sender: Way::new(&target, &self.starter)?,
            target: Arc::clone(&target),
            shared: Arc::clone(&shared),
            start: Instant::now(),
            log: self.log,
        };
        worker.publish(|_| {});
        let thread = thread::Builder::new().name("notify".to_owned());
        let thread = thread.spawn(move || worker.run(&receiver))?;
        locked(&self.threads).push(thread);
        Ok(Told {
            target,
            sender,
            shared,
        })
    }

    /// Tells those that want to hear of this.
    pub fn tell(&self, notice: Notice) {
        let notice = Arc::new(notice);
        for told in locked(&self.targets).iter() {
            if told.target.wants(&notice) && told.sender.try_send(Arc::clone(&notice)).is_err() {
                told.shared.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns what became of the notifications.
    pub fn status(&self) -> Vec<NotifyStatus> {
        let of = |told: &Told| {
            let mut status = locked(&told.shared.status).clone();
            status.waiting += told.sender.len() as u64;
            status.dropped += told.shared.missed.load(Ordering::Relaxed);
            status
        };
        locked(&self.targets).iter().map(of).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tries a target once, here and now.
///
/// # Errors
///
/// Why it did not take it.
pub fn test(target: &Target, notice: &Notice) -> Result<(), String> {
    let way = Starter::new().and_then(|starter| Way::new(target, &starter));
    let mut way = way.map_err(|error| error.to_string())?;
    way.send(target, notice, 0, target.timeout)
        .map_err(|failure| failure.why)
}

/// How a target is reached.
enum Way {
    Exec(Starter),
    Webhook(Box<Webhook>),
    Journal,
    Syslog,
}

impl Way {
    fn new(target: &Target, starter: &Starter) -> io::Result<Self> {
        Ok(match target.kind {
            Kind::Exec => Self::Exec(starter.clone()),
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
            Self::Exec(starter) => {
                exec::send(starter, &target.command, notice, lost_before, timeout)
            }
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
        let mut status = locked(&self.shared.status);
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
