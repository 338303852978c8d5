//! How incidents are made.

use std::collections::BTreeMap;

use super::Rule;

/// How incidents are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The window of every rule without one of its own.
    pub span: Span,
    /// Windows of single rules.
    pub rule_spans: BTreeMap<Rule, Span>,
    /// Time after the end of a window in which the same failure opens no incident; 0 for none.
    pub cooldown_ns: u64,
    /// Names of processes whose abnormal exit is an incident; of each, the first 15 bytes count.
    pub watch: Vec<String>,
    /// How many dumps there may be.
    pub limits: Limits,
}

/// How many dumps there may be in a time; 0 for any number. A person's request is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most in an hour.
    pub dumps_per_hour: u64,
    /// Most bytes in a day: once as many are written, no further dump begins.
    pub bytes_per_day: u64,
}

/// How far a window reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Nanoseconds before the trigger.
    pub before_ns: u64,
    /// Nanoseconds after the trigger.
    pub after_ns: u64,
}
