//! `cargo xtask test`: builds, then runs the unit tests, the models of the ring, each fuzz target for a moment, one at a time the
//! end-to-end tests, and some of them in guests.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::exec::{cargo, exec, is_root};
use crate::{build, fuzz, paths, setup, vm};

/// The package of the end-to-end tests.
const END_TO_END: &str = "recorder-tests";

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct Options {
    /// Run only the tests whose name contains this, no models and fuzz targets, and none in guests
    pub filter: Option<String>,
}

/// Runs `cargo xtask test`.
pub fn run(options: &Options) -> Result<()> {
    let required = env::var_os("RECORDER_E2E").is_some_and(|mode| mode == "require");
    eprintln!("end-to-end tests: {}", mode(is_root(), required));
    setup::test_tools()?;
    let agent = build::agent()?;

    let mut unit = cargo("test");
    unit.args(["--workspace", "--exclude", END_TO_END]);
    with_environment(&mut unit, &agent);
    exec(unit.arg("--").args(&options.filter))?;
    if options.filter.is_none() {
        models()?;
        fuzz::short()?;
    }

    // One at a time: each provokes failures on the whole machine, and looks at what its own agent saw of them.
    let mut end_to_end = cargo("test");
    end_to_end.args(["--package", END_TO_END, "--release"]);
    with_environment(&mut end_to_end, &agent);
    // All that fails is to be seen at once.
    end_to_end.args(["--no-fail-fast", "--", "--test-threads=1"]);
    exec(end_to_end.args(&options.filter))?;

    if options.filter.is_none() {
        guests(&agent, required)?;
    }
    if !is_root() {
        eprintln!(
            "not root, so the end-to-end tests that load BPF programs or provoke failures were skipped. \
             To run them too: sudo -E env \"PATH=$PATH\" cargo xtask test"
        );
    }
    Ok(())
}

/// Tries every order of the steps of the ring's threads.
fn models() -> Result<()> {
    let mut models = cargo("run");
    models
        .args(["--release", "--manifest-path"])
        .arg(paths::root().join("tests/models/Cargo.toml"))
        .arg("--target-dir")
        .arg(paths::target().join("models"));
    exec(&mut models)
}

/// Runs those that a host cannot run, and on other kernels than this one.
fn guests(agent: &Path, required: bool) -> Result<()> {
    match vm::Short::provide() {
        Ok(short) => short.run(Some(agent)),
        Err(error) if !required => {
            eprintln!("SKIPPED: no guests can be booted here: {error:#}");
            Ok(())
        }
        Err(error) => Err(error.context("no guests can be booted here")),
    }
}

fn mode(root: bool, required: bool) -> &'static str {
    match (root, required) {
        (true, true) => "all, and what cannot run here fails (RECORDER_E2E=require)",
        (true, false) => "all, and what cannot run here says so and is skipped",
        (false, true) => "not root, so those that need it fail (RECORDER_E2E=require)",
        (false, false) => "not root, so those that need it are skipped",
    }
}

/// What the tests are told: the agent, its BPF object, and the Python that reads dumps.
fn with_environment(cargo: &mut Command, agent: &Path) {
    cargo
        .arg("--target-dir")
        .arg(paths::target())
        .env(build::OBJECT_VARIABLE, paths::bpf_object())
        .env("RECORDER_BIN", agent)
        .env("RECORDER_VENV", paths::venv());
}
