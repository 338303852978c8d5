//! How far windows reach, and how many dumps there may be.

/// How many dumps there may be in a time; 0 for any number. A person's request is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most in an hour.
    pub dumps_per_hour: u64,
    /// Most bytes in a day: once as many are written, no further dump begins.
    pub bytes_per_day: u64,
}

/// How far a window reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Nanoseconds before the trigger.
    pub before_ns: u64,
    /// Nanoseconds after the trigger.
    pub after_ns: u64,
}
