//! `cargo xtask build`: the BPF object first, then the agent that embeds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cross::{self, Cross};
use crate::exec::{cargo, exec};
use crate::{paths, setup};

/// The environment variable by which the agent's build finds the BPF object.
pub const OBJECT_VARIABLE: &str = "RECORDER_BPF_OBJECT";

/// The probes: their package, which is also the name of its program.
const PROBES: &str = "recorder-ebpf";

/// The profile the probes are built with, of the workspace's Cargo.toml.
const PROBES_PROFILE: &str = "bpf";

/// Runs `cargo xtask build`.
pub fn run() -> Result<()> {
    agent().map(drop)
}

/// Builds everything and says where it is. Returns the path of the agent.
pub fn agent() -> Result<PathBuf> {
    let mut build = cargo("build");
    build.arg("--target-dir").arg(paths::target());
    with(build, paths::agent())
}

/// The same for another architecture: the object is for both.
pub fn agent_for(cross: &Cross) -> Result<PathBuf> {
    with(cross.cargo("build"), cross::agent())
}

/// Builds with `build`, which makes `agent`.
fn with(mut build: Command, agent: PathBuf) -> Result<PathBuf> {
    let object = object()?;
    build
        .args(["--package", "recorder", "--bin", "recorder", "--release"])
        .env(OBJECT_VARIABLE, &object);
    exec(&mut build)?;
    for (what, path) in [("BPF object", &object), ("agent", &agent)] {
        let bytes = fs::metadata(path)
            .with_context(|| format!("look at {}", path.display()))?
            .len();
        eprintln!("{what}: {} ({} KiB)", path.display(), bytes.div_ceil(1024));
    }
    Ok(agent)
}

/// Builds the object twice: the second time for kernels that do not tell the verifier what type the running task has.
fn object() -> Result<PathBuf> {
    let tools = setup::build_tools()?;
    let object = paths::bpf_object();
    let untyped = object.with_file_name("recorder-untyped.bpf.o");
    for (features, object) in [("untyped", &untyped), ("", &object)] {
        let built = tools
            .toolchain
            .build(PROBES, PROBES_PROFILE, features, &tools.linker)?
            .join(PROBES);
        copy_if_changed(&built, object)?;
    }
    Ok(object)
}

/// Copies a file, but leaves an equal one alone: its time is what tells cargo to build the agent again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("write {}", to.display()))
}
