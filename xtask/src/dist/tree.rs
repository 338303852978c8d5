//! The files of the package, as they will lie on a host.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::exec::{answer, cargo, exec};
use crate::paths;

/// A directory that becomes the root of the package.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Lays out everything but the control files.
    pub fn lay_out(root: PathBuf, agent: &Path, changelog: &str) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let tree = Self { root };
        tree.program(agent)?;
        for (file, to) in [
            (
                "recorder.service",
                "usr/lib/systemd/system/recorder.service",
            ),
            ("sysusers.conf", "usr/lib/sysusers.d/recorder.conf"),
            ("tmpfiles.conf", "usr/lib/tmpfiles.d/recorder.conf"),
            ("recorder.toml", "etc/recorder/recorder.toml"),
            (
                "debian/lintian-overrides",
                "usr/share/lintian/overrides/recorder",
            ),
        ] {
            tree.write(to, packaging(file)?.as_bytes())?;
        }
        tree.manual(agent)?;
        tree.completions(agent)?;
        tree.documents(changelog)?;
        Ok(tree)
    }

    /// Returns its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file that everybody may read.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write_as(path, bytes, 0o644)
    }

    /// Writes a file with a mode.
    pub fn write_as(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(path);
        let parent = path.parent().context("a file has a directory")?;
        fs::create_dir_all(parent)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Returns the bytes of a program's output.
    fn said(command: &mut Command) -> Result<Vec<u8>> {
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{command:?}: {}", output.status);
        Ok(output.stdout)
    }

    /// The program, without what only its developers' debuggers read. Its build ID stays.
    fn program(&self, agent: &Path) -> Result<()> {
        let to = self.root.join("usr/bin/recorder");
        fs::create_dir_all(self.root.join("usr/bin"))?;
        fs::copy(agent, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        exec(
            Command::new("strip")
                .args(["--strip-unneeded", "--remove-section=.comment"])
                .arg(&to),
        )
    }

    fn manual(&self, agent: &Path) -> Result<()> {
        let man = self.root.join("usr/share/man");
        exec(Command::new(agent).args(["man", "--output-dir"]).arg(&man))?;
        exec(Command::new("gzip").args(["-9n", "--recursive"]).arg(&man))?;
        Ok(())
    }

    fn completions(&self, agent: &Path) -> Result<()> {
        for (shell, to) in [
            ("bash", "usr/share/bash-completion/completions/recorder"),
            ("zsh", "usr/share/zsh/vendor-completions/_recorder"),
            ("fish", "usr/share/fish/vendor_completions.d/recorder.fish"),
        ] {
            let script = Self::said(Command::new(agent).args(["completions", shell]))?;
            self.write(to, &script)?;
        }
        Ok(())
    }

    fn documents(&self, changelog: &str) -> Result<()> {
        let mit = fs::read_to_string(paths::root().join("LICENSE-MIT"))?;
        let mit: Vec<String> = mit
            .lines()
            .map(|line| match line.trim() {
                "" => " .".to_owned(),
                text => format!(" {text}"),
            })
            .collect();
        let copyright = packaging("debian/copyright")?.replace("@MIT@", &mit.join("\n"));
        self.write("usr/share/doc/recorder/copyright", copyright.as_bytes())?;
        self.write(
            "usr/share/doc/recorder/changelog.gz",
            &gzip(changelog.as_bytes())?,
        )?;
        let crates = answer(cargo("tree").args([
            "--package",
            "recorder",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p} {l}",
        ]))
        .context("cargo cannot say which crates there are")?;
        let mut crates: Vec<&str> = crates
            .lines()
            // Ours are given by their path.
            .filter(|line| !line.contains("(/"))
            .map(|line| line.trim_end_matches(" (*)"))
            .collect();
        crates.sort_unstable();
        crates.dedup();
        self.write(
            "usr/share/doc/recorder/crates.gz",
            &gzip(format!("{}\n", crates.join("\n")).as_bytes())?,
        )?;
        for document in fs::read_dir(paths::root().join("docs"))? {
            let path = document?.path();
            if let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str())
                .filter(|name| name.ends_with(".md"))
            {
                let to = format!("usr/share/doc/recorder/{name}");
                self.write(&to, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// Returns every file, below the root.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut waiting = vec![self.root.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => waiting.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Reads one of the package's own files.
pub fn packaging(name: &str) -> Result<String> {
    let path = paths::root().join("recorder/packaging").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .arg("-9nc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = gzip.stdin.take().context("stdin is a pipe")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = gzip.wait_with_output()?;
    writer.join().ok().context("the writer panicked")??;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}
