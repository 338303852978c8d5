//! Ordinary work, many times over, and how long it took: what a recorder may slow down.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::facts;

const PAGE: usize = 4096;
/// Pages mapped at a time; far below what would cause reclaim.
const PAGES: usize = 4096;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

/// Does `what` as often as asked for and says how long that took.
pub(crate) fn run(what: &str, count: usize) {
    facts::print(&json!({ "count": count }));
    let start = Instant::now();
    match what {
        "exec" => execute(count),
        "fork" => fork(count),
        "thread" => thread(count),
        "fault" => fault(count),
        "signal" => signal(count),
        "read" => read(count),
        _ => panic!("there is no micro {what}"),
    }
    facts::print_line(&json!({ "elapsed_ns": start.elapsed().as_nanos() }));
}

/// Starts a program that ends at once: fork, exec and exit.
fn execute(count: usize) {
    for _ in 0..count {
        let mut program = Command::new("/bin/true");
        let ended = program.stdin(Stdio::null()).stdout(Stdio::null()).status();
        assert!(ended.expect("/bin/true is there").success());
    }
}

/// Starts a copy of this process that ends at once.
fn fork(count: usize) {
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child makes one system call that does not return.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            child
        };
        assert!(child > 0, "processes are to be had");
        // SAFETY: a null status is allowed; the child is ours and not yet waited for.
        let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(waited, child, "the child ended");
    }
}

fn thread(count: usize) {
    for _ in 0..count {
        let thread = std::thread::spawn(|| ());
        thread.join().expect("it does nothing");
    }
}

/// Touches fresh pages of memory, one after the other.
fn fault(count: usize) {
    let mut left = count;
    while left > 0 {
        let pages = left.min(PAGES);
        // SAFETY: new anonymous memory where the kernel likes it.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "memory is to be had");
        // SAFETY: the memory is ours. Huge pages would make one fault of many.
        unsafe { libc::madvise(memory, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        for page in 0..pages {
            // SAFETY: the page is within the memory mapped above.
            unsafe { memory.cast::<u8>().add(page * PAGE).write_volatile(1) };
        }
        // SAFETY: the memory is ours, and nothing points into it any more.
        unsafe { libc::munmap(memory, pages * PAGE) };
        left -= pages;
    }
}

extern "C" fn count_it(_signal: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Sends itself a signal that it handles.
fn signal(count: usize) {
    let handler: extern "C" fn(libc::c_int) = count_it;
    // SAFETY: the handler does nothing but add to an atomic number.
    let before = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR, "the signal may be handled");
    let own = std::process::id().cast_signed();
    for _ in 0..count {
        // SAFETY: kill() takes any two numbers; the signal is handled.
        let done = unsafe { libc::kill(own, libc::SIGUSR1) };
        assert_eq!(done, 0, "a process may signal itself");
    }
    assert_eq!(HANDLED.load(Ordering::Relaxed), count, "all were handled");
}

/// Reads a page of a file that is in memory.
fn read(count: usize) {
    let own = std::env::current_exe().expect("procfs is mounted");
    let file = File::open(own).expect("this program can be read");
    let mut page = [0; PAGE];
    for _ in 0..count {
        file.read_exact_at(&mut page, 0)
            .expect("this program has a page");
    }
}
