//! Memory that is set aside for dumps before anything fails.
//!
//! A host that has run out of memory is where a dump is wanted most, and where asking for a page is worst: who asks waits until the
//! kernel has found one, or is what it kills for it. So what leads from a frozen window to a file allocates from memory of its own,
//! which is present and locked from the start: a thread does so while it holds what [`here`] returns. Whoever does not uses the
//! system's allocator; so does a dump that needs more than there is, which is counted.
//!
//! What a dump needs grows with what it has to know by name: who knows how much that is says so with [`want`], and a thread that
//! nobody waits for sees to it with [`grow`], long before there is a dump. It is not given back.
//!
//! Blocks come from a two-level segregated fit, which takes the same short time however full it is, behind a lock.

#![expect(unsafe_code, reason = "allocators are unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rlsf::Tlsf;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mlock, mmap_anonymous, mprotect};
use rustix::param::page_size;
use serde::{Deserialize, Serialize};

/// Classes of sizes: from 32 bytes up, each in 32 steps. With a largest one, what is added would not become one piece with what there is.
type Blocks = Tlsf<'static, u64, u32, 59, 32>;

/// The allocator of the program.
#[derive(Debug)]
pub struct Allocator;

/// What is set aside, and what was taken of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes set aside.
    pub bytes: u64,
    /// Bytes in use now.
    pub used: u64,
    /// Most bytes that were in use.
    pub peak: u64,
    /// Bytes that the system had to give because there was no room here.
    pub beside: u64,
}

/// A thread that holds it allocates from what is set aside.
#[derive(Debug)]
pub struct Here(PhantomData<*const ()>);

struct Reserve {
    blocks: Blocks,
    usage: Usage,
}

static RESERVE: Mutex<Reserve> = Mutex::new(Reserve {
    blocks: Blocks::new(),
    usage: Usage {
        bytes: 0,
        used: 0,
        peak: 0,
        beside: 0,
    },
});

/// Where it is and may grow to: blocks between these addresses are its own. Both are written once, before there is any such block.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are wanted in all.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// By how much it grows at least: as many pages are mapped at once.
const STEP: usize = 256 << 10;

thread_local! {
    /// How many [`Here`] this thread holds.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Sets memory aside, once in the life of the process: `bytes` of it, a multiple of a page, which may [`grow`] to `most`.
///
/// # Errors
///
/// What the kernel reports if there is not so much, or some is set aside already.
pub fn fill(bytes: usize, most: usize) -> io::Result<()> {
    let mut reserve = locked();
    if reserve.usage.bytes > 0 || bytes > most {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: with a null hint and without `FIXED` the kernel picks addresses that nothing uses.
    let start = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            most,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    START.store(start.addr(), Relaxed);
    END.store(start.addr() + most, Relaxed);
    // SAFETY: these are the first of the addresses that were just got.
    let memory = unsafe { provide(start.cast(), bytes) }?;
    // SAFETY: it is writable, nobody else uses it, and it is never given back.
    unsafe { reserve.blocks.insert_free_block_ptr(memory) };
    reserve.usage.bytes = bytes as u64;
    Ok(())
}

/// Says how many bytes a dump may need from now on.
pub fn want(bytes: usize) {
    WANTED.store(bytes, Relaxed);
}

/// Sets more aside if more is wanted, as far as it may grow. Only one thread may do so.
///
/// # Errors
///
/// What the kernel reports if there is not so much.
pub fn grow() -> io::Result<()> {
    let now = locked().usage.bytes as usize;
    let start = START.load(Relaxed);
    let wanted = WANTED.load(Relaxed).next_multiple_of(STEP);
    let wanted = wanted.min(END.load(Relaxed) - start);
    if now == 0 || wanted <= now {
        return Ok(());
    }
    // Whoever allocates meanwhile does not wait for it.
    let behind = ptr::with_exposed_provenance_mut(start + now);
    // SAFETY: these addresses were got at the beginning, lie behind what is in use, and nobody else grows it.
    let more = unsafe { provide(behind, wanted - now) }?;
    let mut reserve = locked();
    // SAFETY: it is writable, nobody else uses it, and it is never given back; it begins where what there was ends.
    unsafe { reserve.blocks.append_free_block_ptr(more) };
    reserve.usage.bytes = wanted as u64;
    Ok(())
}

/// Makes memory of these addresses, present and, where that is allowed, locked. They stay the reserve's own if it fails: to map them once
/// more might leave them to somebody else.
///
/// # Safety
///
/// They are of the mapping of the beginning, and nothing uses what is there.
unsafe fn provide(at: *mut u8, bytes: usize) -> io::Result<NonNull<[u8]>> {
    // SAFETY: the caller's; nobody relies on its not being accessible.
    unsafe { mprotect(at.cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
    // SAFETY: where the pages of the mapping are changes nothing about what they hold. Best effort, as for the ring.
    let _ = unsafe { mlock(at.cast(), bytes) };
    for page in (0..bytes).step_by(page_size()) {
        // SAFETY: it lies in what is writable now. A page is there once it is written.
        unsafe { at.add(page).write_volatile(0) };
    }
    at.expose_provenance();
    let base = NonNull::new(at).ok_or(io::ErrorKind::OutOfMemory)?;
    Ok(NonNull::slice_from_raw_parts(base, bytes))
}

/// Lets this thread allocate from what is set aside, until what is returned is dropped.
pub fn here() -> Here {
    HELD.set(HELD.get() + 1);
    Here(PhantomData)
}

/// Returns what is set aside, and what was taken of it.
pub fn usage() -> Usage {
    locked().usage
}

impl Drop for Here {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

fn locked() -> MutexGuard<'static, Reserve> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_mine(block: *mut u8) -> bool {
    let address = block.addr();
    START.load(Relaxed) <= address && address < END.load(Relaxed)
}

impl Reserve {
    fn allocate(&mut self, layout: Layout) -> *mut u8 {
        match self.blocks.allocate(layout) {
            Some(block) => {
                self.took(layout.size());
                block.as_ptr()
            }
            None => ptr::null_mut(),
        }
    }

    fn took(&mut self, bytes: usize) {
        self.usage.used += bytes as u64;
        self.usage.peak = self.usage.peak.max(self.usage.used);
    }
}

// SAFETY: a block comes from the reserve or from `System`, and goes back to where it came from, as its address tells: `START` and `END`
// are the bounds of memory that `System` never hands out, as it is mapped. Where a block moves it is copied, up to the shorter of both
// sizes. Neither the lock nor the thread's counter allocates, and nothing here panics.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HELD.get() > 0 {
            let mut reserve = locked();
            let block = reserve.allocate(layout);
            if !block.is_null() {
                return block;
            }
            reserve.usage.beside += layout.size() as u64;
        }
        // SAFETY: the caller keeps the promises that `System` asks for: they are this trait's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if HELD.get() == 0 {
            // SAFETY: as in `alloc`. Fresh pages are zero already: the system need not write them.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as for the caller's own call.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it has so many bytes, and nobody else has it yet.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match NonNull::new(block).filter(|_| is_mine(block)) {
            Some(mine) => {
                let mut reserve = locked();
                // SAFETY: it lies in the reserve, so that it came from it, for this layout; the caller uses it no more.
                unsafe { reserve.blocks.deallocate(mine, layout.align()) };
                reserve.usage.used -= layout.size() as u64;
            }
            // SAFETY: it does not lie in the reserve, so that it came from `System`.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(mine) = NonNull::new(block).filter(|_| is_mine(block)) else {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(block, layout, size) };
        };
        // SAFETY: the caller promises that the size is one for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let mut reserve = locked();
        // SAFETY: as in `dealloc`.
        if let Some(moved) = unsafe { reserve.blocks.reallocate(mine, wanted) } {
            reserve.usage.used -= layout.size() as u64;
            reserve.took(size);
            return moved.as_ptr();
        }
        reserve.usage.beside += size as u64;
        drop(reserve);
        // SAFETY: the caller keeps the promises that `System` asks for.
        let moved = unsafe { System.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both have that many bytes, and are not the same memory.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
            // SAFETY: as for the caller's own block, which is used no more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use super::*;

    const BYTES: usize = 1 << 20;
    const MOST: usize = 2 << 20;

    /// The tests of this module share the one reserve there is, and take turns.
    fn filled() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        static FILLED: Once = Once::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        FILLED.call_once(|| fill(BYTES, MOST).expect("there is so much memory"));
        turn
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 16).expect("small")
    }

    fn allocate(bytes: usize) -> *mut u8 {
        // SAFETY: no test asks for nothing.
        let block = unsafe { Allocator.alloc(layout(bytes)) };
        assert!(!block.is_null() && block.addr().is_multiple_of(16));
        block
    }

    fn free(block: *mut u8, bytes: usize) {
        // SAFETY: the tests give back what they got, once.
        unsafe { Allocator.dealloc(block, layout(bytes)) };
    }

    #[test]
    fn only_who_holds_it_takes_from_it() {
        let _turn = filled();
        let outside = allocate(100);
        assert!(!is_mine(outside));
        let before = usage();
        let held = here();
        let inside = allocate(100);
        assert!(is_mine(inside));
        assert_eq!(usage().used, before.used + 100);
        let elsewhere = std::thread::spawn(|| {
            let block = allocate(100);
            assert!(!is_mine(block), "another thread");
            free(block, 100);
        });
        elsewhere.join().expect("it holds nothing");
        drop(held);
        let after = allocate(100);
        assert!(!is_mine(after));
        // Wherever they are given back.
        free(inside, 100);
        free(outside, 100);
        free(after, 100);
        assert_eq!(usage().used, before.used);
        assert!(fill(BYTES, MOST).is_err(), "once");
    }

    #[test]
    fn it_grows_as_far_as_it_may_and_keeps_what_is_in_it() {
        let _turn = filled();
        let _held = here();
        let small = allocate(64);
        // SAFETY: it has so many bytes.
        unsafe { small.write_bytes(7, 64) };
        let before = usage().bytes;
        want(0);
        grow().expect("there is nothing to do");
        assert_eq!(usage().bytes, before);
        want(100 * MOST);
        for _ in 0..2 {
            grow().expect("there is so much memory");
            assert_eq!(usage().bytes, MOST as u64);
        }
        // More than there was at first, and in one piece.
        let large = allocate(BYTES * 3 / 2);
        assert!(is_mine(large));
        // SAFETY: it has so many bytes.
        unsafe { large.write_bytes(9, BYTES * 3 / 2) };
        // SAFETY: it has so many bytes, all written.
        assert!((0..64).all(|at| unsafe { small.add(at).read() } == 7));
        free(large, BYTES * 3 / 2);
        free(small, 64);
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system_and_is_counted() {
        let _turn = filled();
        let before = usage();
        let _held = here();
        let small = allocate(64);
        // SAFETY: it has so many bytes.
        unsafe { small.write_bytes(7, 64) };
        // SAFETY: it came for this layout, and the size is not too large.
        let large = unsafe { Allocator.realloc(small, layout(64), 2 * MOST) };
        assert!(is_mine(small) && !large.is_null() && !is_mine(large));
        // SAFETY: the first bytes were copied.
        assert!((0..64).all(|at| unsafe { large.add(at).read() } == 7));
        assert_eq!(usage().beside, before.beside + 2 * MOST as u64);
        assert_eq!(usage().used, before.used, "the small one went back");
        // SAFETY: it came for this layout.
        let fresh = unsafe { Allocator.alloc_zeroed(layout(4096)) };
        // SAFETY: it has so many bytes, all written.
        assert!((0..4096).all(|at| unsafe { fresh.add(at).read() } == 0));
        free(fresh, 4096);
        free(large, 2 * MOST);
        assert_eq!(usage().used, before.used);
    }

    #[test]
    fn blocks_keep_what_is_in_them_and_all_come_back() {
        let _turn = filled();
        let before = usage();
        let _held = here();
        let mut state = 1_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut blocks: Vec<(usize, usize, u8)> = Vec::with_capacity(256);
        let holds = |&(address, bytes, filled): &(usize, usize, u8)| {
            let block = ptr::with_exposed_provenance::<u8>(address);
            // SAFETY: the block has so many bytes, all written.
            (0..bytes).all(|at| unsafe { block.add(at).read() } == filled)
        };
        let rounds = if cfg!(miri) { 100 } else { 20_000 };
        for round in 0..rounds {
            let bytes = 1 + random(8000) as usize;
            let content = round as u8;
            match random(3) {
                0 if blocks.len() < 256 => {
                    let block = allocate(bytes);
                    // SAFETY: it has so many bytes.
                    unsafe { block.write_bytes(content, bytes) };
                    blocks.push((block.expose_provenance(), bytes, content));
                }
                1 if !blocks.is_empty() => {
                    let one = blocks.swap_remove(random(blocks.len() as u32) as usize);
                    assert!(holds(&one), "{round}");
                    free(ptr::with_exposed_provenance_mut(one.0), one.1);
                }
                2 if !blocks.is_empty() => {
                    let at = random(blocks.len() as u32) as usize;
                    let (address, old, filled) = blocks[at];
                    let block = ptr::with_exposed_provenance_mut(address);
                    // SAFETY: it came for this layout, and the size is not too large.
                    let block = unsafe { Allocator.realloc(block, layout(old), bytes) };
                    assert!(holds(&(block.expose_provenance(), old.min(bytes), filled)));
                    // SAFETY: it has so many bytes.
                    unsafe { block.write_bytes(filled, bytes) };
                    blocks[at] = (block.expose_provenance(), bytes, filled);
                }
                _ => {}
            }
        }
        assert!(blocks.len() > 10, "some are there at the end");
        for one in blocks.drain(..) {
            assert!(holds(&one));
            free(ptr::with_exposed_provenance_mut(one.0), one.1);
        }
        assert_eq!(usage().used, before.used);
        assert!(usage().peak <= MOST as u64);
    }
}
