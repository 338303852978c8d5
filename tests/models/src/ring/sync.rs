//! Loom's atomics, and a note of every ordering that is asked for: where in the code, so that each can be taken away in turn.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::Mutex;

use loom::sync::atomic;

pub use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// A place in the code that asks for an ordering stronger than relaxed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site(&'static Location<'static>);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file().rsplit('/').next().unwrap_or_default();
        write!(f, "{file}:{}", self.0.line())
    }
}

static SITES: Mutex<BTreeSet<Site>> = Mutex::new(BTreeSet::new());
static WEAKENED: Mutex<Option<Site>> = Mutex::new(None);

/// Returns every place that has asked for an ordering.
pub fn sites() -> Vec<Site> {
    let sites = SITES.lock().expect("nobody panics with the lock");
    sites.iter().copied().collect()
}

/// Lets one place have no ordering from now on, or all have theirs.
pub fn weaken(site: Option<Site>) {
    *WEAKENED.lock().expect("nobody panics with the lock") = site;
}

#[track_caller]
fn granted(asked: Ordering) -> Ordering {
    if asked == Relaxed {
        return Relaxed;
    }
    let site = Site(Location::caller());
    SITES
        .lock()
        .expect("nobody panics with the lock")
        .insert(site);
    match *WEAKENED.lock().expect("nobody panics with the lock") == Some(site) {
        true => Relaxed,
        false => asked,
    }
}

#[track_caller]
pub fn fence(asked: Ordering) {
    let granted = granted(asked);
    if granted != Relaxed {
        atomic::fence(granted);
    }
}

/// A counter of pins.
#[derive(Debug)]
pub struct AtomicU32(atomic::AtomicU32);

impl AtomicU32 {
    pub fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }

    #[track_caller]
    pub fn load(&self, asked: Ordering) -> u32 {
        self.0.load(granted(asked))
    }

    #[track_caller]
    pub fn fetch_add(&self, value: u32, asked: Ordering) -> u32 {
        self.0.fetch_add(value, granted(asked))
    }

    #[track_caller]
    pub fn fetch_sub(&self, value: u32, asked: Ordering) -> u32 {
        self.0.fetch_sub(value, granted(asked))
    }
}

/// A word of the mapping.
#[derive(Debug)]
pub enum AtomicU64 {
    /// One that readers go by.
    Modelled(atomic::AtomicU64),
    /// One that nobody here looks at.
    Ignored,
}

impl AtomicU64 {
    #[track_caller]
    pub fn load(&self, asked: Ordering) -> u64 {
        match self {
            Self::Modelled(word) => word.load(granted(asked)),
            Self::Ignored => 0,
        }
    }

    #[track_caller]
    pub fn store(&self, value: u64, asked: Ordering) {
        if let Self::Modelled(word) = self {
            word.store(value, granted(asked));
        }
    }
}
