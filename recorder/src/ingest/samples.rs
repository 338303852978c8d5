//! The way of samples into the sample lane.
//!
//! The thread that samples makes a record and gives it away; the data plane numbers it and puts it into the ring. Neither
//! waits for the other: what finds no room is dropped, counted, and shows as a gap in the numbers of the lane. Buffers go
//! round, so that nothing is allocated once they have grown.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use prost::Message;
use recorder_ebpf::abi::{EventKind, Header, Sample};
use rustix::event::{EventfdFlags, eventfd};
use zerocopy::IntoBytes as _;

/// Most records that wait for the data plane, which is told of them or looks once in a second.
const QUEUE: usize = 256;
/// Of these, how many only samples may take: what can wait elsewhere, does.
const RESERVED: usize = 32;
/// Longest record: a quarter of the smallest segment that is of any use.
pub const SAMPLE_BYTES_MAX: usize = 128 << 10;

/// Most samples asked for that wait to be taken: those of a storm are as good for each other.
const ASKED: usize = 4;

/// A sample that the data plane asks for because of what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it saw.
    pub kind: EventKind,
    /// The memory cgroup that it is about, 0 if there is none.
    pub memory_cgroup_id: u64,
}

/// Where samples go.
#[derive(Debug)]
pub struct Outlet {
    asked: Receiver<Ask>,
    wake: Arc<OwnedFd>,
    arrival: Arc<OwnedFd>,
    full: Sender<Vec<u8>>,
    spent: Receiver<Vec<u8>>,
    /// The record in the making.
    spare: Vec<u8>,
    dropped: Arc<AtomicU64>,
    pause: Arc<Pause>,
}

/// Whether samples are left out to keep to the budget.
#[derive(Debug, Default)]
struct Pause {
    is_on: AtomicBool,
    left_out: AtomicU64,
}

/// Where the data plane takes them.
#[derive(Debug)]
pub struct Inlet {
    ask: Option<Sender<Ask>>,
    wake: Arc<OwnedFd>,
    arrival: Arc<OwnedFd>,
    full: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    dropped_seen: u64,
    pause: Arc<Pause>,
}

/// What became of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It asks for a sample.
    For(Ask),
    /// It asks for nothing.
    Nothing,
    /// It has ended.
    Ended,
}

/// Makes both ends.
///
/// # Errors
///
/// If the system has no descriptor left.
pub fn samples() -> io::Result<(Outlet, Inlet)> {
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
    let (wake, arrival) = (event()?, event()?);
    let (ask, asked) = bounded(ASKED);
    let (full, taken) = bounded(QUEUE);
    let (spent, reusable) = bounded(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let pause = Arc::<Pause>::default();
    let outlet = Outlet {
        asked,
        wake: Arc::clone(&wake),
        arrival: Arc::clone(&arrival),
        full,
        spent: reusable,
        spare: Vec::new(),
        dropped: Arc::clone(&dropped),
        pause: Arc::clone(&pause),
    };
    let inlet = Inlet {
        ask: Some(ask),
        wake,
        arrival,
        full: taken,
        spent,
        dropped,
        dropped_seen: 0,
        pause,
    };
    Ok((outlet, inlet))
}

impl Outlet {
    /// Sends a message as a record of this kind; false if it was dropped.
    pub fn send(&mut self, kind: EventKind, boot_ns: u64, message: &impl Message) -> bool {
        let mut record = std::mem::take(&mut self.spare);
        let sent = write(&mut record, kind, boot_ns, message)
            && match self.full.try_send(record) {
                Ok(()) => true,
                Err(unsent) => {
                    self.spare = unsent.into_inner();
                    false
                }
            };
        if sent {
            self.spare = self.spent.try_recv().unwrap_or_default();
        } else {
            // Relaxed: a number that nothing else depends on.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Wakes the data plane for what was sent.
    pub fn tell(&self) {
        signal(&self.arrival);
    }

    /// Tells whether so much waits that the data plane is to be woken for it.
    pub fn is_filling(&self) -> bool {
        self.full.len() >= QUEUE / 2
    }

    /// Returns what the data plane asks for.
    pub fn asked(&self) -> Asked {
        // Before the look, so that what is asked after it wakes again. Fails only when there were no wake-ups.
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        match self.asked.try_recv() {
            Ok(ask) => Asked::For(ask),
            Err(TryRecvError::Empty) => Asked::Nothing,
            Err(TryRecvError::Disconnected) => Asked::Ended,
        }
    }

    /// The descriptor that is readable when the data plane asks for something, or has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Tells whether the sample that is due is to be left out; it is counted then.
    pub fn is_left_out(&self) -> bool {
        // Relaxed, here and below: nothing else depends on them.
        let is_left_out = self.pause.is_on.load(Ordering::Relaxed);
        if is_left_out {
            self.pause.left_out.fetch_add(1, Ordering::Relaxed);
        }
        is_left_out
    }

    /// Tells whether there is room for what could also wait.
    pub fn has_room(&self) -> bool {
        self.full.len() < QUEUE - RESERVED
    }
}

/// Writes the record; false if the message is too long for one.
fn write(record: &mut Vec<u8>, kind: EventKind, boot_ns: u64, message: &impl Message) -> bool {
    let message_len = message.encoded_len();
    let len = (size_of::<Sample>() + message_len).next_multiple_of(8);
    record.clear();
    if len > SAMPLE_BYTES_MAX {
        return false;
    }
    let sample = Sample {
        header: Header {
            boot_ns,
            // The data plane numbers it.
            seq: 0,
            start_boot_ns: 0,
            cgroup_id: 0,
            pid: 0,
            tgid: 0,
            uid: 0,
            gid: 0,
            // At most SAMPLE_BYTES_MAX, and so is the other.
            len: len as u32,
            cpu: 0,
            kind: kind as u8,
            flags: 0,
            comm: [0; 16],
        },
        message_len: message_len as u32,
        reserved: 0,
    };
    record.reserve(len);
    record.extend_from_slice(sample.as_bytes());
    message.encode_raw(record);
    record.resize(len, 0);
    true
}

fn signal(event: &OwnedFd) {
    // Fails only when its counter is full, which wakes as well.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // First the end, then the word of it.
        self.ask = None;
        self.wake();
    }
}

impl Inlet {
    /// Asks for a sample, as soon as may be. If several are asked for already, these will do.
    pub(super) fn ask(&self, ask: Ask) {
        if let Some(sender) = &self.ask
            && sender.try_send(ask).is_ok()
        {
            self.wake();
        }
    }

    fn wake(&self) {
        signal(&self.wake);
    }

    /// The descriptor that is readable when there is something to take.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.arrival.as_fd()
    }

    /// Forgets wake-ups that were seen.
    pub(super) fn clear(&self) {
        // Fails only when there were none.
        let _ = rustix::io::read(&self.arrival, &mut [0_u8; 8]);
    }

    /// Has samples of the host left out, or no longer; those that are asked for are taken nevertheless.
    pub(super) fn leave_out(&self, is_left_out: bool) {
        self.pause.is_on.store(is_left_out, Ordering::Relaxed);
    }

    /// Returns how many samples were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.pause.left_out.load(Ordering::Relaxed)
    }

    /// Takes the next record; it goes back with [`Inlet::give_back`].
    pub fn next(&self) -> Option<Vec<u8>> {
        self.full.try_recv().ok()
    }

    /// Gives a buffer back to be filled again.
    pub fn give_back(&self, record: Vec<u8>) {
        // With both channels of the same length there is room; without, one buffer is freed.
        let _ = self.spent.try_send(record);
    }

    /// Returns how many records were dropped since this was asked last.
    pub(super) fn dropped(&mut self) -> u64 {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let new = dropped - self.dropped_seen;
        self.dropped_seen = dropped;
        new
    }
}

#[cfg(test)]
mod tests {
    use recorder_ebpf::abi::Lane;

    use super::*;
    use crate::event::{self, Body, proto};
    use crate::ring::allocations_of_this_thread;

    fn line(text: &str) -> proto::KernelLog {
        proto::KernelLog {
            text: Some(text.into()),
            ..proto::KernelLog::default()
        }
    }

    #[test]
    fn a_message_comes_out_as_it_went_in_whatever_its_length() {
        let (mut outlet, inlet) = samples().expect("a descriptor");
        for length in 0..20 {
            let message = line(&"x".repeat(length));
            assert!(outlet.send(EventKind::KernelLog, 7, &message));
            let record = inlet.next().expect("it was sent");
            assert!(record.len().is_multiple_of(8));
            let event = event::decode(Lane::Sample, &record);
            assert_eq!((event.boot_ns, event.lane), (7, Lane::Sample));
            assert_eq!(event.body, Body::KernelLog(message));
            inlet.give_back(record);
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_once() {
        let (mut outlet, mut inlet) = samples().expect("a descriptor");
        let message = line("x");
        for _ in 0..QUEUE {
            assert!(outlet.send(EventKind::KernelLog, 0, &message));
        }
        assert!(!outlet.has_room());
        assert!(!outlet.send(EventKind::KernelLog, 0, &message));
        assert!(!outlet.send(EventKind::KernelLog, 0, &message));
        assert_eq!((inlet.dropped(), inlet.dropped()), (2, 0));
        let huge = line(&"x".repeat(SAMPLE_BYTES_MAX));
        inlet.give_back(inlet.next().expect("they wait"));
        assert!(!outlet.send(EventKind::KernelLog, 0, &huge), "too long");
        assert_eq!(inlet.dropped(), 1);
        assert!(outlet.send(EventKind::KernelLog, 0, &message));
    }

    #[test]
    fn what_is_asked_for_arrives_and_so_does_the_end() {
        let (outlet, inlet) = samples().expect("a descriptor");
        assert_eq!(outlet.asked(), Asked::Nothing);
        let ask = Ask {
            kind: EventKind::OomKill,
            memory_cgroup_id: 7,
        };
        for _ in 0..2 * ASKED {
            inlet.ask(ask);
        }
        for _ in 0..ASKED {
            assert_eq!(outlet.asked(), Asked::For(ask));
        }
        assert_eq!(outlet.asked(), Asked::Nothing);
        drop(inlet);
        assert_eq!(outlet.asked(), Asked::Ended);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let (outlet, inlet) = samples().expect("a descriptor");
        assert!(!outlet.is_left_out());
        inlet.leave_out(true);
        assert!(outlet.is_left_out());
        assert!(outlet.is_left_out());
        inlet.leave_out(false);
        assert!(!outlet.is_left_out());
        assert_eq!(inlet.left_out(), 2);
    }

    #[test]
    fn buffers_go_round() {
        let (mut outlet, inlet) = samples().expect("a descriptor");
        let message = line("some text");
        let mut round = || {
            for _ in 0..3 {
                assert!(outlet.send(EventKind::KernelLog, 0, &message));
            }
            while let Some(record) = inlet.next() {
                inlet.give_back(record);
            }
        };
        round();
        round();
        let before = allocations_of_this_thread();
        for _ in 0..1000 {
            round();
        }
        assert_eq!(allocations_of_this_thread(), before);
    }
}
