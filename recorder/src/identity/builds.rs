//! Build IDs of what was executed: read from the files soon after, by a thread of its own.
//!
//! A build ID is right or absent. The kernel says which file a process executed, and when that last changed; only a file
//! of which a look says the same is read. Where a filesystem has two numbers for a file, as overlays do, what a process is
//! known to run is taken by its path and its last change.
//!
//! A filesystem that does not answer holds up this thread alone.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::program::{FileId, Program};
use crate::symbol::build_id_of;

/// Most programs that wait to be read. What finds no room is asked for when it is next executed.
const QUEUE: usize = 1024;
/// Length of a tick in which `/proc` counts time, in nanoseconds: the same on every architecture that there is.
const TICK_NS: u64 = 10_000_000;

/// A program whose build ID somebody should read.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) program: Arc<Program>,
    /// A process that runs it.
    pub(super) pid: u32,
    pub(super) start_boot_ns: u64,
    /// Its parent, which may outlive it where it has its files.
    pub(super) parent: u32,
}

/// What the data plane asks for, in the thread that reads files.
#[derive(Debug)]
pub struct Builds(Receiver<Ask>);

pub(super) fn channel() -> (Sender<Ask>, Builds) {
    let (asks, waiting) = bounded(QUEUE);
    (asks, Builds(waiting))
}

impl Builds {
    /// Reads build IDs for as long as somebody may ask.
    pub fn run(&self) {
        for ask in &self.0 {
            let found = seek(&ask);
            ask.program.was_sought(found.is_none());
            if let Some(build_id) = found {
                ask.program.set_build_id(build_id);
            }
        }
    }
}

/// Returns the build ID of a program, `None` inside if it has none; `None` if its file is not found.
fn seek(ask: &Ask) -> Option<Option<String>> {
    let program = &ask.program;
    let path = program.path();
    let in_the_parents_root = format!("/proc/{}/root{path}", ask.parent);
    of_process(ask)
        .or_else(|| of_path(Path::new(path), program.file()))
        .or_else(|| of_path(Path::new(&in_the_parents_root), program.file()))
}

fn of_process(ask: &Ask) -> Option<Option<String>> {
    let (path, file, id) = executable(ask.pid, ask.start_boot_ns)?;
    let program = &ask.program;
    let is_it = id == program.file()
        || path == program.path() && id.changed_ns == program.file().changed_ns;
    is_it.then(|| read(&file, id)).flatten()
}

fn of_path(path: &Path, id: FileId) -> Option<Option<String>> {
    let file = look_at(path)?;
    let is_it = FileId::of_file(&file.metadata().ok()?) == id;
    is_it.then(|| read(&file, id)).flatten()
}

/// Returns what a process runs, to look at and not to read; `None` unless it is that very process's.
pub(super) fn executable(pid: u32, start_boot_ns: u64) -> Option<(String, File, FileId)> {
    let file = look_at(Path::new(&format!("/proc/{pid}/exe")))?;
    let id = FileId::of_file(&file.metadata().ok()?);
    let path = fs::read_link(own(&file)).ok()?;
    // After the file: were the pid another process's by now, it would say so.
    let mut stat = [0; 1024];
    let mut file_of_stat = File::open(format!("/proc/{pid}/stat")).ok()?;
    let len = file_of_stat.read(&mut stat).ok()?;
    if start_ticks(stat.get(..len)?)? != start_boot_ns / TICK_NS {
        return None;
    }
    let path = path.as_os_str().as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Some((String::from_utf8_lossy(path).into_owned(), file, id))
}

/// Opens a file so that it cannot be read: whatever it is, that does nothing to it.
fn look_at(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    options.open(path).ok()
}

/// Returns the build ID of a file; `None` if it cannot be read, or changes meanwhile.
fn read(file: &File, id: FileId) -> Option<Option<String>> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let build_id = build_id_of(Path::new(&own(file))).ok()?;
    (FileId::of_file(&file.metadata().ok()?) == id).then_some(build_id)
}

/// The path by which a process finds a file that it has open.
fn own(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Returns when a process started, by its `/proc/PID/stat`: the 22nd field, in ticks since boot. The second is a name in
/// parentheses, of any bytes.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Child, Command};

    use super::*;
    use crate::symbol::Elf;

    fn start_of(pid: u32) -> u64 {
        let stat = fs::read(format!("/proc/{pid}/stat")).expect("it lives");
        start_ticks(&stat).expect("has a start") * TICK_NS
    }

    fn id_of(path: &Path) -> FileId {
        FileId::of_file(&fs::metadata(path).expect("is there"))
    }

    fn expected(path: &Path) -> Option<String> {
        Elf::open(path).expect("reads").expect("is ELF").build_id()
    }

    fn ask(path: &Path, file: FileId, child: &Child) -> Ask {
        let path = path.to_str().expect("a plain path");
        Ask {
            program: Arc::new(Program::new(path, file)),
            pid: child.id(),
            start_boot_ns: start_of(child.id()),
            parent: std::process::id(),
        }
    }

    /// A copy of a program with a build ID that sleeps, and a process of it.
    fn sleeper(dir: &Path) -> (std::path::PathBuf, Child) {
        let path = dir.join("sleeper");
        fs::copy("/bin/sleep", &path).expect("coreutils is there");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        let child = loop {
            // Another thread's fork may hold the copy open for writing for a moment.
            match Command::new(&path).arg("60").spawn() {
                Ok(child) => break child,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy),
            }
        };
        // Until it has executed.
        while fs::read_link(format!("/proc/{}/exe", child.id())).ok() != Some(path.clone()) {
            std::thread::yield_now();
        }
        (path, child)
    }

    fn end(mut child: Child) {
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
    }

    #[test]
    fn a_start_is_read_behind_any_name() {
        let stat = "77 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(start_ticks(stat.as_bytes()), Some(4711));
        assert_eq!(start_ticks(b"77 (\xff\n) S 1"), None);
        assert_eq!(start_ticks(b""), None);
    }

    #[test]
    fn own_executable_is_found_and_anothers_is_not() {
        let pid = std::process::id();
        let start = start_of(pid);
        let found = |pid, start| executable(pid, start).map(|(path, ..)| path);
        let path = std::env::current_exe().expect("is there");
        assert_eq!(found(pid, start).as_deref(), path.to_str());
        assert_eq!(found(pid, start + TICK_NS), None);
        assert_eq!(found(0, start), None);
    }

    #[test]
    fn what_a_process_runs_is_read_though_its_path_has_another_file_by_now() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, child) = sleeper(dir.path());
        let build_id = expected(&path);
        assert!(build_id.is_some());
        fs::rename(&path, dir.path().join("moved")).expect("ours");
        fs::copy("/bin/true", &path).expect("coreutils is there");
        // A move is a change of the inode: the kernel said what it was at the exec, before it.
        let moved = ask(&path, id_of(&dir.path().join("moved")), &child);
        assert_eq!(seek(&moved), Some(build_id));
        let another = ask(&path, id_of(Path::new("/bin/cat")), &child);
        assert_eq!(seek(&another), None, "a file that is not it is not taken");
        end(child);
    }

    #[test]
    fn the_file_of_one_that_is_gone_is_read_unless_it_has_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, child) = sleeper(dir.path());
        let gone = ask(&path, id_of(&path), &child);
        let build_id = expected(&path);
        end(child);
        assert_eq!(seek(&gone), Some(build_id));
        // The same inode, other content.
        let bytes = fs::read("/bin/true").expect("coreutils is there");
        fs::write(&path, bytes).expect("nobody executes it");
        assert_eq!(seek(&gone), None);
        fs::remove_file(&path).expect("ours");
        assert_eq!(seek(&gone), None);
    }

    #[test]
    fn what_is_no_file_or_no_program_has_no_build_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\n").expect("ours");
        assert_eq!(of_path(&script, id_of(&script)), Some(None));
        assert_eq!(of_path(dir.path(), id_of(dir.path())), None);
        let null = Path::new("/dev/null");
        assert_eq!(of_path(null, id_of(null)), None);
    }

    #[test]
    fn the_thread_ends_with_who_asks() {
        let (asks, builds) = channel();
        let path = std::env::current_exe().expect("is there");
        let program = Arc::new(Program::new(path.to_str().expect("plain"), id_of(&path)));
        assert!(program.seek());
        asks.send(Ask {
            program: Arc::clone(&program),
            pid: 0,
            start_boot_ns: 0,
            parent: 0,
        })
        .expect("there is room");
        drop(asks);
        builds.run();
        assert_eq!(program.build_id().map(str::to_owned), expected(&path));
    }
}
