//! What the agent samples, in the same ring as what the probes saw.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// A message that the agent made itself. No probe writes it; it travels in the sample lane.
///
/// # Shape
///
/// Followed by `message_len` bytes: the Protobuf message of the topic that the kind names, as a dump has it. Then zeros up
/// to a multiple of eight.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sample {
    /// The header; no process, the CPU 0.
    pub header: Header,
    /// Bytes of the message that follows.
    pub message_len: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Sample>() == size_of::<Header>() + 8);
