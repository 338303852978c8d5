//! A simulation of the agent's core: the ring, the rules, the writer of dumps and their directory, under a clock that a seed
//! drives and on storage that tears, delays and fails as the seed says. A seed does the same each time.
//!
//! Held after each seed:
//!
//! | | |
//! |---|---|
//! | ring | every record is held, or counted as evicted or dropped; a freeze holds a run of those that were committed, byte by byte |
//! | incidents | triggers = opened + joined + suppressed + overflow + limited |
//! | dumps | each that is listed is whole, its counts are those of its coverage, its loss is what was lost, its order is total |
//! | directory | nothing half-written is listed, or left after a start; none is missing in the chain |
//! | recovery | the ring that an agent leaves holds every committed record that was not evicted, in order |

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use recorder_ebpf::abi::{
    EventKind, Exit, Header, IoError, Lane, LaneStats, Note, NoteKind, SignalFatal,
};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use crate::dump::faults::{self, How};
use crate::dump::{
    Clocks, CpuStats, DumpInput, DumpWriter, Evidence, Grow, Host, Limits, Link, TEMPORARY_PREFIX,
    Written,
};
use crate::event::ClockPair;
use crate::identity::Directory;
use crate::incident::{self, Engine, Incident, Span};
use crate::read::{Dump, State, verify};
use crate::ring::{FlightRing, OldArena, RingConfig, Share, Window};
use crate::rules::{RuleSet, RuleSpec, Settings, builtin};
use crate::store::{self, Budget, Store};

/// Seeds of one run of the tests; `RECORDER_SIM_SEEDS` says another number, `RECORDER_SIM_SEED` one seed.
const SEEDS: u64 = 3000;
/// Two crashes, or some dozen exits.
const SEGMENT_BYTES: u32 = 8 << 10;
/// Types of events that happen here and that a built-in rule may be about.
const EVENTS: [&str; 3] = ["signal.fatal", "io.error", "process.exit"];
const MS: u64 = 1_000_000;
const CPUS: u16 = 2;
const LANES: usize = Lane::ALL.len();
/// Wall clock less boot time.
const SHIFT: u64 = 1_795_000_000_000_000_000;

/// The built-in rules that may fire: to read and compile all of them for each agent would take longer than all the rest.
static RULES: LazyLock<Vec<RuleSpec>> = LazyLock::new(|| {
    let is_about_one = |rule: &RuleSpec| {
        rule.event
            .as_ref()
            .is_some_and(|event| EVENTS.contains(&event.as_str()))
    };
    let rules: Vec<_> = builtin().into_iter().filter(is_about_one).collect();
    assert_eq!(rules.len(), EVENTS.len(), "every type has its rule");
    rules
});

/// Numbers that a seed gives (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A window that waits for the storage.
struct Job {
    incident: Incident,
    window: Window,
    freeze: ClockPair,
    kernel: Vec<CpuStats>,
    /// When the storage takes it.
    due_boot_ns: u64,
}

/// One life of an agent.
struct Agent {
    ring: FlightRing,
    engine: Engine,
    store: Store,
    jobs: Vec<Job>,
    /// Every record that the ring took, by lane.
    taken: [Vec<Vec<u8>>; LANES],
    refused: [u64; LANES],
    /// What the probes counted, by lane and CPU.
    counted: [[LaneStats; CPUS as usize]; LANES],
    start_boot_ns: u64,
}

struct Simulation {
    random: Random,
    directory: tempfile::TempDir,
    dumps: DumpWriter,
    now_boot_ns: u64,
    written: u64,
    failed: u64,
    died: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self {
            random: Random(seed),
            dumps: DumpWriter::default(),
            directory: directory.expect("there is room for tests"),
            now_boot_ns: 1_000_000 * MS,
            written: 0,
            failed: 0,
            died: 0,
        }
    }

    fn ring_path(&self) -> PathBuf {
        self.directory.path().join("ring")
    }

    fn clock(&self) -> ClockPair {
        ClockPair {
            boot_ns: self.now_boot_ns,
            unix_ns: self.now_boot_ns + SHIFT,
        }
    }

    fn start(&mut self) -> Agent {
        let config = RingConfig {
            segment_bytes: SEGMENT_BYTES,
            lane_bytes: [u64::from(SEGMENT_BYTES) * (8 + self.random.below(8)); LANES],
            ..RingConfig::default()
        };
        let ring = FlightRing::create(Some(&self.ring_path()), &config).expect("there is memory");
        let settings = Settings {
            span: Span {
                before_ns: (200 + self.random.below(2000)) * MS,
                after_ns: self.random.below(100) * MS,
            },
            cooldown_ns: self.random.below(300) * MS,
            ..Settings::default()
        };
        let rules = RuleSet::compile(&RULES, &settings).expect("they are tested");
        let budget = Budget {
            max_bytes: u64::MAX,
            max_count: u64::MAX,
            max_age: None,
            keep_free_bytes: 0,
            keep_free_percent: 0,
        };
        let store = Store::open(self.directory.path(), budget).expect("the directory is ours");
        Agent {
            ring,
            engine: Engine::new(incident::Limits::default(), rules),
            store,
            jobs: Vec::new(),
            taken: Default::default(),
            refused: [0; LANES],
            counted: [[LaneStats::new_zeroed(); CPUS as usize]; LANES],
            start_boot_ns: self.now_boot_ns,
        }
    }

    /// Lives until it stops or dies; returns whether it died.
    fn live(&mut self, agent: &mut Agent) -> bool {
        let steps = 20 + self.random.below(120);
        for _ in 0..steps {
            self.now_boot_ns += match self.random.one_in(20) {
                true => self.random.below(500) * MS,
                false => self.random.below(3) * MS + 1,
            };
            self.happen(agent);
            while let Some(incident) = agent.engine.poll(self.now_boot_ns) {
                self.freeze(agent, incident);
            }
            if self.write_what_is_due(agent, false) {
                return true;
            }
            check_ring(agent);
        }
        for incident in agent.engine.close_all(self.now_boot_ns) {
            self.freeze(agent, incident);
        }
        self.write_what_is_due(agent, true)
    }

    /// Lets something happen on the host, and what comes of it reach the ring and the rules.
    fn happen(&mut self, agent: &mut Agent) {
        let record = self.record(agent);
        let Some((lane, record)) = record else { return };
        match agent.ring.push(lane, &record) {
            Ok(()) => agent.taken[lane as usize].push(record.clone()),
            Err(_) => agent.refused[lane as usize] += 1,
        }
        let clocks = self.clock();
        agent.engine.on_record(&record, clocks, |_| {});
        let stats = agent.engine.stats();
        let known = stats.opened_total
            + stats.joined_total
            + stats.suppressed_total
            + stats.overflow_total
            + stats.limited_total;
        assert_eq!(stats.triggers_total, known);
    }

    /// Makes a record, unless the kernel ring had no room for it.
    fn record(&mut self, agent: &mut Agent) -> Option<(Lane, Vec<u8>)> {
        let (kind, mut record) = match self.random.below(40) {
            0 => (EventKind::SignalFatal, self.zeroed::<SignalFatal>()),
            1 => (EventKind::IoError, self.zeroed::<IoError>()),
            2..=4 => (EventKind::Note, self.note()),
            _ => (EventKind::ProcessExit, self.zeroed::<Exit>()),
        };
        let lane = kind.lane();
        let cpu = self.random.below(u64::from(CPUS)) as u16;
        let counted = &mut agent.counted[lane as usize][usize::from(cpu)];
        let tgid = 1000 + self.random.below(50) as u32;
        let header = Header {
            boot_ns: self.now_boot_ns,
            seq: counted.attempted,
            start_boot_ns: 1 + u64::from(tgid),
            pid: tgid,
            tgid,
            len: record.len() as u32,
            cpu,
            kind: kind as u8,
            ..Header::new_zeroed()
        };
        counted.attempted += 1;
        if lane != Lane::Sample && self.random.one_in(30) {
            counted.lost[kind as usize] += 1;
            return None;
        }
        record[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        Some((lane, record))
    }

    fn zeroed<T: FromBytes + IntoBytes + Immutable>(&mut self) -> Vec<u8> {
        T::new_zeroed().as_bytes().to_vec()
    }

    fn note(&mut self) -> Vec<u8> {
        let text = "x".repeat(self.random.below(200) as usize);
        let mut note = Note::new_zeroed();
        note.kind = NoteKind::Incident as u32;
        note.text_len = text.len() as u32;
        [note.as_bytes(), text.as_bytes()].concat()
    }

    fn freeze(&mut self, agent: &mut Agent, incident: Incident) {
        let window = agent
            .ring
            .freeze(incident.window_start_boot_ns, Share::Half);
        for lane in Lane::ALL {
            let summary = window.lane(lane);
            let mut held = window.records(lane).peekable();
            let mut found = 0;
            // Some of those that were taken, in their order; of the newest, all.
            let start = incident.window_start_boot_ns;
            let complete_after = summary
                .complete_after_boot_ns
                .map_or(start, |after| after + 1);
            for record in &agent.taken[lane as usize] {
                if held.next_if(|held| held == record).is_some() {
                    found += 1;
                } else {
                    let is_told = boot_ns(record) < complete_after.max(start);
                    assert!(is_told, "{lane:?} lacks a record of the window");
                }
            }
            assert_eq!((held.next(), found), (None, summary.records), "{lane:?}");
        }
        let mut kernel = Vec::new();
        for lane in [Lane::Failure, Lane::Lifecycle] {
            for (cpu, stats) in (0..).zip(agent.counted[lane as usize]) {
                kernel.push(CpuStats { lane, cpu, stats });
            }
        }
        let delay = match self.random.one_in(4) {
            true => self.random.below(2000) * MS,
            false => 0,
        };
        agent.jobs.push(Job {
            incident,
            window,
            freeze: self.clock(),
            kernel,
            due_boot_ns: self.now_boot_ns + delay,
        });
    }

    /// Writes the windows whose time has come, or `all`; what cannot be written waits for later, unless all must be done with.
    /// Returns whether the agent died over one.
    fn write_what_is_due(&mut self, agent: &mut Agent, all: bool) -> bool {
        let mut waiting = std::mem::take(&mut agent.jobs);
        while let Some(at) = waiting
            .iter()
            .position(|job| all || job.due_boot_ns <= self.now_boot_ns)
        {
            let mut job = waiting.swap_remove(at);
            let how = match self.random.below(10) {
                0 => Some(How::Fails),
                1 => Some(How::Dies),
                _ => None,
            };
            let operations = self.random.below(40);
            let plan = how.map(|how| faults::begin(how, operations));
            let outcome = self.write(agent, &job);
            let is_dead = plan.as_ref().is_some_and(|plan| plan.is_dead());
            faults::end();
            if is_dead {
                self.died += 1;
                return true;
            }
            match outcome {
                Some(written) => {
                    self.written += 1;
                    self.check_dump(&job, &written);
                }
                None => {
                    self.failed += 1;
                    job.due_boot_ns = self.now_boot_ns + 100 * MS;
                    if !all {
                        waiting.push(job);
                    }
                }
            }
            // A budget, or a person, takes one away.
            if self.random.one_in(3) {
                let there = store::dumps(agent.store.directory()).expect("it is readable");
                let chosen = self.random.below(there.len().max(1) as u64) as usize;
                if let Some(entry) = there.get(chosen) {
                    entry.remove().expect("the directory is ours");
                }
            }
            self.check_directory(agent.store.directory());
        }
        agent.jobs = waiting;
        false
    }

    fn write(&mut self, agent: &Agent, job: &Job) -> Option<Written> {
        let is_low = self.random.one_in(20);
        let may_grow: Grow = Arc::new(move || !is_low);
        let input = DumpInput {
            incident: &job.incident,
            frozen: &job.window,
            host: &Host::default(),
            clocks: Clocks {
                start: ClockPair {
                    boot_ns: agent.start_boot_ns,
                    unix_ns: agent.start_boot_ns + SHIFT,
                },
                freeze: job.freeze,
                synchronised: None,
                error_ns: None,
            },
            directory: &Directory::default(),
            config: &serde_json::Value::Null,
            probes: &[],
            kernel: &job.kernel,
            throttled: &[],
            skipped: &[],
            filtered: &[],
            evidence: &Evidence::default(),
            recovery: None,
            refused: &[],
            may_grow: &may_grow,
            enrich: &|_| {},
        };
        let max_dump_bytes = match self.random.one_in(6) {
            true => 8 << 10,
            false => 64 << 20,
        };
        let limits = Limits { max_dump_bytes };
        let mut link = agent.store.link();
        let directory = agent.store.directory();
        let link = Some(&mut link as &mut dyn Link);
        let written = self.dumps.write(directory, &input, &limits, link).ok()?;
        assert!(written.bytes <= max_dump_bytes);
        Some(written)
    }

    /// Demands that a dump says what its window holds, and what was lost.
    fn check_dump(&self, job: &Job, written: &Written) {
        let dump = Dump::open(&written.path).expect("just written");
        let (mut order, mut unix_ns, mut count) = (0, 0, 0);
        for entry in dump.events() {
            let entry = entry.expect("it is readable");
            assert!(
                entry.order > order && entry.unix_ns >= unix_ns,
                "the order is total"
            );
            (order, unix_ns) = (entry.order, entry.unix_ns);
            count += 1;
        }
        assert_eq!(count, written.events);
        let text = fs::read(&written.sidecar).expect("just written");
        let sidecar: crate::dump::Sidecar = serde_json::from_slice(&text).expect("just written");
        let covered: u64 = sidecar.coverage.lanes.iter().map(|lane| lane.records).sum();
        let in_window: usize = Lane::ALL
            .map(|lane| {
                let records = job.window.records(lane);
                let start = job.incident.window_start_boot_ns;
                records.filter(|record| boot_ns(record) >= start).count()
            })
            .iter()
            .sum();
        assert!(covered <= in_window as u64, "no record is made up");
        assert!(
            covered <= count,
            "each is an event; the writer adds its own"
        );
        for lane in &sidecar.loss.lanes {
            // Nothing in the lane of samples comes from probes.
            let of_probes = lane
                .cpus
                .iter()
                .filter(|_| lane.lane != Lane::Sample.name());
            for cpu in of_probes {
                let stats = job
                    .kernel
                    .iter()
                    .find(|stats| stats.lane.name() == lane.lane && stats.cpu == cpu.cpu);
                let stats = stats.expect("the probes counted it").stats;
                assert_eq!(cpu.attempted, Some(stats.attempted));
                let lost: u64 = cpu.lost.values().sum();
                assert_eq!(lost, stats.lost.iter().sum::<u64>());
            }
        }
    }

    /// Demands that all that is listed is whole and that none is missing.
    fn check_directory(&self, directory: &Path) {
        for entry in store::dumps(directory).expect("it is readable") {
            assert!(entry.sidecar_path().exists(), "{entry:?}");
        }
        let report = store::check_chain(directory).expect("it is readable");
        // A disk that failed may have cost the file that is made again from the sidecars, and that is said.
        let is_there = directory.join("chain.json").exists();
        let problems = report
            .problems
            .iter()
            .filter(|problem| is_there || !problem.contains("is gone"));
        assert_eq!(problems.collect::<Vec<_>>(), [""; 0]);
    }

    /// What was not durable when the agent died may be there in part.
    fn tear(&mut self, directory: &Path) {
        for file in fs::read_dir(directory).expect("ours") {
            let path = file.expect("ours").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_whole = faults::is_synced(&path);
            if name.starts_with(TEMPORARY_PREFIX) && !is_whole && self.random.one_in(2) {
                let file = OpenOptions::new().write(true).open(&path).expect("ours");
                let len = file.metadata().expect("ours").len();
                file.set_len(self.random.below(len + 1)).expect("ours");
            }
        }
    }

    /// Demands that the next agent finds all that was committed and not evicted.
    fn recover(&self, agent: &Agent) {
        let old = OldArena::open(&self.ring_path())
            .expect("it is one")
            .expect("it is there");
        let old = old.read().expect("it is readable");
        assert!(old.flaws.is_empty(), "{:?}", old.flaws);
        for lane in Lane::ALL {
            let found: Vec<&[u8]> = old.records(lane).collect();
            let taken = &agent.taken[lane as usize];
            let stats = agent.ring.stats();
            assert_eq!(found.len() as u64, stats.lane(lane).records, "{lane:?}");
            assert!(
                found.iter().eq(&taken[taken.len() - found.len()..]),
                "{lane:?}"
            );
        }
    }

    fn run(&mut self) {
        for _ in 0..2 {
            let mut agent = self.start();
            // What the last one left is put in order.
            let directory = agent.store.directory().to_owned();
            for file in fs::read_dir(&directory).expect("ours") {
                let name = file.expect("ours").file_name();
                assert!(
                    !name.to_string_lossy().starts_with(TEMPORARY_PREFIX),
                    "{name:?}"
                );
            }
            for entry in store::dumps(&directory).expect("it is readable") {
                let report = verify(&entry.path, &mut |_| {}).expect("it is a dump");
                assert_eq!(report.state, State::Complete, "{report:?}");
            }
            self.check_directory(&directory);
            let died = self.live(&mut agent);
            self.recover(&agent);
            if died {
                self.tear(&directory);
            }
        }
        let agent = self.start();
        self.check_directory(agent.store.directory());
    }
}

/// Returns when a record was made.
fn boot_ns(record: &[u8]) -> u64 {
    Header::read_from_prefix(record).map_or(0, |(header, _)| header.boot_ns)
}

/// Demands that every record is somewhere.
fn check_ring(agent: &Agent) {
    let stats = agent.ring.stats();
    for lane in Lane::ALL {
        let (stats, taken) = (stats.lane(lane), &agent.taken[lane as usize]);
        let refused = agent.refused[lane as usize];
        assert_eq!(stats.pushed, stats.records + stats.evicted + stats.dropped);
        assert_eq!(stats.pushed, taken.len() as u64 + refused);
        assert_eq!(stats.dropped, refused);
    }
}

#[test]
fn what_the_design_promises_holds_for_every_seed() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seeds = match number("RECORDER_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RECORDER_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new([0; 3]);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let told = Told(seed);
                    let mut simulation = Simulation::new(seed);
                    simulation.run();
                    drop(told);
                    let mut totals = totals.lock().expect("no thread panics with the lock");
                    let of_seed = [simulation.written, simulation.failed, simulation.died];
                    for (total, more) in totals.iter_mut().zip(of_seed) {
                        *total += more;
                    }
                }
            });
        }
    });
    let [written, failed, died] = totals.into_inner().expect("all threads ended well");
    eprintln!("{count} seeds: {written} dumps, {failed} that failed, {died} deaths");
    assert!(count < 100 || (written > count && failed > 0 && died > 0));
}

/// Says which seed it was, should that end in a panic.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            let seed = self.0;
            eprintln!("seed {seed}: RECORDER_SIM_SEED={seed} does it again");
        }
    }
}
