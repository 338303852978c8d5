//! The data plane: one thread that owns the kernel rings, the flight ring and the incidents.
//!
//! It copies what the probes wrote into the flight ring, shows each record to the rules, freezes windows and hands them to
//! the thread that writes dumps. It never waits for anyone: who wants something of it sends a [`Command`], and what it has
//! to give goes through a bounded channel; what finds no room there stays frozen and is offered again.

mod budget;
mod clock;
mod commands;
mod flight;
mod news;
mod note;
mod pace;
mod samples;
mod savings;
mod tap;
mod throttle;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use crossbeam_channel::{Sender, TrySendError};
use recorder_ebpf::abi::{CPUS_MAX, EventKind, Header, Lane, NoteKind, OomKill, Saving, decode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uuid::Uuid;

pub use clock::{now_boot_ns, now_pair, wall_clock_error};
pub use commands::{Command, Commands, Triggered};
pub use news::News;
pub use samples::{Ask, Asked, Inlet, Outlet, SAMPLE_BYTES_MAX, samples};
pub use tap::{Batch, Spout, Tap, tap};

use crate::budget::Change;
use crate::dump::{CpuStats, Filtered, RESERVE_BYTES, Throttled, WRITER_BYTES};
use crate::event::{ClockPair, Event};
use crate::evidence::{Collection, Collectors};
use crate::identity::{Directory, Identities, Naming};
use crate::incident::{Engine, EngineStats, Incident, Limits, Manual, NoDump, Outcome, Subject};
use crate::kernel::{Counters, Hierarchies, Rings, Switches, Throttles};
use crate::redact::{Redactor, Rules};
use crate::reserve;
use crate::ring::{FlightRing, RingStats, Share, Window};
use crate::rules::{RuleSet, RuleStats};
use budget::BudgetWatch;
use commands::Inbox;
use flight::{Flight, KINDS};
use note::Notes;
use pace::Pace;
use savings::{Savings, Totals};
use throttle::ThrottleWatch;

/// After how long a window that the writer had no room for is offered again.
const RETRY: Duration = Duration::from_millis(100);
/// Most records taken from the lifecycle ring before the failure ring has its turn again.
const BATCH: usize = 4096;

/// A window on its way to the writer of dumps.
#[derive(Debug)]
pub struct FrozenIncident {
    /// What happened.
    pub incident: Incident,
    /// The records.
    pub window: Window,
    /// When it was frozen.
    pub clock: ClockPair,
    /// What the probes had counted just before the kernel rings were emptied for it: each record that they count is in the
    /// flight ring or lost.
    pub counters: Vec<CpuStats>,
    /// Cgroups of which records were left out.
    pub throttled: Vec<Throttled>,
    /// What was left out to keep to the budget.
    pub filtered: Vec<Filtered>,
    /// What is collected beside the records, perhaps still being so.
    pub evidence: Option<Arc<Collection>>,
}

/// What the data plane holds and counts, at one moment.
#[derive(Debug)]
pub struct State {
    /// The flight ring.
    pub ring: RingStats,
    /// What the probes attempted and lost.
    pub counters: Vec<CpuStats>,
    /// Records taken from the kernel rings, by lane and CPU.
    pub committed: [Vec<u64>; Lane::ALL.len()],
    /// Records taken into the flight ring, by [`EventKind`].
    pub events: [u64; KINDS],
    /// The incidents.
    pub incidents: EngineStats,
    /// What the rules have seen.
    pub rules: Vec<RuleStats>,
    /// News that found no room.
    pub news_dropped: u64,
    /// Incidents opened, by rule.
    pub opened: BTreeMap<String, u64>,
    /// Windows that wait for the writer of dumps.
    pub waiting: u64,
    /// Cgroups of which records are left out, or were of late.
    pub throttled: Vec<Throttled>,
    /// What is left out to keep to the budget, or was of late.
    pub filtered: Vec<Filtered>,
    /// Records of which all or something was left out for that, by [`Saving::ALL`].
    pub left_out: [u64; Saving::ALL.len()],
}

/// What is kept of an incident while it is open.
struct Held {
    id: Uuid,
    /// Held so that nothing of it is overwritten.
    _window: Window,
    evidence: Option<Arc<Collection>>,
}

/// Where the data plane says what people should know.
pub type Report = Box<dyn Fn(&str) + Send>;

/// What the data plane is connected to, beside the kernel.
pub struct Connections {
    /// Where samples come from.
    pub samples: Inlet,
    /// Where windows go.
    pub writer: Sender<FrozenIncident>,
    /// Where it is said what becomes of incidents.
    pub news: Sender<News>,
    /// Who watches live.
    pub tap: Tap,
    /// Where warnings go.
    pub warn: Report,
}

/// The data plane, not yet running.
pub struct DataPlane {
    rings: Rings,
    counters: Arc<Counters>,
    flight: Flight,
    engine: Engine,
    inbox: Inbox,
    samples: Inlet,
    writer: Sender<FrozenIncident>,
    news: Sender<News>,
    news_dropped: u64,
    warn: Report,
    notes: Notes,
    budget: BudgetWatch,
    identities: Identities,
    /// The cgroup hierarchies that records speak of.
    hierarchies: Hierarchies,
    redactor: Redactor,
    committed: [Vec<u64>; Lane::ALL.len()],
    opened: BTreeMap<String, u64>,
    /// What led up to the incidents that are open.
    held: Vec<Held>,
    /// Which cgroups the probes hold to a rate.
    throttles: Option<Throttles>,
    throttle_watch: ThrottleWatch,
    /// What is left out to keep to the budget.
    savings: Savings,
    /// Who collects evidence, if anyone does.
    collectors: Option<Collectors>,
    /// Windows that the writer has no room for yet.
    waiting: VecDeque<FrozenIncident>,
    /// What the probes are told while they run.
    switches: Option<Switches>,
    pace: Pace,
    stopping: bool,
}

impl DataPlane {
    /// Makes the data plane, and the way to it.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    pub fn new(
        rings: Rings,
        counters: Arc<Counters>,
        flight: FlightRing,
        engine: Engine,
        before_ns: u64,
        connections: Connections,
    ) -> io::Result<(Self, Commands)> {
        let Connections {
            samples,
            writer,
            news,
            tap,
            warn,
        } = connections;
        let (commands, inbox) = commands::channel()?;
        let plane = Self {
            rings,
            counters,
            flight: Flight::new(flight, tap),
            engine,
            inbox,
            samples,
            writer,
            news,
            news_dropped: 0,
            warn,
            notes: Notes::default(),
            budget: BudgetWatch::new(before_ns, now_boot_ns()),
            identities: Identities::default(),
            hierarchies: Hierarchies::of_host(),
            redactor: Redactor::new(Rules::new(true, &[])),
            // As large as it will ever be: nothing is allocated for a record.
            committed: [vec![0; CPUS_MAX], vec![0; CPUS_MAX], Vec::new()],
            opened: BTreeMap::new(),
            held: Vec::new(),
            throttles: None,
            throttle_watch: ThrottleWatch::default(),
            savings: Savings::default(),
            collectors: None,
            waiting: VecDeque::new(),
            switches: None,
            pace: Pace::default(),
            stopping: false,
        };
        Ok((plane, commands))
    }

    /// Begins with what somebody has looked up.
    pub fn with_identities(self, identities: Identities) -> Self {
        Self { identities, ..self }
    }

    /// Hides what this one hides, instead of what is hidden by default.
    pub fn with_redactor(self, redactor: Redactor) -> Self {
        Self { redactor, ..self }
    }

    /// Tells of cgroups that the probes hold to a rate.
    #[must_use]
    pub fn with_throttles(self, throttles: Throttles) -> Self {
        let throttles = Some(throttles);
        Self { throttles, ..self }
    }

    /// Tells the probes what to leave out to keep to the budget, and when to wake it.
    #[must_use]
    pub fn with_switches(self, switches: Switches) -> Self {
        let switches = Some(switches);
        Self { switches, ..self }
    }

    /// Lets evidence be collected whenever an incident opens.
    #[must_use]
    pub fn with_collectors(mut self, collectors: Collectors) -> Self {
        self.collectors = Some(collectors);
        self
    }

    /// Records until told to stop.
    pub fn run(mut self, started: &str) {
        self.note(NoteKind::Start, started);
        let mut more = false;
        while !(self.stopping && self.waiting.is_empty()) {
            if !more {
                self.wait();
            }
            more = self.drain();
            self.take_samples();
            self.obey();
            self.close_due();
            self.end_storms();
            self.report_faults();
            self.hand_over();
            self.flight.expire(now_boot_ns());
            self.look_at_budgets();
            self.flight.tap.flush();
            if self.throttle_watch.is_due(now_boot_ns()) {
                self.look_at_throttles();
                self.want_memory();
            }
        }
        self.answer_to_the_end();
    }

    /// Says how much memory a dump may need now.
    fn want_memory(&self) {
        let names = self.identities.directory_bytes();
        if WRITER_BYTES + names > RESERVE_BYTES {
            // All of it once more: tables are wanted in one piece, and what there is may be in several.
            reserve::want(RESERVE_BYTES + names);
        }
    }

    /// Names processes for as long as the writer of dumps asks: it has windows left.
    fn answer_to_the_end(self) {
        let Self {
            inbox,
            identities,
            writer,
            news,
            samples,
            ..
        } = self;
        drop((writer, news, samples));
        while let Some(command) = inbox.wait() {
            if let Command::Identities(cursor, reply) = command {
                let _ = reply.send(identities.page(cursor));
            }
        }
    }

    /// Sleeps until a failure, a command, samples, a filling ring, the end of a window or the next tick.
    fn wait(&self) {
        let mut timeout = self.pace.tick();
        if !self.waiting.is_empty() {
            timeout = timeout.min(RETRY);
        }
        if let Some(deadline) = self.engine.next_deadline() {
            let left = deadline.saturating_sub(now_boot_ns());
            timeout = timeout.min(Duration::from_nanos(left));
        }
        let timeout = Timespec {
            // A few at most.
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let failure = borrow(&self.rings.failure);
        let lifecycle = borrow(&self.rings.lifecycle);
        let mut fds = [
            PollFd::from_borrowed_fd(failure, PollFlags::IN),
            PollFd::from_borrowed_fd(lifecycle, PollFlags::IN),
            PollFd::from_borrowed_fd(self.inbox.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.samples.fd(), PollFlags::IN),
        ];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Takes records from the kernel rings; true if there may be more.
    fn drain(&mut self) -> bool {
        let Self {
            rings,
            flight,
            engine,
            committed,
            samples,
            identities,
            redactor,
            hierarchies,
            savings,
            ..
        } = self;
        // One moment dates all that is taken now.
        let clocks = now_pair();
        // Allocates only if an incident opens.
        let mut opened = Vec::new();
        let mut undumped = Vec::new();
        let mut take = |lane: Lane, record: &[u8]| {
            let record = trimmed(record);
            let mut shown = record;
            if let Some(header) = decode::<Header>(record) {
                if let Some(count) = committed[lane as usize].get_mut(usize::from(header.cpu)) {
                    *count += 1;
                }
                savings.on_record(&header);
                identities.on_record(&header, record);
                // From here on nobody sees what is hidden.
                shown = redactor.apply(&header, record);
            }
            let record = shown;
            flight.record(lane, record);
            if lane == Lane::Failure
                && let Some(kill) = oom_kill(record)
            {
                // Who had the memory is known only now.
                samples.ask(Ask {
                    kind: EventKind::OomKill,
                    memory_cgroup_id: kill.memory_cgroup_id,
                });
            }
            let name = |event: &mut Event| name(identities, *hierarchies, record, event);
            match engine.on_record(record, clocks, name) {
                Some(Outcome::Opened(incident)) => {
                    let window = flight.freeze(incident.window_start_boot_ns, Share::Half);
                    opened.push((incident, window));
                }
                Some(Outcome::Undumped(incident, why)) => undumped.push((incident, why)),
                Some(Outcome::Joined(_) | Outcome::Suppressed | Outcome::Counted(_)) | None => {}
            }
        };
        let mut failures = 0;
        while let Some(failure) = rings.failure.next() {
            failures += 1;
            // Who failed is said by what it executed before, which is in the other ring.
            let failed = boot_ns(&failure);
            let later = loop {
                match rings.lifecycle.next() {
                    Some(record) if boot_ns(&record) < failed => take(Lane::Lifecycle, &record),
                    later => break later,
                }
            };
            take(Lane::Failure, &failure);
            if let Some(record) = later {
                take(Lane::Lifecycle, &record);
            }
        }
        let mut taken = 0;
        while taken < BATCH
            && let Some(record) = rings.lifecycle.next()
        {
            take(Lane::Lifecycle, &record);
            taken += 1;
        }
        self.pace
            .looked(failures + taken > 0, self.switches.as_mut());
        for (incident, window) in opened {
            self.hold(incident, window);
        }
        for (incident, why) in undumped {
            self.refuse(incident, why);
        }
        taken == BATCH
    }

    /// Takes the samples that wait.
    fn take_samples(&mut self) {
        self.samples.clear();
        while let Some(mut record) = self.samples.next() {
            self.notes.sample(&mut self.flight, &mut record);
            let outcome = self.engine.on_record(&record, now_pair(), |_| ());
            self.samples.give_back(record);
            match outcome {
                Some(Outcome::Opened(incident)) => {
                    let start = incident.window_start_boot_ns;
                    let window = self.flight.freeze(start, Share::Half);
                    self.hold(incident, window);
                }
                Some(Outcome::Undumped(incident, why)) => self.refuse(incident, why),
                Some(Outcome::Joined(_) | Outcome::Suppressed | Outcome::Counted(_)) | None => {}
            }
        }
        let dropped = self.samples.dropped();
        if dropped > 0 {
            self.notes.dropped(&mut self.flight, dropped);
            // A record behind the gap, so that it has an end.
            let text = format!("{dropped} samples dropped: they were not taken in time");
            self.notes
                .write(&mut self.flight, NoteKind::Degradation, &text);
        }
    }

    /// Takes everything that is in the kernel rings now, and the samples.
    fn drain_all(&mut self) {
        self.take_samples();
        // Bounded: a host that makes records faster than they are taken is not waited for.
        for _ in 0..256 {
            if !self.drain() {
                break;
            }
        }
    }

    /// Keeps what led up to an incident, and says that there is one.
    fn hold(&mut self, incident: Box<Incident>, window: Window) {
        *self.opened.entry(incident.rule.clone()).or_default() += 1;
        let collectors = self.collectors.as_ref();
        self.held.push(Held {
            id: incident.id,
            _window: window,
            evidence: collectors.and_then(|collectors| collectors.begin(&incident)),
        });
        // The id tells the writer of the dump that this is the remark about its incident.
        let text = format!("{} ({})", incident.summary, incident.id);
        self.note(NoteKind::Incident, &text);
        self.tell(News::Opened(incident));
    }

    /// Says that there is an incident which makes no dump.
    fn refuse(&mut self, incident: Box<Incident>, why: NoDump) {
        let text = format!("{}; no dump: {}", incident.summary, why.words());
        self.note(NoteKind::Limit, &text);
        self.tell(News::Undumped(incident, why));
    }

    /// Puts other rules in force, between two records: each is looked at once, by the old ones or by the new.
    fn set_rules(&mut self, rules: RuleSet, limits: Limits) {
        let text = format!("rules reloaded: {} in force", rules.len());
        self.budget = BudgetWatch::new(rules.longest_before_ns(), now_boot_ns());
        self.engine.set_rules(rules, limits);
        self.note(NoteKind::Reload, &text);
    }

    /// Says which conditions have erred for the first time.
    fn report_faults(&mut self) {
        while let Some(fault) = self.engine.take_fault() {
            (self.warn)(&fault);
            self.note(NoteKind::Degradation, &fault);
        }
    }

    /// Tells of the storms that are over.
    fn end_storms(&mut self) {
        while let Some(storm) = self.engine.storm_over(now_pair()) {
            self.note(NoteKind::Storm, &storm.to_string());
            self.tell(News::StormOver(storm));
        }
    }

    fn tell(&mut self, news: News) {
        let dropped = self.news.try_send(news).is_err();
        self.news_dropped += u64::from(dropped);
    }

    /// Does what other threads ask.
    fn obey(&mut self) {
        self.inbox.clear();
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Trigger {
                    reason,
                    subject,
                    reply,
                } => {
                    let triggered = self.trigger(reason, subject);
                    // Who asked may be gone.
                    let _ = reply.send(triggered);
                }
                Command::State(reply) => {
                    self.drain_all();
                    self.look_at_throttles();
                    let _ = reply.send(self.state());
                }
                Command::Rules(rules, limits, reply) => {
                    self.set_rules(*rules, limits);
                    let _ = reply.send(());
                }
                Command::Everything(reply) => {
                    self.drain_all();
                    let window = self.flight.freeze(0, Share::Half);
                    let _ = reply.send((window, now_pair()));
                }
                Command::Written(bytes) => self.engine.written(bytes, now_boot_ns()),
                Command::Window(since_boot_ns, reply) => {
                    self.drain_all();
                    self.flight.tap.flush();
                    let _ = reply.send(self.flight.freeze(since_boot_ns, Share::Half));
                }
                Command::Learn(processes) => {
                    for process in processes {
                        self.identities.learn_process(process);
                    }
                }
                Command::Identities(cursor, reply) => {
                    let _here = reserve::here();
                    let _ = reply.send(self.identities.page(cursor));
                }
                Command::Budget(change) => self.change_savings(change),
                Command::Note(kind, text) => {
                    (self.warn)(&text);
                    self.note(kind, &text);
                }
                Command::Stop => self.stop(),
            }
        }
    }

    fn trigger(&mut self, reason: Option<String>, subject: Subject) -> Option<Triggered> {
        let text = match &reason {
            Some(reason) => format!("triggered by hand: {reason}"),
            None => "triggered by hand".to_owned(),
        };
        let sequence = self.note(NoteKind::Trigger, &text);
        let manual = Manual {
            reason,
            subject,
            sequence,
        };
        match self.engine.trigger_manual(manual, now_pair()) {
            Outcome::Opened(opened) => {
                let window = self.flight.freeze(opened.window_start_boot_ns, Share::Half);
                let incident = opened.id;
                self.hold(opened, window);
                Some(Triggered {
                    incident,
                    joined: false,
                })
            }
            Outcome::Joined(incident) => Some(Triggered {
                incident,
                joined: true,
            }),
            Outcome::Suppressed | Outcome::Undumped(..) | Outcome::Counted(_) => None,
        }
    }

    fn stop(&mut self) {
        self.engine.end_storms();
        self.end_storms();
        self.note(NoteKind::Stop, "recording ends");
        for incident in self.engine.close_all(now_boot_ns()) {
            self.freeze(incident);
        }
        self.stopping = true;
    }

    /// Freezes the windows that have ended.
    fn close_due(&mut self) {
        while let Some(incident) = self.engine.poll(now_boot_ns()) {
            self.freeze(incident);
        }
    }

    fn freeze(&mut self, incident: Incident) {
        self.look_at_throttles();
        let counters = self.counters();
        // What happened up to the end of the window may still be in a kernel ring.
        self.drain_all();
        let filtered = self.savings.known(&self.left_out(&counters));
        let clock = now_pair();
        let window = self
            .flight
            .freeze(incident.window_start_boot_ns, Share::SevenEighths);
        let held = self.held.iter().position(|held| held.id == incident.id);
        let evidence = held.and_then(|index| self.held.swap_remove(index).evidence);
        self.waiting.push_back(FrozenIncident {
            incident,
            window,
            clock,
            counters,
            throttled: self.throttle_watch.known(),
            filtered,
            evidence,
        });
    }

    /// Offers windows to the writer.
    fn hand_over(&mut self) {
        while let Some(frozen) = self.waiting.pop_front() {
            match self.writer.try_send(frozen) {
                Ok(()) => {}
                Err(TrySendError::Full(frozen)) => {
                    self.waiting.push_front(frozen);
                    break;
                }
                // The writer has ended, which it does only when this thread panics or the process ends.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn look_at_budgets(&mut self) {
        let flight = &self.flight;
        if let Some(warning) = self.budget.check(now_boot_ns(), || flight.stats()) {
            (self.warn)(&warning);
            self.note(NoteKind::Degradation, &warning);
        }
    }

    /// Says which cgroups have begun or ceased to write too many records.
    fn look_at_throttles(&mut self) {
        let Some(throttles) = &mut self.throttles else {
            return;
        };
        let identities = &self.identities;
        let due = self
            .throttle_watch
            .look(now_boot_ns(), throttles.read(), |key| {
                let path = identities.cgroup((key.hierarchy, key.cgroup_id));
                path.map(str::to_owned)
            });
        for key in due.forget {
            throttles.forget(key);
        }
        for text in due.notes {
            (self.warn)(&text);
            self.note(NoteKind::Throttle, &text);
        }
    }

    /// Leaves something out to keep to the budget, or no longer, and says so.
    fn change_savings(&mut self, change: Change) {
        let text = savings::sentence(&change);
        (self.warn)(&text);
        if change.begins {
            // What stands before the note has everything.
            self.note(NoteKind::Budget, &text);
            let totals = self.left_out(&self.counters());
            self.savings.change(change, now_boot_ns(), &totals);
        }
        if let Some(switches) = &mut self.switches
            && let Err(error) = switches.set_savings(change.savings())
        {
            (self.warn)(&format!("the probes cannot be told: {error}"));
        }
        self.samples
            .leave_out(change.savings() >= Saving::Samples as u32);
        if !change.begins {
            // What was made until now is counted by what was in force.
            self.drain_all();
            let totals = self.left_out(&self.counters());
            self.savings.change(change, now_boot_ns(), &totals);
            self.note(NoteKind::Budget, &text);
        }
    }

    /// Returns how many records each saving has left out or reduced.
    fn left_out(&self, counters: &[CpuStats]) -> Totals {
        self.savings.totals(counters, self.samples.left_out())
    }

    fn state(&self) -> State {
        let counters = self.counters();
        let left_out = self.left_out(&counters);
        State {
            filtered: self.savings.known(&left_out),
            left_out,
            throttled: self.throttle_watch.known(),
            ring: self.flight.stats(),
            counters,
            committed: self.committed.clone(),
            events: self.flight.events,
            incidents: self.engine.stats(),
            rules: self.engine.rule_stats(),
            news_dropped: self.news_dropped,
            opened: self.opened.clone(),
            waiting: self.waiting.len() as u64,
        }
    }

    /// Counters that the kernel does not give are absent; dumps then say that losses are unknown.
    fn counters(&self) -> Vec<CpuStats> {
        let mut counters = Vec::new();
        for lane in Lane::ALL {
            let cpus = self.counters.lane(lane).unwrap_or_default();
            counters.extend(
                (0..)
                    .zip(cpus)
                    .map(|(cpu, stats)| CpuStats { lane, cpu, stats }),
            );
        }
        counters
    }

    /// Writes a note and returns its sequence number.
    fn note(&mut self, kind: NoteKind, text: &str) -> u64 {
        // What came before it stands before it.
        self.take_samples();
        self.notes.write(&mut self.flight, kind, text)
    }
}

/// Says who the process of an event is, by what the tables know.
fn name(identities: &Identities, hierarchies: Hierarchies, record: &[u8], event: &mut Event) {
    let directory = Directory::of_record(identities, record, hierarchies);
    Naming::new(&directory).name(record, event);
}

/// Cuts a record to the length that its header says: a probe may have reserved more.
fn trimmed(record: &[u8]) -> &[u8] {
    let len = decode::<Header>(record).map_or(record.len(), |header| header.len as usize);
    record.get(..len).unwrap_or(record)
}

/// Returns when a record was made, in nanoseconds since boot.
fn boot_ns(record: &[u8]) -> u64 {
    decode::<Header>(record).map_or(0, |header| header.boot_ns)
}

/// Returns a record as a kill for memory, if it is one.
fn oom_kill(record: &[u8]) -> Option<OomKill> {
    let header = decode::<Header>(record)?;
    (header.kind == EventKind::OomKill as u8).then(|| decode(record))?
}

fn borrow(ring: &RingBuf<MapData>) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to the ring and stays open while the ring is borrowed.
    unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }
}
