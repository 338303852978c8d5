//! Where things are: the workspace, and what the commands put below its target directory.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace: the parent of this crate, as it was when this crate was built.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("a member of the workspace is below its root")
}

/// Cargo's target directory: `CARGO_TARGET_DIR` if set, else `target` in the workspace.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// Tools built from source, as `cargo install --root` lays them out.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Cargo's target directory of the BPF build, kept apart: another compiler writes it.
pub fn bpf() -> PathBuf {
    target().join("bpf")
}

/// The BPF object the agent embeds.
pub fn bpf_object() -> PathBuf {
    bpf().join("recorder.bpf.o")
}

/// The agent.
pub fn agent() -> PathBuf {
    target().join("release").join("recorder")
}

/// The Python virtual environment of the end-to-end tests.
pub fn venv() -> PathBuf {
    target().join("venv")
}

/// What emulated machines are made of, and what they leave behind.
pub fn vm() -> PathBuf {
    target().join("vm")
}
