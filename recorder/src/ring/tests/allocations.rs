//! Recording allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use recorder_ebpf::abi::Lane;

use super::{record, small_ring_of_age};

/// The system's allocator, which counts for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` as it came. The counter is a plain cell without a destructor, so that touching it neither
// allocates nor fails while a thread ends.
#[expect(unsafe_code, reason = "the trait is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises that `System` asks for: they are this trait's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, and `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Returns how often this thread has allocated; a reallocation is an allocation.
pub(crate) fn allocations_of_this_thread() -> u64 {
    ALLOCATIONS.get()
}

/// Returns the page faults of this thread that needed no I/O.
fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let minflt = fields.split(' ').nth(7).expect("ten fields and more");
    minflt.parse().expect("a number")
}

#[test]
fn recording_allocates_nothing_and_faults_no_page() {
    let mut ring = small_ring_of_age(Some(100));
    let record = record(1, 128, 0);
    let faults = minor_faults();
    let allocations = allocations_of_this_thread();
    for now in 0..10_000 {
        ring.push(Lane::Lifecycle, &record).expect("room");
        if now % 1000 == 0 {
            ring.expire(now);
        }
    }
    assert_eq!(allocations_of_this_thread(), allocations);
    assert!(ring.stats().lane(Lane::Lifecycle).evicted > 9_000);
    let ring_pages = 10;
    assert!(minor_faults() - faults < ring_pages, "the arena is present");
}

#[test]
fn the_counter_counts() {
    let before = allocations_of_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations_of_this_thread(), before + 1);
}
