//! Names for the events of a dump.

use std::sync::Arc;

use ahash::HashMap;
use recorder_ebpf::abi::{
    self, EventKind, Header, Lane, Lineage, OomKill, PROCESS_ADOPTED, PROCESS_FORKED, SignalFatal,
    SignalSent,
};

use super::placement::Place;
use super::program::Programs;
use super::users::Users;
use super::{
    CgroupKey, DEAD_MAX, FileId, Identities, Page, Placement, Process, Program, exec_and_exe, met,
};
use crate::event::{Body, Event, name_of_bytes, path_of_names, proto, unless_unset};
use crate::incident::{NamedSubject, Subject};
use crate::kernel::Hierarchies;

/// What the names that a cgroup's path holds take: a unit, a container and a pod, none of which has them all.
const PLACE_BYTES: usize = 192;

/// Processes that there is room for in any case: as many ended ones as can be known, and some hundred that live.
const PROCESSES: usize = DEAD_MAX as usize + 1024;

/// Most ancestors of a process that are named.
const ANCESTORS_MAX: usize = 16;

/// What the data plane knew when a dump was written, and the host's users.
#[derive(Debug, Default)]
pub struct Directory {
    /// By pid and start.
    processes: Vec<Process>,
    /// Where in `processes` those with a pid begin.
    first: HashMap<u32, u32>,
    cgroups: HashMap<CgroupKey, Arc<str>>,
    programs: Programs,
    users: Users,
    /// The hierarchies that records speak of.
    hierarchies: Hierarchies,
}

impl Directory {
    /// Makes one that knows only what tables say of the processes and cgroups of one record, and of no user's name.
    ///
    /// `hierarchies` are those that the record speaks of.
    pub fn of_record(identities: &Identities, record: &[u8], hierarchies: Hierarchies) -> Self {
        let Hierarchies { placing, memory } = hierarchies;
        let mut directory = Self {
            hierarchies,
            ..Self::default()
        };
        let Some(header) = abi::decode::<Header>(record) else {
            return directory;
        };
        let mut pids = [Some(header.tgid), None, None];
        let mut cgroups = [Some((placing, header.cgroup_id)), None, None];
        match EventKind::from_number(header.kind) {
            Some(EventKind::ProcessExec) => {
                let exec = exec_and_exe(record);
                cgroups[1] = memory.zip(exec.map(|(exec, _)| exec.memory_cgroup_id));
            }
            Some(EventKind::ProcessExit) => {
                pids[1] = abi::decode::<abi::Exit>(record).map(|exit| exit.parent_tgid);
            }
            Some(EventKind::SignalFatal) => {
                let fatal = abi::decode::<SignalFatal>(record);
                pids[1] = fatal.map(|fatal| fatal.lineage.parent_tgid);
            }
            Some(EventKind::OomKill) => {
                if let Some(kill) = abi::decode::<OomKill>(record) {
                    pids[1] = Some(kill.lineage.parent_tgid);
                    pids[2] = Some(kill.trigger_tgid);
                    cgroups[1] = memory.map(|memory| (memory, kill.memory_cgroup_id));
                    cgroups[2] = Some((placing, kill.trigger_cgroup_id));
                }
            }
            _ => {}
        }
        let processes = pids.iter().flatten();
        let processes = processes.filter_map(|pid| identities.processes.get(pid).cloned());
        directory.processes.extend(processes);
        for key in cgroups.into_iter().flatten() {
            if let Some(path) = identities.cgroups.get(&key) {
                directory.cgroups.insert(key, Arc::clone(path));
            }
        }
        directory.finish();
        directory
    }

    /// Forgets everything, and reads what the host has: for the next dump. Room for processes stays, as it is wanted in one piece.
    pub fn begin(&mut self) {
        self.processes.clear();
        self.first.clear();
        self.cgroups = HashMap::default();
        self.programs = Programs::default();
        self.users.refresh();
        self.hierarchies = Hierarchies::of_host();
    }

    /// Returns the most bytes that one may take with what is derived from it, of that many processes, cgroups and programs.
    pub(super) fn bytes_of(processes: usize, cgroups: usize, programs: usize) -> usize {
        // As the standard library has it: a power of two that is full to seven eighths, and a byte for each.
        let slots = |len: usize| (len + len / 7 + 1).next_power_of_two();
        // Those that are not made at once hold half of what they held before while they grow.
        let grown = |len, bytes: usize| slots(len) * (bytes + 1) * 3 / 2;
        (processes + processes / 16) * size_of::<Process>()
            + slots(processes) * (size_of::<(u32, u32)>() + 1)
            + grown(cgroups, size_of::<(CgroupKey, Arc<str>)>())
            + grown(cgroups, size_of::<(CgroupKey, Option<Place>)>())
            + cgroups * PLACE_BYTES
            + grown(programs, size_of::<(u64, Arc<Program>)>())
            + programs * size_of::<Arc<Program>>()
    }

    /// Takes in a page.
    pub fn add(&mut self, page: Page) {
        if self.processes.is_empty() && self.processes.capacity() < page.processes_in_all {
            // They are the most of it: room that is doubled now and then is twice as much.
            let more = page.processes_in_all / 16;
            self.processes = Vec::new();
            self.processes
                .reserve_exact((page.processes_in_all + more).max(PROCESSES));
        }
        self.processes.extend(page.processes);
        self.cgroups.extend(page.cgroups);
        for program in page.programs {
            self.programs.add(program);
        }
    }

    /// Makes what was taken in ready to be asked.
    pub fn finish(&mut self) {
        self.processes
            .sort_unstable_by_key(|process| (process.pid, process.start_boot_ns));
        self.first.clear();
        self.first.reserve(self.processes.len());
        for (at, process) in (0..).zip(&self.processes) {
            self.first.entry(process.pid).or_insert(at);
        }
    }

    /// Returns the processes that have or had a pid, the oldest first.
    fn with_pid(&self, pid: u32) -> impl Iterator<Item = &Process> {
        let first = self.first.get(&pid).copied();
        let processes = first.and_then(|first| self.processes.get(first as usize..));
        let processes = processes.unwrap_or_default().iter();
        processes.take_while(move |process| process.pid == pid)
    }

    fn process(&self, pid: u32, start_boot_ns: u64) -> Option<&Process> {
        self.with_pid(pid)
            .find(|process| process.start_boot_ns == start_boot_ns)
    }

    /// Returns the process that had a pid at that time.
    fn process_at(&self, pid: u32, boot_ns: u64) -> Option<&Process> {
        let started = self.with_pid(pid);
        let found = started
            .take_while(|process| process.start_boot_ns <= boot_ns)
            .last()?;
        let lived = found.exit_boot_ns == 0 || found.exit_boot_ns >= boot_ns;
        lived.then_some(found)
    }
}

/// What was learnt of a window that comes in parts, and that no directory has yet.
#[derive(Debug, Default)]
pub struct Learnt {
    running: HashMap<u32, Process>,
    cgroups: HashMap<CgroupKey, Arc<str>>,
}

/// Names the events of one window, which must be shown to it in the order of time.
///
/// What executed inside the window is named by its own record, whatever the tables have forgotten.
pub struct Naming<'a> {
    directory: &'a Directory,
    /// Every process that has executed and not ended, as its last exec says, by pid; but those that the directory knows to run
    /// that.
    running: HashMap<u32, Process>,
    /// Cgroups that were made inside the window.
    cgroups: HashMap<CgroupKey, Arc<str>>,
    /// What the paths of cgroups say, of those that were asked for.
    places: HashMap<CgroupKey, Option<Place>>,
    /// A process whose names are not wanted any more: the next one's take their memory.
    spare: proto::Process,
}

impl<'a> Naming<'a> {
    /// Makes one that knows only the directory.
    pub fn new(directory: &'a Directory) -> Self {
        Self::resume(directory, Learnt::default())
    }

    /// Makes one that goes on where another ended.
    pub fn resume(directory: &'a Directory, learnt: Learnt) -> Self {
        Self {
            directory,
            running: learnt.running,
            cgroups: learnt.cgroups,
            places: HashMap::default(),
            spare: proto::Process::default(),
        }
    }

    /// Takes the memory of the names of an event that is not wanted any more.
    pub fn reuse(&mut self, mut event: Event) {
        if let Some(process) = event.body.process_mut() {
            self.spare = std::mem::take(process);
        }
    }

    /// Ends it, for one that goes on.
    pub fn learnt(self) -> Learnt {
        Learnt {
            running: self.running,
            cgroups: self.cgroups,
        }
    }

    /// Says who the subject of an incident was, at that time.
    pub fn name_subject(&mut self, subject: &mut Subject, boot_ns: u64) {
        let mut process = proto::Process::default();
        if let (Some(pid), Some(start)) = (subject.pid, subject.start_boot_ns)
            && let Some(known) = self.known(pid, start)
            && known.exec_boot_ns <= boot_ns
            && let Some(program) = &known.exe
        {
            ran(&mut process, program, &mut proto::Process::default());
        }
        let cgroup = subject.cgroup_id.unwrap_or(0);
        self.place(cgroup, subject.memory_cgroup_id, &mut process);
        let memory = self
            .directory
            .hierarchies
            .memory
            .zip(subject.memory_cgroup_id);
        *subject.named = NamedSubject {
            exe: process.exe,
            exe_build_id: process.exe_build_id,
            cgroup: memory
                .and_then(|key| self.cgroup(key))
                .map(str::to_owned)
                .or(process.cgroup),
            unit: process.unit,
            container_id: process.container_id,
            runtime: process.runtime,
            pod_uid: process.pod_uid,
        };
    }

    /// Takes in a record that is not to be named.
    pub fn pass(&mut self, record: &[u8]) {
        if let Some(header) = abi::decode::<Header>(record) {
            self.see(&header, record);
            self.forget(&header);
        }
    }

    fn forget(&mut self, header: &Header) {
        if header.kind == EventKind::ProcessExit as u8 {
            self.running.remove(&header.tgid);
        }
    }

    fn see(&mut self, header: &Header, record: &[u8]) {
        match EventKind::from_number(header.kind) {
            // The directory says it, and when it ended.
            Some(EventKind::ProcessExec) if self.is_last_exec(header) => {
                self.running.remove(&header.tgid);
            }
            Some(EventKind::ProcessExec) => match self.executed(header, record) {
                Some(process) => drop(self.running.insert(header.tgid, process)),
                None => drop(self.running.remove(&header.tgid)),
            },
            Some(EventKind::CgroupMkdir) => {
                if let Some((key, path)) = super::changed_cgroup(record)
                    && !self.directory.cgroups.contains_key(&key)
                {
                    let path = String::from_utf8_lossy(path);
                    self.cgroups.insert(key, path.as_ref().into());
                    self.places.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Whether an exec is what the directory says the process runs.
    fn is_last_exec(&self, header: &Header) -> bool {
        let known = self.directory.process(header.tgid, header.start_boot_ns);
        known.is_some_and(|known| known.exec_boot_ns == header.boot_ns && known.exe.is_some())
    }

    /// Returns what an exec says.
    fn executed(&self, header: &Header, record: &[u8]) -> Option<Process> {
        let (exec, names) = exec_and_exe(record)?;
        let program = path_of_names(names).map(|path| {
            let file = FileId::of_exec(&exec);
            let known = self.directory.programs.find(&path, file).cloned();
            known.unwrap_or_else(|| Arc::new(Program::new(&path, file)))
        });
        Some(Process {
            exec_boot_ns: header.boot_ns,
            exe: program,
            ..met(header, exec.lineage)
        })
    }

    /// Fills in who the processes of an event are.
    pub fn name(&mut self, record: &[u8], event: &mut Event) {
        let Some(header) = abi::decode::<Header>(record) else {
            return;
        };
        self.see(&header, record);
        if let Body::OomKill(kill) = &mut event.body {
            self.memory_cgroup(record, kill);
        }
        let memory = match &event.body {
            Body::ProcessExec(_) => exec_and_exe(record).map(|(exec, _)| exec.memory_cgroup_id),
            Body::OomKill(kill) => kill.memory_cgroup_id,
            _ => None,
        };
        if let Body::CgroupMkdir(cgroup) | Body::CgroupRmdir(cgroup) = &mut event.body {
            place_cgroup(cgroup);
        }
        if let Body::SignalFatal(fatal) = &event.body {
            self.learn_build(&header, fatal);
        }
        match (EventKind::from_number(header.kind), &mut event.body) {
            (Some(EventKind::SignalFatal), Body::SignalFatal(fatal)) => {
                if let Some(raw) = abi::decode::<SignalFatal>(record) {
                    let asked = fatal.asked.as_mut();
                    self.sender(&raw.sender, fatal.sender.as_mut());
                    self.sender(&raw.asked, asked.and_then(|asked| asked.sender.as_mut()));
                }
            }
            (Some(EventKind::SignalSent), Body::SignalSent(sent)) => {
                if let Some(raw) = abi::decode::<SignalSent>(record) {
                    self.sender(&raw.sender, sent.sender.as_mut());
                }
            }
            _ => {}
        }
        let lane = event.lane;
        if let Some(process) = event.body.process_mut() {
            self.process(&header, process, memory);
            if lane == Lane::Failure && process.pid.is_some_and(|pid| pid != 0) {
                process.parents = self.ancestors(process, header.boot_ns);
            }
        }
        self.forget(&header);
    }

    /// Takes the build ID of what crashed from the crash itself, if nobody could read the file: the kernel says both which
    /// file is mapped and its build ID.
    fn learn_build(&self, header: &Header, fatal: &proto::SignalFatal) {
        let known = self.known(header.tgid, header.start_boot_ns);
        let Some(program) = known.and_then(|known| known.exe.as_ref()) else {
            return;
        };
        let FileId { device, inode, .. } = program.file();
        let device = format!("{}:{}", device >> 20, device & 0xf_ffff);
        let mapped = fatal.mappings.iter().find(|mapping| {
            mapping.inode == Some(inode) && mapping.device.as_ref() == Some(&device)
        });
        if let Some(build_id) = mapped.and_then(|mapping| mapping.build_id.clone()) {
            program.set_build_id(Some(build_id));
        }
    }

    fn process(&mut self, header: &Header, process: &mut proto::Process, memory: Option<u64>) {
        self.place(header.cgroup_id, memory, process);
        if header.tgid == 0 {
            return;
        }
        let (directory, running, spare) = (self.directory, &self.running, &mut self.spare);
        let user = directory.users.name(header.uid);
        process.user = user.map(|name| text(name, &mut spare.user));
        if let Some(known) = known(directory, running, header.tgid, header.start_boot_ns) {
            // It has executed something else since.
            if known.exec_boot_ns > header.boot_ns {
                return;
            }
            if let Some(program) = &known.exe {
                ran(process, program, spare);
            }
            if process.ns_pid.is_none() {
                process.ns_pid = Some(known.lineage.ns_tgid).filter(|&pid| pid != 0);
            }
            // A session has one login for good.
            if process.loginuid.is_none()
                && process.session.is_some()
                && process.session == unless_unset(known.lineage.session)
            {
                process.loginuid = unless_unset(known.lineage.login_uid);
            }
        }
        if process.exe.is_none()
            && header.flags & (PROCESS_FORKED | PROCESS_ADOPTED) == PROCESS_FORKED
            && has_lineage(header.kind)
            && let Some(parent) = process.ppid
        {
            let parent = known_at(directory, running, parent, header.start_boot_ns);
            let program = parent.and_then(|parent| parent.exe_at_fork(header.start_boot_ns));
            if let Some(program) = program {
                ran(process, program, spare);
            }
        }
    }

    /// Says who sent a signal, as it was then.
    fn sender(&mut self, raw: &abi::Sender, sender: Option<&mut proto::Sender>) {
        let Some(sender) = sender else {
            return;
        };
        let known = self.known_at(raw.tgid, raw.boot_ns);
        sender.exe = known
            .filter(|known| known.exec_boot_ns <= raw.boot_ns)
            .and_then(|known| known.exe.as_ref())
            .map(|program| program.path().to_owned());
        let mut process = proto::Process::default();
        self.place(raw.cgroup_id, None, &mut process);
        sender.cgroup = process.cgroup;
        sender.unit = process.unit;
        sender.container_id = process.container_id;
    }

    /// Names the cgroup, and what its path says. `memory` is the one of the memory controller, if the record has it.
    fn place(&mut self, id: u64, memory: Option<u64>, process: &mut proto::Process) {
        let Hierarchies {
            placing,
            memory: hierarchy,
        } = self.directory.hierarchies;
        let placing = (placing, id);
        let is_inside = |place: Option<&Place>| place.is_some_and(|place| &*place.cgroup != "/");
        let mut key = placing;
        if !is_inside(self.place_of(placing))
            // On a host whose controllers are in hierarchies of their own, processes may all be at the top of the unified one.
            && let Some(other) = hierarchy.filter(|&number| number != 0).zip(memory)
            && is_inside(self.place_of(other))
        {
            key = other;
        }
        // It was asked for above.
        let Some(Some(place)) = self.places.get(&key) else {
            return;
        };
        let spare = &mut self.spare;
        process.cgroup = Some(text(&place.cgroup, &mut spare.cgroup));
        let unit = place.unit.as_deref();
        process.unit = unit.map(|unit| text(unit, &mut spare.unit));
        let id = place.container_id.as_deref();
        process.container_id = id.map(|id| text(id, &mut spare.container_id));
        let runtime = place.runtime;
        process.runtime = runtime.map(|runtime| text(runtime, &mut spare.runtime));
        process.pod_uid.clone_from(&place.pod_uid);
    }

    fn place_of(&mut self, key: CgroupKey) -> Option<&Place> {
        if !self.places.contains_key(&key) {
            let place = self.path_of(key).map(Place::new);
            self.places.insert(key, place);
        }
        self.places.get(&key)?.as_ref()
    }

    fn memory_cgroup(&mut self, record: &[u8], kill: &mut proto::OomKill) {
        if let Some(hierarchy) = self.directory.hierarchies.memory
            && let Some(id) = kill.memory_cgroup_id
        {
            kill.memory_cgroup = self.cgroup((hierarchy, id)).map(str::to_owned);
        }
        let (Some(raw), Some(trigger)) = (abi::decode::<OomKill>(record), &mut kill.trigger) else {
            return;
        };
        trigger.user = self
            .directory
            .users
            .name(raw.trigger_uid)
            .map(str::to_owned);
        self.place(raw.trigger_cgroup_id, None, trigger);
        if let Some(known) = self.known_at(raw.trigger_tgid, raw.header.boot_ns)
            && known.exec_boot_ns <= raw.header.boot_ns
        {
            trigger.start_boot_ns = Some(known.start_boot_ns);
            if let Some(program) = &known.exe {
                ran(trigger, program, &mut proto::Process::default());
            }
            trigger.ppid = Some(known.lineage.parent_tgid);
        }
    }

    fn cgroup(&self, key: CgroupKey) -> Option<&str> {
        self.path_of(key).map(AsRef::as_ref)
    }

    fn path_of(&self, key: CgroupKey) -> Option<&Arc<str>> {
        let path = self.directory.cgroups.get(&key);
        path.or_else(|| self.cgroups.get(&key))
    }

    fn known(&self, pid: u32, start_boot_ns: u64) -> Option<&Process> {
        known(self.directory, &self.running, pid, start_boot_ns)
    }

    /// Returns the process that had a pid at that time.
    fn known_at(&self, pid: u32, boot_ns: u64) -> Option<&Process> {
        known_at(self.directory, &self.running, pid, boot_ns)
    }

    /// Returns the line of parents at that time, the nearest first.
    fn ancestors(&self, process: &proto::Process, boot_ns: u64) -> Vec<proto::Ancestor> {
        let mut line = Vec::new();
        let known = process
            .pid
            .zip(process.start_boot_ns)
            .and_then(|(pid, start)| self.known(pid, start));
        let mut next = process
            .ppid
            .or(known.map(|known| known.lineage.parent_tgid));
        let mut youngest = process.start_boot_ns.unwrap_or(boot_ns);
        while let Some(pid) = next.filter(|&pid| pid != 0)
            && line.len() < ANCESTORS_MAX
        {
            // Whoever had the pid when the child started: an orphan too is given only to one that is older than itself.
            let Some(parent) = self.known_at(pid, youngest) else {
                line.push(proto::Ancestor {
                    pid: Some(pid),
                    ..proto::Ancestor::default()
                });
                break;
            };
            youngest = parent.start_boot_ns;
            let same_program = parent.exec_boot_ns <= boot_ns;
            let Lineage { parent_tgid, .. } = parent.lineage;
            line.push(proto::Ancestor {
                pid: Some(pid),
                start_boot_ns: Some(parent.start_boot_ns),
                comm: name_of_bytes(&parent.comm).filter(|_| same_program),
                exe: (parent.exe.as_ref())
                    .filter(|_| same_program)
                    .map(|program| program.path().to_owned()),
            });
            next = (parent_tgid != pid).then_some(parent_tgid);
        }
        line
    }
}

/// See [`Naming::known`]; not of the whole, so that something else of it may change meanwhile.
fn known<'a>(
    directory: &'a Directory,
    running: &'a HashMap<u32, Process>,
    pid: u32,
    start_boot_ns: u64,
) -> Option<&'a Process> {
    let here = running.get(&pid);
    here.filter(|process| process.start_boot_ns == start_boot_ns)
        .or_else(|| directory.process(pid, start_boot_ns))
}

/// See [`Naming::known_at`].
fn known_at<'a>(
    directory: &'a Directory,
    running: &'a HashMap<u32, Process>,
    pid: u32,
    boot_ns: u64,
) -> Option<&'a Process> {
    let here = running.get(&pid);
    here.filter(|process| process.start_boot_ns <= boot_ns)
        .or_else(|| directory.process_at(pid, boot_ns))
}

/// Returns `name` as a text of its own, in the memory of a spare one if there is that.
fn text(name: &str, spare: &mut Option<String>) -> String {
    let mut text = spare.take().unwrap_or_default();
    text.clear();
    text.push_str(name);
    text
}

/// Says which program a process ran, unless its record says that it was another.
fn ran(process: &mut proto::Process, program: &Program, spare: &mut proto::Process) {
    let path = program.path();
    let exe = process
        .exe
        .get_or_insert_with(|| text(path, &mut spare.exe));
    if exe == path {
        let build_id = program.build_id();
        process.exe_build_id = build_id.map(|id| text(id, &mut spare.exe_build_id));
    }
}

/// Whether the records of a kind carry the flags of a process's lineage.
fn has_lineage(kind: u8) -> bool {
    matches!(
        EventKind::from_number(kind),
        Some(EventKind::ProcessExit | EventKind::SignalFatal | EventKind::OomKill)
    )
}

fn place_cgroup(cgroup: &mut proto::Cgroup) {
    let path = cgroup.path.as_deref().filter(|_| !cgroup.path_truncated());
    let Some(placement) = path.map(Placement::of) else {
        return;
    };
    let (unit, id) = (
        placement.unit.map(str::to_owned),
        placement.container_id.map(str::to_owned),
    );
    let (runtime, pod) = (placement.runtime.map(str::to_owned), placement.pod_uid());
    cgroup.unit = unit;
    cgroup.container_id = id;
    cgroup.runtime = runtime;
    cgroup.pod_uid = pod;
}
