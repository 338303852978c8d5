//! What a test needs of the host, and what happens where the host has it not.

use std::io::Write;
use std::panic::Location;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::command::{module_directory, python, python_with, recorder_path, system_path};
use crate::fixture::Build;
use crate::host;

/// Something that not every host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Root, for loading BPF programs and for most failures.
    Root,
    /// The kernel's own type information.
    Btf,
    /// A built agent.
    Agent,
    /// Loop devices.
    Loop,
    /// Loop devices that say why they failed, and refuse a read past the end of their file.
    LoopErrors,
    /// Filters of system calls that end a process by a signal.
    FilterSignals,
    /// The ext4 file system and its mkfs.
    Ext4,
    /// A memory cgroup, of version 1 or 2.
    MemoryCgroup,
    /// The unified cgroup hierarchy, with or without controllers.
    NamedCgroup,
    /// A cgroup that bounds the number of its processes.
    PidsCgroup,
    /// A kernel whose mappings of a process can be read.
    Mappings,
    /// Python with the public packages that read dumps.
    Python,
    /// Chromium, and Python with the package that drives it.
    Browser,
    /// A kernel that can bind a process to directories.
    Landlock,
    /// A machine that the test has for itself: `cargo xtask vm` boots them.
    Guest,
    /// A processor whose time says what something costs.
    Processor,
    /// A guest that dies in this way and boots again with its disk.
    Power(&'static str),
    /// A guest with little memory.
    SmallMachine,
    /// A module of the kernel in a guest.
    Module(&'static str),
    /// A module that this Python has.
    Package(&'static str),
    /// A program of the system.
    Command(&'static str),
    /// A program that is compiled here, or was elsewhere.
    Build(Build),
    /// A file of the system.
    File(&'static str),
    /// The checker of metrics.
    Promtool,
}

impl Need {
    /// What a recording agent needs.
    pub const RECORDING: [Self; 3] = [Self::Root, Self::Btf, Self::Agent];

    fn missing(self) -> Option<String> {
        let why = match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then_some("this is not root"),
            Self::Btf => missing_file("/sys/kernel/btf/vmlinux", "the kernel has no BTF"),
            Self::Agent => {
                let path = recorder_path();
                return (!path.exists()).then(|| {
                    format!(
                        "{} is missing: `cargo xtask build` builds it, RECORDER_BIN names another",
                        path.display()
                    )
                });
            }
            Self::Loop => missing_file("/dev/loop-control", "the kernel has no loop devices"),
            Self::LoopErrors => (!host::kernel_is_at_least(6, 12))
                .then_some("loop devices of kernels before 6.12 say EIO for all that fails"),
            Self::FilterSignals => (!host::kernel_is_at_least(5, 16)).then_some(
                "filters of kernels before 5.16 end a process without a signal: its exit tells",
            ),
            Self::Ext4 => (!host::has_file_system("ext4") || system_path("mkfs.ext4").is_none())
                .then_some("ext4 or mkfs.ext4 is missing"),
            Self::MemoryCgroup => (!host::MemoryCgroup::is_available())
                .then_some("no cgroup hierarchy has the memory controller"),
            Self::NamedCgroup => (!host::NamedCgroup::is_available())
                .then_some("the unified cgroup hierarchy is not there or not writable"),
            Self::PidsCgroup => (!host::PidsCgroup::is_available())
                .then_some("no cgroup hierarchy has the controller of process numbers"),
            Self::Mappings => (!host::kernel_is_at_least(6, 1))
                .then_some("kernels before 6.1 keep mappings in a tree that is not read"),
            Self::Landlock => (!host::has_landlock())
                .then_some("this kernel has no Landlock: it came with 5.13, and may be left out"),
            Self::Guest => (!host::guest::is_one()).then_some(NO_GUEST),
            Self::Processor => host::guest::is_one()
                .then_some("this processor is emulated: nothing costs what it does"),
            Self::Power(death) => (std::env::var_os("RECORDER_POWER").as_deref()
                != Some(std::ffi::OsStr::new(death)))
            .then_some("nobody boots this machine again: `cargo xtask vm --test power` does"),
            Self::SmallMachine => std::env::var_os("RECORDER_SMALL").is_none().then_some(
                "this machine is large: `cargo xtask vm --test memory` runs it in a small one",
            ),
            Self::Module(name) => {
                return (!host::guest::has_module(name))
                    .then(|| format!("this kernel has no module {name}"));
            }
            Self::Promtool => system_path("promtool")
                .is_none()
                .then_some("promtool is missing"),
            Self::Python => python()
                .is_none()
                .then_some("RECORDER_VENV names no Python with mcap and mcap-protobuf-support"),
            Self::Browser => match (system_path("chromedriver"), python_with("selenium")) {
                (None, _) => Some("chromedriver is missing"),
                (_, None) => Some("RECORDER_VENV names no Python with selenium"),
                (Some(_), Some(_)) => None,
            },
            Self::Package(name) => {
                let is_there = module_directory(name).is_some();
                return (!is_there).then(|| format!("RECORDER_VENV has no Python package {name}"));
            }
            Self::Command(name) => {
                return system_path(name)
                    .is_none()
                    .then(|| format!("{name} is missing"));
            }
            Self::Build(build) => {
                return (!build.is_possible()).then(|| format!("{} is missing", build.compiler));
            }
            Self::File(path) => {
                return (!Path::new(path).exists()).then(|| format!("{path} is missing"));
            }
        };
        why.map(str::to_owned)
    }
}

/// Why a test does not run on a host, which is no failure there: it runs in the guests.
const NO_GUEST: &str = "it needs a machine for itself: `cargo xtask vm` runs it";

fn missing_file(path: &str, why: &'static str) -> Option<&'static str> {
    (!Path::new(path).exists()).then_some(why)
}

/// Longest that a test may take on a host.
const TIME_MAX: Duration = Duration::from_mins(5);

/// Longest that a test may take in an emulated machine.
const GUEST_TIME_MAX: Duration = Duration::from_mins(30);

/// The test that runs now, by where it said what it needs, and since when.
static RUNNING: Mutex<Option<(&'static Location<'static>, Instant)>> = Mutex::new(None);

/// Ends the program of tests if one hangs, so that those of other programs run: a run that never ends tells nothing.
fn watch(test: &'static Location<'static>) {
    static WATCH: OnceLock<std::thread::JoinHandle<()>> = OnceLock::new();
    let running = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    *running() = Some((test, Instant::now()));
    let time_max = if host::guest::is_one() {
        GUEST_TIME_MAX
    } else {
        TIME_MAX
    };
    WATCH.get_or_init(|| {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let Some((test, since)) = *running() else {
                    continue;
                };
                if since.elapsed() > time_max {
                    // Not eprintln!: the test runner would keep it to itself.
                    let _ = writeln!(
                        std::io::stderr(),
                        "HANGS: the test at {test} runs for more than {time_max:?}"
                    );
                    crate::workload::kill_children();
                    std::process::exit(101);
                }
            }
        })
    });
}

/// Returns whether the host has all of `needs`; if not, says on stderr what is skipped and why.
///
/// # Panics
///
/// If something is missing and `RECORDER_E2E` is `require`.
#[track_caller]
pub fn ready(needs: &[Need]) -> bool {
    watch(Location::caller());
    let Some(why) = needs.iter().find_map(|need| need.missing()) else {
        return true;
    };
    let required = std::env::var_os("RECORDER_E2E").is_some_and(|mode| mode == "require");
    assert!(
        !required || why == NO_GUEST,
        "RECORDER_E2E=require, but {why}"
    );
    skip(&why);
    false
}

/// Says on stderr why the running test is skipped, which it could not know before it began.
pub fn skip(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test").to_owned();
    // Not eprintln!: the test runner would keep it to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
