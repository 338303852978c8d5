//! The memory of cgroups, for when it ran out: the hierarchy of the memory controller, version 1 or 2.
//!
//! Cgroups come and go while they are read: what is gone is left out. The walk is bounded in cgroups, depth and time.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::text::{lines, number, words};
use crate::event::proto::{CgroupMemory, SampleCgroup};

/// Most cgroups of a sample.
const TOP: usize = 20;
/// Most cgroups looked at.
const CGROUPS_MAX: usize = 4096;
/// Levels below the root that are looked at.
const DEPTH_MAX: usize = 32;
/// Longest a walk takes.
const WALK_MAX: Duration = Duration::from_millis(200);
/// A limit from here on is none: version 1 writes the largest number of pages it can.
const NO_LIMIT: u64 = 1 << 62;

/// Where the hierarchy is, and what its files are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    root: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A cgroup that was looked at.
struct Found {
    path: PathBuf,
    id: u64,
    usage_bytes: u64,
}

impl Hierarchy {
    /// Finds the hierarchy that has the memory controller.
    pub fn find() -> Option<Self> {
        let mounts = fs::read("/proc/self/mounts").ok()?;
        let hierarchy = of_mounts(&mounts)?;
        // The unified hierarchy may be there and have other controllers.
        let usable = match hierarchy.version {
            Version::One => true,
            Version::Two => {
                fs::read(hierarchy.root.join("cgroup.controllers")).is_ok_and(|controllers| {
                    words(controllers.trim_ascii()).any(|word| word == b"memory")
                })
            }
        };
        usable.then_some(hierarchy)
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the cgroup of this process and those that it is in, the innermost first.
    pub fn of_this_process(&self) -> Vec<PathBuf> {
        let cgroups = fs::read("/proc/self/cgroup").unwrap_or_default();
        let Some(own) = own(&cgroups, self.version) else {
            return Vec::new();
        };
        // What a container sees of the hierarchy may begin further below than the path that it is told.
        let own = match self.root.join(&own) {
            path if path.is_dir() => path,
            _ => self.root.clone(),
        };
        let all = own
            .ancestors()
            .take_while(|path| path.starts_with(&self.root));
        all.map(Path::to_owned).collect()
    }

    /// Returns the path of a cgroup from the root of the hierarchy, as text.
    pub fn name(&self, cgroup: &Path) -> String {
        let path = cgroup.strip_prefix(&self.root).unwrap_or(cgroup);
        format!("/{}", String::from_utf8_lossy(path.as_os_str().as_bytes()))
    }

    /// Returns what a cgroup may hold, in bytes; `None` if that has no limit.
    pub fn limit_bytes(&self, cgroup: &Path) -> Option<u64> {
        self.number(cgroup, "limit")
            .filter(|limit| *limit < NO_LIMIT)
    }

    /// Returns what a cgroup holds, in bytes.
    pub fn usage_bytes(&self, cgroup: &Path) -> Option<u64> {
        self.number(cgroup, "usage")
    }

    /// Returns what of it the kernel could drop at once, in bytes: pages of files that nobody holds.
    pub fn droppable_bytes(&self, cgroup: &Path) -> u64 {
        let stat = fs::read(cgroup.join("memory.stat")).unwrap_or_default();
        let names: [&[u8]; 2] = match self.version {
            Version::One => [b"total_inactive_file", b"total_active_file"],
            Version::Two => [b"inactive_file", b"active_file"],
        };
        names.iter().filter_map(|name| named(&stat, name)).sum()
    }

    /// Returns a hierarchy of version 2 at `root`, whatever that is.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            version: Version::Two,
        }
    }

    /// Returns the cgroups that use most, `ran_out` (an id, 0 for none) among them.
    pub(super) fn sample(&self, ran_out: u64, reason: &str) -> SampleCgroup {
        let start = Instant::now();
        let mut found = Vec::new();
        let mut incomplete = false;
        // By levels: the large ones are near the root.
        let mut left = VecDeque::from([(self.root.clone(), 0)]);
        while let Some((path, depth)) = left.pop_front() {
            if found.len() == CGROUPS_MAX || start.elapsed() > WALK_MAX {
                incomplete = true;
                break;
            }
            if depth > DEPTH_MAX {
                incomplete = true;
                continue;
            }
            let Ok(directory) = fs::read_dir(&path) else {
                continue;
            };
            let children = directory
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| (entry.path(), depth + 1));
            left.extend(children);
            let id = fs::metadata(&path).map_or(0, |metadata| metadata.ino());
            // The root of version 2 has no account.
            if let Some(usage_bytes) = self.number(&path, "usage") {
                found.push(Found {
                    path,
                    id,
                    usage_bytes,
                });
            }
        }
        let cgroups = u32::try_from(found.len()).ok();
        let is_wanted = |found: &Found| ran_out != 0 && found.id == ran_out;
        found.sort_by_key(|found| std::cmp::Reverse(found.usage_bytes));
        if let Some(place) = found.iter().position(is_wanted)
            && place >= TOP
        {
            found.swap(place, TOP - 1);
        }
        found.truncate(TOP);
        found.sort_by_key(|found| std::cmp::Reverse(found.usage_bytes));
        SampleCgroup {
            reason: Some(reason.to_owned()),
            cgroups,
            incomplete: incomplete.then_some(true),
            top: found
                .iter()
                .map(|found| self.account(found, is_wanted(found)))
                .collect(),
        }
    }

    fn account(&self, found: &Found, ran_out: bool) -> CgroupMemory {
        let stat = fs::read(found.path.join("memory.stat")).unwrap_or_default();
        let of_stat = |names: [&[u8]; 2]| {
            let name = names[self.version as usize];
            named(&stat, name)
        };
        let control = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let control = fs::read(found.path.join(control)).unwrap_or_default();
        CgroupMemory {
            path: Some(self.name(&found.path)),
            id: Some(found.id),
            usage_bytes: Some(found.usage_bytes),
            limit_bytes: self.limit_bytes(&found.path),
            peak_bytes: self.number(&found.path, "peak"),
            swap_bytes: match self.version {
                Version::One => named(&stat, b"total_swap"),
                Version::Two => self.number(&found.path, "swap"),
            },
            anonymous_bytes: of_stat([b"total_rss", b"anon"]),
            file_bytes: of_stat([b"total_cache", b"file"]),
            oom_kills: named(&control, b"oom_kill"),
            ran_out: ran_out.then_some(true),
        }
    }

    /// Returns the number in a file; "max" is none.
    fn number(&self, cgroup: &Path, what: &str) -> Option<u64> {
        let name = match (self.version, what) {
            (Version::One, "usage") => "memory.usage_in_bytes",
            (Version::One, "limit") => "memory.limit_in_bytes",
            (Version::One, "peak") => "memory.max_usage_in_bytes",
            (Version::Two, "usage") => "memory.current",
            (Version::Two, "limit") => "memory.max",
            (Version::Two, "peak") => "memory.peak",
            (Version::Two, "swap") => "memory.swap.current",
            _ => return None,
        };
        number(fs::read(cgroup.join(name)).ok()?.trim_ascii())
    }
}

/// Returns the number behind a name at the start of a line.
fn named(text: &[u8], name: &[u8]) -> Option<u64> {
    let mut found = lines(text).map(words).filter_map(|mut words| {
        let is_named = words.next() == Some(name);
        words.next().filter(|_| is_named)
    });
    found.next().and_then(number)
}

/// Returns the path of the cgroup that lines like "4:cpu,memory:/a" or "0::/a" say, below the root of its hierarchy.
fn own(cgroups: &[u8], version: Version) -> Option<PathBuf> {
    let mut paths = lines(cgroups).filter_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match version {
            Version::One => controllers
                .split(|byte| *byte == b',')
                .any(|one| one == b"memory"),
            Version::Two => number == b"0",
        };
        is_it.then_some(path)
    });
    let path = paths.next()?;
    let path = path.strip_prefix(b"/").unwrap_or(path);
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

/// Returns the hierarchy of the memory controller from lines like "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0".
fn of_mounts(mounts: &[u8]) -> Option<Hierarchy> {
    let mut unified = None;
    for line in lines(mounts) {
        let mut words = words(line).skip(1);
        let (Some(root), Some(kind), Some(options)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let root = PathBuf::from(std::ffi::OsStr::from_bytes(&unescaped(root)));
        let mut options = options.split(|byte| *byte == b',');
        if kind == b"cgroup" && options.any(|option| option == b"memory") {
            return Some(Hierarchy {
                root,
                version: Version::One,
            });
        }
        if kind == b"cgroup2" {
            unified.get_or_insert(Hierarchy {
                root,
                version: Version::Two,
            });
        }
    }
    unified
}

/// Turns the kernel's `\040` into the blank it stands for.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_with_the_memory_controller_is_found() {
        let first = of_mounts(
            b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
              cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/a\\040b cgroup rw,memory 0 0\n",
        );
        let first = first.expect("it is there");
        assert_eq!(
            (first.root.to_str(), first.version),
            (Some("/sys/fs/a b"), Version::One)
        );
        let second =
            of_mounts(b"x\n\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n").expect("it is there");
        assert_eq!(second.version, Version::Two);
        assert_eq!(of_mounts(b"proc /proc proc rw 0 0\ncgroup"), None);
    }

    #[test]
    fn the_cgroup_of_a_process_is_found_in_both_versions() {
        let cgroups = b"9:name=systemd:/x\n4:cpu,memory:/a:b/c\n0::/unified\n";
        let of = |version| own(cgroups, version).expect("it is there");
        assert_eq!(of(Version::One), Path::new("a:b/c"));
        assert_eq!(of(Version::Two), Path::new("unified"));
        assert_eq!(own(b"0::/\n", Version::Two), Some(PathBuf::new()));
        assert_eq!(own(b"1:cpu:/\n", Version::One), None);
        let hierarchy = Hierarchy::at(Path::new("/nowhere"));
        assert_eq!(hierarchy.of_this_process(), [Path::new("/nowhere")]);
        assert_eq!(hierarchy.name(Path::new("/nowhere/a/b")), "/a/b");
    }

    /// A hierarchy as version 2 would have it, in plain files.
    fn tree(cgroups: &[(&str, &str)]) -> (tempfile::TempDir, Hierarchy) {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, usage) in cgroups {
            let path = directory.path().join(path);
            fs::create_dir_all(&path).expect("ours");
            fs::write(path.join("memory.current"), usage).expect("ours");
        }
        let hierarchy = Hierarchy {
            root: directory.path().to_owned(),
            version: Version::Two,
        };
        (directory, hierarchy)
    }

    #[test]
    fn the_largest_come_first_and_the_one_that_ran_out_is_among_them() {
        let many: Vec<(String, String)> = (0..50)
            .map(|index| (format!("slice/unit{index}"), format!("{}\n", 1000 - index)))
            .collect();
        let cgroups: Vec<(&str, &str)> = many
            .iter()
            .map(|(path, usage)| (path.as_str(), usage.as_str()))
            .collect();
        let (directory, hierarchy) = tree(&cgroups);
        let small = directory.path().join("slice/unit49");
        fs::write(small.join("memory.max"), "2000\n").expect("ours");
        fs::write(small.join("memory.stat"), "anon 7\nfile 8\nanon_thp 9\n").expect("ours");
        fs::write(small.join("memory.events"), "low 0\noom 2\noom_kill 1\n").expect("ours");
        fs::write(directory.path().join("slice/unit0/memory.max"), "max\n").expect("ours");
        let id = fs::metadata(&small).expect("it is there").ino();
        let sample = hierarchy.sample(id, "oom.kill");
        assert_eq!((sample.cgroups, sample.incomplete), (Some(50), None));
        assert_eq!(sample.top.len(), TOP);
        assert_eq!(sample.top[0].path(), "/slice/unit0");
        assert_eq!(
            (sample.top[0].limit_bytes, sample.top[0].ran_out),
            (None, None)
        );
        let last = &sample.top[TOP - 1];
        assert_eq!(
            *last,
            CgroupMemory {
                path: Some("/slice/unit49".into()),
                id: Some(id),
                usage_bytes: Some(951),
                limit_bytes: Some(2000),
                anonymous_bytes: Some(7),
                file_bytes: Some(8),
                oom_kills: Some(1),
                ran_out: Some(true),
                ..CgroupMemory::default()
            }
        );
    }

    #[test]
    fn broken_and_missing_files_leave_a_cgroup_out() {
        let (_directory, hierarchy) = tree(&[
            ("a", "x"),
            ("b", ""),
            ("c", "7"),
            ("d", "99999999999999999999"),
        ]);
        let sample = hierarchy.sample(0, "oom.kill");
        let paths: Vec<&str> = sample.top.iter().map(CgroupMemory::path).collect();
        assert_eq!(paths, ["/c"]);
        let gone = Hierarchy {
            root: "/nowhere".into(),
            version: Version::One,
        };
        assert!(gone.sample(0, "oom.kill").top.is_empty());
    }

    #[test]
    fn a_deep_tree_is_cut_and_said_to_be() {
        let deep = vec!["d"; DEPTH_MAX + 5].join("/");
        let (_directory, hierarchy) = tree(&[(&deep, "1"), ("d", "2")]);
        let sample = hierarchy.sample(0, "oom.kill");
        assert_eq!(sample.incomplete, Some(true));
        assert_eq!(sample.top.len(), 1);
    }
}
