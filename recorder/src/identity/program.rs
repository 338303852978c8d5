//! Programs: files that were executed, each kept once however many processes run it.

use std::collections::HashMap;
use std::fs::Metadata;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use recorder_ebpf::abi::Exec;

/// Most programs that are kept.
const PROGRAMS_MAX: usize = 8192;
/// See [`Programs::refusals`].
const REFUSALS: usize = PROGRAMS_MAX / 8;
/// Searches for the build ID of one program that may fail: its processes may live too short to be looked at.
const FAILURES_MAX: u8 = 16;
/// The nanoseconds of a change; what is above them is the kernel's own.
const NANOSECONDS_MASK: u32 = 0x3fff_ffff;

/// Which file, and which content of it: whoever changes a file changes this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device of its filesystem, as the kernel packs it.
    pub device: u32,
    /// Its inode.
    pub inode: u64,
    /// When that last changed, in nanoseconds since 1970; 0 if unknown.
    pub changed_ns: u64,
}

impl FileId {
    /// Returns which file an exec says it executed.
    pub fn of_exec(exec: &Exec) -> Self {
        Self {
            device: exec.device,
            inode: exec.inode,
            changed_ns: nanoseconds(exec.changed_s, exec.changed_ns & NANOSECONDS_MASK),
        }
    }

    /// Returns which file one is that was looked at.
    pub fn of_file(about: &Metadata) -> Self {
        let (major, minor) = (libc::major(about.dev()), libc::minor(about.dev()));
        Self {
            device: major << 20 | minor,
            inode: about.ino(),
            changed_ns: nanoseconds(
                about.ctime().cast_unsigned(),
                u32::try_from(about.ctime_nsec()).unwrap_or(0),
            ),
        }
    }
}

fn nanoseconds(seconds: u64, nanoseconds: u32) -> u64 {
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(nanoseconds.into())
}

/// A file that was executed.
#[derive(Debug)]
pub struct Program {
    path: Box<str>,
    file: FileId,
    /// Empty until somebody has read the file; `None` inside if it has no build ID.
    build_id: OnceLock<Option<Box<str>>>,
    /// Whether somebody is about to read the file.
    is_sought: AtomicBool,
    failures: AtomicU8,
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.file) == (&other.path, other.file)
    }
}

impl Eq for Program {}

impl Program {
    /// Makes one whose build ID is not known.
    pub fn new(path: &str, file: FileId) -> Self {
        Self {
            path: path.into(),
            file,
            build_id: OnceLock::new(),
            is_sought: AtomicBool::new(false),
            failures: AtomicU8::new(0),
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns which file it is.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Returns its GNU build ID in hex, once it is known.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.get()?.as_deref()
    }

    /// Says what its build ID is, or that it has none.
    pub fn set_build_id(&self, build_id: Option<String>) {
        // What is known already was read from the same content.
        let _ = self.build_id.set(build_id.map(String::into_boxed_str));
    }

    /// Returns whether somebody should read its build ID, and takes it that somebody will.
    pub(super) fn seek(&self) -> bool {
        self.build_id.get().is_none()
            && self.file.changed_ns != 0
            && self.failures.load(Ordering::Relaxed) < FAILURES_MAX
            && !self.is_sought.swap(true, Ordering::Relaxed)
    }

    /// Says that nobody is about to read its build ID any more.
    pub(super) fn was_sought(&self, failed: bool) {
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.is_sought.store(false, Ordering::Relaxed);
    }
}

/// Keeps each program once.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// By the hash of path and file. Of two with the same hash, the last one is kept.
    known: HashMap<u64, Arc<Program>>,
    hasher: RandomState,
    /// New ones to be refused before it is looked again whether some are not in use any more: as a look costs as much as
    /// there are.
    refusals: usize,
}

impl Programs {
    /// Returns the kept copy of a program; `None` if there are as many as may be, and all of them in use.
    ///
    /// Allocates only for one that is new.
    pub(super) fn keep(&mut self, path: &str, file: FileId) -> Option<Arc<Program>> {
        let key = self.key(path, file);
        if let Some(known) = self.known.get(&key)
            && known.is(path, file)
        {
            return Some(Arc::clone(known));
        }
        if self.refusals > 0 {
            self.refusals -= 1;
            return None;
        }
        if self.known.len() >= PROGRAMS_MAX {
            self.known
                .retain(|_, program| Arc::strong_count(program) > 1);
            if self.known.len() > PROGRAMS_MAX - REFUSALS {
                self.refusals = REFUSALS;
                return None;
            }
        }
        let program = Arc::new(Program::new(path, file));
        self.known.insert(key, Arc::clone(&program));
        Some(program)
    }

    /// Returns the kept copy of a program, if there is one.
    pub(super) fn find(&self, path: &str, file: FileId) -> Option<&Arc<Program>> {
        let known = self.known.get(&self.key(path, file))?;
        known.is(path, file).then_some(known)
    }

    /// Takes in a program that somebody else keeps.
    pub(super) fn add(&mut self, program: Arc<Program>) {
        self.known
            .insert(self.key(&program.path, program.file), program);
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns all of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Program>> {
        self.known.values()
    }

    fn key(&self, path: &str, file: FileId) -> u64 {
        self.hasher.hash_one((path, file))
    }

    /// Returns the bytes that it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let each = |program: &Arc<Program>| size_of::<Program>() + 16 + program.path.len();
        let programs: usize = self.known.values().map(each).sum();
        self.known.capacity() * 8 / 7 * (size_of::<(u64, Arc<Program>)>() + 1) + programs
    }
}

impl Program {
    fn is(&self, path: &str, file: FileId) -> bool {
        self.file == file && *self.path == *path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId {
        device: 1,
        inode: 2,
        changed_ns: 3,
    };

    #[test]
    fn a_program_is_kept_once_and_forgotten_when_room_is_needed() {
        let mut programs = Programs::default();
        let first = programs.keep("/bin/sh", FILE).expect("there is room");
        let again = programs.keep("/bin/sh", FILE).expect("known");
        assert!(Arc::ptr_eq(&first, &again));
        drop(again);
        for number in 0..3 * PROGRAMS_MAX {
            let kept = programs.keep(&format!("/tmp/{number}"), FILE);
            assert!(kept.is_some(), "{number}");
            assert!(programs.known.len() <= PROGRAMS_MAX);
        }
        let again = programs.keep("/bin/sh", FILE).expect("in use");
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[test]
    fn programs_in_use_are_never_forgotten_and_further_ones_are_refused() {
        let mut programs = Programs::default();
        let held: Vec<_> = (0..2 * PROGRAMS_MAX)
            .map(|number| programs.keep(&format!("/tmp/{number}"), FILE))
            .collect();
        assert!(held.iter().take(PROGRAMS_MAX).all(Option::is_some));
        assert!(held.iter().skip(PROGRAMS_MAX).all(Option::is_none));
        drop(held);
        let soon = (0..=REFUSALS).find(|_| programs.keep("/bin/true", FILE).is_some());
        assert!(soon.is_some(), "some are kept again");
    }

    #[test]
    fn a_path_whose_file_was_replaced_or_changed_is_another_program() {
        let mut programs = Programs::default();
        let old = programs.keep("/bin/app", FILE).expect("there is room");
        old.set_build_id(Some("01".into()));
        let replaced = FileId { inode: 7, ..FILE };
        let changed = FileId {
            changed_ns: 4,
            ..FILE
        };
        for file in [replaced, changed] {
            let new = programs.keep("/bin/app", file).expect("there is room");
            assert_eq!(new.build_id(), None);
        }
        let again = programs.find("/bin/app", FILE).expect("is kept");
        assert_eq!(again.build_id(), Some("01"));
        assert!(programs.find("/bin/other", FILE).is_none());
    }

    #[test]
    fn one_at_a_time_seeks_a_build_id_and_not_for_ever() {
        let program = Program::new("/bin/app", FILE);
        for _ in 0..FAILURES_MAX {
            assert!(program.seek());
            assert!(!program.seek(), "somebody does already");
            program.was_sought(true);
        }
        assert!(!program.seek());
        assert!(!Program::new("/bin/app", FileId::default()).seek());
        let known = Program::new("/bin/app", FILE);
        known.set_build_id(None);
        assert!(!known.seek(), "it has none");
    }

    #[test]
    fn a_file_is_the_same_to_the_kernel_and_to_who_looks_at_it() {
        let file = tempfile::tempfile().expect("a file");
        let about = file.metadata().expect("it is open");
        let seen = FileId::of_file(&about);
        let mut exec: Exec = zerocopy::FromZeros::new_zeroed();
        exec.inode = about.ino();
        exec.device = (libc::major(about.dev()) << 20) | libc::minor(about.dev());
        exec.changed_s = about.ctime() as u64;
        exec.changed_ns = about.ctime_nsec() as u32 | 1 << 31;
        assert_eq!(FileId::of_exec(&exec), seen);
    }
}
