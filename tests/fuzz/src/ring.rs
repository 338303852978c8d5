//! Arenas that agents left: whatever became of one, its records are found or said to be broken.

use std::fs;
use std::sync::LazyLock;

use recorder::event;
use recorder::ring::{FlightRing, OldArena, RingConfig, SEGMENT_BYTES_MIN};
use recorder_ebpf::abi::{EventKind, Header, Lane};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// An arena with some records in each lane.
static ARENA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = crate::scratch("made");
    let config = RingConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        lane_bytes: [u64::from(SEGMENT_BYTES_MIN); 3],
        ..RingConfig::default()
    };
    let mut ring = FlightRing::create(Some(&path), &config).expect("there is memory");
    for number in 0..24_u64 {
        for lane in Lane::ALL {
            let mut record = vec![0; size_of::<Header>() + 8 * (number as usize % 5)];
            let mut header = Header::new_zeroed();
            header.boot_ns = 1000 + number;
            header.seq = number;
            header.kind = EventKind::ProcessExit as u8;
            header.len = record.len() as u32;
            record[..size_of::<Header>()].copy_from_slice(header.as_bytes());
            ring.push(lane, &record).expect("there is room");
        }
    }
    fs::read(&path).expect("just made")
});

/// The bytes are changes: where, how many bytes, and which; the last one may cut the file.
pub fn run(mut changes: &[u8]) {
    let mut arena = ARENA.clone();
    while let [a, b, c, len, rest @ ..] = changes {
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % arena.len();
        let len = usize::from(*len);
        if len == 255 {
            arena.truncate(at);
            break;
        }
        let len = len.min(rest.len()).min(arena.len() - at);
        arena[at..at + len].copy_from_slice(&rest[..len]);
        changes = &rest[len..];
    }
    let path = crate::scratch("ring");
    fs::write(&path, &arena).expect("there is memory");
    let Ok(Some(old)) = OldArena::open(&path) else {
        return;
    };
    let read = old.read().expect("the file is there");
    let mut bytes = 0;
    for lane in Lane::ALL {
        for record in read.records(lane) {
            bytes += record.len();
            crate::record::check(&event::decode(lane, record).body);
        }
    }
    assert!(bytes <= arena.len(), "no record is made up");
}
