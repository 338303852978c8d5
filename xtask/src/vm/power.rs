//! Machines whose kernel dies, by a panic or because their power goes, and that boot again with the same disk.
//!
//! What is done in them is the test `power`; how long they lived and what was found afterwards it says on lines of its own.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, Result, ensure};

use super::emulator::Emulator;
use super::guest::Content;
use super::kernels::Kernel;
use super::machine::Machine;
use super::outcome::Outcome;
use super::{BOOT_PATIENCE, FILE_PATIENCE, MEMORY, Platform};
use crate::paths;

/// The file of tests, which runs nowhere else.
pub const FILE: &str = "power";

/// Size of the disk that outlives the machine.
const BYTES: u64 = 512 << 20;

/// How long a machine whose power goes has lived: long enough for what it is to keep, and no multiple of its flushes.
const LIFE_NS: u64 = 3_333_000_000;

/// Most that may be lost. The interval of the flushes is a quarter of a second, but an emulated disk may be slow.
const MISSING_NS_MAX: u64 = 5_000_000_000;

/// What a machine has said, in its directory.
const REPORT: &str = "report.log";

/// Ways to die, as the machine is told them: each is for one of the tests, and the others are skipped.
const DEATHS: [&str; 2] = ["panic", CUT];
const CUT: &str = "cut";

/// What became of one machine.
#[derive(Clone, Debug)]
pub struct Round {
    /// The kernel's name.
    pub kernel: &'static str,
    /// How it died.
    pub death: &'static str,
    /// Nanoseconds of its end that were not found again.
    pub missing_ns: u64,
    /// Events that were.
    pub events: u64,
    /// Segments of the copy that were being written.
    pub torn: u64,
    /// Records of the kernel's that were kept.
    pub kept: String,
}

/// What the test says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    alive: Vec<u64>,
    /// The end of the window, its events, and its torn segments.
    found: Option<(u64, u64, u64)>,
    kept: String,
}

impl Said {
    fn read(report: &str) -> Self {
        let mut said = Self::default();
        for line in report.lines() {
            // A test's own line begins where the runner's has not ended.
            let Some((_, words)) = line.rsplit_once("power: ") else {
                continue;
            };
            let numbers = |words: &str| -> Option<Vec<u64>> {
                words.split(' ').map(|word| word.parse().ok()).collect()
            };
            match words.split_once(' ') {
                Some(("alive", at)) => said.alive.extend(numbers(at).unwrap_or_default()),
                Some(("found", found)) => {
                    if let Some([end, events, torn]) = numbers(found).as_deref() {
                        said.found = Some((*end, *events, *torn));
                    }
                }
                Some(("kept", names)) => names.clone_into(&mut said.kept),
                _ => {}
            }
        }
        said
    }

    /// Tells whether the machine has lived for as long as it is to.
    fn has_lived(&self) -> bool {
        match (self.alive.first(), self.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first) >= LIFE_NS,
            _ => false,
        }
    }

    /// Returns when it last lived. The last word of a machine whose power went may be half a number: never a larger one.
    fn last(&self) -> Option<u64> {
        self.alive.iter().max().copied()
    }
}

/// Runs a machine for each way to die, side by side.
pub fn run(platform: &Platform, kernel: &Kernel) -> Result<Vec<Round>> {
    let Platform { emulator, suite } = platform;
    let directory = paths::vm().join(kernel.name);
    fs::create_dir_all(&directory)?;
    let initramfs = directory.join("power.cpio");
    let plan = [FILE.to_owned()];
    fs::write(
        &initramfs,
        suite.initramfs(kernel, &plan, FILE_PATIENCE.as_secs(), Content::All)?,
    )?;
    let initramfs = &initramfs;
    let rounds: Vec<_> = thread::scope(|scope| {
        let run = |death| scope.spawn(move || round(emulator, kernel, initramfs, death));
        let running = DEATHS.map(run);
        running.into_iter().map(ScopedJoinHandle::join).collect()
    });
    let done = rounds
        .into_iter()
        .map(|round| round.unwrap_or_else(|panic| resume_unwind(panic)));
    done.collect()
}

/// Returns what became of the machines that this kernel ran in last.
pub fn last(kernel: &Kernel) -> Result<Vec<Round>> {
    let of = |death| {
        let report = directory(kernel, death).join(REPORT);
        let text = fs::read(&report).with_context(|| format!("read {}", report.display()))?;
        Round::read(kernel, death, &String::from_utf8_lossy(&text))
    };
    DEATHS.into_iter().map(of).collect()
}

fn directory(kernel: &Kernel, death: &str) -> PathBuf {
    paths::vm().join(format!("{}-{death}", kernel.name))
}

fn round(
    emulator: &Emulator,
    kernel: &Kernel,
    initramfs: &Path,
    death: &'static str,
) -> Result<Round> {
    let directory = directory(kernel, death);
    fs::create_dir_all(&directory)?;
    let disk = empty_disk(&directory)?;
    eprintln!("Linux {} boots, to die by {death}", kernel.version);
    let facts = kernel.arch.facts();
    let machine = Machine {
        emulator,
        image: &kernel.image,
        initramfs,
        words: &format!(
            "quiet {} RECORDER_POWER={death} RECORDER_RESERVED={}",
            facts.reserving, facts.reserved
        ),
        memory: MEMORY,
        devices: &[
            "-drive".to_owned(),
            format!(
                "file={},format=raw,if=virtio,cache=writeback",
                disk.display()
            ),
        ],
        directory: &directory,
        patience: 3 * (BOOT_PATIENCE + FILE_PATIENCE),
        // It boots again by itself, with what its memory held.
        reboots: true,
    };
    let mut report = String::new();
    if death == CUT {
        let cut = machine.run_until(|report| Said::read(report).has_lived())?;
        ensure!(
            cut.was_killed,
            "the machine has ended by itself: {}",
            cut.report
        );
        report = cut.report;
    }
    let lived = machine.run()?;
    let outcome = Outcome::read(&lived.report);
    ensure!(
        outcome.is_good(),
        "see {} and {}",
        directory.join(REPORT).display(),
        lived.console.display()
    );
    report.push_str(&lived.report);
    // Of all its boots.
    fs::write(directory.join(REPORT), &report)?;
    let round = Round::read(kernel, death, &report)?;
    ensure!(
        round.missing_ns < MISSING_NS_MAX,
        "too much is missing: {round}"
    );
    Ok(round)
}

fn empty_disk(directory: &Path) -> Result<PathBuf> {
    let disk = directory.join("disk.img");
    File::create(&disk)
        .and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("create {}", disk.display()))?;
    Ok(disk)
}

impl Round {
    fn read(kernel: &Kernel, death: &'static str, report: &str) -> Result<Self> {
        let said = Said::read(report);
        let last = said.last().context("it has said of no life")?;
        let (end, events, torn) = said.found.context("it has found nothing")?;
        Ok(Self {
            kernel: kernel.name,
            death,
            missing_ns: last.saturating_sub(end),
            events,
            torn,
            kept: said.kept,
        })
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {}: {} events found, {} ms before the end missing, {} segments torn",
            self.kernel,
            self.death,
            self.events,
            self.missing_ns / 1_000_000,
            self.torn
        )?;
        match self.kept.as_str() {
            "" => Ok(()),
            kept => write!(f, "; kept: {kept}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_test_says_is_read_also_behind_the_runners_words() {
        let said = Said::read(
            "guest: kernel 6.1\ntest a ... power: alive 5\npower: alive 3333000004\npower: alive 33330000guest: kernel\n\
             test a ... power: found 7 2 1\npower: kept a b\npower: other\n",
        );
        assert_eq!(said.alive, [5, 3_333_000_004]);
        assert!(!said.has_lived());
        assert_eq!((said.found, said.kept.as_str()), (Some((7, 2, 1)), "a b"));
        assert!(Said::read("power: alive 5\npower: alive 3333000005\n").has_lived());
    }
}
