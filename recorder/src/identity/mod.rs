//! Who a process was, when it is long gone.
//!
//! ```text
//!  at start: task iterator, /proc/PID/exe, one walk of the cgroups ─┐          every few seconds, beside the data plane:
//!  records: exec, exit, fatal signals, OOM kills, cgroups ──────────┤        ┌─ the iterator, for what forked and executed nothing
//!                                                                   ▼        ▼
//!                                          [Identities], on the data plane: bounded tables
//!                                                                   │ pages of copies, by command
//!                                                                   ▼
//!                            [Directory], in the writer of dumps ─► [Naming]: fills the events of a window
//! ```
//!
//! A field is right or absent. What makes one wrong is guarded against by times: an identity counts for an event only if it
//! was learned of before it; a child that executed nothing runs its parent's program only if the parent has executed
//! nothing since, and only if the parent is the one that forked it. Hosts fork a lot: there is no probe on that path. A
//! child is met when it executes, fails or ends, and the records of these carry its parent; one that lives on is met by
//! the iterator.
//!
//! # Bounds
//!
//! | kept | most |
//! |---|---|
//! | living processes | [`LIVE_MAX`]; the longest known goes first |
//! | dead processes | [`DEAD_MAX`]; the first to have died goes first. One that executed inside the window is named by its own record |
//! | programs: paths of executables, with their build IDs | 8,192, each once |
//! | cgroups, and removed ones | [`CGROUPS_MAX`], [`CGROUPS_REMOVED_MAX`] |

mod builds;
mod directory;
mod look;
mod placement;
mod program;
mod table;
mod users;

use std::sync::Arc;

use crossbeam_channel::Sender;
use recorder_ebpf::abi::{
    self, CGROUP_PATH_BYTES_MAX, COMM_LEN, CgroupChange, EventKind, Exec, Exit, Header, Lineage,
    OomKill, PROCESS_ADOPTED, PROCESS_FORKED, SignalFatal,
};

pub use builds::Builds;
pub use directory::{Directory, Learnt, Naming};
pub use look::{Look, look_at_host};
pub use placement::Placement;
pub use program::{FileId, Program};

use crate::event::push_path_of_names;
use builds::Ask;
use program::Programs;
use table::Table;

/// Most living processes that are known.
pub const LIVE_MAX: u32 = 1 << 17;
/// Most dead processes that are remembered.
pub const DEAD_MAX: u32 = 1 << 14;
/// Most cgroups that are known.
pub const CGROUPS_MAX: u32 = 1 << 14;
/// Most removed cgroups that are remembered.
pub const CGROUPS_REMOVED_MAX: u32 = 1 << 12;
/// Entries looked at for one page.
const PAGE: usize = 1024;

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// When it started, in nanoseconds since boot. With `pid` it names a process uniquely.
    pub start_boot_ns: u64,
    /// When it last executed a program, as far as was seen; 0 if it was not.
    pub exec_boot_ns: u64,
    /// When it ended; 0 if it has not, as far as was seen.
    pub exit_boot_ns: u64,
    /// What it runs.
    pub exe: Option<Arc<Program>>,
    /// The process.
    pub pid: u32,
    /// Where it belongs, as it was last seen.
    pub lineage: Lineage,
    /// Name of a thread of it.
    pub comm: [u8; COMM_LEN],
}

/// A cgroup: the number of its hierarchy, and its id there.
pub type CgroupKey = (u32, u64);

/// The tables of the data plane.
#[derive(Debug)]
pub struct Identities {
    processes: Table<u32, Process>,
    cgroups: Table<CgroupKey, Arc<str>>,
    programs: Programs,
    /// Who reads the build IDs of programs, if anyone does.
    builds: Option<Sender<Ask>>,
    /// Where paths are put together.
    path: String,
}

/// Where to go on reading the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    in_cgroups: bool,
    slot: usize,
}

/// A part of the tables, copied.
#[derive(Debug, Default)]
pub struct Page {
    /// Processes.
    pub processes: Vec<Process>,
    /// How many of them there are on all pages.
    pub processes_in_all: usize,
    /// Paths of cgroups.
    pub cgroups: Vec<(CgroupKey, Arc<str>)>,
    /// Programs, all on the last page.
    pub programs: Vec<Arc<Program>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            processes: Table::new(LIVE_MAX, DEAD_MAX),
            cgroups: Table::new(CGROUPS_MAX, CGROUPS_REMOVED_MAX),
            programs: Programs::default(),
            builds: None,
            path: String::new(),
        }
    }
}

impl Identities {
    /// Lets the build IDs of programs be read, by whoever runs what is returned.
    pub fn read_builds(&mut self) -> Builds {
        let (asks, builds) = builds::channel();
        self.builds = Some(asks);
        builds
    }

    /// Takes in what a record says of a process or a cgroup.
    pub fn on_record(&mut self, header: &Header, record: &[u8]) {
        match EventKind::from_number(header.kind) {
            Some(EventKind::ProcessExec) => self.on_exec(header, record),
            Some(EventKind::ProcessExit) => self.on_exit(header, record),
            Some(EventKind::SignalFatal) => {
                if let Some(fatal) = abi::decode::<SignalFatal>(record) {
                    self.meet(header, fatal.lineage);
                }
            }
            Some(EventKind::OomKill) => {
                if let Some(kill) = abi::decode::<OomKill>(record) {
                    self.meet(header, kill.lineage);
                }
            }
            Some(EventKind::CgroupMkdir) => {
                if let Some((key, path)) = changed_cgroup(record) {
                    self.learn_cgroup(key, &String::from_utf8_lossy(path));
                }
            }
            Some(EventKind::CgroupRmdir) => {
                if let Some((key, path)) = changed_cgroup(record) {
                    if self.cgroups.get(&key).is_none() {
                        self.learn_cgroup(key, &String::from_utf8_lossy(path));
                    }
                    self.cgroups.kill(&key);
                }
            }
            Some(
                EventKind::IoError
                | EventKind::WritebackError
                | EventKind::TaskHung
                | EventKind::MemoryFailure
                | EventKind::MachineCheck
                | EventKind::SignalSent
                | EventKind::Note
                | EventKind::SampleSystem
                | EventKind::SampleProcess
                | EventKind::SampleCgroup
                | EventKind::KernelLog,
            )
            | None => {}
        }
    }

    fn on_exec(&mut self, header: &Header, record: &[u8]) {
        let Some((exec, names)) = exec_and_exe(record) else {
            return;
        };
        self.path.clear();
        push_path_of_names(&mut self.path, names);
        let mut process = Process {
            exec_boot_ns: header.boot_ns,
            ..met(header, exec.lineage)
        };
        if !self.path.is_empty() {
            process.exe = self.programs.keep(&self.path, FileId::of_exec(&exec));
            self.seek_build(&process);
        }
        match self.current(header) {
            Some(known) => *known = process,
            None => self.processes.insert(header.tgid, process),
        }
    }

    fn on_exit(&mut self, header: &Header, record: &[u8]) {
        let Some(exit) = abi::decode::<Exit>(record) else {
            return;
        };
        if self.current(header).is_none() && header.flags & PROCESS_FORKED != 0 {
            let lineage = Lineage {
                parent_tgid: exit.parent_tgid,
                ns_tgid: 0,
                session: exit.session,
                login_uid: u32::MAX,
            };
            self.meet(header, lineage);
        }
        if let Some(known) = self.current(header) {
            known.exit_boot_ns = header.boot_ns;
            self.processes.kill(&header.tgid);
        }
    }

    /// Takes in a process that no exec has shown: one that was forked, or whose exec was not recorded.
    fn meet(&mut self, header: &Header, lineage: Lineage) {
        if self.current(header).is_some() {
            return;
        }
        let mut process = met(header, lineage);
        if header.flags & (PROCESS_FORKED | PROCESS_ADOPTED) == PROCESS_FORKED {
            let parent = self.processes.get(&lineage.parent_tgid);
            process.exe = parent
                .and_then(|parent| parent.exe_at_fork(header.start_boot_ns))
                .cloned();
        }
        self.processes.insert(header.tgid, process);
    }

    /// Asks for the build ID of what a process runs, unless it is known or somebody has been asked.
    fn seek_build(&self, process: &Process) {
        if let (Some(builds), Some(program)) = (&self.builds, &process.exe)
            && program.seek()
        {
            let ask = Ask {
                program: Arc::clone(program),
                pid: process.pid,
                start_boot_ns: process.start_boot_ns,
                parent: process.lineage.parent_tgid,
            };
            if builds.try_send(ask).is_err() {
                program.was_sought(false);
            }
        }
    }

    /// Returns what is known of the very process that a header names.
    fn current(&mut self, header: &Header) -> Option<&mut Process> {
        let known = self.processes.get_mut(&header.tgid)?;
        (known.start_boot_ns == header.start_boot_ns).then_some(known)
    }

    /// Takes in a process that somebody looked at.
    ///
    /// What its records have said or will say goes before.
    pub fn learn_process(&mut self, mut process: Process) {
        if let Some(exe) = process.exe.take() {
            process.exe = self.programs.keep(exe.path(), exe.file());
            self.seek_build(&process);
        }
        match self.processes.get_mut(&process.pid) {
            Some(known) if known.start_boot_ns == process.start_boot_ns => {
                if known.exec_boot_ns == 0 && known.exe.is_none() {
                    known.exe = process.exe;
                }
            }
            Some(known) if known.start_boot_ns > process.start_boot_ns => {}
            Some(_) | None => self.processes.insert(process.pid, process),
        }
    }

    /// Takes in the path of a cgroup.
    pub fn learn_cgroup(&mut self, key: CgroupKey, path: &str) {
        match self.cgroups.get_mut(&key) {
            Some(known) if **known == *path => {}
            Some(known) => *known = path.into(),
            None => self.cgroups.insert(key, path.into()),
        }
    }

    /// Returns the path of a cgroup, if it is known.
    pub fn cgroup(&self, key: CgroupKey) -> Option<&str> {
        self.cgroups.get(&key).map(|path| &**path)
    }

    /// Copies a part of the tables.
    pub fn page(&self, cursor: Cursor) -> Page {
        let (live, dead) = self.processes.len();
        let mut page = Page {
            processes_in_all: live as usize + dead as usize,
            ..Page::default()
        };
        if cursor.in_cgroups {
            let next = self.cgroups.page(cursor.slot, PAGE, |key, path| {
                page.cgroups.push((*key, Arc::clone(path)));
            });
            page.next = next.map(|slot| Cursor { slot, ..cursor });
            if page.next.is_none() {
                page.programs.extend(self.programs.all().cloned());
            }
        } else {
            page.processes.reserve_exact(PAGE);
            let next = self.processes.page(cursor.slot, PAGE, |_, process| {
                page.processes.push(process.clone());
            });
            page.next = Some(match next {
                Some(slot) => Cursor { slot, ..cursor },
                None => Cursor {
                    in_cgroups: true,
                    slot: 0,
                },
            });
        }
        page
    }

    /// Returns the most bytes that a [`Directory`] of all this may take, while a dump is written.
    pub fn directory_bytes(&self) -> usize {
        let all = |(live, dead): (u32, u32)| live as usize + dead as usize;
        let (processes, cgroups) = (all(self.processes.len()), all(self.cgroups.len()));
        Directory::bytes_of(processes, cgroups, self.programs.len())
    }

    /// Returns how many living and how many dead processes are known.
    pub fn processes(&self) -> (u32, u32) {
        self.processes.len()
    }
}

impl Process {
    /// Returns the program of a child that it forked at that time, if that is still its own.
    fn exe_at_fork(&self, child_start_boot_ns: u64) -> Option<&Arc<Program>> {
        let is_same = self.start_boot_ns <= child_start_boot_ns
            && self.exec_boot_ns <= child_start_boot_ns
            && (self.exit_boot_ns == 0 || self.exit_boot_ns >= child_start_boot_ns);
        self.exe.as_ref().filter(|_| is_same)
    }
}

fn met(header: &Header, lineage: Lineage) -> Process {
    Process {
        start_boot_ns: header.start_boot_ns,
        exec_boot_ns: 0,
        exit_boot_ns: 0,
        exe: None,
        pid: header.tgid,
        lineage,
        comm: header.comm,
    }
}

/// Returns an exec's record, and the names in the path of its executable.
fn exec_and_exe(record: &[u8]) -> Option<(Exec, &[u8])> {
    let exec = abi::decode::<Exec>(record)?;
    let names = record
        .get(size_of::<Exec>()..)?
        .get(..exec.exe_len.into())?;
    Some((exec, names))
}

/// Returns which cgroup was made or removed, and its path if it is whole.
fn changed_cgroup(record: &[u8]) -> Option<(CgroupKey, &[u8])> {
    let change = abi::decode::<CgroupChange>(record)?;
    let path = record.get(size_of::<CgroupChange>()..)?;
    let path = path.get(..change.path_len as usize)?;
    let is_whole = !path.is_empty() && path.len() + 1 < CGROUP_PATH_BYTES_MAX;
    is_whole.then_some(((change.hierarchy, change.id), path))
}

#[cfg(test)]
mod tests;
