//! Agents that are killed at any moment: while they start, take up what others left, record, freeze, write and announce dumps.
//!
//! `RECORDER_KILL_ROUNDS=1000` kills more of them, `RECORDER_KILL_SEED=7` after the same times again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use recorder_tests::host::guest::patience;
use recorder_tests::{
    Agent, Dump, Json, Need, Options, Program, output, ready, recorder, wait_for,
};
use rustix::process::Signal;

/// How many agents are killed.
const ROUNDS: u64 = 200;
/// Longest that an agent lives which is to be killed at a random moment, in milliseconds.
const LIFE_MAX: u64 = 400;

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
fn agents_that_are_killed_at_any_moment_lose_nothing_that_they_had_recorded() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let number = |name: &str, default: u64| {
        let set = std::env::var(name).ok().filter(|text| !text.is_empty());
        set.map_or(default, |text| text.parse().expect("a number"))
    };
    let rounds = number("RECORDER_KILL_ROUNDS", ROUNDS);
    let seed = number("RECORDER_KILL_SEED", u64::from(std::process::id()));
    eprintln!("RECORDER_KILL_ROUNDS={rounds} RECORDER_KILL_SEED={seed}");
    let directory = recorder_tests::host::public_directory();
    let stop = AtomicBool::new(false);
    let started = Started::default();
    std::thread::scope(|scope| {
        scope.spawn(|| load(&stop, &started));
        // Whatever happens: the load is to end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut killer = Killer::new(directory.path(), seed, &started);
            for round in 0..rounds {
                killer.round(round);
            }
            killer.finish();
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Starts agents one after the other and kills them.
struct Killer<'a> {
    directory: &'a Path,
    random: u64,
    started: &'a Started,
    /// What the dead have shown that is in no dump yet, by their ids.
    owed: BTreeMap<u32, Codes>,
    /// Sidecars that were looked at.
    known: BTreeSet<PathBuf>,
    /// Deaths while starting, with a dump in the making, and at other times.
    deaths: [u64; 3],
    /// Dumps of rings, and the exits in them that were owed.
    recovered: [usize; 2],
}

impl<'a> Killer<'a> {
    fn new(directory: &'a Path, seed: u64, started: &'a Started) -> Self {
        Self {
            directory,
            random: seed.wrapping_mul(2).wrapping_add(1),
            started,
            owed: BTreeMap::new(),
            known: BTreeSet::new(),
            deaths: [0; 3],
            recovered: [0; 2],
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % end
    }

    /// Starts an agent and kills it.
    fn round(&mut self, round: u64) {
        let life = patience(Duration::from_millis(self.below(LIFE_MAX)));
        // Two rings may wait for their dumps: of a third start that is cut short in a row, none is promised.
        if round.is_multiple_of(4) && !self.is_full() {
            let agent = Agent::begin_in(self.directory, &options());
            std::thread::sleep(life);
            agent.signal(Signal::KILL);
            self.deaths[0] += 1;
            drop(agent);
        } else {
            let agent = Agent::start_in(self.directory, &options());
            if self.is_full() {
                wait_for("the rings are written", || !self.is_full());
            }
            let watcher = Watcher::of(&agent);
            let is_writing =
                round % 4 == 1 && wait_for_a_dump_in_the_making(&agent.dumps_directory());
            if !is_writing {
                std::thread::sleep(life);
            }
            let objects = (round % 8 == 2).then(|| Objects::of(agent.pid()));
            agent.signal(Signal::KILL);
            self.deaths[if is_writing { 1 } else { 2 }] += 1;
            let seen = watcher.finish();
            if !seen.is_empty() {
                self.owed.insert(agent.pid(), seen);
            }
            drop(agent);
            if let Some(objects) = objects {
                assert!(!objects.programs.is_empty() && !objects.links.is_empty());
                wait_for("the kernel's side of the agent is gone", || {
                    objects.are_gone()
                });
            }
        }
        self.look(&Agent::dumps_in(self.directory));
    }

    /// Tells whether as many rings wait for their dumps as there is room for.
    fn is_full(&self) -> bool {
        let run = Agent::run_directory_in(self.directory);
        ["ring.old", "ring.older"]
            .iter()
            .all(|name| run.join(name).exists())
    }

    /// Looks at what dumps of rings there are since the last look.
    #[track_caller]
    fn look(&mut self, dumps: &Path) {
        // An agent that was killed over its first start has none.
        for entry in fs::read_dir(dumps).into_iter().flatten() {
            let path = entry.expect("ours").path();
            let is_dump = path
                .extension()
                .is_some_and(|extension| extension == "mcap")
                && !path.to_string_lossy().contains("/.tmp-")
                && path.with_extension("json").exists();
            if !is_dump || !self.known.insert(path.clone()) {
                continue;
            }
            let dump = Dump::open(&path);
            let incident = dump.incident();
            if incident.get("rule") != Some(&"recorder-died".into()) {
                continue;
            }
            let pid = incident.number("subject.pid") as u32;
            let summary = incident.str("summary");
            assert!(
                summary.starts_with(&format!("recorder[{pid}] died"))
                    && summary.contains(" after it"),
                "{summary}"
            );
            let seen = self.owed.remove(&pid).unwrap_or_default();
            self.recovered[0] += 1;
            self.recovered[1] += check(&dump, &seen, self.started);
        }
    }

    /// Starts a last agent, which leaves nothing owed.
    fn finish(mut self) {
        let agent = Agent::start_in(self.directory, &options());
        check_directory(&agent);
        self.look(&agent.dumps_directory());
        assert!(self.owed.is_empty(), "no dump of {:?}", self.owed);
        let [starting, writing, other] = self.deaths;
        let [rings, exits] = self.recovered;
        eprintln!(
            "killed {starting} that started, {writing} that wrote, {other} at other times; \
             found {rings} rings with all of {exits} exits that were seen before"
        );
        assert!(exits > 0, "nothing was seen before a death");
    }
}

fn options() -> Options {
    Options {
        before: "2s",
        after: "50ms",
        ..Options::with(["--lifecycle-bytes", "16MiB", "--dumps-max-count", "500"])
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
    let answer = output(recorder(["verify"]).arg(&directory));
    let text = String::from_utf8_lossy(&answer.stdout);
    let lines = text.lines();
    let wrong: Vec<_> = lines
        .filter(|line| !line.contains(": complete: "))
        .collect();
    assert_eq!(answer.code, Some(0), "{wrong:#?} {}", answer.stderr);
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
    while start.elapsed() < patience(Duration::from_millis(500)) {
        if !leftovers(directory).is_empty() {
            return true;
        }
    }
    false
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
