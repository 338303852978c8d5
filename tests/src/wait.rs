//! Waiting for what comes true by itself.

use std::time::{Duration, Instant};

use crate::host::guest::patience;

/// Longest that anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < patience(PATIENCE), "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
