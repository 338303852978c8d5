//! The processes that fail. Each is `recorder selftest fail`, does one thing and ends.
//!
//! What it has to tell is one line on its standard output; that the host does not allow the failure is the exit code
//! [`NOT_ALLOWED`] and a reason on standard error.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::process::ExitCode;

use clap::ValueEnum;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

/// Exit code: the host does not allow this failure.
pub(super) const NOT_ALLOWED: u8 = 77;
/// Where the crash writes to: below what any process may map.
pub(super) const FAULT_ADDRESS: u64 = 0x5e1f;
/// What the process that runs out of memory may have, and takes twice.
pub(super) const MEMORY_BYTES: u64 = 16 << 20;
/// Size of the disk.
const DISK_BYTES: u64 = 1 << 20;
/// What is written to it: a block, aligned as direct writes want it.
const BLOCK_BYTES: usize = 4096;

/// A failure that can be provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Failure {
    /// A write to memory that is not there.
    Crash,
    /// More memory than the cgroup has.
    Memory,
    /// A write that the disk fails.
    Disk,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 3] = [Self::Crash, Self::Memory, Self::Disk];

    /// Returns its name: "crash".
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// Returns the type of the event that it is recorded as.
    pub fn event(self) -> &'static str {
        match self {
            Self::Crash => "signal.fatal",
            Self::Memory => "oom.kill",
            Self::Disk => "io.error",
        }
    }

    /// Fails, under this name.
    ///
    /// # Errors
    ///
    /// If it cannot even try.
    pub fn provoke(self, name: &str) -> io::Result<ExitCode> {
        // Ends with the test.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        let name = std::ffi::CString::from_vec_with_nul(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        rustix::thread::set_name(&name)?;
        match self {
            Self::Crash => crash(),
            Self::Memory => memory(),
            Self::Disk => disk(),
        }
    }
}

fn crash() -> io::Result<ExitCode> {
    // Nobody wants this core: neither as a file nor in the system's collection.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    write_nowhere();
    Ok(ExitCode::FAILURE)
}

fn write_nowhere() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the store is to an address below `vm.mmap_min_addr`, where nothing is: it ends the process and changes nothing.
    unsafe {
        std::arch::asm!("mov byte ptr [{}], 1", in(reg) FAULT_ADDRESS, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("strb wzr, [{}]", in(reg) FAULT_ADDRESS, options(nostack));
    }
}

/// Takes more memory than there is in the cgroup that it is put into while it waits for a line.
fn memory() -> io::Result<ExitCode> {
    io::stdin().read_exact(&mut [0])?;
    // The first to go, whatever protects who started it.
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for _ in 0..(MEMORY_BYTES * 2) >> 20 {
        taken.push(vec![1; 1 << 20]);
    }
    std::hint::black_box(&taken);
    Ok(ExitCode::FAILURE)
}

/// `<linux/loop.h>`: sets up a device in one call.
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
/// `<linux/loop.h>`: returns the number of an unused device.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// `<linux/loop.h>`: the device goes away with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// How often to ask for another device when somebody took the one that was free.
const ATTEMPTS_MAX: usize = 16;

/// `struct loop_config` of `<linux/loop.h>`, with what stays zero as bytes.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_bytes: u32,
    before_flags: [u8; 52],
    flags: u32,
    after_flags: [u8; 176],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 4 + 4 + 232 + 8 * 8);

/// Writes to a disk whose bytes are gone and cannot come back. The disk goes with this process, however that ends.
fn disk() -> io::Result<ExitCode> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(rustix::fs::memfd_create("selftest", flags)?);
    memory.set_len(DISK_BYTES)?;
    let disk = match attach(&memory) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("no loop device: {error}");
            return Ok(ExitCode::from(NOT_ALLOWED));
        }
    };
    memory.set_len(0)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::GROW)?;
    let number = disk.metadata()?.rdev();
    let mut out = io::stdout();
    writeln!(out, "{}:{}", libc::major(number), libc::minor(number))?;
    out.flush()?;
    let room = [0; BLOCK_BYTES * 2];
    let skip = room.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
    let written = disk.write_at(&room[skip..skip + BLOCK_BYTES], DISK_BYTES / 2);
    match written {
        Err(_) => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
    }
}

/// Attaches a file to an unused loop device.
fn attach(backing: &File) -> io::Result<File> {
    const CONTROL: &str = "/dev/loop-control";
    let named =
        |path: &str, error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let control = File::open(CONTROL).map_err(|error| named(CONTROL, error))?;
    let config = LoopConfig {
        descriptor: backing.as_raw_fd().unsigned_abs(),
        block_bytes: 0,
        before_flags: [0; 52],
        flags: LO_FLAGS_AUTOCLEAR,
        after_flags: [0; 176],
        reserved: [0; 8],
    };
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: the request takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let disk = File::options()
            .read(true)
            .write(true)
            // Past the page cache: one write is one request.
            .custom_flags(libc::O_DIRECT)
            .open(&path)
            .map_err(|error| named(&path, error))?;
        // SAFETY: `config` is a whole loop_config that outlives the call, and its descriptor is open.
        if unsafe { libc::ioctl(disk.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            return Ok(disk);
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            return Err(last);
        }
    }
    Err(last)
}
