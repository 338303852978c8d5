//! Distribution kernels, from their packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::arch::Arch;
use super::archive::{Apt, Set};

/// What depends on the newest kernel of a suite, in the flavour for virtual machines, before the architecture.
const METAPACKAGE: &str = "linux-image-cloud-";

/// A kernel that can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// What it is called here.
    pub name: &'static str,
    arch: Arch,
    suite: &'static str,
}

/// The kernels of Debian's releases that recorder supports, oldest first, and the newest there is; then one for aarch64.
pub const RELEASES: [Release; 6] = [
    amd64("5.10", "bullseye"),
    amd64("6.1", "bookworm"),
    amd64("6.12", "trixie"),
    amd64("newest", "trixie-backports"),
    arm64("arm64-6.1", "bookworm"),
    arm64("arm64-6.12", "trixie"),
];

/// Places in [`RELEASES`] of the oldest and of the newest, which are run if nothing is asked for.
pub const ENDS: [usize; 2] = [0, 3];

const fn amd64(name: &'static str, suite: &'static str) -> Release {
    Release {
        name,
        arch: Arch::Amd64,
        suite,
    }
}

const fn arm64(name: &'static str, suite: &'static str) -> Release {
    Release {
        name,
        arch: Arch::Arm64,
        suite,
    }
}

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it was asked for as.
    pub name: &'static str,
    /// What it runs on.
    pub arch: Arch,
    /// What it calls itself.
    pub version: String,
    /// What QEMU boots.
    pub image: PathBuf,
    /// Its modules: `lib/modules/VERSION`.
    pub modules: PathBuf,
}

impl Release {
    /// Returns the kernel, from the cache if it is there; `update` asks the archive for a newer one.
    pub fn provide(&self, update: bool) -> Result<Kernel> {
        let set = Set {
            name: self.name,
            suites: &[self.suite],
            architecture: self.arch.facts().name,
            packages: &|apt| packages(apt, self.arch.facts().name),
        };
        self.find(&set.provide(update)?)
    }

    /// Finds the image and the modules below `root`, where different packages put them.
    fn find(&self, root: &Path) -> Result<Kernel> {
        for parent in ["usr/lib/modules", "lib/modules"] {
            let Ok(mut versions) = fs::read_dir(root.join(parent)) else {
                continue;
            };
            let Some(modules) = versions.find_map(Result::ok).map(|entry| entry.path()) else {
                continue;
            };
            let version = modules
                .file_name()
                .and_then(|name| name.to_str())
                .context("a kernel without a version")?
                .to_owned();
            let images = [
                root.join(format!("boot/vmlinuz-{version}")),
                modules.join("vmlinuz"),
            ];
            let image = images.into_iter().find(|image| image.exists());
            let image = image.with_context(|| format!("no image of kernel {version}"))?;
            return Ok(Kernel {
                name: self.name,
                arch: self.arch,
                version,
                image,
                modules,
            });
        }
        bail!("no modules below {}", root.display())
    }
}

/// Returns the packages that make up the kernel of a suite: one before 7.0, three since.
fn packages(apt: &Apt, arch: &str) -> Result<BTreeSet<String>> {
    let metapackage = format!("{METAPACKAGE}{arch}");
    let mut wanted = vec![metapackage.clone()];
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let more = apt.depends(&name)?;
        wanted.extend(
            more.into_iter()
                .filter(|name| is_kernel(name, arch) && !seen.contains(name)),
        );
        seen.insert(name);
    }
    seen.retain(|name| name.bytes().any(|byte| byte == b'.'));
    ensure!(!seen.is_empty(), "{metapackage} depends on no kernel");
    Ok(seen)
}

fn is_kernel(package: &str, arch: &str) -> bool {
    package.starts_with("linux-") && package.ends_with(&format!("-cloud-{arch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_itself_is_fetched() {
        assert!(is_kernel("linux-modules-7.3.4+deb13-cloud-amd64", "amd64"));
        assert!(!is_kernel("linux-base", "amd64"));
        assert!(!is_kernel("<linux-initramfs-tool>", "amd64"));
    }
}
