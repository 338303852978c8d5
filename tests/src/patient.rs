//! An agent whose disk is the one that fails.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::host::{FileSystem, Mounted, public_directory};
use crate::{Agent, Dump, Json, Options, Program, output, recorder, wait_for};

/// An agent whose state directory is a file system of its own.
pub struct Patient {
    /// The agent.
    pub agent: Agent,
    /// What its state directory is.
    pub disk: Mounted,
    directory: TempDir,
}

impl Patient {
    /// Starts an agent on `disk`, with `more` arguments.
    #[track_caller]
    pub fn new(disk: FileSystem, more: &[&str]) -> Self {
        Self::harmed(disk, more, |_| ()).0
    }

    /// The same, after `harm` was done to the disk; returns what that returns, too.
    #[track_caller]
    pub fn harmed<T>(
        disk: FileSystem,
        more: &[&str],
        harm: impl FnOnce(&Mounted) -> T,
    ) -> (Self, T) {
        let directory = public_directory();
        fs::create_dir(directory.path().join("state")).expect("ours");
        Self::start(directory, disk, more, harm)
    }

    #[track_caller]
    fn start<T>(
        directory: TempDir,
        disk: FileSystem,
        more: &[&str],
        harm: impl FnOnce(&Mounted) -> T,
    ) -> (Self, T) {
        let disk = disk.mount(&directory.path().join("state"));
        let harmed = harm(&disk);
        let own = ["--dumps-keep-free", "0", "--max-dump-bytes", "1MiB"];
        let more = own.iter().chain(more);
        let options = Options {
            before: "1s",
            after: "100ms",
            ..Options::with(more)
        };
        let agent = Agent::start_in(directory.path(), &options);
        let patient = Self {
            agent,
            disk,
            directory,
        };
        (patient, harmed)
    }

    /// Ends the agent and takes its disk away; `next` returns the disk that it starts again with, at the same place.
    #[track_caller]
    pub fn start_again(self, next: impl FnOnce() -> FileSystem) -> Self {
        let Self {
            agent,
            disk,
            directory,
        } = self;
        drop(agent);
        drop(disk);
        Self::start(directory, next(), &[], |_| ()).0
    }

    /// Lets something fail, and returns its dump, which must be in the run directory because of one of the reasons `why`.
    #[track_caller]
    pub fn crash_elsewhere(&self, why: &[&str]) -> Dump {
        let crash = Program::workload().run(["segv-write", "0x1234"]);
        self.expect_elsewhere(crash.pid(), why)
    }

    /// Returns the dump of a crash, which must be in the run directory because of one of the reasons `why`: it says so, and
    /// the agent does in its log and in its status.
    #[track_caller]
    pub fn expect_elsewhere(&self, pid: u32, why: &[&str]) -> Dump {
        let dump = self.agent.dump_of(pid);
        dump.only("signal.fatal", pid);
        let run = self.agent.run_directory().join("dumps");
        assert_eq!(dump.path().parent(), Some(run.as_path()));
        output(recorder(["verify"]).arg(dump.path())).expect_code(0);
        let says_why = |text: &str| why.iter().any(|why| text.contains(why));
        let refused = dump.metadata("recorder.delivery");
        let first = self.agent.dumps_directory();
        refused.expect("0.directory", first.to_str().expect("plain"));
        assert!(says_why(refused.str("0.error")), "{refused}");
        let status = self.agent.status();
        status.expect("state", "degraded");
        assert!(says_why(status.str("dumps.elsewhere")), "{status}");
        let notes = self.agent.notes();
        assert!(notes.iter().any(|note| says_why(note)), "{notes:#?}");
        dump
    }

    /// Waits for a dump that was written elsewhere to be where it belongs.
    #[track_caller]
    pub fn expect_back(&self, dump: &Dump) {
        let name = dump.path().file_name().expect("a file");
        let there = self.agent.dumps_directory().join(name);
        wait_for("the dump is where it belongs", || {
            there.exists() && !dump.path().exists()
        });
        output(recorder(["verify"]).arg(&there)).expect_code(0);
        let id = Json::new(dump.incident().value().clone());
        let listed = self.agent.run(["list", "--json"]);
        let listed = listed.expect_code(0).json_lines();
        let same = listed
            .iter()
            .filter(|line| line.get("incident.id") == id.get("id"));
        assert_eq!(same.count(), 1, "{listed:#?}");
        self.expect_nothing_unfinished();
    }

    /// Waits until a dump is being written: asks the kernel, as the disk may not answer.
    #[track_caller]
    pub fn wait_for_writing(&self) {
        let open = format!("/proc/{}/fd", self.agent.pid());
        wait_for("a dump is being written", || {
            let files = fs::read_dir(&open).into_iter().flatten().flatten();
            let mut files = files.filter_map(|file| fs::read_link(file.path()).ok());
            files.any(|file| {
                let name = file.file_name().and_then(|name| name.to_str());
                name.is_some_and(is_of_unfinished)
            })
        });
    }

    /// Demands that nothing half-written is where dumps belong.
    #[track_caller]
    pub fn expect_nothing_unfinished(&self) {
        for directory in [
            self.agent.dumps_directory(),
            self.agent.run_directory().join("dumps"),
        ] {
            // A note that is being written has such a name for a moment, too.
            wait_for("nothing unfinished", || !is_unfinished(&directory));
        }
    }
}

/// Tells whether something half-written is in a directory of dumps.
fn is_unfinished(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| is_of_unfinished(&name))
}

fn is_of_unfinished(name: &str) -> bool {
    name.starts_with(".tmp-")
}
