//! Distribution kernels: fetched once, checked by hash, kept in the user's cache directory.
//!
//! apt works in a root of its own there: the host's package lists, keys aside, are neither read nor written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};

use crate::exec::{answer, exec};

/// Where Debian's packages are, unless `RECORDER_VM_MIRROR` names another mirror.
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What depends on the newest kernel of a suite, in the flavour for virtual machines.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel that can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// What it is called here.
    pub name: &'static str,
    suite: &'static str,
}

/// The kernels of Debian's releases that recorder supports, oldest first, and the newest there is.
pub const RELEASES: [Release; 4] = [
    Release {
        name: "5.10",
        suite: "bullseye",
    },
    Release {
        name: "6.1",
        suite: "bookworm",
    },
    Release {
        name: "6.12",
        suite: "trixie",
    },
    Release {
        name: "newest",
        suite: "trixie-backports",
    },
];

/// A kernel in the cache.
#[derive(Debug)]
pub struct Kernel {
    /// What it was asked for as.
    pub name: &'static str,
    /// What it calls itself.
    pub version: String,
    /// What QEMU boots.
    pub image: PathBuf,
    /// Its modules: `lib/modules/VERSION`.
    pub modules: PathBuf,
}

/// A package as the archive's signed index describes it.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    file: String,
    sha256: String,
}

impl Release {
    /// Returns the kernel, from the cache if it is there; `update` asks the archive for a newer one.
    pub fn provide(&self, update: bool) -> Result<Kernel> {
        let directory = cache()?.join(self.name);
        let lock = directory.join("packages.sha256");
        if update || !lock.exists() {
            self.fetch(&directory, &lock)
                .with_context(|| format!("fetch kernel {}", self.name))?;
        }
        let packages = fs::read_to_string(&lock).context("read the list of packages")?;
        let packages: Vec<Package> = packages.lines().filter_map(Package::of_line).collect();
        let root = directory.join("root");
        let unpacked = directory.join("unpacked");
        let wanted: String = packages.iter().map(Package::line).collect();
        if fs::read_to_string(&unpacked).is_ok_and(|have| have == wanted) {
            return self.find(&root);
        }
        check(&directory, &lock)?;
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root)?;
        for package in &packages {
            let file = directory.join(&package.file);
            exec(Command::new("dpkg-deb").arg("-x").arg(file).arg(&root))?;
        }
        fs::write(unpacked, wanted)?;
        self.find(&root)
    }

    /// Downloads the packages of the suite's kernel and writes their hashes to `lock`.
    fn fetch(&self, directory: &Path, lock: &Path) -> Result<()> {
        let apt = Apt::new(&directory.join("apt"), self.suite)?;
        exec(&mut apt.command("apt-get", &["--quiet", "update"]))?;
        let names = apt.closure()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let uris = answer(&mut apt.command(
            "apt-get",
            &[&["download", "--print-uris"][..], &names].concat(),
        ))
        .context("ask for the hashes of packages")?;
        let packages: Vec<Package> = uris.lines().filter_map(Package::of_uri).collect();
        ensure!(
            packages.len() == names.len(),
            "not every package of {names:?} has a hash:\n{uris}"
        );
        let mut download = apt.command("apt-get", &[&["--quiet", "download"][..], &names].concat());
        exec(download.current_dir(directory))?;
        fs::write(lock, packages.iter().map(Package::line).collect::<String>())?;
        check(directory, lock)
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
                version,
                image,
                modules,
            });
        }
        bail!("no modules below {}", root.display())
    }
}

impl Package {
    /// Of a line of `apt-get --print-uris`: 'URI' FILE SIZE HASH.
    fn of_uri(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (file, _size, hash) = (words.next()?, words.next()?, words.next()?);
        Self::new(file, hash.strip_prefix("SHA256:")?)
    }

    /// Of a line of `sha256sum`.
    fn of_line(line: &str) -> Option<Self> {
        let (sha256, file) = line.split_once("  ")?;
        Self::new(file, sha256)
    }

    fn new(file: &str, sha256: &str) -> Option<Self> {
        (!file.contains('/')).then(|| Self {
            file: file.to_owned(),
            sha256: sha256.to_owned(),
        })
    }

    fn line(&self) -> String {
        format!("{}  {}\n", self.sha256, self.file)
    }
}

/// Checks the packages in `directory` against their hashes.
fn check(directory: &Path, lock: &Path) -> Result<()> {
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--strict", "--quiet"])
        .arg(lock)
        .current_dir(directory);
    exec(&mut check).with_context(|| {
        format!(
            "a package in {} is not what the archive signed: remove that directory to fetch it again",
            directory.display()
        )
    })
}

/// apt with a root of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(root: &Path, suite: &str) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let mirror = env::var("RECORDER_VM_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
        let sources = root.join("sources.list");
        fs::write(
            &sources,
            format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"),
        )?;
        let status = root.join("status");
        fs::write(&status, "")?;
        let mut options: Vec<String> = [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "APT::Architecture=amd64",
            "APT::Architectures=amd64",
            // Nothing is shared with other users: no need to download as one of its own, who could not write here.
            "APT::Sandbox::User=",
        ]
        .map(str::to_owned)
        .into();
        for (name, path) in [
            ("Dir::Etc::sourcelist", sources),
            ("Dir::State::Lists", root.join("lists")),
            ("Dir::State::status", status),
            ("Dir::Cache", root.join("cache")),
        ] {
            options.push(format!("{name}={}", path.display()));
        }
        Ok(Self { options })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command.args(arguments);
        command
    }

    /// Returns the packages that make up the kernel: one before 7.0, three since.
    fn closure(&self) -> Result<BTreeSet<String>> {
        let mut wanted = vec![METAPACKAGE.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            let depends =
                answer(&mut self.command("apt-cache", &["depends", "--important", &name]))
                    .with_context(|| format!("the archive has no {name}"))?;
            let more = depends
                .lines()
                .filter_map(|line| line.trim().strip_prefix("Depends: "))
                .filter(|name| is_kernel(name) && !seen.contains(*name));
            wanted.extend(more.map(str::to_owned));
            seen.insert(name);
        }
        seen.retain(|name| name.bytes().any(|byte| byte == b'.'));
        ensure!(!seen.is_empty(), "{METAPACKAGE} depends on no kernel");
        Ok(seen)
    }
}

fn is_kernel(package: &str) -> bool {
    package.starts_with("linux-") && package.ends_with("-cloud-amd64")
}

/// Where kernels are kept: outside the repository, and shared by all of a user's work trees.
fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = set("RECORDER_VM_CACHE") {
        return Ok(directory.into());
    }
    let user = match set("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(set("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(user.join("recorder/vm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_off_what_apt_prints_and_written_as_sha256sum_reads_them() {
        let line = "'http://a/pool/l%2b.deb' l_1+2_amd64.deb 1524 SHA256:35bb2f";
        let package = Package::of_uri(line).expect("a package");
        assert_eq!(package.line(), "35bb2f  l_1+2_amd64.deb\n");
        assert_eq!(Package::of_line(package.line().trim_end()), Some(package));
        assert_eq!(Package::of_uri("'http://a/x' ../x 1 SHA256:00"), None);
        assert_eq!(Package::of_uri("'http://a/x' x 1 MD5Sum:00"), None);
    }

    #[test]
    fn only_the_kernel_itself_is_fetched() {
        assert!(is_kernel("linux-modules-7.3.4+deb13-cloud-amd64"));
        assert!(!is_kernel("linux-base"));
        assert!(!is_kernel("<linux-initramfs-tool>"));
    }
}
