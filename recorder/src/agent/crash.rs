//! Names for the crashes in a dump, found as it is written: later, the files may be gone.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::event::Body;
use crate::symbol::Resolver;

/// Crashes of one dump that are looked at; a reader can do the same for the others while their files are there.
const CRASHES_MAX: u32 = 32;
/// Time for all of them together.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Names crashes within bounds; one for each dump, because what it has read stays in memory.
pub(super) struct Names {
    started: Instant,
    state: RefCell<State>,
}

struct State {
    /// `None` once it has failed.
    resolver: Option<Resolver>,
    left: u32,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            state: RefCell::new(State {
                resolver: Some(Resolver::of_host()),
                left: CRASHES_MAX,
            }),
        }
    }

    /// Fills in what can be found about a crash.
    pub(super) fn enrich(&self, body: &mut Body) {
        let Body::SignalFatal(fatal) = body else {
            return;
        };
        let mut state = self.state.borrow_mut();
        if fatal.stack_memory.is_none() || state.left == 0 || self.started.elapsed() > TIME_MAX {
            return;
        }
        state.left -= 1;
        let Some(resolver) = &mut state.resolver else {
            return;
        };
        // The files are a stranger's, and their parsers not ours: no dump is lost to a panic in one.
        let mut named = fatal.clone();
        match catch_unwind(AssertUnwindSafe(|| resolver.resolve(&mut named))) {
            Ok(()) => *fatal = named,
            Err(_) => {
                super::warn("a crash could not be named: its files confuse the reader");
                state.resolver = None;
            }
        }
    }
}
