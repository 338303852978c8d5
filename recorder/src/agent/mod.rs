//! `recorder run`: puts the parts together.
//!
//! | thread | does |
//! |---|---|
//! | main | starts, then the control plane: signals and the control socket |
//! | `data` | the data plane: kernel rings, flight ring, incidents |
//! | `desk` | gives frozen windows to those who write them |
//! | `dumps` | each writes dumps into one directory |
//! | `dump-compress` | compresses what one of those has encoded, and writes it |
//! | `tags` | reads dumps once they are durable, and proposes tags |
//! | `news` | says what becomes of incidents beside their dumps |
//! | `catalog` | keeps that |
//! | `samples` | samples the host, reads the kernel's log |
//! | `live` | decodes records for who watches live, if anyone does |
//! | `notify` | each tells one target of incidents |
//! | `look` | looks for processes that were forked and have executed nothing |
//! | `space` | looks at what the dumps take, and what is free beside them |
//! | `state` | each waits for the state directory's file system when the agent starts |
//! | `budget` | measures what recording costs, and decides what is left out |
//! | `builds` | reads the build IDs of what was executed |
//! | `names` | reads the files of what crashed |
//! | `starter` | starts programs, and the threads that look at the host |
//! | `evidence` | each waits for one collector |
//! | `twin` | copies the ring to disk, if it is to outlive the kernel |
//!
//! What each may do is in [`sandbox::agent`]: `data`, `samples`, `live`, `look`, `budget`, `builds` and `names` look and write no
//! file; all others but the starter write to the agent's own directories.

mod crash;
mod desk;
mod directories;
mod host;
mod killed;
mod lock;
mod news;
mod previous;
mod pstore;
mod recover;
mod reload;
mod service;
mod socket;
mod space;
mod status;
mod tagger;
mod twin;
mod writer;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::api;
use crate::budget;
use crate::config::{Paths, RecordConfig, Seconds, saturating_ns};
use crate::dump::{Limits, ProbeState, RESERVE_BYTES};
use crate::evidence::{Collectors, EvidenceConfig};
use crate::export::Envelope;
use crate::harmless::escape;
use crate::identity::{Directory, Identities, Look, look_at_host};
use crate::incident::{Engine, Subject};
use crate::ingest::{Command, Commands, Connections, DataPlane, now_pair, samples, tap};
use crate::kernel::{self, Kernel, Rates, TaskIterator};
use crate::live::Fanout;
use crate::notify::Notifier;
use crate::redact::{Redactor, Rules};
use crate::reserve;
use crate::ring::{FlightRing, RingConfig};
use crate::sample::{SampleConfig, Samples};
use crate::sandbox::{self, Starter};
use crate::sign::SigningKey;
use crate::store::{self, Budget, Store};
use crate::units::bytes;
use desk::{Desk, Target, Teller};
use lock::Lock;
use previous::Previous;
pub use recover::{Recovered, is_in_use, recover};
pub use reload::Load;
use reload::Reloader;
use space::Space;
use status::StatusMaker;
use twin::Kept;
use writer::Writer;

/// Windows that wait for the writer of dumps; further ones wait in the data plane.
const WRITER_QUEUE: usize = 8;

/// News of incidents that wait to be taken; further ones are dropped and counted.
const NEWS_QUEUE: usize = 1024;

/// Dumps that wait to be looked at; further ones have no tags proposed.
const TAGGER_QUEUE: usize = 64;

/// Most bytes of dumps in the run directory, which is memory.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// What such dumps leave free of it, in percent.
const RUN_KEEP_FREE_PERCENT: u64 = 10;

/// How often processes are looked for that were forked and have executed nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Most processes that one command tells of.
const LEARN_MAX: usize = 256;

/// Memory that an agent needs beside its ring, most of it while it starts.
const MEMORY_MIN: u64 = 48 << 20;

/// What the memory that is set aside for dumps grows to at most, with the processes and cgroups that are known.
const RESERVE_BYTES_MAX: usize = 32 << 20;

/// How long a file system may take to answer when the agent starts.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for what it still does when the agent ends.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether counters have risen.
const JUDGE_INTERVAL: Duration = Duration::from_secs(10);
/// Of twenty, the priority that everything but recording and dumping gives up.
const NICENESS: i32 = 5;
/// The same for what nobody waits for.
const NICENESS_LAST: i32 = 19;

/// Records until a signal ends it.
///
/// # Errors
///
/// If recording cannot begin.
pub fn run(paths: &Paths, config: &RecordConfig, load: Load) -> Result<()> {
    config.validate()?;
    budget::map_large_blocks();
    // Before anybody uses it.
    if !store::share_allocator() {
        warn("the catalog takes its memory from the system");
    }
    let limit = budget::limit_of_this_process();
    fits(config, limit.as_ref())?;
    let rules = reload::compile(config)?;
    kernel::check()?;
    let start = now_pair();
    directories::run(&paths.run_dir)?;
    let _lock = Lock::take(&paths.run_dir)?;
    let state_dir = paths.state_dir.clone();
    let _state_lock = match within("state", move || lock_state(&state_dir))? {
        Some(lock) => lock?,
        None => {
            warn(&format!(
                "the state directory is not locked: {} does not answer; recording goes on",
                paths.state_dir.display()
            ));
            None
        }
    };
    let key = config.dumps_sign_key.as_ref().map(Path::new);
    let key = key.map(SigningKey::load).transpose()?.map(Arc::new);
    let store = open_store(paths, config)?;
    let store = Arc::new(store.with_key(key.clone()));
    // Before their files make way for ours.
    let twins = {
        let (twin, config) = (paths.twin(), ring_config(config));
        within("state", move || Previous::find(&twin, &config))?
    };
    let rings = Previous::find(&paths.ring(), &ring_config(config));
    let previous = Previous::choose(rings, twins.unwrap_or_default());
    // Side by side: the kernel checks the programs while the ring's memory is made present.
    let rates = Rates {
        failures: config.limit_failures_per_second,
        processes: config.limit_processes_per_second,
    };
    let (loaded, flight) = thread::scope(|scope| {
        let flight = scope.spawn(|| FlightRing::create(Some(&paths.ring()), &ring_config(config)));
        (Kernel::load(rates), flight.join())
    });
    let flight = flight.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let Kernel {
        rings,
        counters,
        throttles,
        switches,
        mut probes,
        tasks,
        attachment,
    } = loaded?;
    budget::give_back_memory();
    budget::give_back_arenas();
    lock_memory();
    set_aside();
    let counters = Arc::new(counters);
    let (frozen, incidents) = bounded(WRITER_QUEUE);
    let (tell, news) = bounded(NEWS_QUEUE);
    let (tap, spout) = tap();
    let (outlet, inlet) = samples().context("cannot sample the host")?;
    let mut tasks_to_look = tasks
        .as_ref()
        .map(TaskIterator::try_clone)
        .transpose()
        .context("cannot look at the processes")?;
    let samples = Samples::new(sample_config(config), outlet, tasks);
    probes.extend_from_slice(samples.probes());
    let (plane, commands) = DataPlane::new(
        rings,
        Arc::clone(&counters),
        flight,
        Engine::new(reload::limits(config), rules),
        saturating_ns(config.longest_before()),
        Connections {
            samples: inlet,
            writer: frozen,
            news: tell,
            tap,
            warn: Box::new(warn),
        },
    )
    .context("cannot start the data plane")?;
    let listener = socket::listen(&paths.control_socket(), config)?;
    let metrics = config.metrics_listen.map(listen_for_metrics).transpose()?;
    // All that needed more is open, and no other thread is there yet.
    if let Err(error) = sandbox::agent::give_up_privileges() {
        warn(&format!(
            "it keeps privileges that it does not need: {error}"
        ));
    }
    for probe in &probes {
        match (probe.state, &probe.detail) {
            (ProbeState::Unavailable, Some(detail)) => {
                warn(&format!("{} is not recorded: {detail}", probe.event));
            }
            (ProbeState::Fallback, Some(detail)) => {
                warn(&format!(
                    "{} is recorded by {}: {detail}",
                    probe.event, probe.hook
                ));
            }
            (ProbeState::Attached | ProbeState::Fallback | ProbeState::Unavailable, _) => {}
        }
    }
    let mut identities = Identities::default();
    let builds = identities.read_builds();
    if let Err(error) = look_at_host(&mut identities, tasks_to_look.as_mut()) {
        warn(&format!(
            "the processes that run already have no names: {error}"
        ));
    }
    let starter = Starter::new().context("cannot start a thread")?;
    confine(paths, config);
    let plane = match collectors(paths, config, &starter) {
        Some(collectors) => plane.with_collectors(collectors),
        None => plane,
    };
    let redactor = Redactor::new(redaction(config)).without_stacks(config.no_stack_memory);
    let plane = plane
        .with_identities(identities)
        .with_redactor(redactor)
        .with_throttles(throttles)
        .with_switches(switches);
    let started = banner(paths, config, &probes);
    let dumps = Arc::new(Mutex::new(api::DumpStatus::default()));
    let host = host::identify(config.environment.clone());
    let keeper = news::Keeper {
        store: Arc::clone(&store),
        host: host.clone(),
    };
    let described = described(config).context("cannot describe the configuration")?;
    let described = Arc::new(Mutex::new(described));
    let (notifier, notifications) = Notifier::start(&config.notify, starter.clone(), warn)
        .context("cannot start a thread to notify")?;
    let (tagger, dumps_to_tag) = bounded(TAGGER_QUEUE);
    let tagging = {
        let store = Arc::clone(&store);
        spawn("tags", move || tagger::run(&dumps_to_tag, &store))?
    };
    let teller = Arc::new(Teller {
        status: Arc::clone(&dumps),
        commands: commands.clone(),
        notifier: notifier.clone(),
        host: host.clone(),
        tagger,
    });
    let fallbacks = fallbacks(paths, config, key.as_ref());
    let fallback_dumps: Vec<PathBuf> = fallbacks
        .iter()
        .map(|(store, _)| store.directory().to_owned())
        .collect();
    let (namer, naming) = crash::namer();
    // Ends with those that write dumps, and is not waited for: a file system may not answer.
    let _naming = observe(&starter, "names", move || naming.run())?;
    let max_dump_bytes = config.max_dump_bytes.0;
    let stores = std::iter::once((store, max_dump_bytes)).chain(fallbacks);
    let (done, came_back) = unbounded();
    let mut targets = Vec::new();
    let mut previous = previous;
    for (number, (store, max_dump_bytes)) in stores.enumerate() {
        let (jobs, waiting) = unbounded();
        targets.push(Target {
            directory: store.directory().to_owned(),
            jobs,
            is_busy: false,
        });
        let is_fallback = number > 0;
        let writer = Writer {
            store,
            limits: Limits { max_dump_bytes },
            host: host.clone(),
            start,
            config: Arc::clone(&described),
            probes: probes.clone(),
            counters: Arc::clone(&counters),
            evidence_patience: config.evidence_grace,
            commands: commands.clone(),
            teller: Arc::clone(&teller),
            number,
            is_fallback,
            fallbacks: match is_fallback {
                true => Vec::new(),
                false => fallback_dumps.clone(),
            },
            directory: Directory::default(),
            namer: namer.clone(),
            starter: starter.clone(),
            previous: std::mem::take(&mut previous)
                .into_iter()
                .map(|old| (old, now_pair()))
                .collect(),
        };
        let done = done.clone();
        // Not waited for: a file system may not answer.
        let _writer = spawn("dumps", move || writer.run(&waiting, &done))?;
    }
    drop(done);
    let desk = Desk::new(targets, came_back, teller, config.evidence_grace);
    let writer = spawn("desk", move || desk.run(&incidents))?;
    let (keep, kept) = bounded(NEWS_QUEUE);
    let keeping = spawn("catalog", move || news::keep(&kept, &keeper))?;
    let news = {
        let (notifier, host) = (notifier.clone(), host.clone());
        spawn("news", move || {
            news::run(&news, &keep, &notifier, &host);
        })?
    };
    // Ends with the data plane, and is not waited for: a filesystem may not answer.
    let _builds = observe(&starter, "builds", move || builds.run())?;
    let data = {
        let started = started.clone();
        observe(&starter, "data", move || plane.run(&started))?
    };
    let envelope = Envelope {
        environment: host.environment.as_deref(),
        host: Some(&host.hostname),
        incident: None,
    };
    let (fanout, live) = Fanout::new(spout, commands.clone(), &envelope);
    let fanout = observe(&starter, "live", move || {
        give_way(NICENESS);
        fanout.run();
    })?;
    let sample_counters = samples.counters();
    let samples = observe(&starter, "samples", move || samples.run())?;
    let twin = match config.ring_sync.is_zero() {
        true => None,
        false => Some(Kept::start(paths.ring(), paths.twin(), config.ring_sync)?),
    };
    let (twin, twin_status) = twin.unzip();
    let contract = Arc::new(budget::Shared::new(config.contract()));
    let maker = StatusMaker {
        contract: Arc::clone(&contract),
        start,
        config: config.clone(),
        dumps_dir: paths.dumps(),
        space: Space::start(paths.dumps(), config)?,
        probes,
        counters: Arc::clone(&counters),
        samples: sample_counters,
        dumps,
        live: live.clone(),
        notifier: notifier.clone(),
        watch: Mutex::default(),
        twin: twin_status,
    };
    let reloader = Arc::new(Reloader {
        load,
        running: Mutex::new(config.clone()),
        described,
        commands: commands.clone(),
        notifier: notifier.clone(),
        contract: Arc::clone(&contract),
    });
    let (stop_measuring, measured) = bounded(0);
    let watch = budget::Watch::new(contract, Arc::clone(&counters), commands.clone());
    let watch = observe(&starter, "budget", move || watch.run(&measured))?;
    let agent = api::Agent {
        commands: commands.clone(),
        status: Box::new(move |state| maker.status(state)),
        reload: {
            let reloader = Arc::clone(&reloader);
            Box::new(move || reloader.reload())
        },
        rehearse: {
            let reloader = Arc::clone(&reloader);
            Box::new(move |rules| reloader.rehearse(rules))
        },
        live,
        state_dir: paths.state_dir.clone(),
        runs: Box::new(move || counters.runs()),
        measuring: tokio::sync::Mutex::default(),
        log,
    };
    let (stop_looking, stopped) = bounded(0);
    let look = match tasks_to_look {
        Some(tasks) => {
            let commands = commands.clone();
            let look = Look::new(tasks);
            Some(observe(&starter, "look", move || {
                look_around(look, &commands, &stopped)
            })?)
        }
        None => None,
    };
    say(&started);
    drop((commands, notifier));
    let served = control(listener, metrics, agent, reloader);
    drop::<Sender<()>>(stop_looking);
    drop::<Sender<()>>(stop_measuring);
    join(watch)?;
    if let Some(look) = look {
        join(look)?;
    }
    join(fanout)?;
    // The data plane ends first: it hands its last windows to the desk, which sees to it that they are written, and then names
    // processes for as long as somebody writes.
    join(writer)?;
    if let Some(twin) = twin {
        twin.finish();
    }
    join(news)?;
    // A file system that does not answer does not keep the agent from ending.
    let deadline = Instant::now() + LAST_PATIENCE;
    for thread in [data, samples, tagging, keeping] {
        join_until(deadline, thread)?;
    }
    // Who is to know of the last dumps.
    notifications.join();
    drop(attachment);
    // Whoever connects from now on is told that nobody is there.
    let _ = fs::remove_file(paths.control_socket());
    served
}

/// Tells the data plane of processes that no record shows, and sets aside what a dump takes to name them all, until it is told to
/// stop.
fn look_around(mut look: Look, commands: &Commands, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_INTERVAL) {
        // The next look is as good as this one.
        let new = look.again().unwrap_or_default();
        for some in new.chunks(LEARN_MAX) {
            commands.send(Command::Learn(some.to_vec()));
        }
        // What it cannot get now it may get next time; what a dump lacks is counted.
        let _ = reserve::grow();
    }
}

/// The control plane: runs until a signal says to stop.
fn control(
    listener: UnixListener,
    metrics: Option<TcpListener>,
    agent: api::Agent,
    reloader: Arc<Reloader>,
) -> Result<()> {
    give_way(NICENESS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control plane")?;
    let commands = agent.commands.clone();
    let stop = commands.clone();
    let agent = Arc::new(agent);
    let result = runtime.block_on(async move {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        tokio::spawn(api::serve(listener, api::router(Arc::clone(&agent))));
        if let Some(metrics) = metrics {
            let listener = tokio::net::TcpListener::from_std(metrics)?;
            let router = api::metrics_router(Arc::clone(&agent));
            tokio::spawn(api::serve_tcp(listener, router));
        }
        tokio::spawn(service::keep_telling(Arc::clone(&agent)));
        tokio::spawn(keep_judging(agent));
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut trigger = signal(SignalKind::user_defined1())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    let reloader = Arc::clone(&reloader);
                    // It says itself how it went.
                    tokio::task::spawn_blocking(move || reloader.reload());
                }
                _ = trigger.recv() => {
                    // Nobody waits for the answer: the dump's line is the answer.
                    let (reply, _) = oneshot::channel();
                    let reason = Some("SIGUSR1".to_owned());
                    let subject = Subject::default();
                    commands.send(Command::Trigger { reason, subject, reply });
                }
            }
        }
        service::stopping().await;
        io::Result::Ok(())
    });
    // With it go all connections, and with them the live thread.
    runtime.shutdown_background();
    stop.send(Command::Stop);
    result.context("the control plane failed")
}

/// Looks at the counters though nobody asks, so that it is known when they rose.
async fn keep_judging(agent: Arc<api::Agent>) {
    loop {
        tokio::time::sleep(JUDGE_INTERVAL).await;
        let (reply, answer) = oneshot::channel();
        if agent.commands.send(Command::State(reply))
            && let Ok(state) = answer.await
        {
            (agent.status)(state);
        }
    }
}

/// Lets the data plane go before this thread when there is too little CPU time for both.
fn give_way(niceness: i32) {
    // On Linux, of this thread alone.
    let _ = rustix::process::nice(niceness);
}

fn listen_for_metrics(address: SocketAddr) -> Result<TcpListener> {
    let context = || format!("cannot listen on {address}: give another --metrics-listen");
    let listener = TcpListener::bind(address).with_context(context)?;
    listener.set_nonblocking(true).with_context(context)?;
    Ok(listener)
}

/// Makes a directory for its owner alone, if it is not there.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Keeps a second agent from removing what this one writes. Where nothing can be written, nothing is to be locked: it records
/// nevertheless.
fn lock_state(directory: &Path) -> Result<Option<Lock>> {
    let made =
        make_private(directory).with_context(|| format!("cannot create {}", directory.display()));
    let made = made.and_then(|()| directories::state(directory));
    match made.and_then(|()| Lock::take(directory)) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if is_unwritable(&error) => {
            warn(&format!("the state directory is not locked: {error:#}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens the directory of dumps, or does without for now.
fn open_store(paths: &Paths, config: &RecordConfig) -> Result<Store> {
    let (state_dir, budget) = (paths.state_dir.clone(), budget(config));
    let store = within("state", {
        let state_dir = state_dir.clone();
        move || Store::open(&state_dir, budget)
    })?;
    match store {
        Some(store) => Ok(store?),
        None => Ok(Store::unopened(&state_dir, budget)),
    }
}

/// Tells whether a file system takes no more.
fn is_unwritable(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(store::may_pass)
}

/// Starts those who collect evidence. That they cannot be started is no reason not to record.
/// Keeps what the agent uses in memory, from its program on, where the limit allows for all of it: a host that is short of memory
/// drops what can be read again, and recording would wait for a disk. The ring is locked by itself.
fn lock_memory() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Who may raise it does; else it stands. What is locked below a limit fails to grow when that is reached.
    let _ = setrlimit(Resource::Memlock, unlimited);
    if getrlimit(Resource::Memlock) == unlimited {
        // What is not used yet is locked when it is.
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
}

/// Sets memory aside for dumps. Without it, they are written with what the system gives.
fn set_aside() {
    if let Err(error) = reserve::fill(RESERVE_BYTES, RESERVE_BYTES_MAX) {
        warn(&format!("no memory is set aside for dumps: {error}"));
    }
}

/// Checks that the kernel would not kill the agent for its ring as soon as that is made.
fn fits(config: &RecordConfig, limit: Option<&(String, u64)>) -> Result<()> {
    let Some((cgroup, limit)) = limit else {
        return Ok(());
    };
    let ring: u64 = ring_config(config).lane_bytes.iter().sum();
    if ring.saturating_add(MEMORY_MIN) > *limit {
        bail!(
            "the flight ring of {} and {} beside it do not fit into the {} that cgroup {} may hold: raise its limit \
             (MemoryMax=), or lower memory.failure_bytes, memory.lifecycle_bytes and memory.sample_bytes",
            bytes(ring),
            bytes(MEMORY_MIN),
            bytes(*limit),
            escape(cgroup)
        );
    }
    Ok(())
}

/// Binds this thread, and with it all that it starts, to the agent's own directories.
fn confine(paths: &Paths, config: &RecordConfig) {
    let fallbacks = config.dumps_fallback.iter().map(Path::new);
    // "run" and "none" are no paths.
    let fallbacks = fallbacks.filter(|path| path.is_absolute());
    let again = std::iter::once(paths.state_dir.as_path()).chain(fallbacks);
    let mut kept = vec![paths.run_dir.clone()];
    for directory in again {
        kept.push(sandbox::agent::place_of(directory).to_owned());
        // Where a link leads now; what it is made to lead to later is another place.
        let link = directory.to_owned();
        if let Ok(Some(Ok(real))) = within("state", move || fs::canonicalize(link)) {
            kept.push(sandbox::agent::place_of(&real).to_owned());
        }
    }
    if let Err(error) = sandbox::agent::keep(&kept) {
        warn(&format!("it may write where it need not: {error}"));
    }
}

fn collectors(paths: &Paths, config: &RecordConfig, starter: &Starter) -> Option<Collectors> {
    if !config.evidence {
        return None;
    }
    let evidence = EvidenceConfig {
        builtin: config.evidence_builtin.clone(),
        collectors: config.collectors.clone(),
        max_bytes: config.evidence_max_bytes.0.min(config.max_dump_bytes.0 / 2),
        parallel: usize::try_from(config.evidence_parallel).unwrap_or(1),
        keep_free_bytes: config.dumps_keep_free.0,
        rules: redaction(config),
    };
    let directory = paths.state_dir.join("evidence");
    let starter = starter.clone();
    let started = within("state", move || {
        Collectors::start(&evidence, &directory, starter)
    });
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    let started = started.and_then(|started| Ok(started.ok_or_else(silent)??));
    match started {
        Ok(collectors) => Some(collectors),
        Err(error) => {
            warn(&format!("no evidence is collected: {error}"));
            None
        }
    }
}

fn redaction(config: &RecordConfig) -> Rules {
    Rules::new(!config.no_default_redaction, &config.redact_word)
}

/// Returns the configuration as a dump tells it: without the secrets in the commands of collectors.
fn described(config: &RecordConfig) -> serde_json::Result<serde_json::Value> {
    let mut told = config.clone();
    for collector in &mut told.collectors {
        collector.command = redaction(config).hidden(&collector.command);
    }
    serde_json::to_value(told)
}

fn budget(config: &RecordConfig) -> Budget {
    Budget {
        max_bytes: config.dumps_max_bytes.0,
        max_count: config.dumps_max_count,
        keep_free_bytes: config.dumps_keep_free.0,
        keep_free_percent: config.dumps_keep_free_percent,
        max_age: config.dumps_max_age,
    }
}

/// Opens what dumps are written to that cannot be written where they belong, each with its largest dump in bytes. One that
/// cannot be opened is said and left out.
fn fallbacks(
    paths: &Paths,
    config: &RecordConfig,
    key: Option<&Arc<SigningKey>>,
) -> Vec<(Arc<Store>, u64)> {
    let mut stores = Vec::new();
    for name in config.dumps_fallback.iter().filter(|name| *name != "none") {
        let mut budget = budget(config);
        let mut max_dump_bytes = config.max_dump_bytes.0;
        let directory = match name.as_str() {
            "run" => {
                // It is memory.
                budget.max_bytes = budget.max_bytes.min(RUN_BYTES_MAX);
                budget.keep_free_bytes = 0;
                budget.keep_free_percent = RUN_KEEP_FREE_PERCENT;
                max_dump_bytes = max_dump_bytes.min(RUN_BYTES_MAX / 2);
                &paths.run_dir
            }
            other => Path::new(other),
        };
        // One that is not there is made for the agent alone.
        let is_closed = !directory.exists() || directories::state(directory).is_ok();
        let opened = match is_closed {
            true => Store::open(directory, budget).map_err(anyhow::Error::from),
            false => Err(anyhow::anyhow!("everybody can write there")),
        };
        match opened {
            Ok(store) => stores.push((Arc::new(store.with_key(key.cloned())), max_dump_bytes)),
            Err(error) => warn(&format!(
                "no dump can go to {}: {error:#}",
                directory.display()
            )),
        }
    }
    stores
}

fn ring_config(config: &RecordConfig) -> RingConfig {
    RingConfig {
        lane_bytes: [
            config.failure_bytes.0,
            config.lifecycle_bytes.0,
            config.sample_bytes.0,
        ],
        max_age_ns: config.max_age.map(saturating_ns),
        made: Some(now_pair()),
        ..RingConfig::default()
    }
}

fn sample_config(config: &RecordConfig) -> SampleConfig {
    SampleConfig {
        interval: config.sample_interval,
        ignored: config.kernel_log_ignore.clone(),
    }
}

/// The line that says that recording has begun, and how.
fn banner(paths: &Paths, config: &RecordConfig, probes: &[crate::dump::Probe]) -> String {
    let recording: Vec<&str> = probes
        .iter()
        .filter(|probe| probe.state != ProbeState::Unavailable)
        .map(|probe| probe.event.as_str())
        .collect();
    let fallbacks = probes
        .iter()
        .filter(|probe| probe.state == ProbeState::Fallback)
        .count();
    format!(
        "recording {} of {} probes ({}; {} by fallback); ring: failure {}, lifecycle {}, sample {}; \
         window: {} before, {} after; dumps: {}",
        recording.len(),
        probes.len(),
        recording.join(", "),
        fallbacks,
        config.failure_bytes,
        config.lifecycle_bytes,
        config.sample_bytes,
        Seconds(config.before),
        Seconds(config.after),
        paths.dumps().display(),
    )
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .with_context(|| format!("cannot start thread {name}"))
}

/// Starts a thread that looks at the host, and writes only to what is open.
fn observe(
    starter: &Starter,
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>> {
    let observer = move || {
        if let Err(error) = sandbox::agent::observe() {
            warn(&format!("thread {name} may do what it need not: {error}"));
        }
        body();
    };
    starter
        .thread(name, observer)
        .with_context(|| format!("cannot start thread {name}"))
}

fn join(thread: JoinHandle<()>) -> Result<()> {
    let name = thread.thread().name().unwrap_or("?").to_owned();
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("thread {name} panicked"))
}

/// Waits for a thread as long as there is time.
fn join_until(deadline: Instant, thread: JoinHandle<()>) -> Result<()> {
    while !thread.is_finished() {
        if Instant::now() > deadline {
            let name = thread.thread().name().unwrap_or("?");
            warn(&format!("thread {name} is not waited for any longer"));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
    join(thread)
}

/// Does something in a directory that may be on a file system which does not answer; `None` if it does not.
fn within<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, done) = bounded(1);
    let _held_up = spawn(name, move || {
        // Who waited may have given up.
        let _ = sender.send(body());
    })?;
    Ok(done.recv_timeout(START_PATIENCE).ok())
}

/// Prints a result, whose words may be a stranger's; that nobody reads it any more does not stop the recording.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", escape(line)).and_then(|()| out.flush());
}

/// Says who changed what.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "recorder: {}", escape(line));
}

/// Prints a note for people.
fn warn(line: &str) {
    let _ = writeln!(io::stderr(), "recorder: warning: {}", escape(line));
}
