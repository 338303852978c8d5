//! What the agent tells the supervisor of a collector, and what it is told in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A collector to run: one line of JSON on the supervisor's standard input, which then stays open as long as the agent wants
/// the collector to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Program and arguments.
    pub command: Vec<String>,
    /// User and group to run as.
    pub user: Option<(u32, u32)>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Most output.
    pub max_bytes: u64,
    /// Most memory that each process may write to.
    pub memory_bytes: u64,
}

/// What became of it: one JSON object on the supervisor's standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it could not be started.
    pub not_started: Option<String>,
    /// Code it exited with.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Why it was ended before it ended by itself.
    pub ended: Option<End>,
    /// Bytes written to the supervisor's standard output.
    pub bytes: u64,
    /// Processes that it left behind and that were killed.
    pub killed: u64,
    /// Whether some of them did not end: they are stuck in the kernel, and end when it lets go of them.
    pub stuck: bool,
    /// First bytes of its standard error.
    pub stderr: String,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
}

/// Why a collector was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It took too long.
    Timeout,
    /// It put out too much.
    Flood,
    /// What it put out could not be written.
    NoSpace,
    /// The agent did not want it any longer.
    Unwanted,
}

/// The exit code by which a built-in collector says that what it was to look at is gone.
pub const ABSENT: u8 = 75;
