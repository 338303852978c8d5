//! The events of a dump, numbered and linked.

use std::io;

use super::damage::{Damages, Flaw};
use super::lookup::Place;
use super::messages::{Counts, Messages};
use crate::death::Joiner;
use crate::event::{Body, ClockPair, DecodeError};
use crate::incident::Trigger;

/// One event of a dump.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the total order of the dump, from 1.
    pub order: u64,
    /// Order of the event behind it.
    pub cause: Option<u64>,
    /// When, by the wall clock, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Its sequence number on its CPU and lane, the low 32 bits.
    pub sequence: u32,
    /// What happened.
    pub body: Body,
}

impl Entry {
    /// Tells whether it is the event that fired an incident, whose time is nanoseconds since 1970.
    pub fn is(&self, trigger: &Trigger, trigger_unix_ns: u64) -> bool {
        self.unix_ns == trigger_unix_ns
            && self.body.topic() == trigger.event_type
            // A file has the low 32 bits.
            && u64::from(self.sequence) == trigger.sequence & u64::from(u32::MAX)
    }
}

/// Reads the events of a dump in their order, one chunk at a time.
pub struct Events<'a> {
    messages: Messages<'a>,
    /// What the times of messages were made by.
    clock: Option<ClockPair>,
    joiner: Joiner,
    order: u64,
    unknown: u64,
    /// Bytes of all messages so far.
    bytes: u64,
    failed: bool,
}

impl<'a> Events<'a> {
    pub(super) fn new(messages: Messages<'a>, clock: Option<ClockPair>) -> Self {
        Self {
            messages,
            clock,
            joiner: Joiner::default(),
            order: 0,
            unknown: 0,
            bytes: 0,
            failed: false,
        }
    }

    /// Returns what has been found broken so far; after the last event, everything.
    pub fn damages(&self) -> &Damages {
        self.messages.damages()
    }

    /// Returns how many events were left out because this version does not know their type.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns how many bytes of the file are behind.
    pub fn position(&self) -> u64 {
        self.messages.position()
    }

    /// Returns where the event is that was returned last.
    pub fn place(&self) -> Place {
        self.messages.place()
    }

    /// Returns the bytes of the messages behind the events so far, those left out too.
    pub(super) fn message_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what has been read so far.
    pub(super) fn counts(&self) -> &Counts {
        self.messages.counts()
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some((message, channel)) = self.messages.advance()? else {
                return Ok(None);
            };
            self.order += 1;
            self.bytes += message.data.len() as u64;
            match Body::decode(&channel.topic, message.data) {
                Ok(mut body) => {
                    let boot_ns = self.clock.map(|clock| clock.boot_ns_at(message.log_time));
                    body.complete(boot_ns);
                    return Ok(Some(Entry {
                        order: self.order,
                        cause: self.joiner.take(self.order, message.log_time, &body).cause,
                        unix_ns: message.log_time,
                        sequence: message.sequence,
                        body,
                    }));
                }
                Err(DecodeError::Topic(_)) => self.unknown += 1,
                Err(DecodeError::Message { .. }) => self.messages.broken(Flaw::Message),
            }
        }
    }
}

impl Iterator for Events<'_> {
    /// Only what the file system reports is an error, and the last item; damage is collected.
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.entry();
        self.failed = entry.is_err();
        entry.transpose()
    }
}
