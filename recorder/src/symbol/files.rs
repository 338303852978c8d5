//! Files by build ID: the same file, or none.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Elf;

/// Where distributions put separate debug data.
const SYSTEM_DEBUG: &str = "/usr/lib/debug";
/// Files that a search looks into, and how deep it goes.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 16;

/// The files of one build ID.
#[derive(Clone, Default)]
pub struct Found {
    /// One with the code, as it was mapped.
    pub program: Option<Rc<Elf>>,
    /// The one that names most; perhaps the same.
    pub names: Option<Rc<Elf>>,
    has: Names,
}

/// What a file names.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Names {
    /// At best, what it gives to others to call.
    #[default]
    None,
    Functions,
    Lines,
}

impl Found {
    /// Takes `elf` for what it is good for.
    fn take(&mut self, elf: Elf) {
        let elf = Rc::new(elf);
        // A file of debug data alone has the section, but nothing in it.
        if self.program.is_none() && elf.has(".text") {
            self.program = Some(Rc::clone(&elf));
        }
        let has = if elf.has(".debug_info") || elf.has(".zdebug_info") {
            Names::Lines
        } else if elf.has(".symtab") {
            Names::Functions
        } else {
            Names::None
        };
        if has > self.has {
            self.has = has;
            self.names = Some(elf);
        }
    }

    fn is_complete(&self) -> bool {
        self.program.is_some() && self.has == Names::Lines
    }
}

/// Finds files in directories of debug data, and by hints.
#[derive(Default)]
pub struct Files {
    directories: Vec<PathBuf>,
    /// Every ELF file below the directories, by build ID; searched for once, and only if need be.
    index: Option<HashMap<String, Vec<PathBuf>>>,
    found: HashMap<String, Found>,
}

impl Files {
    /// Looks into `directories`: laid out as `.build-id/ab/cdef.debug`, or holding the files anywhere.
    pub fn new(directories: &[PathBuf]) -> Self {
        Self {
            directories: directories.to_vec(),
            ..Self::default()
        }
    }

    /// Returns the directories.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Returns what is already known of a build ID.
    pub fn known(&self, build_id: &str) -> Option<&Found> {
        self.found.get(build_id)
    }

    /// Returns the files with this build ID; `hints` are where it was seen, best first.
    pub fn find(&mut self, build_id: &str, hints: impl IntoIterator<Item = PathBuf>) -> Found {
        if let Some(found) = self.found.get(build_id) {
            return found.clone();
        }
        let mut found = Found::default();
        let mut paths: Vec<PathBuf> = hints.into_iter().collect();
        let system = PathBuf::from(SYSTEM_DEBUG);
        for directory in self.directories.iter().chain([&system]) {
            paths.extend(by_build_id(directory, build_id));
        }
        look(&mut found, &paths, build_id);
        if !found.is_complete() && !self.directories.is_empty() {
            let directories = &self.directories;
            let index = self.index.get_or_insert_with(|| search(directories));
            let paths = index.get(build_id).map_or(&[][..], Vec::as_slice);
            look(&mut found, paths, build_id);
        }
        self.found.insert(build_id.to_owned(), found.clone());
        found
    }
}

fn look(found: &mut Found, paths: &[PathBuf], build_id: &str) {
    for path in paths {
        if found.is_complete() {
            break;
        }
        if let Some(elf) = verified(path, build_id) {
            found.take(elf);
        }
    }
}

/// Opens a file if it has this build ID.
pub fn verified(path: &Path, build_id: &str) -> Option<Elf> {
    let elf = Elf::open(path).ok()??;
    (elf.build_id().as_deref() == Some(build_id)).then_some(elf)
}

/// Returns the paths that a directory of debug data has for a build ID.
fn by_build_id(directory: &Path, build_id: &str) -> Vec<PathBuf> {
    // It is of a dump, which anybody may have written: nothing but hex digits becomes a path.
    let is_hex = build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((first, rest)) = build_id.split_at_checked(2).filter(|_| is_hex) else {
        return Vec::new();
    };
    let names = [
        format!("{rest}.debug"),
        rest.to_owned(),
        format!("{rest}/debuginfo"),
    ];
    let roots = [directory.join(".build-id"), directory.to_owned()];
    let all = roots.iter().flat_map(|root| {
        let directory = root.join(first);
        names.iter().map(move |name| directory.join(name))
    });
    all.collect()
}

/// Finds every ELF file with a build ID.
fn search(directories: &[PathBuf]) -> HashMap<String, Vec<PathBuf>> {
    let mut index: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let mut left = FILES_MAX;
    let mut waiting: Vec<(PathBuf, usize)> = directories
        .iter()
        .map(|directory| (directory.clone(), 0))
        .collect();
    while let Some((directory, depth)) = waiting.pop() {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), depth + 1));
            } else if kind.is_file() && left > 0 {
                left -= 1;
                let elf = Elf::open(&entry.path()).ok().flatten();
                if let Some(build_id) = elf.and_then(|elf| elf.build_id()) {
                    index.entry(build_id).or_default().push(entry.path());
                }
            }
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_that_is_a_path_leads_nowhere() {
        assert!(by_build_id(Path::new("/d"), "../../etc/passwd").is_empty());
        assert!(by_build_id(Path::new("/d"), "a").is_empty());
        let paths = by_build_id(Path::new("/d"), "abcd");
        assert_eq!(paths[0], Path::new("/d/.build-id/ab/cd.debug"));
    }

    #[test]
    fn a_file_is_found_by_what_it_is_and_not_by_its_name() {
        let own = std::env::current_exe().expect("the test runs");
        let Some(build_id) = Elf::open(&own)
            .expect("it is there")
            .and_then(|elf| elf.build_id())
        else {
            // Not every toolchain's linker writes one.
            return;
        };
        let directory = tempfile::tempdir().expect("there is room for tests");
        let inside = directory.path().join("some/where");
        fs::create_dir_all(&inside).expect("it is ours");
        std::os::unix::fs::symlink("/", inside.join("loop")).expect("it is ours");
        fs::write(inside.join("noise"), "\x7fELF no more").expect("it is ours");
        fs::copy(&own, inside.join("x")).expect("it is ours");
        let mut files = Files::new(&[directory.path().to_owned()]);
        let found = files.find(&build_id, []);
        let program = found.program.expect("it was copied there");
        assert_eq!(program.path(), inside.join("x"));
        assert!(files.find("00ff", [own]).program.is_none());
    }
}
