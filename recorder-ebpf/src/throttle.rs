//! Holds each cgroup to a rate, so that a flood from one cannot blind the recorder for the others.
//!
//! Failures always: they are rare, and each takes long. Processes only while the kernel ring is short of room, so that the
//! common way through the probes is one load longer.

use aya_ebpf::bindings::BPF_NOEXIST;
use recorder_ebpf::abi::{EventKind, KIND_SLOTS, Lane, LaneStats, Throttle, ThrottleKey};
use recorder_ebpf::fields::ABSENT;

use crate::emit::{add_one, available, boot_ns};
use crate::globals::{LIMIT_FAILURES, LIMIT_PROCESSES, MEMORY_HIERARCHY, PLACING_HIERARCHY};
use crate::kernel::Task;
use crate::maps::{LANE_STATS, THROTTLES};

/// The lifecycle ring is no longer short of room with so few bytes in it.
const RELIEVED_BYTES: u64 = 1 << 20;
const SECOND_NS: u64 = 1_000_000_000;
/// What a cgroup may write at once, in time at its rate: of failures, and of processes.
const BURST_FAILURES_NS: u64 = 4 * SECOND_NS;
const BURST_PROCESSES_NS: u64 = 10 * SECOND_NS;
/// Id of the root of the unified hierarchy.
const ROOT_ID: u64 = 1;

/// Whether a record about the process that `leader` leads is one too many for its cgroup. It is counted if so.
#[inline(always)]
pub fn is_throttled(stats: *mut LaneStats, kind: EventKind, leader: Task) -> bool {
    if matches!(kind.lane(), Lane::Lifecycle) {
        // SAFETY: `stats` is this CPU's slot, valid while the program runs.
        if unsafe { (&raw const (*stats).short).read_volatile() } == 0 {
            return false;
        }
        if available() < RELIEVED_BYTES {
            // SAFETY: as above.
            unsafe { (&raw mut (*stats).short).write_volatile(0) };
            return false;
        }
    }
    let place = (kind as u64) << 8 | kind.lane() as u64;
    take_turn(leader.cgroup_id(), leader.memory_cgroup_id(), place) != 0
}

/// Whether the cgroup has to do without a record of this kind and lane; one is counted then.
///
/// A function of its own for the verifier, which checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn take_turn(cgroup_id: u64, memory_cgroup_id: u64, place: u64) -> u64 {
    let lane = (place & 0xff) as u32;
    let (rate, burst_ns) = if lane == Lane::Failure as u32 {
        (LIMIT_FAILURES.load(), BURST_FAILURES_NS)
    } else {
        (LIMIT_PROCESSES.load(), BURST_PROCESSES_NS)
    };
    // No division that could panic: there is nobody to panic to.
    let Some(each_ns) = SECOND_NS.checked_div(u64::from(rate)) else {
        return 0;
    };
    if rate == ABSENT {
        return 0;
    }
    let hierarchy = MEMORY_HIERARCHY.load();
    let key = if cgroup_id > ROOT_ID || hierarchy == ABSENT {
        ThrottleKey {
            cgroup_id,
            hierarchy: PLACING_HIERARCHY.load(),
            lane,
        }
    } else {
        ThrottleKey {
            cgroup_id: memory_cgroup_id,
            hierarchy,
            lane,
        }
    };
    let throttle = match THROTTLES.get_ptr_mut(key) {
        Some(throttle) => throttle,
        None => {
            // Another CPU may be first; both then go on with the same.
            let _ = THROTTLES.insert(key, Throttle::default(), u64::from(BPF_NOEXIST));
            match THROTTLES.get_ptr_mut(key) {
                Some(throttle) => throttle,
                // One cgroup too many.
                None => return 0,
            }
        }
    };
    let now = boot_ns();
    // SAFETY: a value of the map, which stays readable and writable while the program runs. Two CPUs that write the time at
    // once let one record too many through; what is refused is counted in one instruction.
    unsafe {
        let due = (&raw const (*throttle).due_boot_ns).read_volatile();
        let due = if due < now { now } else { due };
        if due - now <= burst_ns {
            (&raw mut (*throttle).due_boot_ns).write_volatile(due + each_ns);
            return 0;
        }
        if (&raw const (*throttle).since_boot_ns).read_volatile() == 0 {
            (&raw mut (*throttle).since_boot_ns).write_volatile(now);
        }
        (&raw mut (*throttle).until_boot_ns).write_volatile(now);
        add_one(&raw mut (*throttle).records);
    }
    let slot = (place >> 8) as usize & (KIND_SLOTS - 1);
    if let Some(stats) = LANE_STATS.get_ptr_mut(lane) {
        // SAFETY: this CPU's slot, valid while the program runs; `slot` is within the array.
        unsafe { add_one((&raw mut (*stats).throttled).cast::<u64>().add(slot)) };
    }
    1
}

const _: () = assert!(
    KIND_SLOTS.is_power_of_two(),
    "a mask bounds it for the verifier"
);
