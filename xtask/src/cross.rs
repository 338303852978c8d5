//! Builds for aarch64 on another machine: a C compiler from packages, and a standard library that rustup or Debian has.
//!
//! Nothing is installed: packages are unpacked into the cache, as for guests.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exec::{answer, cargo, without_cargo};
use crate::paths;
use crate::vm::archive::Set;
use crate::vm::userland::SUITE;

/// What cargo calls the target.
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// What the names of its C compiler and of the programs beside that begin with.
const PREFIX: &str = "aarch64-linux-gnu";
/// The C compiler, its linker, and the C library.
const COMPILER: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
/// What the compiler itself needs and every host has: another C library must not come between.
const OF_HOST: [&str; 5] = ["gcc-12-base", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"];
/// Where the compiler's own libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Debian's compiler for Rust, and the package that has its standard library for each architecture.
const RUST: (&str, &str) = ("rustc-web", "libstd-rust-web-dev");

/// What builds for aarch64.
#[derive(Debug)]
pub struct Cross {
    /// Programs that run the compiler's with what they need.
    programs: PathBuf,
    rust: Rust,
}

/// Where the standard library is.
#[derive(Debug)]
enum Rust {
    /// In the toolchain that builds for the host, too.
    Toolchain,
    /// In this system root, for the system's own compiler.
    System(PathBuf),
}

impl Cross {
    /// Gets what is needed, from the cache if it is there; `update` asks the archive for newer packages.
    pub fn provide(update: bool) -> Result<Self> {
        let rust = Rust::provide(update)?;
        let set = Set {
            name: "arm64-compiler",
            suites: &[SUITE],
            architecture: "amd64",
            packages: &|apt| {
                let mut packages = apt.closure(&COMPILER)?;
                packages.retain(|package| !OF_HOST.contains(&package.as_str()));
                Ok(packages)
            },
        };
        let root = set.provide(update)?;
        let programs = directory().join("programs");
        fs::create_dir_all(&programs)?;
        for name in ["gcc", "ar", "strip"] {
            wrap(&root, &programs, name)?;
        }
        Ok(Self { programs, rust })
    }

    /// Returns a command of cargo that builds for aarch64, in the workspace, below [`directory`].
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match &self.rust {
            Rust::Toolchain => cargo(subcommand),
            Rust::System(sysroot) => {
                let mut command = without_cargo("/usr/bin/cargo");
                // rustup's cargo tells its children which libraries to load.
                command
                    .env_remove("LD_LIBRARY_PATH")
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env(
                        variable("CARGO_TARGET", "RUSTFLAGS"),
                        format!("--sysroot {}", sysroot.display()),
                    )
                    .current_dir(paths::root())
                    .arg(subcommand);
                command
            }
        };
        let (cc, ar) = (self.program("gcc"), self.program("ar"));
        command
            .env(variable("CARGO_TARGET", "LINKER"), &cc)
            .env(format!("CC_{}", TARGET.replace('-', "_")), &cc)
            .env(format!("AR_{}", TARGET.replace('-', "_")), &ar)
            .args(["--target", TARGET, "--target-dir"])
            .arg(directory());
        command
    }

    /// Returns one of the programs beside the compiler, or that itself.
    pub fn program(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.programs.join(name.as_ref())
    }
}

/// Cargo's target directory of these builds, kept apart: another compiler may write it.
fn directory() -> PathBuf {
    paths::target().join("arm64")
}

/// Returns the agent that these builds make.
pub fn agent() -> PathBuf {
    directory().join(TARGET).join("release/recorder")
}

/// Returns the name of a variable that cargo reads for this target.
fn variable(of: &str, what: &str) -> String {
    format!("{of}_{}_{what}", TARGET.replace('-', "_").to_uppercase())
}

/// Writes a program that runs the compiler's program `name`: with its libraries, and with its own system root if it has one.
fn wrap(root: &Path, programs: &Path, name: &str) -> Result<()> {
    let root = root.display();
    let sysroot = match name {
        "gcc" => format!("--sysroot='{root}' "),
        _ => String::new(),
    };
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{root}/{LIBRARIES}' exec '{root}/usr/bin/{PREFIX}-{name}' {sysroot}\"$@\"\n"
    );
    let path = programs.join(name);
    if fs::read_to_string(&path).is_ok_and(|have| have == text) {
        return Ok(());
    }
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("write {}", path.display()))
}

impl Rust {
    fn provide(update: bool) -> Result<Self> {
        let libraries = answer(
            Command::new("rustc")
                .args(["--print", "target-libdir", "--target", TARGET])
                .current_dir(paths::root()),
        );
        if libraries.is_some_and(|libraries| Path::new(&libraries).is_dir()) {
            return Ok(Self::Toolchain);
        }
        let (compiler, library) = RUST;
        let Some(version) = installed(compiler) else {
            bail!(
                "no standard library for {TARGET}. There are two ways to get one:\n  \
                 rustup target add {TARGET}\n  \
                 apt-get install {compiler} cargo-web   (Debian: the library is fetched then, and not installed)"
            );
        };
        let release = codename().context("/etc/os-release names no release")?;
        let suites = ["", "-security", "-updates"].map(|of| format!("{release}{of}"));
        let package = format!("{library}={version}");
        let set = Set {
            name: &format!("arm64-rust-{version}"),
            suites: &suites.each_ref().map(String::as_str),
            architecture: "arm64",
            packages: &|_| Ok([package.clone()].into()),
        };
        let root = set.provide(update)?;
        // A system root with nothing but this: what builds run on this machine is built with the compiler's own.
        let sysroot = directory().join("sysroot");
        let link = sysroot.join("lib/rustlib").join(TARGET);
        fs::create_dir_all(sysroot.join("lib/rustlib"))?;
        let _ = fs::remove_file(&link);
        symlink(root.join("usr/lib/rustlib").join(TARGET), &link)
            .with_context(|| format!("link {}", link.display()))?;
        Ok(Self::System(sysroot))
    }
}

/// Returns the version of an installed package.
fn installed(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    answer(query.args(["--show", "--showformat", "${Version}", package]))
        .filter(|version| !version.is_empty())
}

/// Returns what Debian calls the release of this host.
fn codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}
