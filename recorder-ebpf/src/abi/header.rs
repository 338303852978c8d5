//! What every record begins with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a task's name in the kernel, its NUL included.
pub const COMM_LEN: usize = 16;

/// Flag of [`Header::flags`], whatever the kind: the process is a descendant of the recorder. Set for fatal signals, hung
/// tasks, and exits that are not a success.
pub const HEADER_OWN: u8 = 0x20;

/// The first 72 bytes of every record.
///
/// The process is the event's subject: who died, executed, was killed. Events without one (an I/O error completes in
/// whatever context the interrupt found) leave its fields zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
    /// Number of this record among those attempted on this CPU and lane, from 0. A gap is a loss, in its place.
    pub seq: u64,
    /// When the process (its group leader) started, in nanoseconds since boot. With `tgid` it names a process uniquely.
    pub start_boot_ns: u64,
    /// Id of the process's cgroup in the unified hierarchy; on a host that mounts none, in the memory controller's.
    pub cgroup_id: u64,
    /// The kernel's pid: the thread.
    pub pid: u32,
    /// The kernel's tgid: the process.
    pub tgid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Real group id, in the initial user namespace.
    pub gid: u32,
    /// Length of the whole record in bytes, this header included.
    pub len: u32,
    /// CPU the probe ran on.
    pub cpu: u16,
    /// An [`EventKind`] as number; readers keep and count those they do not know.
    pub kind: u8,
    /// Flags of the kind.
    pub flags: u8,
    /// Name of the thread, NUL padded; any bytes.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<Header>() == 8 * 4 + 4 * 5 + 2 + 1 + 1 + COMM_LEN);

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// A process executed a program: [`Exec`](super::Exec).
    ProcessExec = 1,
    /// A process ended: [`Exit`](super::Exit).
    ProcessExit = 2,
    /// A signal ended a process: [`SignalFatal`](super::SignalFatal).
    SignalFatal = 3,
    /// The kernel killed a process for its memory: [`OomKill`](super::OomKill).
    OomKill = 4,
    /// A block device failed a request: [`IoError`](super::IoError).
    IoError = 5,
    /// Data was lost after its write had succeeded: [`WritebackError`](super::WritebackError).
    WritebackError = 6,
    /// A task did not run for too long: [`TaskHung`](super::TaskHung).
    TaskHung = 7,
    /// The agent's own remark: [`Note`](super::Note).
    Note = 8,
    /// A process was asked to end and may decline: [`SignalSent`](super::SignalSent).
    SignalSent = 9,
    /// A cgroup was made: [`CgroupChange`](super::CgroupChange).
    CgroupMkdir = 10,
    /// A cgroup was removed: [`CgroupChange`](super::CgroupChange).
    CgroupRmdir = 11,
    /// The state of the host: a [`Sample`](super::Sample).
    SampleSystem = 12,
    /// The processes that used most: a [`Sample`](super::Sample).
    SampleProcess = 13,
    /// The memory of cgroups: a [`Sample`](super::Sample).
    SampleCgroup = 14,
    /// A line of the kernel's log: a [`Sample`](super::Sample).
    KernelLog = 15,
    /// A page of memory is broken: [`MemoryFailure`](super::MemoryFailure).
    MemoryFailure = 16,
    /// A processor reported an error of the hardware: [`MachineCheck`](super::MachineCheck).
    MachineCheck = 17,
}

impl EventKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 17] = [
        Self::ProcessExec,
        Self::ProcessExit,
        Self::SignalFatal,
        Self::OomKill,
        Self::IoError,
        Self::WritebackError,
        Self::TaskHung,
        Self::Note,
        Self::SignalSent,
        Self::SampleSystem,
        Self::SampleProcess,
        Self::SampleCgroup,
        Self::KernelLog,
        Self::CgroupMkdir,
        Self::CgroupRmdir,
        Self::MemoryFailure,
        Self::MachineCheck,
    ];

    /// Returns the kind with this number, or `None` for one of a newer probe.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Returns the lane its records travel in.
    pub const fn lane(self) -> Lane {
        match self {
            Self::ProcessExec
            | Self::ProcessExit
            | Self::SignalSent
            | Self::CgroupMkdir
            | Self::CgroupRmdir => Lane::Lifecycle,
            Self::SignalFatal
            | Self::OomKill
            | Self::IoError
            | Self::WritebackError
            | Self::TaskHung
            | Self::MemoryFailure
            | Self::MachineCheck => Lane::Failure,
            Self::Note
            | Self::SampleSystem
            | Self::SampleProcess
            | Self::SampleCgroup
            | Self::KernelLog => Lane::Sample,
        }
    }

    /// Returns its name, which is also its topic in a dump.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessExec => "process.exec",
            Self::ProcessExit => "process.exit",
            Self::SignalFatal => "signal.fatal",
            Self::OomKill => "oom.kill",
            Self::IoError => "io.error",
            Self::WritebackError => "fs.writeback_error",
            Self::TaskHung => "task.hung",
            Self::Note => "recorder.note",
            Self::SignalSent => "signal.sent",
            Self::SampleSystem => "sample.system",
            Self::SampleProcess => "sample.process",
            Self::SampleCgroup => "sample.cgroup",
            Self::KernelLog => "kernel.log",
            Self::CgroupMkdir => "cgroup.mkdir",
            Self::CgroupRmdir => "cgroup.rmdir",
            Self::MemoryFailure => "hw.memory_failure",
            Self::MachineCheck => "hw.machine_check",
        }
    }
}

/// A class of events with a kernel ring, a share of the flight ring and a loss ledger of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// What failed: rare, never crowded out.
    Failure = 0,
    /// Processes that come and go.
    Lifecycle = 1,
    /// Samples of the host, written by the agent; no kernel ring.
    Sample = 2,
}

impl Lane {
    /// Every lane, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Failure, Self::Lifecycle, Self::Sample];

    /// Returns its name as people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Lifecycle => "lifecycle",
            Self::Sample => "sample",
        }
    }
}

/// Copies a `T` off the front of `bytes`; `None` if they are too few.
///
/// A copy, never a reference: ring memory is shared with the kernel.
pub fn decode<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(record, _)| record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips_through_its_number() {
        for number in 0..=u8::MAX {
            match EventKind::from_number(number) {
                Some(kind) => assert_eq!(kind as u8, number),
                None => assert!(EventKind::ALL.iter().all(|kind| *kind as u8 != number)),
            }
        }
    }

    #[test]
    fn kinds_fit_the_counters() {
        for kind in EventKind::ALL {
            assert!((kind as usize) < crate::abi::KIND_SLOTS);
        }
    }

    #[test]
    fn decode_refuses_every_short_prefix() {
        let bytes = [7u8; size_of::<Header>()];
        for len in 0..bytes.len() {
            assert!(decode::<Header>(&bytes[..len]).is_none(), "{len} bytes");
        }
        assert_eq!(
            decode::<Header>(&bytes).expect("all bytes are there").cpu,
            0x0707
        );
    }
}
