//! Tests of the ring, and what they share.

mod abandoned;
mod allocations;
mod model;
mod threads;
mod twin;
mod unit;

use recorder_ebpf::abi::Header;
use zerocopy::{FromZeros, IntoBytes};

use super::{FlightRing, RingConfig};

pub(crate) use allocations::allocations_of_this_thread;

/// Bytes of records in a segment of the small rings here.
const SEGMENT_CAPACITY: usize = 1024;
/// Segments of each lane of the small rings here.
const SEGMENTS: usize = 8;

/// Returns a ring without a name, small enough to wrap often.
fn small_ring() -> FlightRing {
    small_ring_of_age(None)
}

fn small_ring_of_age(max_age_ns: Option<u64>) -> FlightRing {
    let segment_bytes = SEGMENT_CAPACITY + 64;
    let config = RingConfig {
        lane_bytes: [(segment_bytes * SEGMENTS) as u64; 3],
        segment_bytes: segment_bytes as u32,
        max_age_ns,
        ..RingConfig::default()
    };
    FlightRing::create(None, &config).expect("memory for a small ring")
}

/// Returns a record of `len` bytes, the last of which are `fill`.
fn record(boot_ns: u64, len: usize, fill: u8) -> Vec<u8> {
    let mut header = Header::new_zeroed();
    header.boot_ns = boot_ns;
    header.seq = boot_ns;
    header.kind = 1;
    header.len = len as u32;
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(len, fill);
    bytes
}
