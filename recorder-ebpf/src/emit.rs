//! The one way from a probe into a kernel ring.
//!
//! Every record is attempted here, numbered here, and counted here if the ring has no room. Nothing bypasses it.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query,
    bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use recorder_ebpf::abi::{EventKind, HEADER_OWN, Header, KIND_SLOTS, Lane, LaneStats, Switch};

use crate::kernel::Task;
use crate::maps::{FAILURE_RING, LANE_STATS, LIFECYCLE_RING, switch};
use crate::throttle::is_throttled;

/// Bytes in the lifecycle ring above which its reader is woken before its next tick.
const LIFECYCLE_WATERMARK: u64 = 1 << 20;
/// Bytes above which each cgroup is held to a rate: three quarters of the ring.
const LIFECYCLE_SHORT: u64 = 3 << 20;
/// One record in this many looks at the ring's fill.
const WATERMARK_INTERVAL: u64 = 64;

/// A record that is attempted: numbered, and due to be submitted or counted as lost.
#[must_use = "what is attempted has to be submitted or counted"]
pub struct Attempt {
    stats: *mut LaneStats,
    seq: u64,
    kind: EventKind,
}

/// Room for one record in a kernel ring.
#[must_use = "the verifier refuses a program that neither submits nor discards"]
pub struct Slot<T> {
    record: *mut T,
    attempt: Attempt,
}

/// Begins a record.
#[inline(always)]
pub fn attempt(kind: EventKind) -> Option<Attempt> {
    Some(begin(LANE_STATS.get_ptr_mut(kind.lane() as u32)?, kind))
}

#[inline(always)]
fn begin(stats: *mut LaneStats, kind: EventKind) -> Attempt {
    // SAFETY: `stats` is this CPU's slot, valid while the program runs. A probe in an interrupt may write it in between:
    // that is why the counters below are added to atomically. Both may then read the same number; the count stays exact.
    let seq = unsafe { (&raw const (*stats).attempted).read_volatile() };
    // SAFETY: as above.
    unsafe { add_one(&raw mut (*stats).attempted) };
    Attempt { stats, seq, kind }
}

/// Begins a record about the process that `leader` leads, unless its cgroup has written too many.
#[inline(always)]
pub fn attempt_for(kind: EventKind, leader: Task) -> Option<Attempt> {
    let stats = LANE_STATS.get_ptr_mut(kind.lane() as u32)?;
    if is_throttled(stats, kind, leader) {
        return None;
    }
    Some(begin(stats, kind))
}

/// Reserves room for a `T`, or counts the record as lost.
#[inline(always)]
pub fn reserve<T>(kind: EventKind) -> Option<Slot<T>> {
    room(attempt(kind)?)
}

/// Reserves room for a `T` about the process that `leader` leads, or counts the record.
#[inline(always)]
pub fn reserve_for<T>(kind: EventKind, leader: Task) -> Option<Slot<T>> {
    room(attempt_for(kind, leader)?)
}

#[inline(always)]
fn room<T>(attempt: Attempt) -> Option<Slot<T>> {
    let kind = attempt.kind;
    // SAFETY: the map is a ring buffer, and the size a constant.
    let record = unsafe { bpf_ringbuf_reserve(ring(kind.lane()), size_of::<T>() as u64, 0) };
    if record.is_null() {
        attempt.lost();
        return None;
    }
    let record = record.cast();
    Some(Slot { record, attempt })
}

impl<T> Slot<T> {
    /// The record, not initialised.
    #[inline(always)]
    pub fn record(&mut self) -> *mut T {
        self.record
    }

    /// A header of `len` bytes about the process that `leader` leads and `task` is a thread of.
    #[inline(always)]
    pub fn header(&self, task: Task, leader: Task, len: u32, flags: u8) -> Header {
        self.attempt.header(task, leader, len, flags)
    }

    /// A header of `len` bytes about no process.
    #[inline(always)]
    pub fn header_without_process(&self, len: u32, flags: u8) -> Header {
        self.attempt.header_without_process(len, flags)
    }

    /// Hands the record, now whole, to the ring.
    #[inline(always)]
    pub fn submit(self) {
        let flags = self.attempt.wake_flags();
        // SAFETY: `record` is what `reserve` returned, and this is its last use.
        unsafe { bpf_ringbuf_submit(self.record.cast::<c_void>(), flags) };
    }
}

impl Attempt {
    /// Copies `len` bytes of a record that was put together elsewhere to the ring, or counts the record as lost.
    ///
    /// # Safety
    ///
    /// `record` is readable for `len` bytes, which the verifier checks, and all of them are written.
    #[inline(always)]
    pub unsafe fn submit<T>(self, record: *mut T, len: u64) {
        let flags = self.wake_flags();
        // SAFETY: the caller's; the map is a ring buffer.
        let refused =
            unsafe { bpf_ringbuf_output(ring(self.kind.lane()), record.cast(), len, flags) != 0 };
        if refused {
            self.lost();
        }
    }

    /// Whether the lifecycle ring fills faster than its reader looks.
    #[inline(always)]
    fn is_filling(&self) -> bool {
        if !self.seq.is_multiple_of(WATERMARK_INTERVAL) {
            return false;
        }
        let bytes = available();
        if bytes > LIFECYCLE_SHORT {
            // SAFETY: as in `begin`.
            unsafe { (&raw mut (*self.stats).short).write_volatile(1) };
        }
        bytes > LIFECYCLE_WATERMARK
    }

    #[inline(always)]
    fn lost(&self) {
        let slot = self.kind as usize;
        if slot < KIND_SLOTS {
            // SAFETY: as in `begin`; `slot` is within the array.
            unsafe { add_one((&raw mut (*self.stats).lost).cast::<u64>().add(slot)) };
        }
    }

    /// A reader is never woken for an ordinary record while it looks by itself soon enough: that costs more than all the rest.
    #[inline(always)]
    fn wake_flags(&self) -> u64 {
        let lane = self.kind.lane();
        let wake =
            lane as u8 == Lane::Failure as u8 || self.is_filling() || switch(Switch::Waking) != 0;
        u64::from(if wake {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        })
    }

    /// A header of `len` bytes about the process that `leader` leads and `task` is a thread of.
    #[inline(always)]
    pub fn header(&self, task: Task, leader: Task, len: u32, flags: u8) -> Header {
        let (uid, gid) = leader.ids();
        let flags = match self.kind {
            EventKind::SignalFatal | EventKind::OomKill | EventKind::TaskHung => {
                flags | own(leader)
            }
            _ => flags,
        };
        Header {
            start_boot_ns: leader.start(),
            cgroup_id: leader.cgroup_id(),
            pid: task.pid(),
            tgid: task.tgid(),
            uid,
            gid,
            // SAFETY: both are 16 bytes without padding.
            comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(task.comm()) },
            ..self.header_without_process(len, flags)
        }
    }

    /// A header of `len` bytes about no process.
    #[inline(always)]
    pub fn header_without_process(&self, len: u32, flags: u8) -> Header {
        Header {
            boot_ns: boot_ns(),
            seq: self.seq,
            start_boot_ns: 0,
            cgroup_id: 0,
            pid: 0,
            tgid: 0,
            uid: 0,
            gid: 0,
            len,
            // SAFETY: the helper takes no argument.
            cpu: unsafe { bpf_get_smp_processor_id() } as u16,
            kind: self.kind as u8,
            flags,
            comm: [0; 16],
        }
    }
}

/// The flag that tells the recorder's own descendants from the host's processes.
#[inline(always)]
pub fn own(task: Task) -> u8 {
    task.is_own() * HEADER_OWN
}

/// Nanoseconds since boot, suspend included.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Bytes in the lifecycle ring.
#[inline(always)]
pub fn available() -> u64 {
    // SAFETY: the map is a ring buffer.
    unsafe { bpf_ringbuf_query(ring(Lane::Lifecycle), u64::from(BPF_RB_AVAIL_DATA)) }
}

#[inline(always)]
fn ring(lane: Lane) -> *mut c_void {
    match lane {
        Lane::Failure => (&raw const FAILURE_RING).cast_mut().cast(),
        // The agent writes the sample lane itself.
        Lane::Lifecycle | Lane::Sample => (&raw const LIFECYCLE_RING).cast_mut().cast(),
    }
}

/// Adds one, in one instruction that no interrupt splits.
///
/// # Safety
///
/// `counter` points at a counter that is only ever changed by this function.
#[inline(always)]
pub unsafe fn add_one(counter: *mut u64) {
    // `fetch_add` does not exist for this target, and a form that returns the old value needs a newer kernel.
    // SAFETY: the caller's; map values are aligned to eight bytes.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
    }
}
