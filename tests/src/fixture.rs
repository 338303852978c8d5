//! Programs in other languages and build modes, compiled from `tests/fixtures/crash` when a test needs them; and dumps of every
//! version of the format.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::system_path;
use crate::{Program, output};

/// Names the directory of those that were built already, for a machine without compilers.
const PREBUILT: &str = "RECORDER_FIXTURES";

/// A way to build a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// File in `tests/fixtures/crash`.
    pub source: &'static str,
    /// The compiler.
    pub compiler: &'static str,
    /// Its options.
    pub options: &'static [&'static str],
}

/// C without frame pointers and without debug data; [`strip`] takes its symbols.
pub const BARE_C: Build = Build {
    source: "frames.c",
    compiler: "cc",
    options: &["-O2", "-fomit-frame-pointer", "-Wl,--build-id=sha1"],
};

/// C++ with debug data.
pub const CPP: Build = Build {
    source: "shop.cpp",
    compiler: "c++",
    options: &[
        "-O2",
        "-g",
        "-fno-omit-frame-pointer",
        "-Wl,--build-id=sha1",
    ],
};

/// Rust with debug data.
pub const RUST: Build = Build {
    source: "ledger.rs",
    compiler: "rustc",
    options: &[
        "--edition=2024",
        "-Copt-level=2",
        "-Cdebuginfo=2",
        "-Cforce-frame-pointers=yes",
        "-Clink-arg=-Wl,--build-id=sha1",
    ],
};

/// All of them.
pub const ALL: [Build; 3] = [BARE_C, CPP, RUST];

impl Build {
    /// Returns whether it can be built here, or was.
    pub fn is_possible(&self) -> bool {
        self.prebuilt().is_some() || system_path(self.compiler).is_some()
    }

    fn prebuilt(&self) -> Option<PathBuf> {
        let directory = std::env::var_os(PREBUILT)?;
        let path = Path::new(&directory).join(self.source);
        path.exists().then_some(path)
    }

    /// Returns the number of the line that the source marks with `mark`.
    #[track_caller]
    pub fn line(&self, mark: &str) -> usize {
        let text = std::fs::read_to_string(source(self.source)).expect("the source is there");
        let mark = format!("// line: {mark}");
        let line = text.lines().position(|line| line.ends_with(&mark));
        line.unwrap_or_else(|| panic!("no {mark:?} in {}", self.source)) + 1
    }

    /// Builds the program into a directory of its own, which any user may enter.
    #[track_caller]
    pub fn program(&self) -> (TempDir, Program) {
        let directory = crate::host::public_directory();
        let path = directory.path().join("program");
        self.build(&path);
        let program = Program::at(&path);
        (directory, program)
    }

    /// Builds the program as `path`.
    #[track_caller]
    pub fn build(&self, path: &Path) {
        if let Some(prebuilt) = self.prebuilt() {
            // As a compiler does: another file, not other bytes in the same one.
            let _ = std::fs::remove_file(path);
            std::fs::copy(prebuilt, path).expect("there is room for tests");
            return;
        }
        let mut compiler = Command::new(self.compiler);
        compiler.args(self.options).arg("-o").arg(path);
        // The last one: what it does not define itself, libraries that are named in the options do.
        output(compiler.arg(source(self.source))).expect_code(0);
    }
}

/// Returns the path of a source.
pub fn source(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/crash");
    directory.join(name)
}

/// Takes symbols and debug data out of a program; its build ID stays.
#[track_caller]
pub fn strip(path: &Path) {
    output(Command::new("strip").arg(path)).expect_code(0);
}

/// Returns the dumps of every version of the format, made by `cargo run --example golden`.
///
/// # Panics
///
/// If they are not there.
pub fn golden() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
    let mut found = Vec::new();
    for version in std::fs::read_dir(directory).expect("the fixtures are there") {
        for file in std::fs::read_dir(version.expect("readable").path()).expect("readable") {
            let path = file.expect("readable").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "mcap")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
