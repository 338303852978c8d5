//! `cargo xtask vm`: the end-to-end tests on the kernels of distributions, in emulated machines.
//!
//! The same tests as on the host, built once: a guest gets them in its initramfs, with the agent, a shell, the modules of
//! its kernel and disks that fail, and reports through a virtual serial port.

mod cpio;
mod disks;
mod docs;
mod guest;
mod kernels;
pub mod machine;
mod modules;
mod outcome;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{packages, paths};
use guest::Suite;
use kernels::{Kernel, RELEASES, Release};
use machine::Machine;
pub use machine::NEEDS;
use outcome::{Outcome, Verdict};

/// Memory of a guest in MiB.
const MEMORY: u32 = 1536;

/// Longest that one file of tests may take in a guest.
const FILE_PATIENCE: Duration = Duration::from_secs(300);

/// Longest that a guest may take to boot and to stop.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// Options of `cargo xtask vm`.
#[derive(Args)]
pub struct Options {
    /// Which kernels: 5.10, 6.1, 6.12, newest; the oldest and the newest if none is named
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
    /// Test this agent instead of building one
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Write docs/kernels.md from what the guests report
    #[arg(long)]
    write_docs: bool,
    /// Ask the archive for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
}

/// A kernel and what became of the tests on it.
struct Run {
    kernel: Kernel,
    outcome: Outcome,
    took: Duration,
    report: PathBuf,
}

/// Runs `cargo xtask vm`.
pub fn run(options: &Options) -> Result<()> {
    if options.short {
        return short(two()?);
    }
    let releases = options.releases()?;
    packages::provide(&NEEDS)?;
    let suite = Suite::build(options.agent.as_deref())?;
    let plan = options.plan(&suite)?;
    let mut runs = Vec::new();
    for release in releases {
        let kernel = release.provide(options.update)?;
        runs.push(run_on(kernel, &suite, &plan)?);
    }
    if options.write_docs {
        let page = paths::root().join("docs/kernels.md");
        fs::write(&page, docs::page(&runs)).with_context(|| format!("write {}", page.display()))?;
        println!("{}", page.display());
    }
    finish(&runs)
}

/// The tests that CI runs in guests: what a host cannot do, and what kernels differ in.
const SHORT: [&str; 4] = ["devices", "machine", "oom", "signals"];

/// Kernels for a short run, in order of what they would show; the first two that can be had are taken.
const SHORT_RELEASES: [usize; 4] = [0, 3, 1, 2];

/// Runs a part of the tests on kernels of [`two`].
pub fn short(kernels: Vec<Kernel>) -> Result<()> {
    let suite = Suite::build(None)?;
    let plan = SHORT.map(str::to_owned);
    let runs: Result<Vec<Run>> = kernels
        .into_iter()
        .map(|kernel| run_on(kernel, &suite, &plan))
        .collect();
    finish(&runs?)
}

/// Gets what booting guests needs, and two kernels that differ much.
pub fn two() -> Result<Vec<Kernel>> {
    packages::provide(&NEEDS)?;
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
    Ok(kernels)
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
            return Ok(vec![RELEASES[0], RELEASES[RELEASES.len() - 1]]);
        }
        let find = |name: &String| {
            let known = RELEASES.into_iter().find(|release| release.name == name);
            let names = RELEASES.map(|release| release.name).join(", ");
            known.ok_or_else(|| anyhow::anyhow!("no kernel {name}: there are {names}"))
        };
        self.kernels.iter().map(find).collect()
    }

    fn plan(&self, suite: &Suite) -> Result<Vec<String>> {
        let names = suite.names();
        if self.tests.is_empty() {
            return Ok(names.into_iter().map(str::to_owned).collect());
        }
        let line = |wanted: &String| {
            let (file, test) = wanted.split_once("::").unwrap_or((wanted, ""));
            if !names.contains(&file) {
                bail!("no tests {file}: there are {}", names.join(", "));
            }
            Ok(format!("{file} {test}").trim_end().to_owned())
        };
        self.tests.iter().map(line).collect()
    }
}

fn run_on(kernel: Kernel, suite: &Suite, plan: &[String]) -> Result<Run> {
    let directory = paths::vm().join(kernel.name);
    fs::create_dir_all(&directory)?;
    let initramfs = directory.join("initramfs.cpio");
    fs::write(
        &initramfs,
        suite.initramfs(&kernel, plan, FILE_PATIENCE.as_secs())?,
    )?;
    eprintln!("Linux {}: {} files of tests", kernel.version, plan.len());
    let machine = Machine {
        image: &kernel.image,
        initramfs: &initramfs,
        words: "quiet",
        memory: MEMORY,
        devices: &disks::failing(&directory)?,
        directory: &directory,
        patience: BOOT_PATIENCE + FILE_PATIENCE * u32::try_from(plan.len())?,
    };
    let stopped = machine.run()?;
    let outcome = Outcome::read(&stopped.report);
    if !outcome.is_complete {
        let how = if stopped.was_killed { "hung" } else { "died" };
        eprintln!(
            "the guest {how}: see {} and {}",
            stopped.console.display(),
            directory.join("qemu.log").display()
        );
    }
    Ok(Run {
        kernel,
        outcome,
        took: stopped.took,
        report: directory.join("report.log"),
    })
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
            run.took.as_secs_f64(),
            run.report.display(),
            if run.outcome.is_complete {
                ""
            } else {
                " (cut short)"
            }
        );
    }
}
