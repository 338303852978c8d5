//! `cargo xtask vm`: the end-to-end tests on the kernels of distributions, in emulated machines.
//!
//! The same tests as on the host, built once: a guest gets them in its initramfs, with the agent, a shell, the modules of
//! its kernel and disks that fail, and reports through a virtual serial port.

pub mod arch;
pub mod archive;
mod cpio;
mod disks;
mod docs;
pub mod emulator;
mod guest;
mod kernels;
pub mod machine;
mod modules;
mod outcome;
mod power;
pub mod userland;

use std::ffi::OsStr;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{packages, paths};
use arch::Arch;
use emulator::Emulator;
use guest::{Content, Suite};
use kernels::{ENDS, Kernel, RELEASES, Release};
use machine::Machine;
use outcome::{Outcome, Verdict};

/// What a guest is given, and which tests it runs.
#[derive(Debug)]
struct Size {
    /// What stands behind the kernel's name in that of its directory.
    suffix: &'static str,
    /// In MiB.
    memory: u32,
    /// Words of its kernel's command line.
    words: &'static str,
    /// What its tests find there.
    content: Content,
}

/// Memory of a guest whose kernel dies, in MiB.
const MEMORY: u32 = 1536;

/// A guest for most tests.
const ORDINARY: Size = Size {
    suffix: "",
    // The dumps and rings of a file of tests are in it.
    memory: 2560,
    words: "quiet",
    content: Content::All,
};

/// A guest that runs out of memory.
const SMALL: Size = Size {
    suffix: "-small",
    memory: 256,
    words: "quiet RECORDER_SMALL=1",
    content: Content::Least,
};

/// The file of tests for [`SMALL`] ones, which runs nowhere else.
const SMALL_FILE: &str = "memory";

/// Files of tests that no guest is given unless it is asked for, and why: what they would show of a kernel.
pub const ON_HOST: [(&str, &str); 3] = [
    ("bad_input", "commands read files that are no dumps"),
    (
        "bombs",
        "commands read files made to exhaust them, in so many seconds of a real processor",
    ),
    (
        "budget",
        "an agent is held to a share of a processor, of which an emulated one takes more from the start",
    ),
];

/// Longest that one file of tests may take in a guest.
const FILE_PATIENCE: Duration = Duration::from_mins(15);

/// Longest that a guest may take to boot and to stop.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// Options of `cargo xtask vm`.
#[derive(Args)]
pub struct Options {
    /// Which kernels: 5.10, 6.1, 6.12, newest, arm64-6.1, arm64-6.12; the oldest and the newest if none is named
    kernels: Vec<String>,
    /// All kernels
    #[arg(long)]
    all: bool,
    /// Only a part of the tests, on two kernels that differ most: a few minutes
    #[arg(long)]
    short: bool,
    /// Only this file of tests, or only those tests of it: FILE or FILE::TEST; may be repeated
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Test this agent instead of building one; that of arm64 is built
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Write docs/kernels.md from what the guests report
    #[arg(long)]
    write_docs: bool,
    /// Boot nothing: take what guests last reported of each file of tests
    #[arg(long)]
    last: bool,
    /// Ask the archive for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
}

/// A kernel and what became of the tests on it.
struct Run {
    kernel: Kernel,
    outcome: Outcome,
    report: PathBuf,
}

impl Run {
    /// Reads what a guest with this kernel reported, and keeps it file by file of tests, unless of one not all tests were run.
    fn done(kernel: Kernel, size: &Size, plan: &[String]) -> Result<Self> {
        let report = directory_of(&kernel, size).join("report.log");
        let text = fs::read(&report).with_context(|| format!("read {}", report.display()))?;
        let text = String::from_utf8_lossy(&text);
        let kept = files_of(&kernel);
        fs::create_dir_all(&kept)?;
        for (name, text) in outcome::by_file(&text) {
            if plan.contains(&name) {
                fs::write(kept.join(format!("{name}.log")), text)?;
            }
        }
        Ok(Self {
            outcome: Outcome::read(&text),
            kernel,
            report,
        })
    }

    /// Puts together what guests with this kernel last reported of each file of tests.
    fn last(kernel: Kernel) -> Result<Self> {
        let report = files_of(&kernel);
        let mut outcome: Option<Outcome> = None;
        for name in test_files()? {
            let Ok(text) = fs::read_to_string(report.join(format!("{name}.log"))) else {
                continue;
            };
            let of_file = Outcome::read(&text);
            // A release before this one is another kernel.
            if of_file.kernel != kernel.version {
                continue;
            }
            match &mut outcome {
                Some(outcome) => outcome.add(of_file),
                None => outcome = Some(of_file),
            }
        }
        Ok(Self {
            outcome: outcome.with_context(|| format!("{} has not been run", kernel.version))?,
            kernel,
            report,
        })
    }
}

/// Where what guests reported is kept, file by file of tests.
fn files_of(kernel: &Kernel) -> PathBuf {
    directory_of(kernel, &ORDINARY).join("files")
}

fn directory_of(kernel: &Kernel, size: &Size) -> PathBuf {
    paths::vm().join(format!("{}{}", kernel.name, size.suffix))
}

/// Runs `cargo xtask vm`.
pub fn run(options: &Options) -> Result<()> {
    if options.short {
        return Short::provide()?.run(options.agent.as_deref());
    }
    let releases = options.releases()?;
    let provided = |release: Release| release.provide(options.update);
    let kernels: Result<Vec<Kernel>> = releases.into_iter().map(provided).collect();
    let kernels = kernels?;
    let (runs, rounds) = if options.last {
        let rounds: Result<Vec<_>> = kernels.iter().map(power::last).collect();
        let runs: Result<Vec<_>> = kernels.into_iter().map(Run::last).collect();
        (runs?, rounds?.concat())
    } else {
        let plan = options.plan()?;
        let agent = options.agent.as_deref();
        let platforms = Platforms::provide(&kernels, agent, &plan, options.update)?;
        let (deaths, plan): (Vec<_>, Vec<_>) = plan
            .into_iter()
            .partition(|line| line.starts_with(power::FILE));
        let (small, plan): (Vec<_>, Vec<_>) = plan
            .into_iter()
            .partition(|line| line.starts_with(SMALL_FILE));
        let mut rounds = Vec::new();
        if !deaths.is_empty() {
            for kernel in &kernels {
                rounds.extend(power::run(platforms.of(kernel)?, kernel)?);
            }
        }
        let run = |plan: &[String], size| match plan.is_empty() {
            true => Ok(Vec::new()),
            false => run_on(&platforms, &kernels, plan, size),
        };
        (
            together(run(&plan, &ORDINARY)?, run(&small, &SMALL)?),
            rounds,
        )
    };
    for round in &rounds {
        println!("{round}");
    }
    if options.write_docs {
        let page = paths::root().join("docs/kernels.md");
        let text = docs::page(&runs, &rounds, test_files()?.len());
        fs::write(&page, text).with_context(|| format!("write {}", page.display()))?;
        println!("{}", page.display());
    }
    finish(&runs)
}

/// The tests that CI runs in guests: what a host cannot do, and what kernels differ in.
const SHORT: [&str; 4] = ["devices", "machine", "oom", "signals"];

/// Kernels for a short run, in order of what they would show; the first two that can be had are taken. The newest comes last:
/// it moves, and a change is not to fail because of what others have released meanwhile.
const SHORT_RELEASES: [usize; 4] = [0, 2, 1, 3];

/// A part of the tests, on two kernels that differ much.
pub struct Short {
    kernels: Vec<Kernel>,
}

impl Short {
    /// Gets what it needs.
    pub fn provide() -> Result<Self> {
        packages::provide(&machine::NEEDS)?;
        // Whatever cannot be fetched is to be known before anything is built.
        Emulator::provide(Arch::Amd64, false)?;
        let mut kernels = Vec::new();
        for index in SHORT_RELEASES {
            match RELEASES[index].provide(false) {
                Ok(kernel) => kernels.push(kernel),
                Err(error) => eprintln!("note: {error:#}"),
            }
            if kernels.len() == 2 {
                break;
            }
        }
        ensure!(kernels.len() == 2, "there are no two kernels to be had");
        Ok(Self { kernels })
    }

    /// Runs it with `agent`, or with one built now: on both kernels side by side, then the last of them dies.
    pub fn run(self, agent: Option<&Path>) -> Result<()> {
        let plan = SHORT.map(str::to_owned);
        let all = [&plan[..], &[SMALL_FILE, power::FILE].map(str::to_owned)].concat();
        let platforms = Platforms::provide(&self.kernels, agent, &all, false)?;
        let runs = run_on(&platforms, &self.kernels, &plan, &ORDINARY)?;
        let small = [SMALL_FILE.to_owned()];
        let small = run_on(&platforms, &self.kernels, &small, &SMALL)?;
        let runs = together(runs, small);
        finish(&runs)?;
        let last = runs.last().context("there are kernels")?;
        for round in power::run(platforms.of(&last.kernel)?, &last.kernel)? {
            println!("{round}");
        }
        Ok(())
    }
}

/// What guests of one architecture run in, and what runs in them.
pub struct Platform {
    emulator: Emulator,
    suite: Suite,
}

/// What the kernels of a run need.
struct Platforms(Vec<Platform>);

impl Platforms {
    /// Gets emulators, and builds the tests of `plan`; and the agents, unless there is one for this host's architecture.
    fn provide(
        kernels: &[Kernel],
        agent: Option<&Path>,
        plan: &[String],
        update: bool,
    ) -> Result<Self> {
        packages::provide(&machine::NEEDS)?;
        let files = plan.iter().filter_map(|line| line.split(' ').next());
        let files = files.collect();
        let mut platforms = Vec::new();
        for arch in [Arch::Amd64, Arch::Arm64] {
            if kernels.iter().any(|kernel| kernel.arch == arch) {
                platforms.push(Platform {
                    emulator: Emulator::provide(arch, update)?,
                    suite: Suite::build(arch, agent, &files, update)?,
                });
            }
        }
        Ok(Self(platforms))
    }

    fn of(&self, kernel: &Kernel) -> Result<&Platform> {
        let mut platforms = self.0.iter();
        platforms
            .find(|platform| platform.emulator.arch == kernel.arch)
            .context("there is one for each kernel")
    }
}

/// Returns the names of the files of end-to-end tests, in order.
fn test_files() -> Result<Vec<String>> {
    let directory = paths::root().join("tests/tests");
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?
    {
        let path = entry?.path();
        if let (Some(name), Some("rs")) = (
            path.file_stem().and_then(OsStr::to_str),
            path.extension().and_then(OsStr::to_str),
        ) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Says what became of the tests.
fn finish(runs: &[Run]) -> Result<()> {
    print(runs);
    let bad: Vec<&str> = runs
        .iter()
        .filter(|run| !run.outcome.is_good())
        .map(|run| run.kernel.name)
        .collect();
    ensure!(bad.is_empty(), "not good on {}", bad.join(", "));
    Ok(())
}

impl Options {
    fn releases(&self) -> Result<Vec<Release>> {
        if self.all {
            return Ok(RELEASES.into());
        }
        if self.kernels.is_empty() {
            return Ok(ENDS.map(|index| RELEASES[index]).into());
        }
        let find = |name: &String| {
            let known = RELEASES.into_iter().find(|release| release.name == name);
            let names = RELEASES.map(|release| release.name).join(", ");
            known.ok_or_else(|| anyhow::anyhow!("no kernel {name}: there are {names}"))
        };
        self.kernels.iter().map(find).collect()
    }

    fn plan(&self) -> Result<Vec<String>> {
        let mut names = test_files()?;
        if self.tests.is_empty() {
            names.retain(|name| ON_HOST.iter().all(|(file, _)| file != name));
            return Ok(names);
        }
        let line = |wanted: &String| {
            let (file, test) = wanted.split_once("::").unwrap_or((wanted, ""));
            if !names.iter().any(|name| name == file) {
                bail!("no tests {file}: there are {}", names.join(", "));
            }
            Ok(format!("{file} {test}").trim_end().to_owned())
        };
        self.tests.iter().map(line).collect()
    }
}

/// Puts what guests of both sizes reported together, kernel by kernel; of one size there may be none.
fn together(mut runs: Vec<Run>, small: Vec<Run>) -> Vec<Run> {
    if runs.is_empty() {
        return small;
    }
    for (run, small) in runs.iter_mut().zip(small) {
        run.outcome.add(small.outcome);
    }
    runs
}

/// Runs the tests of `plan` on each kernel: as many guests at once as there are processors, as each keeps one busy.
fn run_on(
    platforms: &Platforms,
    kernels: &[Kernel],
    plan: &[String],
    size: &Size,
) -> Result<Vec<Run>> {
    let mut guests = Vec::new();
    for kernel in kernels {
        let directory = directory_of(kernel, size);
        fs::create_dir_all(&directory)?;
        fs::write(
            directory.join("initramfs.cpio"),
            platforms.of(kernel)?.suite.initramfs(
                kernel,
                plan,
                FILE_PATIENCE.as_secs(),
                size.content,
            )?,
        )?;
        let emulator = &platforms.of(kernel)?.emulator;
        guests.push((emulator, kernel.clone(), directory));
    }
    let patience = BOOT_PATIENCE + FILE_PATIENCE * u32::try_from(plan.len())?;
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let mut runs = Vec::new();
    let mut guests = guests.into_iter().peekable();
    while guests.peek().is_some() {
        let batch: Vec<_> = guests.by_ref().take(at_once).collect();
        let done: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = batch
                .into_iter()
                .map(|(emulator, kernel, directory)| {
                    scope.spawn(|| run_guest(emulator, kernel, size, plan, directory, patience))
                })
                .collect();
            running.into_iter().map(ScopedJoinHandle::join).collect()
        });
        for run in done {
            runs.push(run.unwrap_or_else(|panic| resume_unwind(panic))?);
        }
    }
    Ok(runs)
}

/// Boots one guest and waits for its end.
fn run_guest(
    emulator: &Emulator,
    kernel: Kernel,
    size: &Size,
    plan: &[String],
    directory: PathBuf,
    patience: Duration,
) -> Result<Run> {
    eprintln!("Linux {} boots", kernel.version);
    let machine = Machine {
        emulator,
        image: &kernel.image,
        initramfs: &directory.join("initramfs.cpio"),
        words: size.words,
        memory: size.memory,
        devices: &disks::failing(&directory)?,
        directory: &directory,
        patience,
        reboots: false,
    };
    let stopped = machine.run()?;
    let run = Run::done(kernel, size, plan)?;
    if !run.outcome.is_complete {
        let how = if stopped.was_killed { "hung" } else { "died" };
        eprintln!(
            "the guest {how}: see {} and {}",
            stopped.console.display(),
            directory.join("qemu.log").display()
        );
    }
    Ok(run)
}

/// Prints what became of every test that did not pass, then one line for each kernel.
fn print(runs: &[Run]) {
    for run in runs {
        for case in &run.outcome.cases {
            let (file, name) = (&case.file, &case.name);
            match &case.verdict {
                Verdict::Passed => {}
                Verdict::Failed => println!("{}: {file}::{name} FAILED", run.kernel.name),
                Verdict::Skipped(why) => {
                    println!("{}: {file}::{name} skipped: {why}", run.kernel.name);
                }
            }
        }
        for broken in &run.outcome.broken {
            println!("{}: {broken}", run.kernel.name);
        }
    }
    println!(
        "{:<8} {:<28} {:>6} {:>6} {:>7} {:>8}  report",
        "kernel", "release", "passed", "failed", "skipped", "seconds"
    );
    for run in runs {
        let (passed, failed, skipped) = run.outcome.counts();
        println!(
            "{:<8} {:<28} {passed:>6} {failed:>6} {skipped:>7} {:>8.1}  {}{}",
            run.kernel.name,
            run.kernel.version,
            run.outcome.seconds,
            run.report.display(),
            if run.outcome.is_complete {
                ""
            } else {
                " (cut short)"
            }
        );
    }
}
