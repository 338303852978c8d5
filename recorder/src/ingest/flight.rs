//! The flight ring, and the tap on what enters it.

use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

use recorder_ebpf::abi::{Header, Lane};

use super::tap::Tap;
use crate::ring::FlightRing;

/// Room for every number of an [`EventKind`](recorder_ebpf::abi::EventKind).
pub(super) const KINDS: usize = 64;

/// A flight ring of which every record goes to the tap as well.
#[derive(Debug)]
pub(super) struct Flight {
    ring: FlightRing,
    pub(super) tap: Tap,
    /// Records taken, by the number of their kind.
    pub(super) events: [u64; KINDS],
}

impl Flight {
    pub(super) fn new(ring: FlightRing, tap: Tap) -> Self {
        Self {
            ring,
            tap,
            events: [0; KINDS],
        }
    }

    /// Appends a record to a lane; a refusal is counted by the ring.
    pub(super) fn record(&mut self, lane: Lane, record: &[u8]) {
        if self.ring.push(lane, record).is_ok() {
            let kind = record.get(offset_of!(Header, kind)).copied();
            if let Some(count) = kind.and_then(|kind| self.events.get_mut(usize::from(kind))) {
                *count += 1;
            }
            self.tap.take(lane, record);
        }
    }
}

impl Deref for Flight {
    type Target = FlightRing;

    fn deref(&self) -> &FlightRing {
        &self.ring
    }
}

impl DerefMut for Flight {
    fn deref_mut(&mut self) -> &mut FlightRing {
        &mut self.ring
    }
}
