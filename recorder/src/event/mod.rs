//! Events: what a record of the probes means, as the messages that dumps and exports carry.
//!
//! [`decode`] turns a record of the wire ABI into an [`Event`], once, when a dump is written: numbers get their names, pages
//! become bytes, the kernel's pid and tgid become tid and pid. From then on a dump explains itself: nothing about the host
//! that recorded it is needed to read it.

mod block;
mod body;
mod brief;
mod cgroup;
mod clock;
mod filesystem;
mod hardware;
pub mod json;
pub mod names;
mod note;
mod oom;
mod process;
pub mod reflect;
mod sample;
mod select;
mod signal;
mod text;

use recorder_ebpf::abi::{self, EventKind, Header, Lane};

pub use body::{Body, DecodeError, TOPICS, Topic};
pub use clock::ClockPair;
pub(crate) use process::{path_of_names, push_path_of_names, unless_unset};
pub use select::Selection;
pub(crate) use text::{hex, name as name_of_bytes};

/// The messages of the schema `recorder.v1`, generated from `proto/recorder/v1/events.proto`.
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/recorder.v1.rs"));
}

/// Something that happened, and which record says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in nanoseconds since boot, suspend included.
    pub boot_ns: u64,
    /// Number of the record among those of its lane and CPU.
    pub sequence: u64,
    /// Lane it was recorded in.
    pub lane: Lane,
    /// CPU it was recorded on.
    pub cpu: u16,
    /// What happened.
    pub body: Body,
}

/// Returns the event of a record of the wire ABI.
///
/// Any bytes decode: a record of an unknown kind, or shorter than its kind, becomes [`Body::Unknown`] with all its bytes.
/// `lane` is where the record was found; only an unknown kind needs it.
pub fn decode(lane: Lane, record: &[u8]) -> Event {
    let header = abi::decode::<Header>(record);
    match header.and_then(|header| body(&header, record)) {
        Some(body) => event(lane, header.as_ref(), body),
        None => unknown(lane, record),
    }
}

/// Returns the event of a record whose fields nobody knows: all its bytes, and what its header says.
pub fn unknown(lane: Lane, record: &[u8]) -> Event {
    let header = abi::decode::<Header>(record);
    let body = Body::Unknown(proto::Unknown {
        kind: header.map(|header| header.kind.into()),
        record: Some(record.to_vec()),
    });
    event(lane, header.as_ref(), body)
}

fn event(lane: Lane, header: Option<&Header>, body: Body) -> Event {
    Event {
        boot_ns: header.map_or(0, |header| header.boot_ns),
        sequence: header.map_or(0, |header| header.seq),
        lane,
        cpu: header.map_or(0, |header| header.cpu),
        body,
    }
}

fn body(header: &Header, record: &[u8]) -> Option<Body> {
    Some(match EventKind::from_number(header.kind)? {
        EventKind::ProcessExec => Body::ProcessExec(process::exec(record)?),
        EventKind::ProcessExit => Body::ProcessExit(process::exit(record)?),
        EventKind::SignalFatal => Body::SignalFatal(signal::fatal(record)?),
        EventKind::OomKill => Body::OomKill(oom::kill(record)?),
        EventKind::IoError => Body::IoError(block::io_error(record)?),
        EventKind::WritebackError => Body::WritebackError(filesystem::writeback_error(record)?),
        EventKind::TaskHung => Body::TaskHung(process::hung(record)?),
        EventKind::MemoryFailure => Body::MemoryFailure(hardware::memory_failure(record)?),
        EventKind::MachineCheck => Body::MachineCheck(hardware::machine_check(record)?),
        EventKind::SignalSent => Body::SignalSent(signal::sent(record)?),
        EventKind::CgroupMkdir => Body::CgroupMkdir(cgroup::change(record)?),
        EventKind::CgroupRmdir => Body::CgroupRmdir(cgroup::change(record)?),
        EventKind::Note => Body::Note(note::note(record)?),
        EventKind::SampleSystem => Body::SampleSystem(sample::message(record)?),
        EventKind::SampleProcess => Body::SampleProcess(sample::message(record)?),
        EventKind::SampleCgroup => Body::SampleCgroup(sample::message(record)?),
        EventKind::KernelLog => Body::KernelLog(sample::message(record)?),
    })
}

/// Returns `number` unless it is the zero that stands for "not known".
fn known<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

#[cfg(test)]
mod tests;
