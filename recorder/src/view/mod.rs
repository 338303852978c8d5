//! A dump in a terminal: its timeline, its events, and one of them closely, by keyboard, over any connection.
//!
//! Nothing waits for a file to be read: the first screen stands at once, and reading, filtering and searching go on in
//! slices between the keys. What is kept of an event is a [`Row`](index::Row) of 32 bytes and of a dump at most [`index::ROWS_MAX`] of
//! them; what a screen shows is read again from the file, whose last chunks stay unpacked.
//!
//! | module | does |
//! |---|---|
//! | [`index`] | reads the dump once, a row for each event |
//! | [`state`], [`keys`] | what is shown, and what a key changes: no terminal, no clock |
//! | [`hunt`] | filters and searches, in slices |
//! | [`lanes`] | a window of time in columns |
//! | [`detail`] | one event in lines |
//! | [`draw`] | the screen |
//! | [`terminal`] | takes the terminal and gives it back |
//!
//! Strings of a dump reach the screen escaped, so that none acts on the terminal.

mod detail;
mod draw;
mod hunt;
mod index;
mod keys;
mod lanes;
mod state;
mod terminal;
#[cfg(test)]
mod tests;

use crate::event::{Body, proto};
use crate::read::{Damages, Entry};

pub use index::{Index, lacks_until};
pub use state::{Known, View};
pub use terminal::{Ended, run};

/// Decides which events are listed.
pub type Choice = Box<dyn Fn(&Entry) -> bool>;

/// Makes a filter of the options that a person typed, or says what is wrong with them.
pub type Choose = Box<dyn Fn(&str) -> Result<Choice, String>>;

/// How a view says what others know better.
pub struct Words {
    /// Says an event in one line.
    pub describe: fn(&Body) -> String,
    /// Tells of a fatal signal what its fields do not say by themselves: the fault in words, registers, code, stack.
    pub crash: fn(&proto::SignalFatal) -> Vec<String>,
    /// Finds the names of a crash's functions.
    pub resolve: Box<dyn FnMut(&mut proto::SignalFatal)>,
    /// Makes a filter of the options that a person typed, or says what is wrong with them.
    pub choose: Choose,
}

/// Tells a dump as a whole, from all its events.
pub trait Story {
    /// Takes in the next event.
    fn take(&mut self, entry: &Entry);
    /// Tells it.
    fn tell(&mut self, damages: &Damages) -> String;
}
