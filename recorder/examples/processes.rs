//! Measures what a look at every process costs: through the task iterator, and by reading `/proc/PID/{stat,statm,io}`.
//!
//! ```text
//! cargo xtask build
//! RECORDER_BPF_OBJECT=$PWD/target/bpf/recorder.bpf.o cargo run --release --example processes -- 1000 20
//! ```
//!
//! Starts as many processes as it is told that do nothing, and takes turns between both ways for as many rounds as it is told.
//! What counts is the CPU time of the thread that looks, system calls included. Needs root. Prints one JSON object.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Child, Command};

use anyhow::{Context as _, Result};
use recorder::kernel::{Kernel, Rates, TaskIterator};
use rustix::time::{ClockId, clock_gettime};

/// Children that end with this program.
struct Idle(Vec<Child>);

impl Idle {
    fn start(count: usize) -> Result<Self> {
        let mut idle = Self(Vec::with_capacity(count));
        for _ in 0..count {
            let child = Command::new("sleep").arg("600").spawn();
            idle.0.push(child.context("cannot start sleep")?);
        }
        Ok(idle)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |word| word.parse());
    let (processes, rounds) = (number(1000)?, number(20)?);
    let kernel = Kernel::load(Rates::ANY)?;
    let mut tasks = kernel.tasks.context("this kernel has no task iterator")?;
    let idle = Idle::start(processes)?;
    let mut by_proc = Proc::new();
    // Once for what only the first time costs.
    let (listed, read) = (by_iterator(&mut tasks)?, by_proc.pass()?);
    let mut spent = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        spent[0].push(timed(|| by_iterator(&mut tasks))?);
        spent[1].push(timed(|| by_proc.pass())?);
    }
    drop(idle);
    let times_cheaper = median(&spent[1]) as f64 / median(&spent[0]).max(1) as f64;
    let result = serde_json::json!({
        "processes_by_iterator": listed,
        "processes_by_proc": read,
        "iterator_ns": spent[0],
        "proc_ns": spent[1],
        "times_cheaper": times_cheaper,
    });
    println!("{result}");
    Ok(())
}

/// Looks at every process through the iterator.
fn by_iterator(tasks: &mut TaskIterator) -> Result<usize> {
    let mut sum = 0_u64;
    let count = tasks.read(|process| {
        sum = sum
            .wrapping_add(process.user_ns)
            .wrapping_add(process.rss_pages)
            .wrapping_add(process.write_bytes);
    })?;
    std::hint::black_box(sum);
    Ok(count)
}

/// Looks at every process in `/proc`, as frugally as it goes: into the same buffer, and no more parsed than three numbers.
struct Proc {
    buffer: [u8; 4096],
}

impl Proc {
    fn new() -> Self {
        Self { buffer: [0; 4096] }
    }

    fn pass(&mut self) -> Result<usize> {
        let mut count = 0;
        let mut sum = 0_u64;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name
                .to_str()
                .filter(|name| name.as_bytes()[0].is_ascii_digit())
            else {
                continue;
            };
            let Some(ticks) = self.number(&format!("/proc/{pid}/stat"), 13) else {
                continue;
            };
            let pages = self.number(&format!("/proc/{pid}/statm"), 1).unwrap_or(0);
            let written = self.number(&format!("/proc/{pid}/io"), 11).unwrap_or(0);
            sum = sum
                .wrapping_add(ticks)
                .wrapping_add(pages)
                .wrapping_add(written);
            count += 1;
        }
        std::hint::black_box(sum);
        Ok(count)
    }

    /// Returns the number at a place in a file; `None` if the process has ended.
    fn number(&mut self, path: &str, place: usize) -> Option<u64> {
        let len = File::open(path).ok()?.read(&mut self.buffer).ok()?;
        let mut words = self.buffer[..len]
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        std::str::from_utf8(words.nth(place)?)
            .ok()?
            .parse()
            .ok()
            .or(Some(0))
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<u64> {
    let start = thread_cpu_ns();
    work()?;
    Ok(thread_cpu_ns() - start)
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn median(all: &[u64]) -> u64 {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}
