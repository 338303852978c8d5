//! bpf-linker: the one on the path, or one built from source against the LLVM of the compiler.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exec::{answer, cargo, exec, find};
use crate::paths;
use crate::toolchain::Llvm;

/// The release that is built when there is none.
const VERSION: &str = "0.13.0";

/// The major versions of LLVM that this release can be built with.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Finds a linker for a compiler with this LLVM, or builds one.
///
/// # Errors
///
/// If there is none and none can be built; the message says what would be enough.
pub fn provide(llvm: &Llvm) -> Result<PathBuf> {
    if let Some(found) = find("bpf-linker").filter(|linker| runs(linker)) {
        return Ok(found);
    }
    let home = paths::tools().join(format!("bpf-linker-{VERSION}-llvm-{}", llvm.version));
    let linker = home.join("bin/bpf-linker");
    if !runs(&linker) {
        build(llvm, &home)?;
    }
    if !runs(&linker) {
        bail!("{} is built, but does not run", linker.display());
    }
    Ok(linker)
}

/// Whether the linker starts: the LLVM it was built against may be gone.
fn runs(linker: &Path) -> bool {
    answer(Command::new(linker).arg("--version")).is_some()
}

/// Builds the linker below `home`, against the very library that the compiler itself loads: what reads the compiler's
/// output can then not be older than what wrote it, and no package with an LLVM of its own is needed.
fn build(llvm: &Llvm, home: &Path) -> Result<()> {
    eprintln!("bpf-linker is missing: it links what the compiler writes into one BPF object");
    let elsewhere = "put a bpf-linker that fits the compiler on the path";
    let major = llvm.major();
    if !LLVM.contains(&major) {
        let (oldest, newest) = (LLVM.start(), LLVM.end());
        bail!(
            "the compiler has LLVM {major}, bpf-linker {VERSION} knows {oldest} to {newest}: {elsewhere}"
        );
    }
    let library = (llvm.library.as_ref())
        .with_context(|| format!("the compiler loads no libLLVM to link with: {elsewhere}"))?;
    lay_out(library, &home.join("lib"))?;
    let mut install = cargo("install");
    install
        .args(["bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{major}"))
        .arg("--root")
        .arg(home);
    exec(install.env("LLVM_PREFIX", home))
}

/// Makes `directory` look as LLVM's own: the library under the name to link with, and under the name to load.
fn lay_out(library: &Path, directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let name = library.file_name().context("a library has a name")?;
    for link in [directory.join("libLLVM.so"), directory.join(name)] {
        symlink(library, &link).with_context(|| format!("create {}", link.display()))?;
    }
    Ok(())
}
