//! The directory of dumps: what is in it, and what it may hold.
//!
//! Whatever has a dump's name is a dump; everything else in the directory is left alone, except the unfinished files of an
//! agent that died. Nothing is followed out of the directory: a link is no dump.

mod budget;
mod directory;

pub use budget::{Budget, Room, Store, StoreError};
pub use directory::{Entry, FindError, dumps, find};
