//! What is there already: looked at once, before the records begin, and from time to time for what no record shows.
//!
//! All of this is off the data plane, which alone may not wait for `/proc`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recorder_ebpf::abi::{LIVE_FORKED, LIVE_KERNEL_THREAD, Lineage, LiveProcess};

use super::builds::executable;
use super::{CGROUPS_MAX, Identities, Process, Program};
use crate::kernel::{Hierarchies, TaskIterator};

/// Deepest directory of cgroups that is looked into.
const DEPTH_MAX: usize = 64;

/// Takes in every process and every cgroup of the host.
///
/// The probes are attached before: what happens meanwhile is in the rings, and goes before what is seen here.
///
/// # Errors
///
/// What the task iterator refused; the cgroups are taken in all the same.
pub fn look_at_host(
    identities: &mut Identities,
    tasks: Option<&mut TaskIterator>,
) -> io::Result<()> {
    walk_cgroups(identities);
    let Some(tasks) = tasks else {
        return Ok(());
    };
    // Looked at after the pass, which holds what the kernel has gathered.
    let mut living = Vec::new();
    tasks.read(|process| living.push(*process))?;
    for process in &living {
        identities.learn_process(observed(process));
    }
    Ok(())
}

/// Looks for processes that were forked and have executed nothing, from time to time.
#[derive(Debug)]
pub struct Look {
    tasks: TaskIterator,
    living: Vec<LiveProcess>,
    /// Those of the last look.
    seen: HashSet<(u32, u64)>,
}

impl Look {
    /// Makes one that has seen nothing yet.
    pub fn new(tasks: TaskIterator) -> Self {
        Self {
            tasks,
            living: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Returns the processes that are new since the last look.
    ///
    /// # Errors
    ///
    /// What the task iterator refused.
    pub fn again(&mut self) -> io::Result<Vec<Process>> {
        self.living.clear();
        let living = &mut self.living;
        self.tasks.read(|process| {
            if process.flags & LIVE_FORKED != 0 {
                living.push(*process);
            }
        })?;
        let new = self
            .living
            .iter()
            .filter(|process| !self.seen.contains(&(process.tgid, process.start_boot_ns)))
            .map(observed)
            .collect();
        self.seen.clear();
        let keys = self.living.iter();
        self.seen
            .extend(keys.map(|process| (process.tgid, process.start_boot_ns)));
        Ok(new)
    }
}

fn observed(process: &LiveProcess) -> Process {
    Process {
        start_boot_ns: process.start_boot_ns,
        exec_boot_ns: 0,
        exit_boot_ns: 0,
        exe: if process.flags & LIVE_KERNEL_THREAD == 0 {
            executable(process.tgid, process.start_boot_ns)
                .map(|(path, _, file)| Arc::new(Program::new(&path, file)))
        } else {
            None
        },
        pid: process.tgid,
        lineage: Lineage {
            parent_tgid: process.parent_tgid,
            ns_tgid: process.ns_tgid,
            session: process.session,
            login_uid: process.login_uid,
        },
        comm: process.comm,
    }
}

/// Takes in the cgroups of the unified hierarchy, and of the one that has the memory controller.
fn walk_cgroups(identities: &mut Identities) {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    for (hierarchy, mount) in cgroup_mounts(&mounts, Hierarchies::of_host().memory) {
        walk(&mount, |id, path| {
            identities.learn_cgroup((hierarchy, id), path);
        });
    }
}

/// Shows every cgroup below a mount to `each`, with its id and its path in the hierarchy. What goes meanwhile is left out.
fn walk(mount: &Path, mut each: impl FnMut(u64, &str)) {
    use std::os::unix::fs::MetadataExt as _;

    if let Ok(top) = fs::metadata(mount) {
        each(top.ino(), "/");
    }
    let mut left = CGROUPS_MAX;
    let mut waiting = vec![(mount.to_owned(), 0)];
    while let Some((dir, depth)) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if left == 0 {
                return;
            }
            left -= 1;
            let path = entry.path();
            if let Ok(below) = path.strip_prefix(mount) {
                each(entry.ino(), &format!("/{}", below.to_string_lossy()));
            }
            if depth < DEPTH_MAX {
                waiting.push((path, depth + 1));
            }
        }
    }
}

/// Returns where the two hierarchies are mounted with their root at the top, each once: elsewhere paths are not known.
fn cgroup_mounts(mountinfo: &str, memory: Option<u32>) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next(), fields.next());
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next(), fields.nth(1));
        let hierarchy = match (kind, options, memory) {
            (Some("cgroup2"), _, _) => 0,
            (Some("cgroup"), Some(options), Some(memory)) if has_memory(options) => memory,
            _ => continue,
        };
        if let (Some("/"), Some(at)) = (root, at)
            && found.iter().all(|(known, _)| *known != hierarchy)
        {
            found.push((hierarchy, unescaped(at)));
        }
    }
    found
}

fn has_memory(options: &str) -> bool {
    options.split(',').any(|option| option == "memory")
}

/// Mount points have spaces and their like as a backslash and three octal digits.
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| {
            let digits = str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) if byte == b'\\' => {
                bytes.push(code);
                rest = &after[3..];
            }
            Some(_) | None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_hierarchies_are_walked_and_each_once() {
        let mounts = "\
30 24 0:26 /a /sys/fs/cgroup/part rw - cgroup2 cgroup2 rw
31 24 0:26 / /sys/fs/cgroup/uni\\040fied rw shared:1 - cgroup2 cgroup2 rw,nsdelegate
32 24 0:26 / /mnt rw - cgroup2 cgroup2 rw
33 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
34 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 24 0:29 / /x rw - tmpfs tmpfs rw
broken
";
        let path = PathBuf::from;
        assert_eq!(
            cgroup_mounts(mounts, Some(4)),
            [
                (0, path("/sys/fs/cgroup/uni fied")),
                (4, path("/sys/fs/cgroup/memory"))
            ]
        );
        assert_eq!(cgroup_mounts(mounts, None).len(), 1);
    }

    #[test]
    fn a_walk_shows_every_directory_with_its_inode() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("a.slice/b c.service");
        fs::create_dir_all(&inner).expect("makes");
        fs::write(inner.join("cgroup.procs"), "").expect("writes");
        let mut found = Vec::new();
        walk(dir.path(), |id, path| found.push((path.to_owned(), id)));
        found.sort();
        let ino = |path: &Path| fs::metadata(path).expect("is there").ino();
        assert_eq!(
            found,
            [
                ("/".into(), ino(dir.path())),
                ("/a.slice".into(), ino(&dir.path().join("a.slice"))),
                ("/a.slice/b c.service".into(), ino(&inner)),
            ]
        );
    }
}
