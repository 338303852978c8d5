//! The collectors that are built in: `recorder evidence collect NAME`.
//!
//! Each reads a few files of the kernel and puts them out as text, one section for each, as `head` does it:
//!
//! ```text
//! ==> /proc/pressure/memory <==
//! some avg10=0.00 avg60=0.00 avg300=0.00 total=0
//! ```
//!
//! They run in processes of their own because any of these reads may hang with the thing that it is about. What matters most
//! comes first, since a collector that hangs keeps what it has put out. Command lines and environments are left out: they hold
//! secrets.

mod cgroup;
mod disks;
mod kernel_log;
mod memory;
mod mounts;
mod network;
mod process;
mod unit_log;

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;

use super::job::ABSENT;
use crate::incident::Subject;

pub use process::start_boot_ns as process_start_boot_ns;

/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A collector that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// The process: status, limits, threads and their kernel stacks, files, sockets, mappings.
    Process,
    /// Its cgroup: memory, CPU, I/O, processes.
    Cgroup,
    /// The host's memory: totals, pressure, slabs, free blocks.
    Memory,
    /// Mounts, and the space on each.
    Mounts,
    /// Block devices and their health.
    Disks,
    /// Sockets and protocols.
    Network,
    /// The last lines that the process's unit logged.
    UnitLog,
    /// The last lines that the kernel logged.
    KernelLog,
}

/// What an incident is about, as far as a collector is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct About {
    /// The process
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// When it started, in nanoseconds since boot: another process of that number is not it
    #[arg(long, value_name = "NS")]
    pub start_boot_ns: Option<u64>,
    /// Its cgroup
    #[arg(long, value_name = "ID")]
    pub cgroup_id: Option<u64>,
    /// The memory cgroup that ran out
    #[arg(long, value_name = "ID")]
    pub memory_cgroup_id: Option<u64>,
}

/// Why a collector put out less than it might.
#[derive(Debug)]
enum Lack {
    /// What it was to look at is not there.
    Absent(String),
    /// Nobody reads the output any more.
    Io(io::Error),
}

impl From<io::Error> for Lack {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Collected = Result<(), Lack>;

impl Builtin {
    /// Every one, in the order in which they start.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::Cgroup,
        Self::Memory,
        Self::KernelLog,
        Self::Disks,
        Self::Network,
        Self::UnitLog,
        Self::Mounts,
    ];

    /// Returns its name: "kernel-log".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::Memory => "memory",
            Self::Mounts => "mounts",
            Self::Disks => "disks",
            Self::Network => "network",
            Self::UnitLog => "unit-log",
            Self::KernelLog => "kernel-log",
        }
    }

    /// Returns the name of its output in a dump.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Process => "process.txt",
            Self::Cgroup => "cgroup.txt",
            Self::Memory => "memory.txt",
            Self::Mounts => "mounts.txt",
            Self::Disks => "disks.txt",
            Self::Network => "network.txt",
            Self::UnitLog => "unit-log.txt",
            Self::KernelLog => "kernel-log.txt",
        }
    }

    /// Returns why there is nothing for it to look at, if that is plain from the incident alone.
    pub(super) fn lacks(self, subject: &Subject) -> Option<&'static str> {
        match self {
            Self::Process | Self::Cgroup | Self::UnitLog if subject.pid.is_none() => {
                Some("the incident is about no process")
            }
            _ => None,
        }
    }

    /// Returns the command that runs it.
    pub(super) fn command(self, subject: &Subject) -> Vec<String> {
        let mut command: Vec<String> = ["/proc/self/exe", "evidence", "collect", self.name()]
            .map(str::to_owned)
            .into();
        let mut flag = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                command.extend([name.to_owned(), value.to_string()]);
            }
        };
        flag("--pid", subject.pid.map(u64::from));
        flag("--start-boot-ns", subject.start_boot_ns);
        flag("--cgroup-id", subject.cgroup_id);
        flag("--memory-cgroup-id", subject.memory_cgroup_id);
        command
    }

    /// Runs it in this process; returns the code to exit with.
    pub fn run(self, about: &About) -> ExitCode {
        let mut out = io::stdout().lock();
        let done = match self {
            Self::Process => process::collect(about, &mut out),
            Self::Cgroup => cgroup::collect(about, &mut out),
            Self::Memory => memory::collect(&mut out),
            Self::Mounts => mounts::collect(&mut out),
            Self::Disks => disks::collect(&mut out),
            Self::Network => network::collect(&mut out),
            Self::UnitLog => unit_log::collect(about, &mut out),
            Self::KernelLog => kernel_log::collect(&mut out),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Lack::Absent(why)) => {
                eprintln!("{why}");
                ExitCode::from(ABSENT)
            }
            Err(Lack::Io(error)) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Puts out a file under its name; that it cannot be read is part of the evidence.
fn section(out: &mut dyn Write, path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    writeln!(out, "==> {} <==", path.display())?;
    match read(path) {
        Ok(content) => write_lines(out, &content)?,
        Err(error) => writeln!(out, "({error})")?,
    }
    writeln!(out)?;
    out.flush()
}

/// Puts out a file if it is there.
fn section_if_there(out: &mut dyn Write, path: impl AsRef<Path>) -> io::Result<()> {
    match path.as_ref().exists() {
        true => section(out, path),
        false => Ok(()),
    }
}

/// Puts out "name: content" for a file of one line, if there is one.
fn value(out: &mut dyn Write, directory: &Path, name: &str) -> io::Result<()> {
    let Ok(content) = read(&directory.join(name)) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&content);
    let text = text.trim();
    match text.is_empty() {
        true => Ok(()),
        false => writeln!(out, "{name}: {text}"),
    }
}

fn write_lines(out: &mut dyn Write, content: &[u8]) -> io::Result<()> {
    out.write_all(content)?;
    match content.last() {
        Some(b'\n') | None => Ok(()),
        Some(_) => writeln!(out),
    }
}

/// Reads the beginning of a file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Reads the beginning of a file as text.
fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    read(path.as_ref()).map(|content| String::from_utf8_lossy(&content).into_owned())
}
