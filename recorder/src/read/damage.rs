//! What is broken in a file, and where.

use std::fmt;

use serde::{Serialize, Serializer};

/// Most places that are listed one by one; more are counted.
pub const PLACES_MAX: usize = 256;

/// One place of a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length in bytes; 0 if something is missing between two bytes.
    pub bytes: u64,
    /// What is wrong there.
    #[serde(rename = "what")]
    pub flaw: Flaw,
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file does not begin, or end, with the bytes that every MCAP file begins and ends with.
    Magic,
    /// The file ends inside a record.
    Cut,
    /// The file ends where another record should be.
    Unfinished,
    /// There is no record here.
    NoRecord,
    /// The fields of a record contradict its length.
    Malformed(&'static str),
    /// A chunk is longer than readers accept.
    TooLong(u64),
    /// The chunks before and this one hold far more than a file of this length can.
    Expansion,
    /// A chunk's compression is none that dumps use.
    Compression,
    /// A chunk does not decompress to what it says.
    Decompression,
    /// The bytes are not those that were written.
    Crc {
        /// What was checked.
        of: &'static str,
        /// CRC-32 that the file states.
        stated: u32,
        /// CRC-32 of the bytes that are there.
        found: u32,
    },
    /// An event is not the message that its topic promises.
    Message,
    /// Fewer events than the summary counts, and nothing else is broken.
    Missing {
        /// How many are not there.
        events: u64,
    },
    /// An event's channel is described nowhere in what is left of the file.
    Channel,
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => out.write_str("not the bytes that a dump begins and ends with"),
            Self::Cut => out.write_str("the file ends inside a record"),
            Self::Unfinished => out.write_str("the file ends before its footer"),
            Self::NoRecord => out.write_str("no record"),
            Self::Malformed(what) => write!(out, "malformed {what}"),
            Self::TooLong(bytes) => write!(out, "chunk of {bytes} bytes, longer than accepted"),
            Self::Expansion => out.write_str("chunk of more than a file of this length can hold"),
            Self::Compression => out.write_str("chunk with an unknown compression"),
            Self::Decompression => out.write_str("chunk that does not decompress"),
            Self::Crc { of, stated, found } => {
                write!(out, "{of} with CRC {found:#010x}, expected {stated:#010x}")
            }
            Self::Message => out.write_str("event that is not of its type"),
            Self::Missing { events } => write!(out, "{events} events of the summary are missing"),
            Self::Channel => out.write_str("event of a type that nothing describes"),
        }
    }
}

impl Serialize for Flaw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            bytes,
            flaw,
        } = self;
        match bytes {
            0 => write!(out, "at byte {offset}: {flaw}"),
            _ => write!(out, "at byte {offset}, {bytes} bytes: {flaw}"),
        }
    }
}

/// Everything that is broken in a file, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damages {
    /// The first places, at most [`PLACES_MAX`]; neighbours with the same flaw are one.
    pub places: Vec<Damage>,
    /// Further places, only counted.
    pub further: u64,
}

impl Damages {
    /// Tells whether nothing is broken.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns how many places are broken.
    pub fn len(&self) -> u64 {
        self.places.len() as u64 + self.further
    }

    /// Adds a place.
    pub fn push(&mut self, damage: Damage) {
        if let Some(last) = self.places.last_mut()
            && last.flaw == damage.flaw
            && last.offset + last.bytes == damage.offset
        {
            last.bytes += damage.bytes;
        } else if self.places.len() < PLACES_MAX {
            self.places.push(damage);
        } else {
            self.further += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_record(offset: u64, bytes: u64) -> Damage {
        Damage {
            offset,
            bytes,
            flaw: Flaw::NoRecord,
        }
    }

    #[test]
    fn neighbours_become_one_place() {
        let mut damages = Damages::default();
        damages.push(no_record(10, 5));
        damages.push(no_record(15, 5));
        damages.push(no_record(30, 1));
        assert_eq!(damages.places, [no_record(10, 10), no_record(30, 1)]);
    }

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut damages = Damages::default();
        for place in 0..1000 {
            damages.push(no_record(place * 10, 1));
        }
        assert_eq!(damages.places.len(), PLACES_MAX);
        assert_eq!(damages.len(), 1000);
    }
}
