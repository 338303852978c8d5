//! Names for the crashes in a dump, found as it is written: later, the files may be gone.
//!
//! In the agent a thread of its own reads the files: it may look into the mount namespaces of other processes, which who writes
//! dumps may not, and a file system that does not answer holds up no dump.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::event::Body;
use crate::event::proto::SignalFatal;
use crate::symbol::Resolver;

/// Crashes of one dump that are looked at; a reader can do the same for the others while their files are there.
const CRASHES_MAX: u32 = 32;
/// Time for all of them together; what has begun by then may end.
const TIME_MAX: Duration = Duration::from_secs(1);
/// How long one that has begun may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Crashes that wait for the thread: two that write a dump at the same time need not wait for each other.
const WAITING: usize = 2;
/// After so long without a crash, what was read is forgotten.
const FORGET: Duration = Duration::from_secs(1);

/// A crash to be named, and where it is sent back to.
type Ask = (Box<SignalFatal>, Sender<Box<SignalFatal>>);

/// The way to the thread that names crashes.
#[derive(Clone, Debug)]
pub(super) struct Namer(Sender<Ask>);

/// That thread.
#[derive(Debug)]
pub(super) struct Naming(Receiver<Ask>);

/// Makes both ends.
pub(super) fn namer() -> (Namer, Naming) {
    let (asks, waiting) = bounded(WAITING);
    (Namer(asks), Naming(waiting))
}

impl Naming {
    /// Names crashes for as long as somebody may ask.
    pub(super) fn run(self) {
        // Nothing is held while nothing crashes.
        while let Ok(first) = self.0.recv() {
            let mut files = Files::default();
            let mut next = Some(first);
            while let Some((mut fatal, reply)) = next {
                files.name(&mut fatal);
                // Who asked may have stopped waiting.
                let _ = reply.send(fatal);
                next = self.0.recv_timeout(FORGET).ok();
            }
        }
    }
}

/// What was read of files; it stays in memory.
#[derive(Default)]
enum Files {
    #[default]
    Unread,
    Read(Box<Resolver>),
    /// Something in them confuses the reader.
    Confusing,
}

impl Files {
    fn name(&mut self, fatal: &mut SignalFatal) {
        if let Self::Unread = self {
            *self = Self::Read(Box::new(Resolver::of_host()));
        }
        let Self::Read(resolver) = self else { return };
        // The files are a stranger's, and their parsers not ours: no dump is lost to a panic in one.
        let mut named = fatal.clone();
        match catch_unwind(AssertUnwindSafe(|| resolver.resolve(&mut named))) {
            Ok(()) => *fatal = named,
            Err(_) => {
                super::warn("a crash could not be named: its files confuse the reader");
                *self = Self::Confusing;
            }
        }
    }
}

/// Names the crashes of one dump within bounds.
pub(super) struct Names<'a> {
    started: Instant,
    left: Cell<u32>,
    by: By<'a>,
}

enum By<'a> {
    Thread(&'a Namer),
    Here(RefCell<Files>),
}

impl<'a> Names<'a> {
    /// Names them here.
    pub(super) fn here() -> Self {
        Self::new(By::Here(RefCell::default()))
    }

    /// Has them named.
    pub(super) fn by(namer: &'a Namer) -> Self {
        Self::new(By::Thread(namer))
    }

    fn new(by: By<'a>) -> Self {
        Self {
            started: Instant::now(),
            left: Cell::new(CRASHES_MAX),
            by,
        }
    }

    /// Fills in what can be found about a crash.
    pub(super) fn enrich(&self, body: &mut Body) {
        let Body::SignalFatal(fatal) = body else {
            return;
        };
        let is_late = self.started.elapsed() > TIME_MAX;
        if fatal.stack_memory.is_none() || self.left.get() == 0 || is_late {
            return;
        }
        self.left.set(self.left.get() - 1);
        match &self.by {
            By::Here(files) => files.borrow_mut().name(fatal),
            By::Thread(namer) => {
                let (reply, answer) = bounded(1);
                let asked = namer.0.try_send((Box::new(fatal.clone()), reply));
                if asked.is_err() {
                    return;
                }
                match answer.recv_timeout(PATIENCE) {
                    Ok(named) => *fatal = *named,
                    Err(_) => {
                        super::warn("crashes are not named: a file system does not answer");
                        self.left.set(0);
                    }
                }
            }
        }
    }
}
