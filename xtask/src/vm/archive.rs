//! Packages of Debian's archive: fetched once, checked by hash, kept in the user's cache directory and unpacked there.
//!
//! Nothing is installed. apt works in a root of its own: the host's package lists, keys aside, are neither read nor written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

use crate::exec::{answer, exec};

/// Where Debian's packages are, unless `RECORDER_VM_MIRROR` names another mirror.
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages that are unpacked together.
pub struct Set<'a> {
    /// What their directory in the cache is called.
    pub name: &'a str,
    /// The suites they are looked for in.
    pub suites: &'a [&'a str],
    /// What the archive calls the machines that they are for.
    pub architecture: &'a str,
    /// Asks which packages belong to it.
    pub packages: &'a dyn Fn(&Apt) -> Result<BTreeSet<String>>,
}

/// A package as the archive's signed index describes it.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    file: String,
    sha256: String,
}

impl Set<'_> {
    /// Returns the directory that the packages are unpacked in, from the cache if they are there; `update` asks the archive
    /// for newer ones.
    pub fn provide(&self, update: bool) -> Result<PathBuf> {
        let directory = cache()?.join(self.name);
        let lock = directory.join("packages.sha256");
        if update || !lock.exists() {
            self.fetch(&directory, &lock)
                .with_context(|| format!("fetch the packages of {}", self.name))?;
        }
        let packages = fs::read_to_string(&lock).context("read the list of packages")?;
        let packages: Vec<Package> = packages.lines().filter_map(Package::of_line).collect();
        let root = directory.join("root");
        let unpacked = directory.join("unpacked");
        let wanted: String = packages.iter().map(Package::line).collect();
        if fs::read_to_string(&unpacked).is_ok_and(|have| have == wanted) {
            return Ok(root);
        }
        check(&directory, &lock)?;
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root)?;
        eprintln!("unpacking the packages of {}", self.name);
        for package in &packages {
            let file = directory.join(&package.file);
            let unpacks = answer(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root));
            unpacks.with_context(|| format!("dpkg-deb cannot unpack {}", file.display()))?;
        }
        fs::write(unpacked, wanted)?;
        Ok(root)
    }

    /// Downloads the packages and writes their hashes to `lock`.
    fn fetch(&self, directory: &Path, lock: &Path) -> Result<()> {
        let apt = Apt::new(&directory.join("apt"), self.suites, self.architecture)?;
        exec(&mut apt.command("apt-get", &["--quiet", "update"]))?;
        let names = (self.packages)(&apt)?;
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
#[derive(Debug)]
pub struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(root: &Path, suites: &[&str], architecture: &str) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let mirror = env::var("RECORDER_VM_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
        let sources = root.join("sources.list");
        fs::write(
            &sources,
            suites
                .iter()
                .map(|suite| source(&mirror, suite))
                .collect::<String>(),
        )?;
        let status = root.join("status");
        fs::write(&status, "")?;
        let mut options: Vec<String> = [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            // Nothing is shared with other users: no need to download as one of its own, who could not write here.
            "APT::Sandbox::User=",
        ]
        .map(str::to_owned)
        .into();
        for name in ["APT::Architecture", "APT::Architectures"] {
            options.push(format!("{name}={architecture}"));
        }
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

    /// Returns `packages` and all that they depend on, down to the C library.
    pub fn closure(&self, packages: &[&str]) -> Result<BTreeSet<String>> {
        let install = [
            "install",
            "--print-uris",
            "--yes",
            "--no-install-recommends",
        ];
        let uris = answer(&mut self.command("apt-get", &[&install[..], packages].concat()))
            .with_context(|| format!("the archive cannot install {}", packages.join(", ")))?;
        let files = uris.lines().filter(|line| line.starts_with('\''));
        let file = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        let name = |file: String| file.split_once('_').map(|(name, _)| name.to_owned());
        Ok(files.filter_map(file).filter_map(name).collect())
    }

    /// Returns what a package depends on itself.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let depends = answer(&mut self.command("apt-cache", &["depends", "--important", package]))
            .with_context(|| format!("the archive has no {package}"))?;
        let lines = depends.lines().map(str::trim);
        let names = lines.filter_map(|line| line.strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }
}

/// Returns the line that names a suite; those of the security team are beside the others.
fn source(mirror: &str, suite: &str) -> String {
    let beside = if suite.ends_with("-security") {
        "-security"
    } else {
        ""
    };
    format!("deb [signed-by={KEYRING}] {mirror}{beside} {suite} main\n")
}

/// Where packages are kept: outside the repository, and shared by all of a user's work trees.
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
    fn security_updates_have_a_tree_of_their_own() {
        let line = |suite| source("http://a/debian", suite);
        assert!(line("x").ends_with(" http://a/debian x main\n"));
        assert!(line("x-security").ends_with(" http://a/debian-security x-security main\n"));
    }

    #[test]
    fn packages_are_read_off_what_apt_prints_and_written_as_sha256sum_reads_them() {
        let line = "'http://a/pool/l%2b.deb' l_1+2_amd64.deb 1524 SHA256:35bb2f";
        let package = Package::of_uri(line).expect("a package");
        assert_eq!(package.line(), "35bb2f  l_1+2_amd64.deb\n");
        assert_eq!(Package::of_line(package.line().trim_end()), Some(package));
        assert_eq!(Package::of_uri("'http://a/x' ../x 1 SHA256:00"), None);
        assert_eq!(Package::of_uri("'http://a/x' x 1 MD5Sum:00"), None);
    }
}
