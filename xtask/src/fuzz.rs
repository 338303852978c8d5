//! `cargo xtask fuzz`: builds the fuzz targets of `tests/fuzz` and lets them run.
//!
//! libFuzzer is linked in, and the compiler's own coverage counters lead it: options of the stable compiler, so that no other
//! toolchain is needed. What the targets learn stays in `target/fuzz/corpus`; inputs that break something in
//! `target/fuzz/artifacts`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exec::{cargo, exec};
use crate::packages::{self, Need, Present};
use crate::paths;

/// The targets, with seeds beside those of `tests/fuzz/seeds`.
const TARGETS: [(&str, &[&str]); 5] = [
    ("record", &[]),
    ("ring", &[]),
    ("dump", &["fixtures/golden/v1", "fixtures/golden/v2"]),
    ("config", &[]),
    ("api", &[]),
];

/// What libFuzzer is built with.
const COMPILER: Need = Need {
    present: Present::Program("c++"),
    package: "g++",
    reason: "libFuzzer is written in C++",
};

/// What the compiler is told: to count each edge, to show what is compared, and to check what arithmetic does.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub struct Options {
    /// One target: record, ring, dump, config or api; all if none is given
    pub target: Option<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
}

/// How long each target runs in `cargo xtask test`, in seconds.
const SHORT_SECONDS: u64 = 12;

/// Runs every target for a moment, from the seeds and from what longer runs have learnt here. The program is not optimised: it is
/// slower by some times, but is built in half of the time, and that counts here.
pub fn short() -> Result<()> {
    packages::provide(&[COMPILER])?;
    let program = build(&[], "debug")?;
    for (name, more) in TARGETS {
        fuzz(&program, name, more, SHORT_SECONDS)?;
    }
    Ok(())
}

/// Runs `cargo xtask fuzz`.
pub fn run(options: &Options) -> Result<()> {
    packages::provide(&[COMPILER])?;
    let names = TARGETS.map(|(name, _)| name);
    if let Some(target) = &options.target
        && !names.contains(&target.as_str())
    {
        bail!("no target {target:?}: there are {}", names.join(", "));
    }
    let program = build(&["--release"], "release")?;
    for (name, more) in TARGETS {
        if options.target.as_ref().is_none_or(|target| target == name) {
            fuzz(&program, name, more, options.seconds)?;
        }
    }
    Ok(())
}

/// Builds the one program that has all targets, as `how` says, which leaves it in a directory of this name.
fn build(how: &[&str], directory: &str) -> Result<PathBuf> {
    let target = paths::target().join("fuzz");
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo("build");
    build
        .args(how)
        .arg("--manifest-path")
        .arg(paths::root().join("tests/fuzz/Cargo.toml"))
        // Named, so that programs that run while it is built count nothing.
        .args(["--target", &host, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    exec(&mut build)?;
    Ok(target.join(host).join(directory).join("recorder-fuzz"))
}

fn fuzz(program: &Path, name: &str, seeds: &[&str], seconds: u64) -> Result<()> {
    let below = |directory: &str| paths::target().join("fuzz").join(directory).join(name);
    let (corpus, artifacts) = (below("corpus"), below("artifacts"));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let scratch = Scratch::make(name)?;
    let mut command = std::process::Command::new(program);
    command
        .env("RECORDER_FUZZ_TARGET", name)
        .env("RECORDER_FUZZ_SCRATCH", &scratch.0)
        .arg(format!("-max_total_time={seconds}"))
        // An input may take 512 MiB and ten seconds: far more than any should.
        .args([
            "-rss_limit_mb=1024",
            "-malloc_limit_mb=512",
            "-timeout=10",
            "-max_len=65536",
        ])
        .args(["-print_final_stats=1", "-verbosity=1"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus);
    let own = paths::root().join("tests/fuzz/seeds").join(name);
    if own.exists() {
        command.arg(own);
    }
    for directory in seeds {
        command.arg(paths::root().join("tests").join(directory));
    }
    exec(&mut command)
}

/// A directory in memory, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(name: &str) -> Result<Self> {
        let directory = format!("/dev/shm/recorder-fuzz-{}-{name}", std::process::id());
        fs::create_dir(&directory).with_context(|| format!("cannot make {directory}"))?;
        Ok(Self(directory.into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is in memory: a restart of the host removes it at the latest.
        let _ = fs::remove_dir_all(&self.0);
    }
}
