//! The compiler for the BPF target: which one this machine has, and how it is called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exec::{answer, exec, find, without_cargo};
use crate::{packages, paths};

/// The target of the probes: the byte order of every machine that is supported.
const TARGET: &str = "bpfel-unknown-none";

/// Crates that may use unstable features on a stable compiler: the probes and aya-ebpf use one each.
const UNSTABLE_CRATES: &str = "aya_ebpf,recorder_ebpf";

/// Debian's compiler, cargo and core library for the BPF target.
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Where Debian puts them.
const SYSTEM: &str = "/usr/bin";

/// What the environment may hold for the compiler of the host: from a person, from rustup, or from the outer cargo.
const HOST_VARIABLES: [&str; 8] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS", // wins over RUSTFLAGS, silently
    "LD_LIBRARY_PATH",         // `cargo run` adds the libraries of its own compiler
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
];

/// A compiler that builds for the BPF target.
pub enum Toolchain {
    /// A rustup nightly with `rust-src`, by its name: builds core itself.
    Nightly(String),
    /// The system's compiler, which ships a core for the target.
    System,
}

/// The LLVM of a compiler.
pub struct Llvm {
    /// As in `22.1.4`.
    pub version: String,
    /// The shared library the compiler loads; `None` if LLVM is part of the compiler itself.
    pub library: Option<PathBuf>,
}

impl Llvm {
    /// The first number of the version; 0 if it is none.
    pub fn major(&self) -> u32 {
        let first = self.version.split('.').next().unwrap_or_default();
        first.parse().unwrap_or(0)
    }
}

impl Toolchain {
    /// Finds a compiler, or installs one: Debian's where it is offered, else a nightly through rustup.
    ///
    /// # Errors
    ///
    /// If there is none and none can be installed; the message names both ways to get one.
    pub fn provide() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        eprintln!("no compiler for {TARGET}, the target of the probes: installing one");
        for install in [install_system, install_nightly] {
            if let Err(error) = install() {
                eprintln!("note: {error:#}");
            } else if let Some(installed) = Self::find() {
                return Ok(installed);
            }
        }
        bail!(
            "no compiler for {TARGET}, and none could be installed. There are two ways to get one:\n  \
             rustup toolchain install nightly --component rust-src\n  \
             apt-get install {}   (Debian, with its security updates)",
            PACKAGES.join(" ")
        )
    }

    fn find() -> Option<Self> {
        Self::find_nightly().or_else(Self::find_system)
    }

    fn find_nightly() -> Option<Self> {
        let with_source = nightlies().into_iter().find(|name| {
            sysroot(&mut rustup_run(name, "rustc"))
                .is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir())
        })?;
        Some(Self::Nightly(with_source))
    }

    fn find_system() -> Option<Self> {
        let sysroot = sysroot(&mut Self::System.rustc())?;
        let has_core = sysroot.join("lib/rustlib").join(TARGET).is_dir();
        (has_core && Path::new(SYSTEM).join("cargo").is_file()).then_some(Self::System)
    }

    /// Asks the compiler for its LLVM: the linker must be able to read what that writes.
    pub fn llvm(&self) -> Result<Llvm> {
        let verbose =
            answer(self.rustc().arg("-vV")).with_context(|| format!("cannot run {self}"))?;
        let version = llvm_version(&verbose)
            .with_context(|| format!("{self} does not say which LLVM it has"))?
            .to_owned();
        let sysroot = sysroot(&mut self.rustc()).with_context(|| format!("cannot run {self}"))?;
        let loaded = answer(Command::new("ldd").arg(sysroot.join("bin/rustc")));
        let library = loaded.as_deref().and_then(llvm_library);
        Ok(Llvm { version, library })
    }

    /// Builds `package` with `features` in `profile` for the BPF target with `linker`, below [`paths::bpf`].
    ///
    /// Returns the directory that holds what was built.
    pub fn build(
        &self,
        package: &str,
        profile: &str,
        features: &str,
        linker: &Path,
    ) -> Result<PathBuf> {
        let mut cargo = self.cargo();
        cargo
            .args(["build", "--package", package, "--bin", package])
            .args(["--features", features])
            .args(["--profile", profile, "--target", TARGET, "--target-dir"])
            .arg(paths::bpf());
        if let Self::Nightly(_) = self {
            cargo.args(["-Z", "build-std=core"]);
        }
        cargo
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
            .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
            .current_dir(paths::root());
        exec(&mut cargo)?;
        Ok(paths::bpf().join(TARGET).join(profile))
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Nightly(name) => rustup_run(name, "rustc"),
            Self::System => for_bpf(Path::new(SYSTEM).join("rustc")),
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Nightly(name) => rustup_run(name, "cargo"),
            Self::System => {
                let mut cargo = for_bpf(Path::new(SYSTEM).join("cargo"));
                cargo
                    .env("RUSTC", Path::new(SYSTEM).join("rustc"))
                    .env("RUSTC_BOOTSTRAP", UNSTABLE_CRATES);
                cargo
            }
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly(name) => write!(out, "rustup's {name}, which builds core from rust-src"),
            Self::System => write!(out, "{SYSTEM}/rustc, which ships core for {TARGET}"),
        }
    }
}

fn install_system() -> Result<()> {
    if !PACKAGES.into_iter().all(packages::offers) {
        bail!("no package here has a core library for {TARGET}");
    }
    packages::install(&PACKAGES)
}

fn install_nightly() -> Result<()> {
    if find("rustup").is_none() {
        bail!("no rustup here");
    }
    let mut rustup = for_bpf("rustup");
    match nightlies().first() {
        // Adds the source to what is there: to bring a nightly up to date is for its owner.
        Some(name) => rustup.args(["component", "add", "rust-src", "--toolchain", name]),
        None => rustup.args(["toolchain", "install", "nightly"]).args([
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]),
    };
    exec(&mut rustup)
}

/// The nightlies that rustup has, by name.
fn nightlies() -> Vec<String> {
    let list = answer(Command::new("rustup").args(["toolchain", "list", "--quiet"]));
    let names = list.iter().flat_map(|list| list.lines());
    names
        .filter(|name| name.starts_with("nightly"))
        .map(str::to_owned)
        .collect()
}

fn rustup_run(toolchain: &str, program: &str) -> Command {
    let mut command = for_bpf("rustup");
    command.args(["run", toolchain, program]);
    command
}

/// A command without what the environment says about compiling for the host.
fn for_bpf(program: impl AsRef<Path>) -> Command {
    let mut command = without_cargo(program.as_ref());
    for name in HOST_VARIABLES {
        command.env_remove(name);
    }
    command.env("RUSTC_WRAPPER", ""); // none, whatever a configuration file says
    command
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    answer(rustc.args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Finds the version in what `rustc -vV` prints.
fn llvm_version(verbose: &str) -> Option<&str> {
    verbose
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
}

/// Finds the path of LLVM in what `ldd` prints, lines of the form `name => path (address)`.
fn llvm_library(loaded: &str) -> Option<PathBuf> {
    let line = loaded
        .lines()
        .find(|line| line.trim_start().starts_with("libLLVM"))?;
    let (_, found) = line.split_once("=> ")?;
    let (path, _address) = found.rsplit_once(" (")?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_llvm() {
        let verbose = "release: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_version(verbose), Some("22.1.8"));
        assert_eq!(llvm_version("release: 1.96.0\n"), None);
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        let major = |version: &str| {
            let version = version.to_owned();
            Llvm {
                version,
                library: None,
            }
            .major()
        };
        assert_eq!(major("22.1.8"), 22);
        assert_eq!(major("git"), 0);
    }

    #[test]
    fn finds_the_library_of_llvm() {
        let loaded = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibLLVM.so.22.1-rust-1.97.0-nightly => /a b/bin/../lib/libLLVM.so.22.1-rust-1.97.0-nightly (0x00007f8e)\n\
            \tlibc.so.6 => /lib/libc.so.6 (0x00007f8d)\n";
        let path = "/a b/bin/../lib/libLLVM.so.22.1-rust-1.97.0-nightly";
        assert_eq!(llvm_library(loaded), Some(PathBuf::from(path)));
        assert_eq!(llvm_library("\tlibLLVM.so.22.1 => not found\n"), None);
        assert_eq!(llvm_library("\tstatically linked\n"), None);
    }
}
