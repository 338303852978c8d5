//! Programs in other languages and build modes, compiled from `tests/fixtures/crash` when a test needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Program, output};

/// A way to build a program.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// File in `tests/fixtures/crash`.
    pub source: &'static str,
    /// The compiler.
    pub compiler: &'static str,
    /// Its options.
    pub options: &'static [&'static str],
}

/// C without frame pointers, without symbols, without debug data.
pub const BARE_C: Build = Build {
    source: "frames.c",
    compiler: "cc",
    options: &["-O2", "-fomit-frame-pointer", "-s", "-Wl,--build-id=sha1"],
};

impl Build {
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
