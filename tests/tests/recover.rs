//! Agents that are killed: what their rings held is there afterwards, by the next agent or by hand.
//!
//! `RECORDER_KILL_ROUNDS=300` kills more of them, `RECORDER_KILL_SEED=7` at the same moments again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recorder_tests::{Agent, Dump, Json, Need, Options, Program, output, ready, recorder};
use rustix::process::Signal;

/// Longest that what is to happen may take.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Runs `recorder recover` on a ring, into a directory.
fn recover(ring: &Path, directory: &Path) -> recorder_tests::Output {
    let mut command = recorder(["recover", "--json", "-o"]);
    output(command.arg(directory).arg(ring))
}

/// Opens the dump that was recovered, which must be whole.
#[track_caller]
fn recovered(answer: &Json) -> Dump {
    let path = PathBuf::from(answer.str("path"));
    output(recorder(["verify"]).arg(&path)).expect_code(0);
    Dump::open(&path)
}

#[test]
fn a_ring_is_recovered_by_hand_while_it_is_written_and_after_a_death() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let out = tempfile::tempdir().expect("there is room for tests");
    let agent = Agent::start();
    let ring = agent.run_directory().join("ring");
    let exit = Program::workload().run(["exit", "37"]);
    // Whatever has been frozen is in the ring.
    agent.trigger("the exit is in the ring");
    let answer = recover(&ring, out.path())
        .expect_code(0)
        .expect_note("is in use");
    let answer = answer.json();
    answer.expect("recovery.in_use", true);
    answer.expect("recovery.pid", agent.pid());
    let dump = recovered(&answer);
    dump.only("process.exit", exit.pid())
        .expect("body.exit_code", 37);
    agent.status().expect("state", "recording");

    agent.signal(Signal::KILL);
    let kept = out.path().join("ring");
    wait_for("the death of the agent", || {
        !Path::new(&format!("/proc/{}/maps", agent.pid())).exists()
            || fs::read(format!("/proc/{}/maps", agent.pid())).is_ok_and(|maps| maps.is_empty())
    });
    fs::copy(&ring, &kept).expect("there is room");
    let before = fs::read(&kept).expect("it is there");
    let answer = recover(&kept, out.path()).expect_code(0).json();
    answer.expect("recovery.in_use", false);
    answer.expect("incident.rule", "recorder-died");
    let dump = recovered(&answer);
    dump.only("process.exit", exit.pid());
    dump.metadata("recorder.recovery")
        .expect("ring", kept.to_str().expect("plain"));
    assert_eq!(before, fs::read(&kept).expect("it is there"));

    for (name, at, bytes, flaw) in damages() {
        fs::write(&kept, &before).expect("ours");
        let file = fs::File::options().write(true).open(&kept).expect("ours");
        file.write_all_at(&bytes, at).expect("ours");
        let answer = recover(&kept, out.path()).expect_code(3);
        let answer = answer.expect_note(flaw).json();
        let dump = recovered(&answer);
        assert!(answer.str("recovery.flaws.0").contains(flaw), "{name}");
        if name == "other records" {
            let unknown = dump.matching("recorder.unknown", "kind", &2.into());
            assert!(!unknown.is_empty(), "exits are kept as bytes");
        } else {
            dump.only("process.exit", exit.pid());
        }
    }
    fs::write(&kept, &before[..before.len() / 2]).expect("ours");
    let answer = recover(&kept, out.path()).expect_code(3);
    recovered(&answer.expect_note("missing at its end").json());

    for (name, bytes) in [("empty", &b""[..]), ("text", &[b'x'; 100_000])] {
        fs::write(&kept, bytes).expect("ours");
        let refused = recover(&kept, out.path()).expect_code(1);
        let refused = refused.expect_note("not a ring");
        assert!(refused.stdout.is_empty(), "{name}: {refused}");
    }
    recover(out.path(), out.path())
        .expect_code(1)
        .expect_note("not a ring");
    recover(&out.path().join("none"), out.path())
        .expect_code(1)
        .expect_note("there is no ring");
}

/// What is written where, and how it is told: name, place, bytes, words.
fn damages() -> [(&'static str, u64, Vec<u8>, &'static str); 5] {
    let nine = 9_u32.to_ne_bytes().to_vec();
    [
        ("another version", 8, nine, "version 9"),
        ("other records", 16, vec![7; 8], "kept as bytes"),
        ("another magic", 0, vec![0; 8], "does not begin"),
        ("no header", 0, vec![0; 4096], "header is damaged"),
        (
            "a segment without a header",
            4096,
            vec![0xff; 64],
            "segment 0",
        ),
    ]
}

#[test]
fn the_next_agent_keeps_a_damaged_ring_too() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let first = Agent::start_in(directory.path(), &Options::default());
    let exit = Program::workload().run(["exit", "38"]);
    first.trigger("the exit is in the ring");
    first.signal(Signal::KILL);
    let ring = first.run_directory().join("ring");
    drop(first);
    let file = fs::File::options().write(true).open(&ring).expect("ours");
    file.write_all_at(&[0xff; 64], 4096).expect("ours");
    let second = Agent::start_in(directory.path(), &Options::default());
    let dump = second.dump_where("the damaged ring", |incident| {
        incident.get("rule") == Some(&"recorder-died".into())
    });
    dump.only("process.exit", exit.pid());
    let recovery = dump.metadata("recorder.recovery");
    assert!(recovery.str("flaws.0").contains("segment 0"), "{recovery}");
}

#[test]
fn a_start_that_is_cut_short_leaves_the_ring_that_it_found_to_the_next() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = recorder_tests::host::public_directory();
    let first = Agent::start_in(directory.path(), &Options::default());
    let exit = Program::workload().run(["exit", "39"]);
    first.trigger("the exit is in the ring");
    first.signal(Signal::KILL);
    let (run, dumps, pid) = (first.run_directory(), first.dumps_directory(), first.pid());
    drop(first);
    // As an agent leaves it that has found a ring and dies before there is a dump of it.
    fs::rename(run.join("ring"), run.join("ring.old")).expect("ours");
    fs::write(dumps.join(".tmp-x-recorder-died-1.mcap"), "half").expect("ours");
    let second = Agent::start_in(directory.path(), &Options::default());
    let dump = second.dump_where("the first one's ring", |incident| {
        incident.get("subject.pid") == Some(&pid.into())
    });
    dump.only("process.exit", exit.pid());
    second.wait_for_note("unfinished");
    wait_for("the old ring is gone", || !run.join("ring.old").exists());
    // A note that is being written has such a name for a moment, too.
    wait_for("nothing unfinished", || leftovers(&dumps).is_empty());
}

/// A process: its id, and when it started. The storm takes every id in turn.
type Process = (u32, i128);
/// Exit codes by process.
type Codes = BTreeMap<Process, i128>;
/// Codes that processes of an id were to exit with.
type Started = Mutex<BTreeMap<u32, BTreeSet<i128>>>;

/// Returns who exited with a number, if that is what an event tells.
fn numbered_exit(event: &Json) -> Option<(Process, i128)> {
    let is_numbered = event.get("type") == Some(&"process.exit".into())
        && event.get("body.process.comm") == Some(&"workload".into())
        && event.count("body.exit_code") > 0;
    is_numbered.then(|| {
        let pid = event.number("body.process.pid") as u32;
        let start = event.number("body.process.start_boot_ns");
        ((pid, start), event.number("body.exit_code"))
    })
}

/// A `recorder tail` of the exits of workloads: what it shows was in the ring before.
struct Watcher {
    child: Child,
    seen: Arc<Mutex<Codes>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    fn of(agent: &Agent) -> Self {
        let mut command = agent.recorder(["tail", "--json", "--type", "process.exit"]);
        let mut child = command
            .args(["--comm", "workload"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the recorder is there");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let seen: Arc<Mutex<Codes>> = Arc::default();
        let reader = {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    let Ok(value) = serde_json::from_str(&line) else {
                        continue;
                    };
                    if let Some((process, code)) = numbered_exit(&Json::new(value)) {
                        seen.lock().expect("nobody panics").insert(process, code);
                    }
                }
            })
        };
        Self {
            child,
            seen,
            reader: Some(reader),
        }
    }

    /// Returns what it has seen by the time that the agent is gone.
    fn finish(mut self) -> Codes {
        drop(self.child.kill());
        drop(self.child.wait());
        let reader = self.reader.take().expect("once");
        reader.join().expect("it does not panic");
        std::mem::take(&mut *self.seen.lock().expect("nobody panics"))
    }
}

/// Exits with numbers, a storm of exits, and crashes, for as long as it is wanted.
fn load(stop: &AtomicBool, started: &Started) {
    let program = Program::workload();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                program.run(["flood", "500"]);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                program.run(["segv-write", "0x1234"]);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number = number % 200 + 1;
            let ended = program.run(["exit", &number.to_string()]);
            let mut known = started.lock().expect("nobody panics");
            let codes = known.entry(ended.pid()).or_default();
            codes.insert(number.into());
            drop(known);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn an_agent_that_is_killed_at_any_moment_loses_nothing_that_it_had_recorded() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let number = |name: &str, default: u64| {
        let set = std::env::var(name).ok().filter(|text| !text.is_empty());
        set.map_or(default, |text| text.parse().expect("a number"))
    };
    let rounds = number("RECORDER_KILL_ROUNDS", 12);
    let seed = number("RECORDER_KILL_SEED", u64::from(std::process::id()));
    eprintln!("RECORDER_KILL_ROUNDS={rounds} RECORDER_KILL_SEED={seed}");
    let directory = recorder_tests::host::public_directory();
    let stop = AtomicBool::new(false);
    let started = Started::default();
    std::thread::scope(|scope| {
        scope.spawn(|| load(&stop, &started));
        // Whatever happens: the load is to end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill_rounds(directory.path(), rounds, seed, &started);
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

fn kill_rounds(directory: &Path, rounds: u64, seed: u64, started: &Started) {
    let mut random = seed.wrapping_mul(2).wrapping_add(1);
    let mut killed: Option<(u32, Codes)> = None;
    let (mut checked, mut while_dumping) = (0, 0);
    for round in 0..=rounds {
        let agent = Agent::start_in(directory, &options());
        if let Some((pid, seen)) = killed.take() {
            let dump = agent.dump_where(&format!("the ring of round {round}"), |incident| {
                incident.get("subject.pid") == Some(&pid.into())
            });
            checked += check(&dump, &seen, started);
        }
        if round == rounds {
            check_directory(&agent);
            break;
        }
        let watcher = Watcher::of(&agent);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let milliseconds = (random >> 33) % 700;
        if round % 3 == 1 {
            while_dumping += u64::from(wait_for_a_dump_in_the_making(&agent.dumps_directory()));
        } else {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        let objects = Objects::of(agent.pid());
        assert!(!objects.programs.is_empty() && !objects.links.is_empty());
        agent.signal(Signal::KILL);
        killed = Some((agent.pid(), watcher.finish()));
        drop(agent);
        wait_for("the kernel's side of the agent is gone", || {
            objects.are_gone()
        });
    }
    eprintln!(
        "{rounds} rounds, {while_dumping} while a dump was written; {checked} exits were seen before and found after"
    );
    assert!(checked > 0, "nothing was seen before a death");
}

fn options() -> Options {
    Options {
        before: "2s",
        after: "50ms",
        ..Options::with(["--lifecycle-bytes", "16MiB", "--dumps-max-count", "1000"])
    }
}

/// Demands that a dump has whatever was seen before, once, and as it was; returns how much that is.
#[track_caller]
fn check(dump: &Dump, seen: &Codes, started: &Started) -> usize {
    output(recorder(["verify"]).arg(dump.path())).expect_code(0);
    dump.metadata("recorder.recovery").expect_absent("flaws");
    let (mut found, mut unknown) = (Codes::new(), 0);
    let started = started.lock().expect("nobody panics");
    for event in dump.events() {
        assert_ne!(event.str("type"), "recorder.unknown", "{event}");
        if let Some((process, code)) = numbered_exit(event) {
            let twice = found.insert(process, code);
            assert!(twice.is_none(), "twice: {event}");
            // That of the process that runs now is not known yet, and one before it may have had its id.
            let is_known = started
                .get(&process.0)
                .is_some_and(|codes| codes.contains(&code));
            unknown += usize::from(!is_known);
        }
    }
    assert!(
        unknown <= 1,
        "{unknown} exits with codes that nobody asked for"
    );
    for (process, code) in seen {
        assert_eq!(found.get(process), Some(code), "{process:?} is missing");
    }
    seen.len()
}

/// Demands that nothing unfinished is left or listed, and that every dump is there with its sidecar and whole.
#[track_caller]
fn check_directory(agent: &Agent) {
    let directory = agent.dumps_directory();
    wait_for("the rings are written", || {
        let entries = fs::read_dir(agent.run_directory()).expect("ours");
        let names = entries.map(|entry| entry.expect("ours").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("ring"))
            .count()
            == 1
    });
    let listed = agent.run(["list", "--json"]).expect_code(0).json_lines();
    let listed: BTreeSet<String> = listed
        .iter()
        .filter_map(|record| record.get("path")?.as_str().map(str::to_owned))
        .collect();
    for path in &listed {
        let path = Path::new(path);
        let name = path.file_name().expect("a file").to_string_lossy();
        assert!(!name.starts_with(".tmp-"), "{name} is listed");
        if path.exists() {
            assert!(
                path.with_extension("json").exists(),
                "{name} has no sidecar"
            );
            output(recorder(["verify"]).arg(path)).expect_code(0);
        }
    }
    // However often it was killed over them: none is missing.
    output(recorder(["verify"]).arg(&directory)).expect_code(0);
    for entry in fs::read_dir(&directory).expect("ours") {
        let path = entry.expect("ours").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && !path.to_string_lossy().ends_with(".notes.json")
            && !path.ends_with("chain.json")
        {
            assert!(
                path.with_extension("mcap").exists(),
                "{} is alone",
                path.display()
            );
        }
    }
}

/// Returns the names of unfinished files.
fn leftovers(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let names = entries.map(|entry| entry.expect("ours").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".tmp-")).collect()
}

/// Waits for a dump to be in the making, for a while; returns whether one is.
fn wait_for_a_dump_in_the_making(directory: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if !leftovers(directory).is_empty() {
            return true;
        }
    }
    false
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < TIME_MAX,
            "not within {TIME_MAX:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the kernel keeps for an agent, by number; numbers are not used again soon.
#[derive(Debug, Default)]
struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Objects {
    /// Lists those of a process, by its open files.
    fn of(pid: u32) -> Self {
        let mut objects = Self::default();
        let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
        for file in files.flatten() {
            let info = fs::read_to_string(file.path()).unwrap_or_default();
            for line in info.lines() {
                let Some((name, value)) = line.split_once(':') else {
                    continue;
                };
                let set = match name {
                    "prog_id" => &mut objects.programs,
                    "map_id" => &mut objects.maps,
                    "link_id" => &mut objects.links,
                    _ => continue,
                };
                set.extend(value.trim().parse::<u32>());
            }
        }
        objects
    }

    fn are_gone(&self) -> bool {
        // `<linux/bpf.h>`: BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID.
        let kinds = [(13, &self.programs), (14, &self.maps), (30, &self.links)];
        kinds
            .iter()
            .all(|(command, ids)| ids.iter().all(|id| is_gone(*command, *id)))
    }
}

/// Tells whether there is no BPF object of this number any more.
fn is_gone(command: libc::c_int, id: u32) -> bool {
    let attributes = [id, 0, 0];
    // SAFETY: the kernel reads twelve bytes of attributes, all of which are there.
    let found = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if found < 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        return true;
    }
    // SAFETY: it was opened just now, for this look alone.
    unsafe { libc::close(found as libc::c_int) };
    false
}
