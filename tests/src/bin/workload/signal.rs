//! Deaths by signal, and faults that a handler takes.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{facts, fault};

const PAGE: usize = 4096;

/// Gives `signal` its default action.
pub(crate) fn restore_default(signal: libc::c_int) {
    // SAFETY: SIG_DFL is a valid disposition of every signal that is passed here, and no handler can be running.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Writes to an address, or to a page that is read-only.
pub(crate) fn segv_write(target: &str) {
    let address = target_address(target, "read-only", libc::PROT_READ);
    announce(fault::write as *const () as usize, address);
    fault::write(address, fault::MARK);
}

/// Reads from an address, or from a page that allows nothing.
pub(crate) fn segv_read(target: &str) {
    let address = target_address(target, "no-access", libc::PROT_NONE);
    announce(fault::read as *const () as usize, address);
    fault::read(address, fault::MARK);
}

/// Executes an address, or a page that is not executable.
pub(crate) fn segv_exec(target: &str) {
    let address = target_address(target, "no-exec", libc::PROT_READ);
    let local = 0_u8;
    facts::print(&json!({
        "fault_address": hex(address),
        "ip": hex(address),
        "mark": hex(fault::MARK),
        "stack_near": hex(std::ptr::from_ref(&local) as usize),
    }));
    fault::jump(address, fault::MARK);
}

/// Writes to `address` in a second thread, named "crasher".
pub(crate) fn segv_thread(address: usize) {
    let crasher = std::thread::Builder::new()
        .name("crasher".into())
        .spawn(move || {
            announce(fault::write as *const () as usize, address);
            fault::write(address, fault::MARK);
        });
    crasher
        .expect("one more thread is possible")
        .join()
        .expect("the process dies before its thread ends");
}

/// Writes to `address` two calls deep, in functions that keep frame pointers.
pub(crate) fn segv_deep(address: usize) {
    let addresses = [
        fault::inner as *const () as usize + fault::PROLOGUE_BYTES,
        fault::middle as *const () as usize + fault::RETURN_OFFSET,
        fault::outer as *const () as usize + fault::RETURN_OFFSET,
    ];
    let stack = addresses.map(facts::place);
    facts::print(&json!({ "fault_address": hex(address), "stack": stack }));
    fault::outer(address, fault::MARK);
}

/// Calls itself until the stack is used up.
pub(crate) fn stack_overflow() {
    const STACK_BYTES: u64 = 512 * 1024;
    let limit = libc::rlimit {
        rlim_cur: STACK_BYTES,
        rlim_max: STACK_BYTES,
    };
    // SAFETY: `limit` is a whole rlimit and outlives the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) };
    assert_eq!(done, 0, "lowering a limit is always allowed");
    let local = 0_u8;
    facts::print(&json!({
        "stack_near": hex(std::ptr::from_ref(&local) as usize),
        "stack_bytes": STACK_BYTES,
    }));
    black_box(deeper(0));
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    // The sum after the call keeps it from being a jump.
    if black_box(true) {
        deeper(depth + 1) + frame[7]
    } else {
        0
    }
}

/// Reads from a mapped file behind its end.
pub(crate) fn bus(directory: &str) {
    let path = format!("{directory}/truncated");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .expect("the test gives us a directory");
    file.set_len(2 * PAGE as u64).expect("there is room");
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED, "mapping a file works");
    file.set_len(PAGE as u64).expect("shrinking works");
    let address = start as usize + PAGE + 0x123;
    announce(fault::read as *const () as usize, address);
    fault::read(address, fault::MARK);
}

/// Reads from a page of which the kernel is told that its memory is broken.
pub(crate) fn poisoned_page() {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED, "mapping memory works");
    let address = start as usize;
    fault::write(address, fault::MARK);
    announce(fault::read as *const () as usize, address);
    // SAFETY: the page is ours, and nothing else lies there.
    let told = unsafe { libc::madvise(start, PAGE, libc::MADV_HWPOISON) };
    assert_eq!(told, 0, "{}", std::io::Error::last_os_error());
    fault::read(address, fault::MARK);
}

/// Calls abort().
pub(crate) fn abort() {
    facts::print(&json!({}));
    std::process::abort();
}

/// Fails an assertion of C.
pub(crate) fn failed_assertion() {
    unsafe extern "C" {
        fn __assert_fail(
            assertion: *const libc::c_char,
            file: *const libc::c_char,
            line: libc::c_uint,
            function: *const libc::c_char,
        ) -> !;
    }
    facts::print(&json!({}));
    let (assertion, file) = (c"1 == 2", c"workload.c");
    // SAFETY: all are strings of C that live as long as the program.
    unsafe { __assert_fail(assertion.as_ptr(), file.as_ptr(), 1, file.as_ptr()) };
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

extern "C" fn exit_with(_signal: libc::c_int) {
    let code = CODE.load(Ordering::Relaxed);
    // SAFETY: _exit() may be called from a handler.
    unsafe { libc::_exit(code as libc::c_int) };
}

static CODE: AtomicUsize = AtomicUsize::new(0);

fn on_sigterm(handler: libc::sighandler_t) {
    // SAFETY: the handlers do nothing, or what handlers may do.
    unsafe { libc::signal(libc::SIGTERM, handler) };
}

/// Does not end by SIGTERM.
pub(crate) fn stubborn(how: &str) {
    match how {
        "handle" => on_sigterm(do_nothing as *const () as libc::sighandler_t),
        "ignore" => on_sigterm(libc::SIG_IGN),
        _ => {
            // SAFETY: all zeros is a valid set of signals.
            let mut set = unsafe { std::mem::zeroed() };
            // SAFETY: both calls take a set of our own.
            unsafe {
                libc::sigaddset(&raw mut set, libc::SIGTERM);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            }
        }
    }
    facts::print(&json!({}));
    crate::process::sleep_forever();
}

/// Exits with `code` when it gets SIGTERM.
pub(crate) fn obey(code: usize) {
    CODE.store(code, Ordering::Relaxed);
    on_sigterm(exit_with as *const () as libc::sighandler_t);
    facts::print(&json!({}));
    crate::process::sleep_forever();
}

/// Divides by zero.
pub(crate) fn fpe() {
    let ip = fault::divide as *const () as usize;
    announce(ip, ip);
    fault::divide(0, fault::MARK, 0, 0);
}

/// Executes what is no instruction.
pub(crate) fn ill() {
    let ip = fault::undefined as *const () as usize;
    announce(ip, ip);
    fault::undefined(0, fault::MARK);
}

/// Makes a system call that a filter answers with death.
pub(crate) fn forbidden_system_call() {
    let number = libc::SYS_getppid as u32;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "BPF operations are small numbers"
    )]
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        // The first field of seccomp_data is the number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_KILL_PROCESS,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    facts::print(&json!({ "system_call": number }));
    // SAFETY: the option takes one number and three zeros.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0, "giving up privileges is always allowed");
    // SAFETY: `filter` describes `program`, four statements that both outlive the call.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(done, 0, "the kernel has seccomp filters");
    // SAFETY: the call takes no argument and does not return.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// Page that the handler opens.
static HANDLED_PAGE: AtomicUsize = AtomicUsize::new(0);
/// Faults that the handler took.
static HANDLED_COUNT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn open_page(_signal: libc::c_int) {
    HANDLED_COUNT.fetch_add(1, Ordering::Relaxed);
    let page = HANDLED_PAGE.load(Ordering::Relaxed) as *mut libc::c_void;
    // SAFETY: `handled` mapped this page; nothing else uses it.
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
}

/// Faults `count` times and lives, as virtual machines of languages do.
pub(crate) fn handled(count: usize) {
    let page = map_page(libc::PROT_NONE);
    HANDLED_PAGE.store(page, Ordering::Relaxed);
    set_handler(libc::SIGSEGV, open_page);
    announce(fault::write as *const () as usize, page);
    for _ in 0..count {
        fault::write(page, fault::MARK);
        // SAFETY: the page is our own mapping, and no reference into it exists.
        let done = unsafe { libc::mprotect(page as *mut libc::c_void, PAGE, libc::PROT_NONE) };
        assert_eq!(done, 0, "the page is ours");
    }
    facts::print_line(&json!({ "handled": HANDLED_COUNT.load(Ordering::Relaxed) }));
}

extern "C" fn reset_and_raise(signal: libc::c_int) {
    restore_default(signal);
    // SAFETY: raise() takes any number and is allowed in handlers.
    unsafe { libc::raise(signal) };
}

/// Takes the fault with a handler that then raises the same signal, as crash reporters do.
pub(crate) fn raise_again(address: usize) {
    set_handler(libc::SIGSEGV, reset_and_raise);
    announce(fault::write as *const () as usize, address);
    fault::write(address, fault::MARK);
}

extern "C" fn reset(signal: libc::c_int) {
    restore_default(signal);
}

/// Takes the fault with a handler that lets the instruction fail once more, as the Rust runtime does.
pub(crate) fn execute_again(address: usize) {
    set_handler(libc::SIGSEGV, reset);
    announce(fault::write as *const () as usize, address);
    fault::write(address, fault::MARK);
}

/// Crashes where a core file may be written.
pub(crate) fn with_core(directory: &str) {
    std::env::set_current_dir(directory).expect("the test gives us a directory");
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a whole rlimit and outlives the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
    assert_eq!(done, 0, "root may raise its limits");
    segv_write("0x10");
}

fn set_handler(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: all zeros is a valid sigaction: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // SAFETY: `action` is whole; the handlers here make only calls that are allowed in handlers.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0, "SIGSEGV may be handled");
}

fn map_page(protection: libc::c_int) -> usize {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED, "one page is to be had");
    page as usize
}

/// Returns the address to touch: the one that is given, or one in a fresh page of this protection.
fn target_address(target: &str, mapped: &str, protection: libc::c_int) -> usize {
    if target == mapped {
        map_page(protection) + 0x40
    } else {
        facts::address(target)
    }
}

/// Prints what a fault of the instruction at `ip` on `address` will look like.
fn announce(ip: usize, address: usize) {
    let local = 0_u8;
    let mut known = facts::place(ip);
    let extra = json!({
        "fault_address": hex(address),
        "mark": hex(fault::MARK),
        "code": facts::code(ip),
        "stack_near": hex(std::ptr::from_ref(&local) as usize),
    });
    if let (Value::Object(known), Value::Object(extra)) = (&mut known, extra) {
        known.extend(extra);
    }
    facts::print(&known);
}

fn hex(address: usize) -> String {
    format!("{address:#x}")
}
