//! Runs programs: the one place that does, so that every command line is shown, and shown again when it fails.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Error, Result, bail};

use crate::paths;

/// Runs `command` after printing it.
///
/// # Errors
///
/// If it cannot start or does not succeed; the message holds the whole command.
pub fn exec(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}`: {status}");
    }
    Ok(())
}

/// Runs `command` after printing it, and returns what it writes to standard output. Its errors are shown as they come.
///
/// # Errors
///
/// If it cannot start or does not succeed, or writes what is no text; the message holds the whole command.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}`: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` writes no text"))
}

/// Becomes `command` after printing it. Returns, with the reason, only if that cannot start.
pub fn replace(command: &mut Command) -> Error {
    let shown = shown(command);
    eprintln!("+ {shown}");
    Error::new(command.exec()).context(format!("cannot run `{shown}`"))
}

/// Asks a question: what `command` prints, or `None` if it cannot run or fails. Nothing is shown.
pub fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The cargo that runs this, for work on the host: in the workspace, into the target directory of [`paths`].
pub fn cargo(subcommand: &str) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = without_cargo(&program);
    command
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(paths::root())
        .arg(subcommand);
    command
}

/// A command without what `cargo run` set for this program alone.
pub fn without_cargo(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_left_by_cargo_run) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether `cargo run` sets this variable for the program it runs. What people set (`CARGO_HOME`, `CARGO_NET_*`) stays.
fn is_left_by_cargo_run(name: &str) -> bool {
    name == "CARGO" || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_")
}

/// A command that runs `program` as root: through sudo where this does not run as root.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Finds `program` on the path, or where system programs are when the path of a plain user leaves them out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// The command as one would type it: what it sets in the environment, then the program and its arguments.
fn shown(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.display(), quoted(value));
        }
    }
    line.push_str(&quoted(command.get_program()));
    for argument in command.get_args() {
        let _ = write!(line, " {}", quoted(argument));
    }
    line
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_command_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command
            .args(["build", "it's", ""])
            .env("RUSTFLAGS", "-C a=b")
            .env_remove("RUSTC");
        assert_eq!(
            shown(&command),
            r"RUSTFLAGS='-C a=b' cargo build 'it'\''s' ''"
        );
    }

    #[test]
    fn a_failing_command_is_named_in_its_error() {
        let error = exec(&mut Command::new("false")).expect_err("`false` fails");
        assert!(
            error.to_string().starts_with("`false`: exit status: 1"),
            "{error}"
        );
    }
}
