//! `cargo xtask setup`: finds what the build needs, installs what is missing, and says what it takes and why.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::exec::{answer, exec};
use crate::linker;
use crate::packages::{self, Need, Present};
use crate::paths;
use crate::toolchain::Toolchain;
use crate::vm;

/// What the end-to-end tests need besides a build.
const TEST_NEEDS: [Need; 6] = [
    Need {
        present: Present::PythonModule("ensurepip"),
        package: "python3-venv",
        reason: "the tests read dumps with the public Python packages, in an environment of their own",
    },
    Need {
        present: Present::Program("mkfs.ext4"),
        package: "e2fsprogs",
        reason: "the tests break a filesystem of their own",
    },
    Need {
        present: Present::Program("c++"),
        package: "g++",
        reason: "the tests crash programs in C and C++",
    },
    Need {
        present: Present::Program("gdb"),
        package: "gdb",
        reason: "the tests open core dumps",
    },
    Need {
        present: Present::Program("chromium"),
        package: "chromium",
        reason: "the tests open pages in a browser",
    },
    Need {
        present: Present::Program("chromedriver"),
        package: "chromium-driver",
        reason: "the tests work with pages in a browser",
    },
];

/// Python packages of the end-to-end tests: as published for pip, then as imported.
const PYTHON_PACKAGES: [(&str, &str); 3] = [
    ("mcap", "mcap"),
    ("mcap-protobuf-support", "mcap_protobuf"),
    ("selenium", "selenium"),
];

/// Options of `cargo xtask setup`.
#[derive(Args)]
pub struct Options {
    /// Also what the end-to-end tests need
    #[arg(long)]
    pub tests: bool,
}

/// What builds the BPF object here.
pub struct Tools {
    /// The compiler for the BPF target.
    pub toolchain: Toolchain,
    /// The path of bpf-linker.
    pub linker: PathBuf,
}

/// Runs `cargo xtask setup`.
pub fn run(options: &Options) -> Result<()> {
    build_tools()?;
    if options.tests {
        test_tools()?;
    }
    Ok(())
}

/// Meets the needs of a build.
pub fn build_tools() -> Result<Tools> {
    let toolchain = Toolchain::provide()?;
    let llvm = toolchain.llvm()?;
    eprintln!("BPF compiler: {toolchain} (LLVM {})", llvm.version);
    let linker = linker::provide(&llvm)?;
    eprintln!("BPF linker: {}", linker.display());
    Ok(Tools { toolchain, linker })
}

/// Meets the needs of the end-to-end tests.
pub fn test_tools() -> Result<()> {
    packages::provide(&TEST_NEEDS)?;
    if let Err(error) = packages::provide(&vm::NEEDS) {
        // The tests say it again, and fail if they must not be skipped.
        eprintln!("note: no guests can be booted here: {error:#}");
    }
    let python = paths::venv().join("bin/python");
    let imports = PYTHON_PACKAGES.map(|(_, module)| module).join(", ");
    let import = format!("import {imports}");
    let is_complete = || answer(Command::new(&python).args(["-c", &import])).is_some();
    if !is_complete() {
        eprintln!("{imports} for Python: missing; the tests read dumps with them");
        make_venv(&python)?;
    }
    eprintln!("Python for the tests: {}", python.display());
    Ok(())
}

fn make_venv(python: &Path) -> Result<()> {
    let maker = packages::python_with("ensurepip")
        .context("no Python here can make a virtual environment")?;
    let mut venv = Command::new(maker);
    venv.args(["-m", "venv", "--clear"]).arg(paths::venv());
    exec(&mut venv)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet"])
        .arg("--disable-pip-version-check")
        .args(PYTHON_PACKAGES.map(|(package, _)| package));
    exec(&mut pip)
}
