//! What a guest is made of: the tests as they were built for this host, the libraries they need, a shell and modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::arch::Arch;
use super::cpio::Archive;
use super::kernels::Kernel;
use super::modules;
use super::userland::{Files, Userland};
use crate::cross::Cross;
use crate::exec::{answer, cargo, exec};
use crate::{build, paths};

const INIT: &str = include_str!("init.sh");
const TESTS: &str = "recorder-tests";
/// Its program that fails.
const WORKLOAD: &str = "workload";
/// Its program that compiles others.
const FIXTURES: &str = "fixtures";

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

/// What a guest's root directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All that a test may want.
    All,
    /// Agent, workload and tests: it lies in the guest's memory, of which there is little.
    Least,
}

/// What runs in every guest.
pub struct Suite {
    userland: Userland,
    /// What takes from a program what guests have no use for.
    strip: PathBuf,
    agent: PathBuf,
    workload: PathBuf,
    fixtures: PathBuf,
    tests: Vec<Test>,
}

struct Test {
    name: String,
    path: PathBuf,
}

impl Suite {
    /// Builds the agent, unless there is one, and the tests of these files; `update` asks the archive for newer packages.
    pub fn build(
        arch: Arch,
        agent: Option<&Path>,
        files: &BTreeSet<&str>,
        update: bool,
    ) -> Result<Self> {
        let userland = Userland::provide(arch, update)?;
        let (mut tests, strip, built) = match arch {
            Arch::Amd64 => {
                let mut tests = cargo("test");
                tests.arg("--target-dir").arg(paths::target());
                let built = match agent {
                    Some(agent) => agent.to_owned(),
                    None => build::agent()?,
                };
                (tests, PathBuf::from("strip"), built)
            }
            Arch::Arm64 => {
                let cross = Cross::provide(update)?;
                let built = build::agent_for(&cross)?;
                (cross.cargo("test"), cross.program("strip"), built)
            }
        };
        tests
            .args(["--package", TESTS, "--release", "--no-run"])
            .args(files.iter().flat_map(|file| ["--test", file]))
            .args(["--message-format", "json-render-diagnostics"])
            .env(build::OBJECT_VARIABLE, paths::bpf_object())
            .stderr(Stdio::inherit());
        let messages = answer(&mut tests).context("the end-to-end tests do not build")?;
        let mut suite = Self {
            userland,
            strip,
            agent: built,
            workload: PathBuf::new(),
            fixtures: PathBuf::new(),
            tests: Vec::new(),
        };
        for line in messages.lines() {
            let message: Value = serde_json::from_str(line).context("cargo said no JSON")?;
            suite.take(&message);
        }
        ensure!(!suite.tests.is_empty(), "cargo built no tests");
        // There are compilers for this host alone.
        if arch == Arch::Amd64 {
            fs::create_dir_all(compiled())?;
            exec(Command::new(&suite.fixtures).arg(compiled()))?;
        }
        Ok(suite)
    }

    /// Takes in what cargo says of one thing it built.
    fn take(&mut self, message: &Value) -> Option<()> {
        let path = PathBuf::from(message["executable"].as_str()?);
        let name = message["target"]["name"].as_str()?.to_owned();
        let kind = message["target"]["kind"][0].as_str()?;
        match (kind, message["profile"]["test"].as_bool()?) {
            ("bin", false) if name == WORKLOAD => self.workload = path,
            ("bin", false) if name == FIXTURES => self.fixtures = path,
            ("test", true) => self.tests.push(Test { name, path }),
            _ => {}
        }
        Some(())
    }

    /// Writes a first root directory for `kernel` that runs `plan`, one test and filter a line.
    pub fn initramfs(
        &self,
        kernel: &Kernel,
        plan: &[String],
        patience: u64,
        content: Content,
    ) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("/init", 0o755, INIT.as_bytes())?;
        archive.program("/bin/busybox", &self.userland.shell()?)?;
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

        let mut files = Files::new();
        let agent = self.stripped(kernel, &self.agent, "recorder", "--strip-debug")?;
        archive.program("/recorder/release/recorder", &agent)?;
        let workload = match content {
            // With all it has: tests read its symbols and its build ID.
            Content::All => self.workload.clone(),
            Content::Least => self.stripped(kernel, &self.workload, "workload", "--strip-all")?,
        };
        archive.program("/recorder/release/workload", &workload)?;
        self.userland.libraries(&agent, &mut files)?;
        self.userland.libraries(&workload, &mut files)?;
        let planned = |test: &&Test| {
            let first = |line: &String| line.split(' ').next() == Some(test.name.as_str());
            plan.iter().any(first)
        };
        for test in self.tests.iter().filter(planned) {
            let program = self.stripped(kernel, &test.path, &test.name, "--strip-all")?;
            archive.program(&format!("/recorder/release/deps/{}", test.name), &program)?;
            self.userland.libraries(&program, &mut files)?;
        }
        if kernel.arch == Arch::Amd64 && content == Content::All {
            for program in fs::read_dir(compiled())? {
                let program = program?;
                self.userland.libraries(&program.path(), &mut files)?;
                let name = program.file_name();
                let path = format!("/recorder/fixtures/{}", name.to_string_lossy());
                archive.program(&path, &program.path())?;
            }
        }
        if content == Content::All {
            self.userland.programs(&mut files)?;
        }
        for (path, from) in &files {
            archive.program(path, from)?;
        }
        // Where the tests were built to look for them.
        if content == Content::All {
            directory(&mut archive, &paths::root().join("tests/fixtures"))?;
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

    /// Returns a copy of a program without what a guest has no use for.
    fn stripped(&self, kernel: &Kernel, program: &Path, name: &str, how: &str) -> Result<PathBuf> {
        let directory = paths::vm().join(format!("{}stripped", kernel.arch.facts().prefix));
        fs::create_dir_all(&directory)?;
        let to = directory.join(name);
        exec(
            Command::new(&self.strip)
                .arg(how)
                .arg("-o")
                .arg(&to)
                .arg(program),
        )?;
        Ok(to)
    }
}

/// Where the programs are that tests else compile.
fn compiled() -> PathBuf {
    paths::vm().join("fixtures")
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
