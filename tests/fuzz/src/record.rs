//! Records of the wire ABI: every one becomes an event, which is written and read back the same.

use recorder::event::{Body, decode, unknown};
use recorder_ebpf::abi::{Header, Lane};
use zerocopy::IntoBytes as _;

/// The first byte is the kind; the second one says the lane, and whether the header is right.
pub fn run(bytes: &[u8]) {
    let [kind, how, rest @ ..] = bytes else {
        return;
    };
    let lane = Lane::ALL[usize::from(*how) % Lane::ALL.len()];
    let mut record = rest.to_vec();
    if how & 0x80 == 0
        && let Some(header) = record.get_mut(..size_of::<Header>())
    {
        let len = rest.len() as u32;
        let mut right = recorder_ebpf::abi::decode::<Header>(header).expect("it is as long");
        right.kind = *kind;
        right.len = len;
        header.copy_from_slice(right.as_bytes());
    }
    check(&decode(lane, &record).body);
    check(&unknown(lane, &record).body);
}

/// A body is written as a message and read back as what it was.
pub fn check(body: &Body) {
    let mut message = Vec::new();
    body.encode(&mut message);
    let read = Body::decode(body.topic(), &message).expect("what was written can be read");
    let mut again = Vec::new();
    read.encode(&mut again);
    // Not the values themselves: a number may be no number, which is not itself.
    assert_eq!(message, again);
}
