//! What readers of dumps and the agent give up, so that whoever finds a hole in one finds little behind it.
//!
//! A dump is a stranger's file: a reader gives up before it opens one.
//!
//! Landlock takes away writing to files, but for where the output goes, executing, the network, and signals to others; a
//! filter of system calls takes away what no reader calls. Reading stays: debug data lies anywhere. What a kernel does not
//! have is left out: the others still hold.

pub mod agent;
mod calls;
mod starter;

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use thiserror::Error;

pub use starter::Starter;

/// The newest rules that are asked for; kernels that know fewer enforce fewer.
const RULES: ABI = ABI::V6;

/// Devices that any program may write to: the terminal, and nothing.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/tty"];

/// Why a reader does not read.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The kernel has Landlock and refuses these rules.
    #[error("cannot give up writing to files")]
    Rules(#[from] RulesetError),
    /// The place of an output cannot be opened.
    #[error("cannot write there")]
    Output(#[from] PathFdError),
    /// The kernel refuses the filter.
    #[error("cannot give up system calls")]
    Calls(#[source] io::Error),
}

/// How much of it a kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// All of it.
    Wholly,
    /// The filter of system calls, and those rules about files that it knows.
    InPart,
    /// The filter of system calls alone.
    CallsOnly,
}

impl From<RulesetStatus> for Enforced {
    fn from(status: RulesetStatus) -> Self {
        match status {
            RulesetStatus::FullyEnforced => Self::Wholly,
            RulesetStatus::PartiallyEnforced => Self::InPart,
            RulesetStatus::NotEnforced => Self::CallsOnly,
        }
    }
}

/// Makes this thread, and those that it starts, able to write nowhere but to `outputs`, for good.
///
/// An output that does not exist yet may be made: so the directory that it is in may be written to, with what is below it.
///
/// # Errors
///
/// [`SandboxError`] if the kernel could do it and does not, or an output's directory does not exist.
pub fn write_only_to(outputs: &[&Path]) -> Result<Enforced, SandboxError> {
    let status = files(outputs)?;
    let calls = [
        calls::PROGRAMS,
        calls::SOCKETS,
        calls::ATTRIBUTES,
        calls::SURFACES,
        calls::CHANGE_THE_KERNEL,
    ];
    calls::give_up(calls.into_iter().flatten()).map_err(SandboxError::Calls)?;
    Ok(status.into())
}

/// Returns how much of it this kernel enforces. Nothing is given up but by a thread that ends at once.
///
/// # Errors
///
/// [`SandboxError`] as for [`write_only_to`].
pub fn probe() -> Result<Enforced, SandboxError> {
    let tried = std::thread::spawn(|| write_only_to(&[])).join();
    tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn files(outputs: &[&Path]) -> Result<RulesetStatus, SandboxError> {
    let writing = AccessFs::from_write(RULES);
    let rules = Ruleset::default()
        .handle_access(writing | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    let mut rules = allow_devices(rules)?;
    for output in outputs {
        rules = allow(rules, &directory_of(output), writing)?;
        if output.is_dir() {
            rules = allow(rules, output, writing)?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn allow_devices(mut rules: RulesetCreated) -> Result<RulesetCreated, SandboxError> {
    for device in DEVICES {
        // Where it is missing nobody writes to it.
        if let Ok(device) = PathFd::new(device) {
            let device_access = AccessFs::WriteFile | AccessFs::IoctlDev;
            rules = rules.add_rule(PathBeneath::new(device, device_access))?;
        }
    }
    Ok(rules)
}

fn allow(
    rules: RulesetCreated,
    directory: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    Ok(rules.add_rule(PathBeneath::new(PathFd::new(directory)?, access))?)
}

/// Returns the directory that a path's last name is in.
fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::TcpStream;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Does something in a sandbox; its thread is the only one that is in it.
    fn inside<T: Send + 'static>(outputs: &[&Path], act: impl FnOnce() -> T + Send + 'static) -> T {
        let outputs: Vec<PathBuf> = outputs.iter().map(|path| (*path).to_owned()).collect();
        let thread = thread::spawn(move || {
            let outputs: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
            write_only_to(&outputs).expect("there is a kernel that can");
            act()
        });
        thread.join().expect("it does not panic")
    }

    fn kind<T: std::fmt::Debug>(done: io::Result<T>) -> io::ErrorKind {
        done.expect_err("it is taken away").kind()
    }

    const DENIED: io::ErrorKind = io::ErrorKind::PermissionDenied;

    #[test]
    fn files_are_read_and_written_to_the_output_alone() {
        let [ours, theirs] = [0, 1].map(|_| tempfile::tempdir().expect("there is room for tests"));
        fs::write(theirs.path().join("dump"), "read me").expect("there is room");
        let (out, other) = (ours.path().join("out"), theirs.path().to_owned());
        if probe().expect("there is a kernel that can") == Enforced::CallsOnly {
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        }
        inside(&[&out.clone()], move || {
            assert_eq!(
                fs::read_to_string(other.join("dump")).expect("read"),
                "read me"
            );
            fs::write(&out, "written").expect("it is the output");
            assert_eq!(kind(File::create(other.join("new"))), DENIED);
            let whole = other.join("dump");
            assert_eq!(
                kind(fs::OpenOptions::new().append(true).open(&whole)),
                DENIED
            );
            assert_eq!(kind(fs::remove_file(&whole)), DENIED);
            assert_eq!(kind(fs::create_dir(other.join("directory"))), DENIED);
            assert_eq!(kind(fs::rename(&whole, other.join("renamed"))), DENIED);
            File::create("/dev/null").expect("nothing is written there");
        });
        assert_eq!(fs::read_dir(theirs.path()).expect("ours").count(), 1);
    }

    #[test]
    fn nothing_is_executed_sent_or_changed() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let file = directory.path().join("out");
        fs::write(&file, "").expect("there is room");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        inside(&[&file.clone()], move || {
            assert_eq!(kind(Command::new("/bin/true").spawn()), DENIED);
            assert_eq!(kind(TcpStream::connect(address)), DENIED);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
            assert_eq!(kind(fs::set_permissions(&file, mode)), DENIED);
            // SAFETY: no process is traced by asking for it without one.
            let traced = unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) };
            assert_eq!(traced, -1);
            assert_eq!(io::Error::last_os_error().kind(), DENIED);
        });
        assert_ne!(
            std::os::unix::fs::MetadataExt::mode(
                &fs::metadata(directory.path().join("out")).expect("ours")
            ) & 0o7000,
            0o4000
        );
    }

    #[test]
    fn an_output_is_in_its_directory() {
        for (path, directory) in [("out", "."), ("a/out", "a"), ("/out", "/"), ("/", "/")] {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }
}
