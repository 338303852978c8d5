//! Every living process, from the kernel's task iterator: no `/proc`, two system calls and a copy.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::programs::{Iter, ProgramError, ProgramFd};
use recorder_ebpf::abi::{LiveProcess, decode};

use super::btf::Btf;
use super::probes::reason;
use crate::dump::{Probe, ProbeState};

/// The program, and what it is called among the probes.
const PROGRAM: &str = "live_process";
const EVENT: &str = "process.list";
const HOOK: &str = "iter/task";
/// The function that the kernel has if it has the iterator (5.8).
const TARGET: &str = "bpf_iter__task";

const RECORD_BYTES: usize = size_of::<LiveProcess>();
/// Bytes taken from the kernel at a time. The kernel gathers 32 KiB for a read and leaves what is more for the next.
const BATCH_BYTES: usize = 240 * RECORD_BYTES;

/// Reads every living process as the kernel has it.
#[derive(Debug)]
pub struct TaskIterator {
    link: OwnedFd,
    buffer: Vec<u8>,
    /// Held for a pass: the program adds threads up in one place.
    pass: Arc<Mutex<()>>,
}

impl TaskIterator {
    /// Returns another reader of the same, for another thread.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            pass: Arc::clone(&self.pass),
            ..Self::new(self.link.try_clone()?)
        })
    }

    fn new(link: OwnedFd) -> Self {
        Self {
            link,
            buffer: vec![0; BATCH_BYTES],
            pass: Arc::default(),
        }
    }

    /// Shows every living process to `each`, in the order of their pids, and returns how many there were.
    ///
    /// # Shape
    ///
    /// Not one moment: each process is as it was when its turn came. One that starts or ends meanwhile is shown or is not.
    /// Nothing is allocated.
    ///
    /// # Errors
    ///
    /// What the kernel refused; what came before has been shown.
    pub fn read(&mut self, mut each: impl FnMut(&LiveProcess)) -> io::Result<usize> {
        let _one_at_a_time = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pass = File::from(iterate(self.link.as_fd())?);
        let mut count = 0;
        let mut held = 0;
        loop {
            let taken = match pass.read(&mut self.buffer[held..]) {
                Ok(0) => return Ok(count),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            held += taken;
            let records = self.buffer[..held].chunks_exact(RECORD_BYTES);
            let rest = records.remainder().len();
            for process in records.filter_map(decode::<LiveProcess>) {
                each(&process);
                count += 1;
            }
            // The buffer is a whole number of records, so that there is always room.
            self.buffer.copy_within(held - rest..held, 0);
            held = rest;
        }
    }
}

/// Says how processes would be listed, by the kernel's types alone.
pub(super) fn plan(btf: &Btf<'_>) -> Probe {
    probe(supported(btf).err())
}

/// Loads the iterator. The reason why it cannot be had is in the probe.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf<'_>,
    aya_btf: &aya::Btf,
) -> (Option<TaskIterator>, Probe) {
    match supported(btf).and_then(|()| load(ebpf, aya_btf)) {
        Ok(tasks) => (Some(tasks), probe(None)),
        Err(reason) => (None, probe(Some(reason))),
    }
}

fn supported(btf: &Btf<'_>) -> Result<(), String> {
    match btf.size(TARGET) {
        Some(_) => Ok(()),
        None => Err("this kernel has no task iterator".into()),
    }
}

fn load(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<TaskIterator, String> {
    let program = load_program(ebpf, btf)
        .map_err(|error| reason(&error))?
        .ok_or_else(|| format!("the object has no program {PROGRAM}"))?;
    match link(program.as_fd()) {
        Ok(link) => Ok(TaskIterator::new(link)),
        Err(error) => Err(format!("the kernel refused the iterator: {error}")),
    }
}

fn load_program<'a>(
    ebpf: &'a mut Ebpf,
    btf: &aya::Btf,
) -> Result<Option<&'a ProgramFd>, ProgramError> {
    let Some(program) = ebpf.program_mut(PROGRAM) else {
        return Ok(None);
    };
    let program: &mut Iter = program.try_into()?;
    program.load("task", btf)?;
    program.fd().map(Some)
}

fn probe(lacking: Option<String>) -> Probe {
    Probe {
        event: EVENT.into(),
        hook: if lacking.is_none() { HOOK } else { "" }.into(),
        state: match lacking {
            None => ProbeState::Attached,
            Some(_) => ProbeState::Unavailable,
        },
        detail: lacking,
    }
}

/// `bpf_attr.link_create`, as far as it is used; the kernel takes what is missing for zeros.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    target: RawFd,
    attach_type: u32,
    flags: u32,
}

/// `bpf_attr.iter_create`
#[repr(C)]
struct IterCreate {
    link: RawFd,
    flags: u32,
}

/// Makes the iterator of a loaded program: aya makes one that serves a single pass.
fn link(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_TRACE_ITER: u32 = 28;
    let attributes = LinkCreate {
        program: program.as_raw_fd(),
        target: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// Begins a pass.
fn iterate(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const BPF_ITER_CREATE: libc::c_int = 33;
    let attributes = IterCreate {
        link: link.as_raw_fd(),
        flags: 0,
    };
    bpf(BPF_ITER_CREATE, &attributes)
}

/// Calls `bpf` for a command that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told, which are the attributes', and writes none for these commands.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    match RawFd::try_from(fd) {
        // SAFETY: the command has just made this descriptor for its caller.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
