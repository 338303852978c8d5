//! A cgroup with little memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::NAME;

/// A cgroup of our own; removed when dropped.
pub(super) struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    /// Makes one whose processes have `bytes` together, and no swap. The error is why the host does not allow it.
    pub(super) fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let (root, is_v1) = hierarchy(&mounts)?;
        let path = root.join(format!("recorder-{name}"));
        sweep(&root);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // From here on it is removed.
        let cgroup = Self(path);
        let (limit, swap, swap_value) = match is_v1 {
            true => (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                bytes,
            ),
            false => ("memory.max", "memory.swap.max", 0),
        };
        cgroup
            .write(limit, bytes)
            .map_err(|error| format!("{}: {error}", cgroup.0.join(limit).display()))?;
        // Only there if the kernel accounts swap.
        let _ = cgroup.write(swap, swap_value);
        Ok(cgroup)
    }

    /// Puts a process into it.
    pub(super) fn enter(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", pid.into())
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.0.join(file), value.to_string())
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Its process is waited for, but the kernel may be busy with it for a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns where memory cgroups can be made, and whether they are of version 1.
fn hierarchy(mounts: &str) -> Result<(PathBuf, bool), String> {
    let mount = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, found, options) = (fields.next()?, fields.next()?, fields.next()?);
            let has = option.is_empty() || options.split(',').any(|each| each == option);
            (found == kind && has).then(|| PathBuf::from(path))
        })
    };
    if let Some(root) = mount("cgroup", "memory") {
        return Ok((root, true));
    }
    let root = mount("cgroup2", "").ok_or("no cgroup hierarchy is mounted")?;
    let given = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    match given.split_whitespace().any(|name| name == "memory") {
        true => Ok((root, false)),
        false => Err(format!(
            "the cgroups in {} have no memory controller",
            root.display()
        )),
    }
}

/// Removes what tests left behind that were killed. A cgroup with a process in it stays.
fn sweep(root: &Path) {
    let prefix = format!("recorder-{NAME}");
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let is_ours = entry.file_name().to_string_lossy().starts_with(&prefix);
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old =
            age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(60)));
        if is_ours && is_old {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_with_memory_is_found_whatever_its_version() {
        let v1 = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                  cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                  cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0\n";
        let found = hierarchy(v1).expect("it is there");
        assert_eq!(found, (PathBuf::from("/sys/fs/cgroup/memory"), true));
        let none = hierarchy("proc /proc proc rw 0 0\n").expect_err("it is not");
        assert!(none.contains("no cgroup"), "{none}");
        let bare = "cgroup2 /nonexistent cgroup2 rw 0 0\n";
        let none = hierarchy(bare).expect_err("nothing is given to it");
        assert!(none.contains("no memory controller"), "{none}");
    }
}
