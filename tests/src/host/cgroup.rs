//! Cgroups with little memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A cgroup of our own whose processes share a bounded amount of memory.
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
}

impl MemoryCgroup {
    /// Returns whether a hierarchy with the memory controller is there and writable.
    pub fn is_available() -> bool {
        Hierarchy::find().is_some()
    }

    /// Makes a cgroup whose processes have `bytes` of memory together, and no swap.
    ///
    /// # Panics
    ///
    /// Unless this is root and [`MemoryCgroup::is_available`].
    #[track_caller]
    pub fn with_limit(bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("recorder-tests-{}-{count}", std::process::id());
        Self::named(&name, bytes)
    }

    /// Makes one with this name, at the top.
    ///
    /// # Panics
    ///
    /// Unless this is root and [`MemoryCgroup::is_available`].
    #[track_caller]
    pub fn named(name: &str, bytes: u64) -> Self {
        let hierarchy = Hierarchy::find().expect("the test needs Need::MemoryCgroup");
        let path = hierarchy.root().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cgroup = Self { path };
        match hierarchy {
            Hierarchy::V1(_) => {
                cgroup.write("memory.limit_in_bytes", bytes);
                // Only there if the kernel accounts swap.
                if cgroup.path.join("memory.memsw.limit_in_bytes").exists() {
                    cgroup.write("memory.memsw.limit_in_bytes", bytes);
                }
            }
            Hierarchy::V2(_) => {
                cgroup.write("memory.max", bytes);
                if cgroup.path.join("memory.swap.max").exists() {
                    cgroup.write("memory.swap.max", 0);
                }
            }
        }
        cgroup
    }

    /// Lets its processes swap as much as there is swap.
    #[track_caller]
    pub fn may_swap(&self) {
        for name in ["memory.memsw.limit_in_bytes", "memory.swap.max"] {
            if self.path.join(name).exists() {
                self.write(name, 1 << 40);
            }
        }
    }

    fn write(&self, name: &str, value: u64) {
        let path = self.path.join(name);
        fs::write(&path, value.to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Returns the file through which a process enters.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Returns its id: the inode of its directory.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("the cgroup is there").ino()
    }

    /// Returns its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it is in the hierarchy that has all controllers: a process there is in no other cgroup.
    pub fn is_unified(&self) -> bool {
        self.path.join("memory.max").exists()
    }

    /// Returns whether the kernel keeps the most memory that it ever had.
    pub fn has_peak(&self) -> bool {
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        names.iter().any(|name| self.path.join(name).exists())
    }

    /// Returns how many of its processes the kernel has killed for their memory.
    pub fn kills(&self) -> u64 {
        let v1 = fs::read_to_string(self.path.join("memory.oom_control"));
        let v2 = || fs::read_to_string(self.path.join("memory.events"));
        let counts = v1.or_else(|_| v2()).expect("one of them is there");
        let count = counts
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.parse().ok())
            .expect("the kernel counts kills")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Its processes are workloads, which are waited for by now; the kernel may still be busy with the last one.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left behind: it has processes", self.path.display());
    }
}

/// A cgroup of our own in the unified hierarchy, for its name.
#[derive(Debug)]
pub struct NamedCgroup {
    path: PathBuf,
    name: String,
}

impl NamedCgroup {
    /// Returns whether the unified hierarchy is there and writable.
    pub fn is_available() -> bool {
        let root = mount_point("cgroup2", "");
        root.is_some_and(|root| rustix::fs::access(&root, rustix::fs::Access::WRITE_OK).is_ok())
    }

    /// Makes one with this name, at the top.
    ///
    /// # Panics
    ///
    /// Unless this is root and [`NamedCgroup::is_available`].
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let root = mount_point("cgroup2", "").expect("the test needs Need::NamedCgroup");
        let path = root.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            path,
            name: name.to_owned(),
        }
    }

    /// Returns the file through which a process enters.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Returns its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its path in the hierarchy.
    pub fn name(&self) -> String {
        format!("/{}", self.name)
    }

    /// Returns its id: the inode of its directory.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("the cgroup is there").ino()
    }
}

impl Drop for NamedCgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        eprintln!("{} is left behind: it has processes", self.path.display());
    }
}

/// A cgroup of our own whose processes and threads are bounded in number.
#[derive(Debug)]
pub struct PidsCgroup {
    path: PathBuf,
}

impl PidsCgroup {
    /// Returns whether a hierarchy with the controller of process numbers is there and writable.
    pub fn is_available() -> bool {
        pids_root().is_some()
    }

    /// Makes one with this name, at the top, for at most `processes`.
    ///
    /// # Panics
    ///
    /// Unless this is root and [`PidsCgroup::is_available`].
    #[track_caller]
    pub fn new(name: &str, processes: u32) -> Self {
        let root = pids_root().expect("the test needs Need::PidsCgroup");
        let path = root.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cgroup = Self { path };
        let max = cgroup.path.join("pids.max");
        fs::write(max, processes.to_string()).expect("it is ours");
        cgroup
    }

    /// Returns the file through which a process enters.
    pub fn processes(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl PidsCgroup {
    /// Returns how often the kernel has refused a process for the bound.
    pub fn refused(&self) -> u64 {
        let events = fs::read_to_string(self.path.join("pids.events")).expect("it is ours");
        let count = events.lines().find_map(|line| line.strip_prefix("max "));
        count
            .and_then(|count| count.parse().ok())
            .expect("the kernel counts them")
    }
}

impl Drop for PidsCgroup {
    fn drop(&mut self) {
        // Nobody is born there any more, and who is there goes.
        let _ = fs::write(self.path.join("pids.max"), "0");
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            let processes = fs::read_to_string(self.processes()).unwrap_or_default();
            for pid in processes.lines().filter_map(|pid| pid.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // One that has just ended is as good.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left behind: it has processes", self.path.display());
    }
}

/// Returns the top of the hierarchy that bounds numbers of processes.
fn pids_root() -> Option<PathBuf> {
    if let Some(root) = mount_point("cgroup", "pids") {
        return Some(root);
    }
    let root = mount_point("cgroup2", "")?;
    fs::write(root.join("cgroup.subtree_control"), "+pids").ok()?;
    Some(root)
}

enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl Hierarchy {
    fn find() -> Option<Self> {
        let v1 = mount_point("cgroup", "memory")
            .filter(|root| root.join("memory.limit_in_bytes").exists());
        if let Some(root) = v1 {
            return Some(Self::V1(root));
        }
        let root = mount_point("cgroup2", "")?;
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
        controllers
            .split_whitespace()
            .find(|name| *name == "memory")?;
        fs::write(root.join("cgroup.subtree_control"), "+memory").ok()?;
        Some(Self::V2(root))
    }

    fn root(&self) -> &Path {
        match self {
            Self::V1(root) | Self::V2(root) => root,
        }
    }
}

/// Returns where a file system of `kind` is mounted whose options include `option` (any, if empty).
fn mount_point(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, found, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_option = option.is_empty() || options.split(',').any(|each| each == option);
        (found == kind && has_option).then(|| PathBuf::from(path))
    })
}

/// Returns the id of this process's cgroup in the unified hierarchy, which its children inherit; `None` if it is not
/// mounted.
pub fn unified_cgroup_id() -> Option<u64> {
    let root = mount_point("cgroup2", "")?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(fs::metadata(root.join(path)).ok()?.ino())
}
