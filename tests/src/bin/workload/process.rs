//! Processes that come and go.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::facts;

/// Sleeps until a signal ends it.
pub(crate) fn sleep() {
    facts::print(&json!({}));
    sleep_forever();
}

/// Sleeps.
pub(crate) fn sleep_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Sleeps in `threads` more threads until a signal ends them all.
pub(crate) fn sleep_in_threads(threads: usize) {
    start_sleepers(threads);
    facts::print(&json!({ "threads": threads + 1 }));
    sleep_forever();
}

/// Exits with `code` while `threads` more threads sleep: the kernel has to kill them, but nothing killed the process.
pub(crate) fn exit_in_threads(code: i32, threads: usize) {
    start_sleepers(threads);
    facts::print(&json!({ "exit_code": code }));
    std::process::exit(code);
}

/// Executes this program again, to exit with `code`, from a thread that is not the first.
pub(crate) fn exec_from_thread(code: &str) {
    let own = std::env::current_exe().expect("procfs is mounted");
    let mut again = std::process::Command::new(own);
    again.args(["exit", code]);
    facts::print(&json!({}));
    let thread = std::thread::spawn(move || std::os::unix::process::CommandExt::exec(&mut again));
    let error = thread.join().expect("exec() does not panic");
    panic!("{error}");
}

fn start_sleepers(threads: usize) {
    let ready = Arc::new(Barrier::new(threads + 1));
    for _ in 0..threads {
        let ready = Arc::clone(&ready);
        std::thread::spawn(move || {
            ready.wait();
            sleep_forever();
        });
    }
    ready.wait();
}

/// Sends `signal` to a process.
pub(crate) fn kill(signal: i32, pid: i32) {
    facts::print(&json!({ "signal": signal, "target": pid }));
    // SAFETY: kill() takes any two numbers.
    let done = unsafe { libc::kill(pid, signal) };
    assert_eq!(done, 0, "the target is the test's own");
}

/// Stops a process as supervisors do: asks it to end, waits, and kills it.
pub(crate) fn stop(milliseconds: u64, pid: i32) {
    facts::print(&json!({ "target": pid }));
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        // SAFETY: kill() takes any two numbers.
        let done = unsafe { libc::kill(pid, signal) };
        assert_eq!(done, 0, "the target is the test's own");
        if signal == libc::SIGTERM {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
    }
}

/// Leaves a child behind that has asked to be killed when this process ends.
pub(crate) fn orphan() {
    let own = std::env::current_exe().expect("procfs is mounted");
    let mut sleeper = std::process::Command::new(own);
    sleeper.arg("sleep").stdout(std::process::Stdio::piped());
    let ask = || {
        // SAFETY: the option takes a signal.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut sleeper, ask) };
    #[expect(
        clippy::zombie_processes,
        reason = "this process ends first: that is the point"
    )]
    let mut child = sleeper.spawn().expect("one more process is possible");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)
        .expect("the child says who it is");
    facts::print(&json!({ "child": child.id() }));
}

/// Exits with `code`.
pub(crate) fn exit(code: i32) {
    facts::print(&json!({ "exit_code": code }));
    std::process::exit(code);
}

/// Ends the main thread first; the other one, named "last", ends later with `code`, by ending the whole process or, not
/// `together`, only itself.
pub(crate) fn leader_first(code: i32, together: bool) {
    let leader = std::process::id();
    let (ready, wait) = std::sync::mpsc::channel();
    let last = std::thread::Builder::new().name("last".into());
    let last = last.spawn(move || {
        ready
            .send(())
            .expect("the main thread waits for this before it ends");
        while !is_zombie(leader) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        facts::print(&json!({ "exit_code": code }));
        let call = if together {
            libc::SYS_exit_group
        } else {
            libc::SYS_exit
        };
        // SAFETY: both calls take one number and do not return.
        unsafe { libc::syscall(call, code) };
    });
    drop(last.expect("one more thread is possible"));
    wait.recv()
        .expect("the thread sends before it does anything else");
    // If its threads end one by one, the process's status is that of the last one, before Linux 5.16 that of the leader.
    // SAFETY: the call takes one number and does not return; what the thread uses outlives this stack frame.
    unsafe { libc::syscall(libc::SYS_exit, 9) };
}

fn is_zombie(leader: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{leader}/stat"));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, fields)| fields.trim_start().starts_with('Z'))
    })
}

extern "C" fn end_at_once(_argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the call takes one number and does not return. It leaves the parent's memory alone.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    0
}

/// Starts a child that ends at once, and waits for it: vfork without exec.
pub(crate) fn come_and_go(stack: &mut [u128]) {
    let top = stack.as_mut_ptr_range().end.cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: CLONE_VFORK suspends this thread until the child is gone, so the child has `stack` for itself.
    let child = unsafe { libc::clone(end_at_once, top, flags, std::ptr::null_mut()) };
    assert!(child > 0, "processes are to be had");
    // SAFETY: a null status is allowed; the child is ours and not yet waited for.
    let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert_eq!(waited, child, "the child ended");
}

/// Keeps `count` children that do nothing, until its input ends.
pub(crate) fn crowd(count: usize) {
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        // SAFETY: this process has one thread, and the child only makes system calls.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "processes are to be had");
        if child == 0 {
            // SAFETY: plain calls. It ends with its parent, also if that is killed.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        }
        children.push(child);
    }
    facts::print_line(&json!({ "crowd": count }));
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    for child in children {
        // SAFETY: it is ours and not yet waited for; a null status is allowed.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
}

/// Starts `count` children, one after the other, that end at once.
pub(crate) fn flood(count: usize) {
    facts::print(&json!({ "exits": count }));
    let mut stack = vec![0_u128; 1024];
    let start = Instant::now();
    for _ in 0..count {
        come_and_go(&mut stack);
    }
    facts::print_line(&json!({ "elapsed_ns": start.elapsed().as_nanos() }));
}

/// Starts children that end at once, `rate` a second or as many as can be, for a while.
pub(crate) fn pace(rate: u64, milliseconds: u64) {
    facts::print(&json!({ "rate": rate }));
    let mut stack = vec![0_u128; 1024];
    let start = Instant::now();
    let mut done = 0_u64;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_millis(milliseconds) {
            break;
        }
        if u128::from(done) * 1_000_000_000 < elapsed.as_nanos() * u128::from(rate) {
            come_and_go(&mut stack);
            done += 1;
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    facts::print_line(&json!({ "exits": done, "elapsed_ns": start.elapsed().as_nanos() }));
}

/// Uses the CPU in a second thread for a while, then exits.
pub(crate) fn burn(milliseconds: u64) {
    facts::print(&json!({}));
    let burner = std::thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(milliseconds) {
            std::hint::spin_loop();
        }
    });
    burner.join().expect("spinning does not fail");
}

/// Enters a cgroup and forks there as fast as it can: every child does the same, until the time is over. Each waits for its own.
pub(crate) fn fork_bomb(cgroup: &str, milliseconds: u64) {
    std::fs::write(cgroup, "0").expect("the cgroup is the test's own");
    facts::print(&json!({}));
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < end {
        explode(end);
    }
}

/// Forks some children that do the same, and waits for them.
fn explode(end: Instant) {
    let mut forked = 0;
    for _ in 0..4 {
        // SAFETY: this process has one thread, so its child may do whatever it may.
        match unsafe { libc::fork() } {
            0 => {
                if Instant::now() < end {
                    explode(end);
                }
                // SAFETY: the call takes a number and does not return.
                unsafe { libc::_exit(0) };
            }
            1.. => forked += 1,
            // Not one more is possible.
            _ => {}
        }
    }
    for _ in 0..forked {
        // SAFETY: a null status is allowed.
        unsafe { libc::wait(std::ptr::null_mut()) };
    }
}

/// Executes this program `count` times, one in place of the other; the last one writes to an address that is not mapped.
pub(crate) fn exec_storm(count: u64, address: &str) {
    facts::print(&json!({}));
    exec_again(count, address);
}

/// Goes on with that.
pub(crate) fn exec_again(count: u64, address: &str) {
    let Some(left) = count.checked_sub(1) else {
        crate::fault::write(facts::address(address), crate::fault::MARK);
        return;
    };
    let own = std::env::current_exe().expect("procfs is mounted");
    let mut again = std::process::Command::new(own);
    again.args(["exec-again", &left.to_string(), address]);
    panic!("{}", std::os::unix::process::CommandExt::exec(&mut again));
}
