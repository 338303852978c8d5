//! Runs programs to their end, the recorder's commands above all.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::Json;
use crate::host::guest::patience;

/// Longest a command may take that is no agent.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What came of a command.
#[derive(Debug)]
pub struct Output {
    /// The command, as a shell would have it.
    pub command: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: Vec<u8>,
    /// Its notes; what is not UTF-8 is replaced.
    pub stderr: String,
}

impl Output {
    /// Demands an exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self}");
        self
    }

    /// Demands that the notes contain `text`.
    #[track_caller]
    pub fn expect_note(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "no {text:?} in the notes of {self}"
        );
        self
    }

    /// Returns the results as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("not UTF-8 from {self}"))
    }

    /// Returns the results as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.stdout).map_or_else(
            |error| panic!("not one JSON document ({error}) from {self}"),
            Json::new,
        )
    }

    /// Returns the results as one JSON document for each line; a single array counts as its elements.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Json> {
        if let Ok(serde_json::Value::Array(elements)) = serde_json::from_slice(&self.stdout) {
            return elements.into_iter().map(Json::new).collect();
        }
        self.text().lines().map(Json::parse).collect()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        let shown = String::from_utf8_lossy(&stdout[..stdout.len().min(4096)]);
        write!(
            formatter,
            "{command}\nexit code {code:?}\nstdout ({} bytes): {shown}\nstderr: {stderr}",
            stdout.len()
        )
    }
}

/// Returns the path of the agent under test: `RECORDER_BIN`, else what `cargo xtask build` built.
pub(crate) fn recorder_path() -> PathBuf {
    match std::env::var_os("RECORDER_BIN").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => target().join("release/recorder"),
    }
}

/// Returns the path of the workload program.
pub(crate) fn workload_path() -> PathBuf {
    profile().join("workload")
}

/// Returns Cargo's directory of the profile that this test was built with: it is in `deps`, one below.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent);
    profile
        .expect("Cargo puts tests in PROFILE/deps")
        .to_owned()
}

fn target() -> PathBuf {
    let profile = profile();
    let target = profile.parent();
    target
        .expect("profiles are below the target directory")
        .to_owned()
}

/// Returns the Python that reads dumps, if there is one with the packages it needs: that of `RECORDER_VENV`, else of
/// `cargo xtask setup`.
pub(crate) fn python() -> Option<PathBuf> {
    python_with("mcap, mcap_protobuf")
}

/// Returns that Python if it has these modules.
pub(crate) fn python_with(modules: &str) -> Option<PathBuf> {
    let venv = std::env::var_os("RECORDER_VENV").map(PathBuf::from);
    let python = venv
        .unwrap_or_else(|| target().join("venv"))
        .join("bin/python");
    let import = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .stderr(Stdio::null())
        .status();
    import
        .is_ok_and(|status| status.success())
        .then_some(python)
}

/// Returns a command of the recorder, with `arguments`.
pub fn recorder<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Command {
    let mut command = Command::new(recorder_path());
    command.args(arguments);
    // What is asked for on the command line must not depend on who runs the tests.
    for name in ["CONFIG", "STATE_DIR", "RUN_DIR"] {
        command.env_remove(format!("RECORDER_{name}"));
    }
    command
}

/// Runs the script of this name with the Python that reads dumps.
///
/// # Panics
///
/// If there is none; tests that call this need [`Need::Python`](crate::Need::Python).
pub fn python_script<I: IntoIterator<Item: AsRef<OsStr>>>(name: &str, arguments: I) -> Command {
    let mut command = Command::new(python().expect("the test needs Need::Python"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name);
    // Only the environment's own packages: neither PYTHONPATH nor the user's.
    command.arg("-I").arg(script).args(arguments);
    command
}

/// Returns where a package of the Python that reads dumps is, without importing it.
pub fn module_directory(name: &str) -> Option<PathBuf> {
    let script = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)";
    let found = Command::new(python()?)
        .args(["-I", "-c", script, name])
        .output();
    let found = found.ok().filter(|found| found.status.success())?;
    let origin = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim_end());
    origin.parent().map(Path::to_owned)
}

/// Returns a command for a program of the system, also one for administrators, whose directories the path may lack.
///
/// # Panics
///
/// If there is none.
pub fn system(name: &str) -> Command {
    let path = system_path(name);
    Command::new(path.unwrap_or_else(|| panic!("{name} is missing")))
}

/// Returns where a program of the system is.
pub(crate) fn system_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
}

/// Runs `command` to its end.
///
/// # Panics
///
/// If it cannot be started, or takes longer than a minute.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let pid = child.id();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(done) = receive.recv_timeout(patience(TIME_MAX)) else {
        crate::workload::kill(pid, rustix::process::Signal::KILL);
        panic!("{shown} took longer than {TIME_MAX:?}");
    };
    let done = done.unwrap_or_else(|error| panic!("{shown}: {error}"));
    Output {
        command: shown,
        code: done.status.code(),
        stdout: done.stdout,
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}
