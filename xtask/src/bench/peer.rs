//! What people would use instead, started and ended as they would: each watches until it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::tracefs::Instance;
use crate::exec::find;
use crate::packages::{Need, Present};

const fn need(program: &'static str, package: &'static str, reason: &'static str) -> Need {
    Need {
        present: Present::Program(program),
        package,
        reason,
    }
}

/// The packages of all peers, and of what measures them.
pub const PACKAGES: [Need; 9] = [
    need(
        "bpftool",
        "bpftool",
        "it reads the kernel's own run times of BPF programs",
    ),
    need(
        "exitsnoop",
        "libbpf-tools",
        "exitsnoop, execsnoop, sigsnoop and biosnoop are what the probes are compared with",
    ),
    need("bpftrace", "bpftrace", "the probes are compared with it"),
    need("perf", "linux-perf", "the recording is compared with it"),
    need(
        "trace-cmd",
        "trace-cmd",
        "it stores and reads what ftrace recorded",
    ),
    need(
        "accton",
        "acct",
        "process accounting is the least that anything can cost",
    ),
    need("atop", "atop", "the samples are compared with it"),
    need("sar", "sysstat", "the samples are compared with it"),
    need(
        "babeltrace2",
        "babeltrace2",
        "the readers are compared with it",
    ),
];

/// bpftrace for the fields of an exit record.
pub const EXIT: &str = r#"tracepoint:sched:sched_process_exit {
    $task = (struct task_struct *)curtask;
    printf("%llu %d %d %d %d %s %d %llu %llu %llu %llu %llu %llu %llu %llu\n",
        nsecs, pid, tid, uid, $task->real_parent->tgid, comm, $task->exit_code, $task->start_time,
        $task->utime, $task->stime, $task->min_flt, $task->maj_flt, $task->nvcsw, $task->nivcsw, cgroup);
}"#;
/// bpftrace for the fields of an exec record.
const EXEC: &str = r#"tracepoint:syscalls:sys_enter_execve {
    printf("%llu %d %d %s %s ", nsecs, pid, uid, comm, str(args->filename));
    join(args->argv);
}"#;
/// bpftrace for the fields of a fatal signal.
const SIGNAL: &str = r#"tracepoint:signal:signal_deliver /args->sig == 11 || args->sig == 6/ {
    printf("%llu %d %d %s %d %d %s\n", nsecs, pid, uid, comm, args->sig, args->code, ustack(perf, 16));
}"#;

/// One way to watch a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A program of libbpf-tools.
    Snoop(&'static str),
    BpftraceExit,
    BpftraceExec,
    BpftraceSignal,
    /// `perf record` into memory that is overwritten, stored on demand.
    Perf,
    /// ftrace into memory that is overwritten, stored on demand.
    Ftrace,
    /// Process accounting by the kernel: one record for each exit, into a file.
    Accounting,
}

impl Peer {
    /// Returns what it is called in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snoop(name) => name,
            Self::BpftraceExit => "bpftrace (exit)",
            Self::BpftraceExec => "bpftrace (exec)",
            Self::BpftraceSignal => "bpftrace (signal)",
            Self::Perf => "perf record --overwrite --switch-output",
            Self::Ftrace => "ftrace ring",
            Self::Accounting => "process accounting",
        }
    }

    /// Starts it; what it writes goes into `directory`. Fails if it cannot run here, and says why.
    pub fn start(self, directory: &Path) -> Result<Box<dyn Watcher>> {
        Ok(match self {
            Self::Snoop(name) => Box::new(Process::start(name, &[], directory)?),
            Self::BpftraceExit => Box::new(bpftrace(EXIT, directory)?),
            Self::BpftraceExec => Box::new(bpftrace(EXEC, directory)?),
            Self::BpftraceSignal => Box::new(bpftrace(SIGNAL, directory)?),
            Self::Perf => Box::new(perf(&["--overwrite", "--switch-output"], directory)?),
            Self::Ftrace => Box::new(Instance::start(TRACEPOINTS, RING_KIB)?),
            Self::Accounting => Box::new(Accounting::start(directory)?),
        })
    }
}

/// The tracepoints that tell of processes, as both perf and ftrace call them.
pub const TRACEPOINTS: &[&str] = &["sched:sched_process_exit", "sched:sched_process_exec"];
/// Memory of one CPU's ring of perf and of ftrace; together, on two CPUs, what the agent has for processes.
pub const RING_KIB: u32 = 16 << 10;

/// Starts `perf record` on [`TRACEPOINTS`] of all CPUs, with more options.
pub fn perf(options: &[&str], directory: &Path) -> Result<Process> {
    let (data, pages) = (directory.join("perf.data"), RING_KIB / 4);
    let mut arguments = vec!["record".to_owned(), "--quiet".to_owned(), "-a".to_owned()];
    arguments.extend(["-m".to_owned(), pages.to_string()]);
    for tracepoint in TRACEPOINTS {
        arguments.extend(["-e".to_owned(), (*tracepoint).to_owned()]);
    }
    arguments.extend(["-o".to_owned(), data.display().to_string()]);
    arguments.extend(options.iter().map(|option| (*option).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start("perf", &arguments, directory)
}

/// Starts bpftrace, which says when it watches.
pub fn bpftrace(program: &str, directory: &Path) -> Result<Process> {
    let program = format!("BEGIN {{ printf(\"ready\\n\"); }} {program}");
    let process = Process::start("bpftrace", &["-B", "line", "-e", &program], directory)?;
    let start = Instant::now();
    while !process.output()?.contains("ready\n") {
        ensure!(
            start.elapsed() < READY,
            "bpftrace does not get ready: {}",
            process.complaint()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(process)
}

/// How long a peer has to get ready.
const READY: Duration = Duration::from_secs(30);
/// What those take that do not say when they are ready.
const SETTLE: Duration = Duration::from_millis(1500);

/// A peer at work; ended when dropped.
pub trait Watcher {}

impl Watcher for Process {}
impl Watcher for Instance {}
impl Watcher for Accounting {}

/// A program that watches.
pub struct Process {
    name: &'static str,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Process {
    /// Starts a program that writes into files of `directory`, and lets it settle.
    pub fn start(name: &'static str, arguments: &[&str], directory: &Path) -> Result<Self> {
        let program = find(name).with_context(|| format!("{name} is not installed"))?;
        // The name may be a path.
        let base = program.file_name().context("a program has a name")?;
        let (output, errors) = (
            directory.join(base).with_extension("out"),
            directory.join(base).with_extension("err"),
        );
        let file =
            |path: &Path| File::create(path).with_context(|| format!("create {}", path.display()));
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(file(&output)?)
            .stderr(file(&errors)?)
            .spawn()
            .with_context(|| format!("run {name}"))?;
        let mut process = Self {
            name,
            child,
            output,
            errors,
        };
        std::thread::sleep(SETTLE);
        if let Some(status) = process.child.try_wait()? {
            bail!(
                "{name} does not run here: {status}: {}",
                process.complaint()
            );
        }
        Ok(process)
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has written so far.
    pub fn output(&self) -> Result<String> {
        let bytes = fs::read(&self.output).with_context(|| format!("read what {}", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns what it has written to its standard error so far.
    pub fn errors(&self) -> String {
        let bytes = fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the last thing it complained about.
    fn complaint(&self) -> String {
        let errors = self.errors();
        let last = errors.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it says nothing").trim().to_owned()
    }

    /// Asks it to end as Ctrl-C does, which makes it write what it still holds, and waits for that.
    pub fn interrupt(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(start.elapsed() < READY, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // It is our own child and was not waited for: the id is still its own.
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        for file in [&self.output, &self.errors] {
            let _ = fs::remove_file(file);
        }
    }
}

/// The kernel's accounts, switched on while this lives.
struct Accounting(PathBuf);

impl Accounting {
    fn start(directory: &Path) -> Result<Self> {
        if kept_by_the_host() {
            bail!("the host keeps its own accounts");
        }
        let file = directory.join("pacct");
        fs::write(&file, "").with_context(|| format!("create {}", file.display()))?;
        accton(&file.display().to_string())?;
        Ok(Self(file))
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        let _ = accton("off");
        let _ = fs::remove_file(&self.0);
    }
}

fn accton(argument: &str) -> Result<()> {
    let output = Command::new(find("accton").context("accton is not installed")?)
        .arg(argument)
        .stdin(Stdio::null())
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "accton: {}", complaint.trim());
    Ok(())
}

/// Whether the file where the distribution keeps accounts grows with a process.
fn kept_by_the_host() -> bool {
    let length = || fs::metadata("/var/log/account/pacct").map_or(0, |file| file.len());
    let before = length();
    let _ = Command::new("true").status();
    length() > before
}
