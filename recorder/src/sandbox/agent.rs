//! What the agent gives up once its probes are attached, for good.
//!
//! | | gives up | and with it |
//! |---|---|---|
//! | [`give_up_privileges`] | capabilities, and calls that change the kernel | all that the agent starts |
//! | [`observe`] | writing to any file that is not open, sockets, starting programs | this thread |
//! | [`keep`] | writing anywhere but to its own directories, starting programs | this thread, and those that it starts |
//!
//! Who observes is not under Landlock: it would be let into no other process any more, and so could name nobody. What is left
//! to neither is done by a [`Starter`](super::Starter).

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::{Enforced, RULES, SandboxError, allow_devices, calls};

/// What the agent keeps of the capabilities that it was started with, and why.
pub const KEPT: [(CapabilitySet, &str); 12] = [
    // Of every agent, as its unit says.
    (
        CapabilitySet::BPF,
        "to ask its programs, which older kernels let nobody else",
    ),
    (CapabilitySet::SYSLOG, "to read the kernel's log"),
    (
        CapabilitySet::SYS_PTRACE,
        "to open the files and arguments of other users' processes",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "to read files that only their owners can",
    ),
    (
        CapabilitySet::CHECKPOINT_RESTORE,
        "to name programs that were replaced while they ran",
    ),
    // Of one that was started as root, and of its collectors.
    (
        CapabilitySet::SYS_ADMIN,
        "to have the kernel measure the probes for a moment; most else that it opens is filtered away",
    ),
    (
        CapabilitySet::DAC_OVERRIDE,
        "to write to directories that belong to the agent's own user",
    ),
    (
        CapabilitySet::CHOWN,
        "to give the control socket to a group",
    ),
    (
        CapabilitySet::FOWNER,
        "to set the modes of what is in those directories",
    ),
    (CapabilitySet::SETUID, "to start collectors as their user"),
    (
        CapabilitySet::SETGID,
        "to start collectors as their user's group",
    ),
    (
        CapabilitySet::KILL,
        "to end collectors that run as another user",
    ),
];

/// Gives up all capabilities but [`KEPT`], every way to gain others, and the system calls that change the kernel. It holds
/// for this thread and those that it starts.
///
/// # Errors
///
/// The kernel refuses; what was given up before that stays so.
pub fn give_up_privileges() -> io::Result<()> {
    let kept = CapabilitySet::from_iter(KEPT.map(|(capability, _)| capability));
    // Before what it needs is gone. What is not in this set is not regained by executing a program as root either.
    for capability in CapabilitySet::all().difference(kept).iter() {
        // One that the kernel does not know, or has let nobody gain already.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let held = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: held.permitted & kept,
            inheritable: held.inheritable & kept,
        },
    )?;
    calls::give_up(calls::CHANGE_THE_KERNEL)
}

/// Makes this thread one that looks, and writes only to what is open already.
///
/// # Errors
///
/// [`SandboxError::Calls`]
pub fn observe() -> Result<(), SandboxError> {
    let calls = [calls::PROGRAMS, calls::SOCKETS];
    calls::give_up_files(calls.into_iter().flatten()).map_err(SandboxError::Calls)
}

/// Makes this thread, and those that it starts, able to write only to these directories and what is below them.
///
/// One that cannot be opened is left out.
///
/// # Errors
///
/// [`SandboxError`] if the kernel could do it and does not.
pub fn keep(directories: &[PathBuf]) -> Result<Enforced, SandboxError> {
    let status = files(directories);
    // Whatever became of that.
    calls::give_up(calls::PROGRAMS).map_err(SandboxError::Calls)?;
    Ok(status?.into())
}

fn files(directories: &[PathBuf]) -> Result<RulesetStatus, SandboxError> {
    let writing = AccessFs::from_write(RULES);
    let rules = Ruleset::default()
        .handle_access(writing | AccessFs::Execute)?
        .handle_access(AccessNet::BindTcp)?
        .create()?;
    let mut rules = allow_devices(rules)?;
    for directory in directories {
        if let Ok(directory) = PathFd::new(directory) {
            rules = rules.add_rule(PathBeneath::new(directory, writing))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Returns what to [`keep`] for a directory that may be removed and made again, or that another file system may be mounted on:
/// what it is in, because a rule holds for what was there when it was made. Right below the root it is the directory itself.
pub fn place_of(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if parent.parent().is_some() => parent,
        _ => directory,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::process::{Child, Command};
    use std::thread;

    use super::*;
    use crate::sandbox::Starter;

    const DENIED: io::ErrorKind = io::ErrorKind::PermissionDenied;

    fn kind<T: std::fmt::Debug>(done: io::Result<T>) -> io::ErrorKind {
        done.expect_err("it is taken away").kind()
    }

    /// A process that is not of this one.
    fn other() -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("60").spawn().expect("it is there")
    }

    #[test]
    fn who_observes_sees_other_processes_and_writes_to_what_is_open_alone() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let path = directory.path().to_owned();
        let mut open = File::create(path.join("open")).expect("there is room");
        let mut child = other();
        let exe = format!("/proc/{}/exe", child.id());
        let thread = thread::spawn(move || {
            observe().expect("there is a kernel that can");
            fs::read_link(exe).expect("it may look");
            fs::read(path.join("open")).expect("it may read");
            open.write_all(b"x").expect("it is open");
            let options = || fs::OpenOptions::new();
            assert_eq!(kind(File::create(path.join("new"))), DENIED);
            assert_eq!(kind(options().append(true).open(path.join("open"))), DENIED);
            assert_eq!(
                kind(options().read(true).write(true).open(path.join("open"))),
                DENIED
            );
            assert_eq!(kind(fs::remove_file(path.join("open"))), DENIED);
            assert_eq!(kind(fs::rename(path.join("open"), path.join("a"))), DENIED);
            assert_eq!(kind(fs::create_dir(path.join("a"))), DENIED);
            assert_eq!(kind(Command::new("/bin/true").spawn()), DENIED);
            assert_eq!(kind(std::net::UdpSocket::bind("127.0.0.1:0")), DENIED);
        });
        thread.join().expect("it does not panic");
        assert_eq!(fs::read_dir(directory.path()).expect("ours").count(), 1);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    #[test]
    fn who_keeps_writes_to_its_places_and_a_starter_starts_programs_for_it() {
        let [ours, theirs] = [0, 1].map(|_| tempfile::tempdir().expect("there is room for tests"));
        let place = ours.path().join("state");
        fs::create_dir(&place).expect("ours");
        let (kept, other) = (ours.path().to_owned(), theirs.path().to_owned());
        let starter = Starter::new().expect("a thread");
        let thread = thread::spawn(move || {
            let missing = other.join("missing");
            keep(&[place_of(&place).to_owned(), missing]).expect("there is a kernel that can");
            // Another directory in its place is as good.
            fs::remove_dir(&place).expect("it may");
            fs::create_dir(&place).expect("it may");
            fs::write(place.join("dump"), "a").expect("it may");
            fs::rename(place.join("dump"), kept.join("dump")).expect("it may");
            assert_eq!(kind(File::create(other.join("new"))), DENIED);
            assert_eq!(kind(Command::new("/bin/true").spawn()), DENIED);
            let mut touch = Command::new("/bin/touch");
            touch.arg(other.join("by a program"));
            let mut child = starter.spawn(touch).expect("it may");
            assert!(child.wait().expect("it is ours").success());
        });
        thread.join().expect("it does not panic");
        assert_eq!(fs::read_dir(theirs.path()).expect("ours").count(), 1);
    }

    #[test]
    fn a_directory_below_the_root_is_its_own_place() {
        for (directory, place) in [
            ("/var/lib/recorder", "/var/lib"),
            ("/srv/recorder", "/srv"),
            ("/recorder", "/recorder"),
            ("/", "/"),
        ] {
            assert_eq!(place_of(Path::new(directory)), Path::new(place));
        }
    }
}
