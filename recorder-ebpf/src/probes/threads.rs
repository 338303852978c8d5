//! What the threads of a process used that the kernel still lists.
//!
//! The kernel adds up what threads used as they leave; what the others used is found by a walk. It is one function for the
//! verifier, which checks it once, and which is called again for as long as there are more threads.

use crate::globals::{
    Offset, SIGNAL_THREAD_HEAD, TASK_MAJ_FLT, TASK_MIN_FLT, TASK_NIVCSW, TASK_NVCSW,
    TASK_READ_BYTES, TASK_RUNTIME, TASK_STIME, TASK_THREAD_NODE, TASK_UTIME, TASK_WRITE_BYTES,
};
use crate::kernel::{Object, address, has, read};
use crate::maps::{THREADS, Threads};

/// Threads that one call adds.
const THREADS_AT_ONCE: u32 = 32;
/// Most calls for one process.
const CALLS_MAX: u32 = 64;

/// Who walks, each with a place of its own.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Walker {
    /// The end of a process: a probe, which never interrupts itself.
    Exit = 0,
    /// The iterator: the agent sees to it that there is one pass at a time.
    Iterator = 1,
    /// The end of a process whose turn is the second.
    SecondExit = 2,
}

/// Adds up what the listed threads used; whether it is all, there being so many threads, is for [`is_whole`] to say.
#[inline(always)]
pub fn sum(walker: Walker, signal: Object) -> Option<&'static Threads> {
    let threads = THREADS.get_ptr_mut(walker as u32)?;
    let head = address(signal, &SIGNAL_THREAD_HEAD);
    // SAFETY: `threads` is valid while the program runs, and nothing else uses it meanwhile: see `Walker`.
    unsafe {
        threads.write(Threads::default());
        // Written and read again, the address is a number for the verifier, which it lets pass between functions.
        (&raw mut (*threads).head).write_volatile(head);
        let head = (&raw const (*threads).head).read_volatile();
        (&raw mut (*threads).next).write_volatile(read(head));
    }
    for _ in 0..CALLS_MAX {
        let more = match walker {
            Walker::Exit => add_exiting_threads(),
            Walker::Iterator => add_living_threads(),
            Walker::SecondExit => add_exiting_threads_second(),
        };
        if more == 0 {
            break;
        }
    }
    // SAFETY: as above; from here on it is only read.
    Some(unsafe { &*threads })
}

/// Whether a walk has come to its end.
#[inline(always)]
pub fn is_whole(threads: &Threads) -> bool {
    threads.next == threads.head
}

/// Adds some more threads of a process that ends; zero when there are none left.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_exiting_threads() -> u64 {
    add(Walker::Exit, true)
}

/// As [`add_exiting_threads`], for the second turn.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_exiting_threads_second() -> u64 {
    add(Walker::SecondExit, true)
}

/// Adds some more threads of a process that lives; zero when there are none left.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn add_living_threads() -> u64 {
    add(Walker::Iterator, false)
}

#[inline(always)]
fn add(walker: Walker, events: bool) -> u64 {
    let Some(threads) = THREADS.get_ptr_mut(walker as u32) else {
        return 0;
    };
    // SAFETY: as in `sum`; nothing else holds a reference to it.
    let threads = unsafe { &mut *threads };
    let mut node = threads.next;
    for _ in 0..THREADS_AT_ONCE {
        // Zero: it could not be read.
        if node == threads.head || node == 0 {
            break;
        }
        let task = node - u64::from(TASK_THREAD_NODE.load());
        threads.user_ns += word(task, &TASK_UTIME);
        threads.system_ns += word(task, &TASK_STIME);
        threads.runtime_ns += word(task, &TASK_RUNTIME);
        threads.read_bytes += word(task, &TASK_READ_BYTES);
        threads.write_bytes += word(task, &TASK_WRITE_BYTES);
        if events {
            threads.minor_faults += word(task, &TASK_MIN_FLT);
            threads.major_faults += word(task, &TASK_MAJ_FLT);
            threads.voluntary_switches += word(task, &TASK_NVCSW);
            threads.involuntary_switches += word(task, &TASK_NIVCSW);
        }
        node = read(node);
    }
    threads.next = node;
    u64::from(node != threads.head && node != 0)
}

/// Copies a word of a task that the verifier knows nothing about, zero if the kernel has no such field.
#[inline(always)]
fn word<const FIELD: i16>(task: u64, offset: &Offset<FIELD>) -> u64 {
    if has(offset) {
        read(task + u64::from(offset.load()))
    } else {
        0
    }
}
