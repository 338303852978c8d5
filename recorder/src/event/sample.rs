//! What the agent samples: its records carry the message as it is.

use recorder_ebpf::abi::{self, Sample};

pub(super) fn message<M: prost::Message + Default>(record: &[u8]) -> Option<M> {
    let sample = abi::decode::<Sample>(record)?;
    let message = record
        .get(size_of::<Sample>()..)?
        .get(..sample.message_len as usize)?;
    M::decode(message).ok()
}
