use std::time::Instant;

use recorder_ebpf::abi::{Lane, TaskHung};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::CUT_STEP;
use crate::event::{self, proto};

const SECOND: u64 = 1_000_000_000;

fn lineage(parent_tgid: u32) -> Lineage {
    Lineage {
        parent_tgid,
        ns_tgid: 7,
        session: 3,
        login_uid: 1000,
    }
}

fn header(kind: EventKind, pid: u32, start_boot_ns: u64, boot_ns: u64, flags: u8) -> Header {
    let mut header = Header::new_zeroed();
    header.kind = kind as u8;
    header.tgid = pid;
    header.pid = pid;
    header.start_boot_ns = start_boot_ns;
    header.boot_ns = boot_ns;
    header.flags = flags;
    header.comm[..4].copy_from_slice(b"comm");
    header
}

/// "/opt/app/bin" becomes the names of an exec.
fn exec(pid: u32, parent: u32, start: u64, at: u64, exe: &str) -> Vec<u8> {
    let names: String = exe
        .rsplit('/')
        .filter(|name| !name.is_empty())
        .map(|name| format!("{name}\0"))
        .collect();
    let mut exec = Exec::new_zeroed();
    exec.header = header(EventKind::ProcessExec, pid, start, at, 0);
    exec.lineage = lineage(parent);
    exec.exe_len = names.len() as u16;
    [exec.as_bytes(), names.as_bytes()].concat()
}

fn exit(pid: u32, parent: u32, start: u64, at: u64, flags: u8) -> Vec<u8> {
    let mut exit = Exit::new_zeroed();
    exit.header = header(EventKind::ProcessExit, pid, start, at, flags);
    exit.parent_tgid = parent;
    exit.session = 3;
    exit.as_bytes().to_vec()
}

fn fatal(pid: u32, parent: u32, start: u64, at: u64, flags: u8) -> Vec<u8> {
    let mut fatal = SignalFatal::new_zeroed();
    fatal.header = header(EventKind::SignalFatal, pid, start, at, flags);
    fatal.lineage = lineage(parent);
    fatal.as_bytes().to_vec()
}

fn cgroup(kind: EventKind, id: u64, path: &str) -> Vec<u8> {
    let mut change = CgroupChange::new_zeroed();
    change.header = header(kind, 1, 1, SECOND, 0);
    change.id = id;
    change.path_len = path.len() as u32;
    [change.as_bytes(), path.as_bytes()].concat()
}

fn take(identities: &mut Identities, record: &[u8]) {
    let header = abi::decode::<Header>(record).expect("a header");
    identities.on_record(&header, record);
}

fn directory(identities: &Identities) -> Directory {
    let mut directory = Directory::default();
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let page = identities.page(cursor);
        next = page.next;
        directory.add(page);
    }
    directory.finish();
    directory
}

/// Names the last of these records, which follow each other.
fn named(directory: &Directory, records: &[Vec<u8>]) -> proto::Process {
    let mut naming = Naming::new(directory);
    let mut process = None;
    for record in records {
        let kind = abi::decode::<Header>(record).expect("a header").kind;
        let lane = EventKind::from_number(kind).expect("a kind").lane();
        let mut event = event::decode(lane, record);
        naming.name(record, &mut event);
        process = event.body.process().cloned();
    }
    process.expect("it has a process")
}

fn exe(directory: &Directory, records: &[Vec<u8>]) -> Option<String> {
    named(directory, records).exe
}

#[test]
fn the_dead_are_named_by_what_they_executed_inside_the_window_or_before_it() {
    let records = [
        exec(50, 1, 10, 11, "/usr/bin/parent"),
        exec(77, 50, 20, 21, "/opt/app/server"),
        exit(77, 50, 20, 30, 0),
    ];
    let mut identities = Identities::default();
    for record in &records {
        take(&mut identities, record);
    }
    assert_eq!(identities.processes(), (1, 1));
    let known = directory(&identities);
    for window in [&records[..], &records[2..]] {
        let process = named(&known, window);
        assert_eq!(process.exe.as_deref(), Some("/opt/app/server"));
        assert_eq!(process.ns_pid, Some(7));
        assert_eq!((process.session, process.loginuid), (Some(3), Some(1000)));
    }
    let nothing = Directory::default();
    assert_eq!(exe(&nothing, &records).as_deref(), Some("/opt/app/server"));
    assert_eq!(exe(&nothing, &records[2..]), None);
}

#[test]
fn another_process_with_the_same_pid_lends_no_name() {
    let mut identities = Identities::default();
    take(&mut identities, &exec(77, 1, 20, 21, "/bin/first"));
    take(&mut identities, &exit(77, 1, 20, 30, 0));
    take(&mut identities, &exec(77, 1, 40, 41, "/bin/second"));
    let known = directory(&identities);
    let of = |start, at| exe(&known, &[exit(77, 1, start, at, 0)]);
    assert_eq!(of(20, 30).as_deref(), Some("/bin/first"));
    assert_eq!(of(40, 50).as_deref(), Some("/bin/second"));
    assert_eq!(of(60, 70), None);
    // An exit that was recorded late is not the new one's.
    take(&mut identities, &exit(77, 1, 20, 30, 0));
    assert_eq!(identities.processes(), (1, 1));
}

#[test]
fn an_exec_after_the_event_lends_no_name_to_it() {
    let mut identities = Identities::default();
    take(&mut identities, &exec(77, 1, 20, 100, "/bin/later"));
    let known = directory(&identities);
    let mut hung = TaskHung::new_zeroed();
    hung.header = header(EventKind::TaskHung, 77, 20, 90, 0);
    assert_eq!(exe(&known, &[hung.as_bytes().to_vec()]), None);
    hung.header.boot_ns = 110;
    let after = exe(&known, &[hung.as_bytes().to_vec()]);
    assert_eq!(after.as_deref(), Some("/bin/later"));
}

#[test]
fn a_child_that_executed_nothing_runs_its_parents_program_if_that_is_certain() {
    let parent = exec(50, 1, 10, 11, "/usr/sbin/daemon");
    let mut identities = Identities::default();
    take(&mut identities, &parent);
    let known = directory(&identities);
    let child = |flags| exe(&known, &[exit(60, 50, 20, 30, flags)]);
    assert_eq!(child(PROCESS_FORKED).as_deref(), Some("/usr/sbin/daemon"));
    assert_eq!(child(PROCESS_FORKED | PROCESS_ADOPTED), None);
    assert_eq!(child(0), None, "it executed something that was not seen");
    let fatal = named(&known, &[fatal(60, 50, 20, 30, PROCESS_FORKED)]);
    assert_eq!(fatal.exe.as_deref(), Some("/usr/sbin/daemon"));
    let line: Vec<_> = fatal.parents.iter().map(|each| each.pid()).collect();
    assert_eq!(line, [50, 1], "pid 1 is not known, but who it is");
    // The parent has executed something else by now: which was it when it forked?
    take(&mut identities, &exec(50, 1, 10, 25, "/usr/bin/other"));
    let known = directory(&identities);
    assert_eq!(exe(&known, &[exit(60, 50, 20, 30, PROCESS_FORKED)]), None);
    // The parent is younger than the child: not the one that forked it.
    let known = directory(&{
        let mut identities = Identities::default();
        take(&mut identities, &exec(50, 1, 22, 23, "/usr/bin/young"));
        identities
    });
    assert_eq!(exe(&known, &[exit(60, 50, 20, 30, PROCESS_FORKED)]), None);
}

#[test]
fn the_line_of_parents_ends_and_has_no_strangers() {
    let mut identities = Identities::default();
    take(&mut identities, &exec(1, 0, 1, 2, "/sbin/init"));
    take(&mut identities, &exec(10, 1, 10, 11, "/bin/shell"));
    take(&mut identities, &exec(20, 10, 20, 21, "/bin/app"));
    take(&mut identities, &exit(10, 1, 10, 22, 0));
    // The shell's pid is another's by the time of the event.
    take(&mut identities, &exec(10, 1, 30, 31, "/bin/stranger"));
    let known = directory(&identities);
    let process = named(&known, &[fatal(20, 10, 20, 40, 0)]);
    let line: Vec<_> = process.parents.iter().map(|each| each.exe()).collect();
    assert_eq!(line, ["/bin/shell", "/sbin/init"]);
    // A circle, which no kernel makes, ends too.
    let mut identities = Identities::default();
    take(&mut identities, &exec(5, 6, 10, 11, "/a"));
    take(&mut identities, &exec(6, 5, 10, 11, "/b"));
    let process = named(&directory(&identities), &[fatal(5, 6, 10, 40, 0)]);
    assert!(process.parents.len() <= 16);
}

#[test]
fn what_was_looked_at_gives_way_to_what_was_recorded() {
    let seen = |start, exe: &str| Process {
        exe: Some(Arc::new(Program::new(exe, FileId::default()))),
        ..met(&header(EventKind::TaskHung, 77, start, 0, 0), lineage(1))
    };
    let mut identities = Identities::default();
    identities.learn_process(seen(20, "/bin/seen"));
    take(&mut identities, &exec(77, 1, 20, 21, "/bin/executed"));
    identities.learn_process(seen(20, "/bin/seen"));
    identities.learn_process(seen(10, "/bin/older"));
    let known = directory(&identities);
    assert_eq!(
        exe(&known, &[exit(77, 1, 20, 30, 0)]).as_deref(),
        Some("/bin/executed")
    );
    assert_eq!(exe(&known, &[exit(77, 1, 10, 30, 0)]), None);
    identities.learn_process(seen(40, "/bin/newer"));
    let known = directory(&identities);
    assert_eq!(
        exe(&known, &[exit(77, 1, 40, 50, 0)]).as_deref(),
        Some("/bin/newer")
    );
}

#[test]
fn a_removed_cgroup_keeps_its_name() {
    let id = "ab".repeat(32);
    let path = format!("/system.slice/docker-{id}.scope");
    let mut identities = Identities::default();
    take(&mut identities, &cgroup(EventKind::CgroupMkdir, 9, &path));
    take(&mut identities, &cgroup(EventKind::CgroupRmdir, 9, &path));
    let known = directory(&identities);
    let mut died = Exit::new_zeroed();
    died.header = header(EventKind::ProcessExit, 77, 20, 30, 0);
    died.header.cgroup_id = 9;
    let record = died.as_bytes().to_vec();
    let process = named(&known, std::slice::from_ref(&record));
    assert_eq!(process.cgroup.as_deref(), Some(path.as_str()));
    assert_eq!(process.container_id.as_deref(), Some(id.as_str()));
    assert_eq!(process.runtime.as_deref(), Some("docker"));
    // Its making is inside the window, though the tables have forgotten it.
    let window = [cgroup(EventKind::CgroupMkdir, 9, &path), record.clone()];
    let process = named(&Directory::default(), &window);
    assert_eq!(process.container_id.as_deref(), Some(id.as_str()));
    let process = named(&Directory::default(), &[record]);
    assert_eq!((process.cgroup, process.container_id), (None, None));
}

#[test]
fn what_one_part_of_a_window_says_names_the_next() {
    let directory = Directory::default();
    let exec = exec(50, 1, 10, 11, "/usr/bin/short");
    let exit = exit(50, 1, 10, 20, 0);
    let name = |naming: &mut Naming<'_>, record: &[u8]| {
        let mut event = event::decode(Lane::Lifecycle, record);
        naming.name(record, &mut event);
        event.body.process().and_then(|process| process.exe.clone())
    };
    let mut first = Naming::new(&directory);
    name(&mut first, &exec);
    let mut next = Naming::resume(&directory, first.learnt());
    assert_eq!(name(&mut next, &exit).as_deref(), Some("/usr/bin/short"));
    // It has ended: who has its id next is another.
    let mut last = Naming::resume(&directory, next.learnt());
    assert_eq!(name(&mut last, &exit), None);
}

#[test]
fn any_bytes_are_survived() {
    let whole = [
        exec(50, 1, 10, 11, "/usr/bin/parent"),
        exit(77, 50, 20, 30, PROCESS_FORKED),
        fatal(60, 50, 20, 30, PROCESS_FORKED),
        cgroup(EventKind::CgroupMkdir, 9, "/a"),
        cgroup(EventKind::CgroupRmdir, 9, "/a"),
    ];
    let known = Directory::default();
    for record in &whole {
        for len in (0..record.len()).step_by(CUT_STEP) {
            let cut = &record[..len];
            let mut naming = Naming::new(&known);
            let mut event = event::decode(Lane::Lifecycle, cut);
            naming.name(cut, &mut event);
            if let Some(header) = abi::decode::<Header>(cut) {
                Identities::default().on_record(&header, cut);
            }
        }
    }
    let mut hostile = exec(50, 1, 10, 11, "/abc");
    let at = hostile.len() - 3;
    hostile[at..].copy_from_slice(b"\xff\x1b\0");
    let mut identities = Identities::default();
    take(&mut identities, &hostile);
    let known = directory(&identities);
    let path = exe(&known, &[exit(50, 1, 10, 20, 0)]);
    assert_eq!(path.as_deref(), Some("/a\u{fffd}\u{1b}"));
}

/// An hour of a host with 100,000 living processes, of which 1,000 end and begin every second.
#[test]
fn memory_is_bounded_by_the_living_and_not_by_the_time() {
    const LIVING: u32 = 100_000;
    // Without optimisation a tenth takes long enough.
    const EACH_SECOND: u32 = if cfg!(debug_assertions) { 50 } else { 1_000 };
    let bytes = |identities: &Identities| {
        identities.processes.bytes() + identities.cgroups.bytes() + identities.programs.bytes()
    };
    let mut identities = Identities::default();
    let path = |number: u32| format!("/usr/lib/app-{}/bin/worker", number % 400);
    for pid in 1..=LIVING {
        take(
            &mut identities,
            &exec(pid, 1, pid.into(), pid.into(), &path(pid)),
        );
    }
    let full = bytes(&identities);
    let began = Instant::now();
    let mut events = 0_u32;
    let mut high = full;
    for second in 1..=3600_u32 {
        let now = u64::from(second) * SECOND;
        for number in 0..EACH_SECOND {
            let pid = 1 + (second.wrapping_mul(EACH_SECOND) + number) % LIVING;
            let started = identities.processes.get(&pid).expect("lives").start_boot_ns;
            take(&mut identities, &exit(pid, 1, started, now, 0));
            let unique = second * EACH_SECOND + number;
            // Half of them never ran before and never will again.
            let exe = if number % 2 == 0 {
                path(number)
            } else {
                path(unique)
            };
            take(&mut identities, &exec(pid, 1, now, now + 1, &exe));
            events += 2;
        }
        let id = u64::from(second);
        let name = format!("/system.slice/docker-{}.scope", "0".repeat(64));
        take(&mut identities, &cgroup(EventKind::CgroupMkdir, id, &name));
        take(&mut identities, &cgroup(EventKind::CgroupRmdir, id, &name));
        high = high.max(bytes(&identities));
    }
    let (live, dead) = identities.processes();
    println!(
        "{LIVING} processes: {} KiB; after {events} events of an hour: {} KiB, at most {} KiB; {live} live, {dead} dead; \
         {} ns for each event",
        full >> 10,
        bytes(&identities) >> 10,
        high >> 10,
        began.elapsed().as_nanos() / u128::from(events),
    );
    assert_eq!((live, dead), (LIVING, DEAD_MAX));
    assert!(high < 24 << 20, "{high}");
}

#[test]
fn a_host_whose_exits_are_all_lost_stays_bounded() {
    let mut identities = Identities::default();
    for pid in 0..2 * LIVE_MAX {
        let start = u64::from(pid);
        take(
            &mut identities,
            &exec(pid, 1, start, start, &format!("/tmp/{pid}")),
        );
    }
    let (live, dead) = identities.processes();
    assert_eq!((live, dead), (LIVE_MAX, 0));
}
