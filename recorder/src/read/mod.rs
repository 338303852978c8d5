//! Reads dumps: what a dump is about, its events in order, and what of it is broken.
//!
//! A reader never writes, never panics on any bytes, never allocates more than a bound because a file says so, and never
//! stops at damage: a chunk that is whole is read whatever became of the rest. It knows no wall clock and no terminal.
//!
//! | layer | gives |
//! |---|---|
//! | [`source`] | bytes by position |
//! | [`walk`], [`chunk`], [`wire`] | records, and the next chunk behind what is broken |
//! | [`summary`], [`messages`] | what is where; messages in file order |
//! | [`attachments`] | evidence beside the events |
//! | [`events`] | events, numbered and linked |
//! | [`ahead`] | the same in a thread of their own |
//! | [`lookup`] | one event again, by its place |
//! | [`dump`], [`verify`] | metadata and events of one file; whether it is as it was written |

mod ahead;
pub mod attachments;
pub mod chunk;
pub mod damage;
pub mod dump;
pub mod events;
pub mod lookup;
pub mod messages;
pub mod source;
pub mod summary;
pub mod verify;
pub mod walk;
pub mod wire;

pub use ahead::ahead;
pub use attachments::{Attachment, Attachments};
pub use damage::{Damage, Damages, Flaw};
pub use dump::{Dump, ReadError};
pub use events::{Entry, Events};
pub use lookup::{Lookup, Place};
pub use verify::{Report, Seal, Signature, State, verify, verify_alone, verify_signed};

#[cfg(test)]
mod tests;
