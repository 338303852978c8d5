//! `cargo xtask miri`: runs unit tests under an interpreter that finds what the compiler may not be told: reads of what is not
//! there, races, and references that overlap.
//!
//! On demand: it takes a nightly toolchain with the interpreter, which not every machine may fetch. It knows no foreign code, no
//! mapped files and few system calls; `pages_miri.rs` has the arena's memory from the allocator.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::exec::{answer, exec, without_cargo};
use crate::paths;

/// The module whose tests are run: what threads share, and the one place with unsafe code that is not about system calls. Others are
/// run by their names, if somebody has the time: what an interpreter could find there is in the libraries below.
const MODULE: &str = "ring::tests";

/// Tests that cannot run: a part of the name, and what the interpreter does not have.
const NOT: [(&str, &str); 6] = [
    ("ring::tests::twin", "file that is read while it is mapped"),
    (
        "a_ring_is_read_while_it_is_written",
        "file that is read while it is mapped",
    ),
    (
        "the_file_tells_a_later_reader_all_it_needs",
        "file that is read while it is mapped",
    ),
    ("neither_a_directory_nor_a_pipe", "pipes with names"),
    ("ring::tests::allocations", "page faults"),
    (
        "the_file_has_blocks_for_all_of_its_size",
        "blocks of a file",
    ),
];

/// Tests in which threads race.
const THREADS: &str = "ring::tests::threads";

/// Options of `cargo xtask miri`.
#[derive(Args)]
pub struct Options {
    /// Run only the tests whose name contains this
    pub filter: Option<String>,
    /// In how many orders the tests with threads run
    #[arg(long, default_value_t = 16)]
    pub seeds: u32,
}

/// Runs `cargo xtask miri`.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = find()?;
    let mut all = miri(&toolchain, "");
    all.arg(options.filter.as_deref().unwrap_or(MODULE));
    for (test, needs) in NOT {
        eprintln!("left out: {test}: the interpreter has no {needs}");
        all.args(["--skip", test]);
    }
    exec(&mut all)?;
    if options.filter.is_none() {
        let seeds = format!("-Zmiri-many-seeds=0..{}", options.seeds);
        exec(miri(&toolchain, &seeds).arg(THREADS))?;
    }
    Ok(())
}

/// Finds a toolchain with the interpreter and the source of the standard library, by its name.
fn find() -> Result<String> {
    let list = answer(Command::new("rustup").args(["toolchain", "list", "--quiet"]));
    let list = list.unwrap_or_default();
    let mut names = list.lines().filter_map(|line| line.split(' ').next());
    let found = names.find(|name| {
        let run = |words: &[&str]| {
            let mut command = without_cargo("rustup");
            command.env_remove("RUSTUP_TOOLCHAIN");
            answer(command.args(["run", name]).args(words))
        };
        let has_source = || {
            let sysroot = run(&["rustc", "--print", "sysroot"]);
            sysroot.is_some_and(|root| Path::new(&root).join("lib/rustlib/src/rust").exists())
        };
        run(&["cargo", "miri", "--version"]).is_some()
            && (env::var_os("MIRI_LIB_SRC").is_some() || has_source())
    });
    found.map(str::to_owned).context(
        "no toolchain has miri and the source of the standard library: rustup component add --toolchain nightly miri rust-src",
    )
}

/// Returns the command that runs tests of the agent's library under the interpreter; their names are yet to come.
fn miri(toolchain: &str, flags: &str) -> Command {
    let mut command = without_cargo("rustup");
    command
        .current_dir(paths::root())
        .env_remove("RUSTUP_TOOLCHAIN")
        // Files and clocks are those of the host.
        .env(
            "MIRIFLAGS",
            format!("-Zmiri-disable-isolation {flags}").trim_end(),
        )
        .args([
            "run",
            toolchain,
            "cargo",
            "miri",
            "test",
            "--package",
            "recorder",
        ])
        .args(["--no-default-features", "--lib", "--target-dir"])
        .arg(paths::target().join("miri"))
        .arg("--");
    command
}
