//! What a guest is made of: the tests as they were built for this host, the libraries they need, a shell and modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cpio::Archive;
use super::kernels::Kernel;
use super::modules;
use crate::exec::{answer, cargo, exec, find};
use crate::{build, paths};

const INIT: &str = include_str!("init.sh");
const TESTS: &str = "recorder-tests";

/// Modules that are loaded at boot.
const AT_BOOT: [&str; 13] = [
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "nvme",
    "ext4",
    "loop",
    "dm_mod",
    "dm_flakey",
    "dm_delay",
    "null_blk",
    "configfs",
];

/// Modules that a test loads with what it wants of them.
const FOR_TESTS: [&str; 6] = [
    "ramoops",
    "scsi_debug",
    "brd",
    "mce_inject",
    "hwpoison_inject",
    "raid1",
];

/// Programs of the host that tests run, if it has them.
const PROGRAMS: [&str; 4] = ["mkfs.ext4", "dmsetup", "timeout", "taskset"];

/// What runs in every guest.
pub struct Suite {
    agent: PathBuf,
    workload: PathBuf,
    tests: Vec<Test>,
}

struct Test {
    name: String,
    path: PathBuf,
}

impl Suite {
    /// Builds the agent, unless there is one, and the tests for this host.
    pub fn build(agent: Option<&Path>) -> Result<Self> {
        let agent = match agent {
            Some(agent) => agent.to_owned(),
            None => build::agent()?,
        };
        let mut tests = cargo("test");
        tests
            .args(["--package", TESTS, "--release", "--no-run"])
            .args(["--message-format", "json-render-diagnostics"])
            .arg("--target-dir")
            .arg(paths::target())
            .env(build::OBJECT_VARIABLE, paths::bpf_object())
            .stderr(Stdio::inherit());
        let messages = answer(&mut tests).context("the end-to-end tests do not build")?;
        let mut suite = Self {
            agent,
            workload: PathBuf::new(),
            tests: Vec::new(),
        };
        for line in messages.lines() {
            let message: Value = serde_json::from_str(line).context("cargo said no JSON")?;
            suite.take(&message);
        }
        ensure!(!suite.tests.is_empty(), "cargo built no tests");
        suite.tests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(suite)
    }

    /// Takes in what cargo says of one thing it built.
    fn take(&mut self, message: &Value) -> Option<()> {
        let path = PathBuf::from(message["executable"].as_str()?);
        let name = message["target"]["name"].as_str()?.to_owned();
        let kind = message["target"]["kind"][0].as_str()?;
        match (kind, message["profile"]["test"].as_bool()?) {
            ("bin", false) if name == "workload" => self.workload = path,
            ("test", true) => self.tests.push(Test { name, path }),
            _ => {}
        }
        Some(())
    }

    /// Returns the names of all tests' files.
    pub fn names(&self) -> Vec<&str> {
        self.tests.iter().map(|test| test.name.as_str()).collect()
    }

    /// Writes a first root directory for `kernel` that runs `plan`, one test and filter a line.
    pub fn initramfs(
        &self,
        kernel: &Kernel,
        shell: &Path,
        plan: &[String],
        patience: u64,
    ) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("/init", 0o755, INIT.as_bytes())?;
        archive.program("/bin/busybox", shell)?;
        archive.link("/bin/sh", "busybox")?;
        archive.file(
            "/etc/passwd",
            0o644,
            b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )?;
        archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        archive.file("/etc/os-release", 0o644, b"ID=recorder-guest\n")?;
        archive.file(
            "/etc/machine-id",
            0o444,
            b"0123456789abcdef0123456789abcdef\n",
        )?;
        let lines = |lines: &[String]| {
            lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        archive.file("/recorder/plan", 0o644, lines(plan).as_bytes())?;
        archive.file("/recorder/patience", 0o644, patience.to_string().as_bytes())?;

        let mut libraries = BTreeSet::new();
        let agent = stripped(&self.agent, "recorder", "--strip-debug")?;
        archive.program("/recorder/release/recorder", &agent)?;
        // With all it has: tests read its symbols and its build ID.
        archive.program("/recorder/release/workload", &self.workload)?;
        libraries.extend(needed(&agent)?);
        libraries.extend(needed(&self.workload)?);
        let planned = |test: &&Test| {
            let first = |line: &String| line.split(' ').next() == Some(test.name.as_str());
            plan.iter().any(first)
        };
        for test in self.tests.iter().filter(planned) {
            let program = stripped(&test.path, &test.name, "--strip-all")?;
            archive.program(&format!("/recorder/release/deps/{}", test.name), &program)?;
            libraries.extend(needed(&program)?);
        }
        for program in PROGRAMS.into_iter().filter_map(find) {
            archive.program(&program.to_string_lossy(), &program)?;
            libraries.extend(needed(&program)?);
        }
        // Where the tests were built to look for them.
        let fixtures = paths::root().join("tests/fixtures");
        directory(&mut archive, &fixtures)?;
        for library in libraries {
            archive.program(&library, Path::new(&library))?;
        }

        let at_boot = modules::closure(&kernel.modules, &AT_BOOT)?;
        let names: Vec<String> = at_boot.iter().map(|module| module.name.clone()).collect();
        archive.file("/modules/load", 0o644, lines(&names).as_bytes())?;
        let all = [&AT_BOOT[..], &FOR_TESTS].concat();
        for module in modules::closure(&kernel.modules, &all)? {
            let path = format!("/modules/{}.ko", module.name);
            archive.file(&path, 0o644, &module.content)?;
        }
        archive.finish()
    }
}

/// Adds a directory of the host's with all that is in it, at its path.
fn directory(archive: &mut Archive, from: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            directory(archive, &path)?;
            continue;
        }
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        archive.file(&path.to_string_lossy(), 0o644, &content)?;
    }
    Ok(())
}

/// Returns a copy of a program without what a guest has no use for.
fn stripped(program: &Path, name: &str, how: &str) -> Result<PathBuf> {
    let directory = paths::vm().join("stripped");
    fs::create_dir_all(&directory)?;
    let to = directory.join(name);
    exec(
        Command::new("strip")
            .arg(how)
            .arg("-o")
            .arg(&to)
            .arg(program),
    )?;
    Ok(to)
}

/// Returns the libraries that a program loads.
fn needed(program: &Path) -> Result<Vec<String>> {
    let list = answer(Command::new("ldd").arg(program))
        .with_context(|| format!("ldd {}", program.display()))?;
    let library = |line: &str| {
        let line = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = line.split_whitespace().next()?;
        path.starts_with('/').then(|| path.to_owned())
    };
    Ok(list.lines().filter_map(library).collect())
}
