//! The agent's side: which collectors run for an incident, and what came of them.
//!
//! A few threads wait for incidents. The data plane says that one has opened, which costs it a few messages to a bounded
//! channel; the threads run its collectors, one supervisor each; the writer of dumps asks for the evidence, and waits for it
//! no longer than its deadline. No one but the writer ever waits for a collector.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::statvfs;

use super::collector::{EvidenceConfig, Planned, Work};
use super::environment;
use super::job::{ABSENT, End, Job, Outcome};
use crate::dump::{Attachment, CollectorReport, CollectorState, Evidence, EvidenceReport};
use crate::incident::Incident;
use crate::ingest::now_pair;
use crate::sandbox::Starter;

/// Collections that wait for a thread: twice as many as incidents can be open, for each thread.
const WAITING: usize = 256;
/// How often a thread looks whether its collector is still wanted.
const TICK: Duration = Duration::from_millis(20);
/// How long past a collector's own limit its supervisor may take before it is killed itself.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(2);
/// How long collectors that came too late may take to be ended.
const CLOSE_PATIENCE: Duration = Duration::from_millis(700);
/// Longest outcome that is read.
const OUTCOME_BYTES_MAX: usize = 64 << 10;
/// Least room that a collector is started for.
const ROOM_MIN: u64 = 4096;
/// The share of the free space that one collector may fill: what it puts out is written twice, and the events need room.
const FREE_SHARE: u64 = 4;

/// Starts collections; the data plane has it.
#[derive(Clone, Debug)]
pub struct Collectors {
    sender: Sender<Arc<Collection>>,
    plan: Arc<[Planned]>,
    max_bytes: u64,
    parallel: usize,
}

/// The evidence of one incident, in the making.
#[derive(Debug)]
pub struct Collection {
    incident: Incident,
    plan: Arc<[Planned]>,
    /// The next collector to run.
    next: AtomicUsize,
    /// Set when the dump does not wait any longer.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that collectors may still put out.
    left_bytes: u64,
    /// By place in the plan.
    reports: Vec<Option<CollectorReport>>,
    attachments: Vec<(usize, Attachment)>,
    /// What a thread is at, with what it has put out so far.
    running: Vec<(usize, Started)>,
}

/// A collector that runs.
#[derive(Debug)]
struct Started {
    at: Instant,
    unix_ns: u64,
    boot_ns: u64,
    spool: File,
}

/// What the threads need.
struct Workshop {
    directory: PathBuf,
    keep_free_bytes: u64,
    starter: Starter,
}

impl Collectors {
    /// Starts the threads; `directory` is where output waits for its dump, `starter` starts the collectors.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made or a thread not be started.
    pub fn start(config: &EvidenceConfig, directory: &Path, starter: Starter) -> io::Result<Self> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made?;
        // What an agent that died in the middle of making a file left behind.
        for entry in fs::read_dir(directory)?.flatten() {
            let _ = fs::remove_file(entry.path());
        }
        let (sender, receiver) = bounded(WAITING);
        let workshop = Arc::new(Workshop {
            directory: directory.to_owned(),
            keep_free_bytes: config.keep_free_bytes,
            starter,
        });
        let plan: Arc<[Planned]> = config.plan().into();
        let parallel = config.parallel.min(plan.len());
        for _ in 0..parallel {
            let (receiver, workshop) = (receiver.clone(), Arc::clone(&workshop));
            thread::Builder::new()
                .name("evidence".to_owned())
                .stack_size(256 << 10)
                .spawn(move || workshop.work(&receiver))?;
        }
        Ok(Self {
            sender,
            plan,
            max_bytes: config.max_bytes,
            parallel,
        })
    }

    /// Begins to collect for an incident. Never waits.
    pub fn begin(&self, incident: &Incident) -> Option<Arc<Collection>> {
        if self.plan.is_empty() {
            return None;
        }
        let collection = Arc::new(Collection {
            incident: incident.clone(),
            plan: Arc::clone(&self.plan),
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                left_bytes: self.max_bytes,
                reports: vec![None; self.plan.len()],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        for _ in 0..self.parallel {
            // Without room, those that got through do the work; with none at all, every report says that it was skipped.
            if self.sender.try_send(Arc::clone(&collection)).is_err() {
                break;
            }
        }
        Some(collection)
    }
}

impl Collection {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a collector runs for the rule of this incident.
    fn is_wanted(&self, planned: &Planned) -> bool {
        let rule = self.incident.rule.as_str();
        match &self.incident.collectors {
            Some(named) => named.contains(&planned.name),
            None => planned.rules.is_empty() || planned.rules.iter().any(|name| name == rule),
        }
    }

    /// Takes what has been collected, once it is complete or `patience` has passed; collectors still running are ended, and
    /// what they have put out by then is kept.
    pub fn finish(&self, patience: Duration) -> Evidence {
        self.wait(patience);
        self.closed.store(true, Ordering::Relaxed);
        self.wait(CLOSE_PATIENCE);
        let mut state = self.lock();
        let running = std::mem::take(&mut state.running);
        for (place, started) in running {
            // Not even its supervisor has ended: what is there is kept all the same.
            let mut report = self.report(place, CollectorState::Late);
            report.started_after_ns = Some(self.since_trigger(&started));
            report.detail = Some("it could not be ended before the dump was written".to_owned());
            let bytes = started.spool.metadata().map_or(0, |file| file.len());
            self.keep(&mut state, place, report, started, bytes);
        }
        let mut report = EvidenceReport::default();
        let reports = std::mem::take(&mut state.reports);
        for (place, collected) in reports.into_iter().enumerate() {
            let wanted = self
                .plan
                .get(place)
                .is_some_and(|planned| self.is_wanted(planned));
            report.collectors.extend(collected.or_else(|| {
                let mut skipped = self.report(place, CollectorState::Skipped);
                skipped.detail = Some("its turn did not come in time".to_owned());
                wanted.then_some(skipped)
            }));
        }
        let mut attachments = std::mem::take(&mut state.attachments);
        attachments.sort_by_key(|(place, _)| *place);
        Evidence {
            report,
            attachments: attachments
                .into_iter()
                .map(|(_, attachment)| attachment)
                .collect(),
        }
    }

    /// Waits until every collector that is wanted has been reported.
    fn wait(&self, patience: Duration) {
        let is_incomplete = |state: &mut State| {
            let mut places = self.plan.iter().zip(&state.reports);
            places.any(|(planned, report)| report.is_none() && self.is_wanted(planned))
        };
        drop(
            self.changed
                .wait_timeout_while(self.lock(), patience, is_incomplete),
        );
    }

    fn report(&self, place: usize, state: CollectorState) -> CollectorReport {
        let mut report = CollectorReport {
            state,
            ..CollectorReport::default()
        };
        if let Some(planned) = self.plan.get(place) {
            report.name.clone_from(&planned.name);
            if let Work::Command { shown, .. } = &planned.work {
                report.command.clone_from(shown);
            }
        }
        report
    }

    fn since_trigger(&self, started: &Started) -> u64 {
        started
            .boot_ns
            .saturating_sub(self.incident.trigger.boot_ns)
    }

    /// Files a report and what belongs to it.
    fn keep(
        &self,
        state: &mut State,
        place: usize,
        mut report: CollectorReport,
        started: Started,
        bytes: u64,
    ) {
        report.bytes = bytes;
        if bytes > 0 {
            report.attachment = Some(report.name.clone());
            let attachment = Attachment {
                name: report.name.clone(),
                media_type: media_type(&started.spool).to_owned(),
                created_unix_ns: started.unix_ns,
                finished_unix_ns: now_pair().unix_ns,
                file: started.spool,
                bytes,
            };
            state.attachments.push((place, attachment));
        }
        if let Some(slot) = state.reports.get_mut(place) {
            *slot = Some(report);
        }
        self.changed.notify_all();
    }

    fn skip(&self, place: usize, state: CollectorState, why: String) {
        let mut report = self.report(place, state);
        report.detail = Some(why);
        if let Some(slot) = self.lock().reports.get_mut(place) {
            *slot = Some(report);
        }
        self.changed.notify_all();
    }
}

impl Workshop {
    fn work(&self, collections: &Receiver<Arc<Collection>>) {
        for collection in collections {
            loop {
                let place = collection.next.fetch_add(1, Ordering::Relaxed);
                let Some(planned) = collection.plan.get(place) else {
                    break;
                };
                if collection.closed.load(Ordering::Relaxed) {
                    break;
                }
                if collection.is_wanted(planned) {
                    self.collect(&collection, place, planned);
                }
            }
        }
    }

    /// Runs a collector to its end and files what came of it.
    fn collect(&self, collection: &Collection, place: usize, planned: &Planned) {
        if let Work::Builtin(builtin) = &planned.work
            && let Some(why) = builtin.lacks(&collection.incident.subject)
        {
            return collection.skip(place, CollectorState::Absent, why.to_owned());
        }
        let room = match self.room(collection, planned.max_bytes) {
            Ok(room) => room,
            Err(why) => return collection.skip(place, CollectorState::Skipped, why),
        };
        let used = match self.start(collection, place, planned, room) {
            Ok((child, started)) => {
                collection.lock().running.push((place, started));
                let outcome = Supervisor(child).watch(planned.timeout, &collection.closed);
                collection.file(place, outcome)
            }
            Err(error) => {
                let why = format!("no process for it: {error}");
                collection.skip(place, CollectorState::NotStarted, why);
                0
            }
        };
        collection.lock().left_bytes += room - used.min(room);
    }

    /// Sets aside what a collector may put out, or says why it may not.
    fn room(&self, collection: &Collection, wanted: u64) -> Result<u64, String> {
        let free = match statvfs(&self.directory) {
            Ok(stats) => stats.f_bavail.saturating_mul(stats.f_frsize),
            Err(error) => return Err(format!("no place to write to: {error}")),
        };
        let spare = free.saturating_sub(self.keep_free_bytes) / FREE_SHARE;
        if spare < ROOM_MIN {
            return Err(format!("the file system has only {free} bytes free"));
        }
        // What those that run do not use comes back.
        let is_taken = |state: &mut State| {
            let is_over = collection.closed.load(Ordering::Relaxed) || state.running.is_empty();
            state.left_bytes < ROOM_MIN.min(wanted) && !is_over
        };
        let mut state = collection.lock();
        while is_taken(&mut state) {
            let waited = collection.changed.wait_timeout(state, TICK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let room = wanted.min(state.left_bytes);
        if room < ROOM_MIN.min(wanted) {
            return Err("the incident's evidence has used all its bytes".to_owned());
        }
        let room = room.min(spare);
        state.left_bytes -= room;
        Ok(room)
    }

    fn start(
        &self,
        collection: &Collection,
        place: usize,
        planned: &Planned,
        room: u64,
    ) -> io::Result<(Child, Started)> {
        let spool = self.spool(collection, place)?;
        let mut environment = environment::of(&collection.incident);
        let (command, user) = match &planned.work {
            Work::Builtin(builtin) => (builtin.command(&collection.incident.subject), None),
            Work::Command {
                command,
                user,
                environment: own,
                ..
            } => {
                environment.extend(own.clone());
                (command.clone(), user.as_deref().map(account).transpose()?)
            }
        };
        let job = Job {
            command,
            user,
            environment,
            timeout_ms: u64::try_from(planned.timeout.as_millis()).unwrap_or(u64::MAX),
            max_bytes: room,
            memory_bytes: planned.memory_bytes,
        };
        let clocks = now_pair();
        let started = Started {
            at: Instant::now(),
            unix_ns: clocks.unix_ns,
            boot_ns: clocks.boot_ns,
            spool: spool.try_clone()?,
        };
        let mut supervisor = Command::new("/proc/self/exe");
        supervisor
            .args(["evidence", "supervise"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(spool)
            .stderr(Stdio::piped())
            .current_dir("/");
        let mut child = self.starter.spawn(supervisor)?;
        let mut line = serde_json::to_vec(&job)?;
        line.push(b'\n');
        // The supervisor reads before it does anything else; the pipe stays open as long as the collector is wanted.
        let sent = match child.stdin.as_mut() {
            Some(stdin) => stdin.write_all(&line),
            None => Err(io::Error::other("no pipe")),
        };
        if let Err(error) = sent {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok((child, started))
    }

    /// Makes a file that is gone when nobody has it open any more, whatever happens to the agent.
    fn spool(&self, collection: &Collection, place: usize) -> io::Result<File> {
        let path = self
            .directory
            .join(format!("{}-{place}", collection.incident.id));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

/// Returns uid and gid of a user, by the host's own list.
fn account(name: &str) -> io::Result<(u32, u32)> {
    let list = fs::read("/etc/passwd")?;
    let list = String::from_utf8_lossy(&list);
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let ids = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_it.then_some(ids)
    };
    let found = list.lines().find_map(of_line);
    found.ok_or_else(|| io::Error::other(format!("this host has no user {name:?}")))
}

impl Collection {
    /// Files what a supervisor said; returns how many bytes were put out.
    fn file(&self, place: usize, outcome: Result<Outcome, String>) -> u64 {
        let mut state = self.lock();
        let Some(index) = state
            .running
            .iter()
            .position(|(running, _)| *running == place)
        else {
            // The dump was written without it.
            return 0;
        };
        let (_, started) = state.running.swap_remove(index);
        let spooled = started.spool.metadata().map_or(0, |file| file.len());
        let (mut report, bytes) = match outcome {
            Ok(outcome) => {
                let bytes = outcome.bytes.min(spooled);
                (self.told(place, outcome), bytes)
            }
            Err(why) => {
                let mut report = self.report(place, CollectorState::Crashed);
                report.detail = Some(why);
                (report, spooled)
            }
        };
        report.started_after_ns = Some(self.since_trigger(&started));
        let elapsed = started.at.elapsed().as_nanos();
        report.duration_ns = Some(u64::try_from(elapsed).unwrap_or(u64::MAX));
        self.keep(&mut state, place, report, started, bytes);
        bytes
    }

    /// Puts an outcome into the words of a report.
    fn told(&self, place: usize, outcome: Outcome) -> CollectorReport {
        let planned = self.plan.get(place);
        let is_builtin = planned.is_some_and(|one| matches!(one.work, Work::Builtin(_)));
        let is_absent = is_builtin && outcome.exit_code == Some(i32::from(ABSENT));
        let (state, detail) = match (&outcome.not_started, outcome.ended) {
            (Some(why), _) => (CollectorState::NotStarted, Some(why.clone())),
            (None, Some(End::Timeout)) => (
                CollectorState::TimedOut,
                planned.map(|one| format!("it may take {}", crate::config::Seconds(one.timeout))),
            ),
            (None, Some(End::Flood)) => (
                CollectorState::OverLimit,
                Some("it put out more than it may, and was ended".to_owned()),
            ),
            (None, Some(End::NoSpace)) => (
                CollectorState::OverLimit,
                Some("the file system was full".to_owned()),
            ),
            (None, Some(End::Unwanted)) => (
                CollectorState::Late,
                Some("the dump did not wait any longer".to_owned()),
            ),
            (None, None) if is_absent => (CollectorState::Absent, Some(outcome.stderr.clone())),
            (None, None) if outcome.signal.is_some() => (CollectorState::Crashed, None),
            (None, None) if outcome.exit_code == Some(0) => (CollectorState::Done, None),
            (None, None) => (CollectorState::Failed, None),
        };
        let detail = match (outcome.stuck, detail) {
            (true, Some(detail)) => {
                Some(format!("{detail}; a process of it is stuck in the kernel"))
            }
            (true, None) => Some("a process of it is stuck in the kernel".to_owned()),
            (false, detail) => detail,
        };
        let stderr = (!outcome.stderr.is_empty() && !is_absent).then_some(outcome.stderr);
        CollectorReport {
            detail,
            exit_code: outcome.exit_code.filter(|_| !is_absent),
            // By our own hand, if it was ended.
            signal: outcome.signal.filter(|_| outcome.ended.is_none()),
            killed: outcome.killed,
            truncated: outcome.ended.is_some(),
            stderr,
            ..self.report(place, state)
        }
    }
}

/// A supervisor; it has its job.
struct Supervisor(Child);

impl Supervisor {
    /// Waits for the outcome. A collector that is not wanted any longer is ended by its supervisor; a supervisor that does
    /// not end is killed.
    fn watch(mut self, timeout: Duration, closed: &AtomicBool) -> Result<Outcome, String> {
        let deadline = Instant::now() + timeout + SUPERVISOR_PATIENCE;
        let mut told = Vec::new();
        let mut pipe = self.0.stderr.take();
        let mut block = [0; 4096];
        while let Some(stderr) = pipe.as_mut() {
            if closed.load(Ordering::Relaxed) {
                // Its end of the pipe tells the supervisor.
                drop(self.0.stdin.take());
            }
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return Err("its supervisor hung and was killed".to_owned());
            }
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(TICK.subsec_nanos()),
            };
            let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&tick)), Ok(1..)) {
                continue;
            }
            match stderr.read(&mut block) {
                Ok(count @ 1..) if told.len() < OUTCOME_BYTES_MAX => {
                    told.extend_from_slice(block.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => pipe = None,
            }
        }
        let status = self.0.wait();
        serde_json::from_slice(&told).map_err(|_| match status {
            Ok(status) => format!("its supervisor ended: {status}"),
            Err(error) => format!("its supervisor is gone: {error}"),
        })
    }
}

/// Tells text from other bytes by the beginning.
fn media_type(file: &File) -> &'static str {
    use std::os::unix::fs::FileExt as _;
    let mut head = [0; 4096];
    let count = file.read_at(&mut head, 0).unwrap_or(0);
    let head = head.get(..count).unwrap_or_default();
    let is_text = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character that is cut at the end of what was read.
        Err(error) => error.error_len().is_none(),
    };
    match is_text && !head.contains(&0) {
        true => "text/plain",
        false => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::redact::Rules;

    fn starter() -> Starter {
        Starter::new().expect("a thread")
    }

    fn incident() -> Incident {
        Incident {
            id: Uuid::from_u128(7),
            rule: "manual".to_owned(),
            ..Incident::default()
        }
    }

    fn config(builtin: &[&str]) -> EvidenceConfig {
        EvidenceConfig {
            builtin: builtin.iter().map(|name| (*name).to_owned()).collect(),
            collectors: Vec::new(),
            max_bytes: 10_000,
            parallel: 1,
            keep_free_bytes: 0,
            rules: Rules::new(true, &[]),
        }
    }

    #[test]
    fn room_is_set_aside_of_the_incidents_and_of_the_disks() {
        let directory = tempfile::tempdir().expect("there is room");
        let collectors =
            Collectors::start(&config(&[]), directory.path(), starter()).expect("it starts");
        assert!(
            collectors.begin(&incident()).is_none(),
            "nothing to collect"
        );
        let collection = Collection {
            incident: incident(),
            plan: Arc::default(),
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                left_bytes: 10_000,
                ..State::default()
            }),
            changed: Condvar::new(),
        };
        let mut workshop = Workshop {
            directory: directory.path().to_owned(),
            keep_free_bytes: 0,
            starter: starter(),
        };
        assert_eq!(workshop.room(&collection, 7_000), Ok(7_000));
        let why = workshop
            .room(&collection, 7_000)
            .expect_err("3,000 are too few");
        assert!(why.contains("used all its bytes"), "{why}");
        workshop.keep_free_bytes = u64::MAX;
        let why = workshop
            .room(&collection, 1)
            .expect_err("all is to stay free");
        assert!(why.contains("bytes free"), "{why}");
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        assert_eq!(account("root").expect("every host has it"), (0, 0));
        for name in ["roo", "", "no-such-user"] {
            assert!(account(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_an_agent_left_behind_is_removed() {
        let directory = tempfile::tempdir().expect("there is room");
        fs::write(directory.path().join("left"), "x").expect("ours");
        Collectors::start(&config(&[]), directory.path(), starter()).expect("it starts");
        assert_eq!(fs::read_dir(directory.path()).expect("ours").count(), 0);
    }

    #[test]
    fn collectors_whose_turn_does_not_come_are_reported() {
        let directory = tempfile::tempdir().expect("there is room");
        let mut collectors =
            Collectors::start(&config(&["memory", "process"]), directory.path(), starter())
                .expect("it starts");
        // Nobody listens.
        collectors.sender = bounded(0).0;
        let collection = collectors.begin(&incident()).expect("there are collectors");
        let evidence = collection.finish(Duration::ZERO);
        let states: Vec<CollectorState> = evidence
            .report
            .collectors
            .iter()
            .map(|one| one.state)
            .collect();
        assert_eq!(states, [CollectorState::Skipped; 2]);
    }
}
