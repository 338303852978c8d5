//! The cgroup of a process, in both hierarchies; by its id when the process is gone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{About, Collected, Lack, process, read_text, section_if_there};

/// Most directories that are looked at for an id.
const DIRECTORIES_MAX: usize = 20_000;

/// What is put out of a cgroup, whatever hierarchy it is of: what a kernel does not have is left out.
const FILES: [&str; 41] = [
    "memory.current",
    "memory.max",
    "memory.high",
    "memory.peak",
    "memory.swap.current",
    "memory.swap.max",
    "memory.events",
    "memory.oom.group",
    "memory.pressure",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.memsw.usage_in_bytes",
    "memory.failcnt",
    "memory.oom_control",
    "memory.swappiness",
    "memory.stat",
    "memory.numa_stat",
    "cpu.max",
    "cpu.weight",
    "cpu.stat",
    "cpu.pressure",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpuacct.usage",
    "cpuacct.stat",
    "io.stat",
    "io.max",
    "io.weight",
    "io.pressure",
    "blkio.throttle.io_service_bytes",
    "blkio.throttle.io_serviced",
    "pids.current",
    "pids.max",
    "pids.peak",
    "pids.events",
    "cgroup.events",
    "cgroup.stat",
    "cgroup.procs",
];

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Controllers of a hierarchy of version 1; none for the unified one.
    controllers: Vec<String>,
}

/// Puts out the files of every controller.
pub(super) fn collect(about: &About, out: &mut dyn Write) -> Collected {
    let hierarchies = hierarchies(&read_text("/proc/self/mountinfo")?);
    let mut found = match process::living(about) {
        Ok(directory) => of_process(&read_text(directory.join("cgroup"))?, &hierarchies),
        Err(gone) => {
            let of_memory = about.memory_cgroup_id;
            // The hierarchy that places processes: the unified one where that is mounted.
            let is_unified_used = hierarchies.iter().any(|one| one.controllers.is_empty());
            let found = by_id(&hierarchies, about.cgroup_id, |one| match is_unified_used {
                true => one.controllers.is_empty(),
                false => one.controllers.iter().any(|name| name == "memory"),
            });
            match (found, of_memory, gone) {
                (Some(found), _, _) => vec![found],
                (None, Some(_), _) => Vec::new(),
                (None, None, Lack::Absent(why)) => {
                    return Err(Lack::Absent(format!("{why}, and so has its cgroup")));
                }
                (None, None, gone) => return Err(gone),
            }
        }
    };
    // The one that ran out need not be its own: a parent has limits too.
    if let Some(id) = about.memory_cgroup_id {
        let has_memory = |one: &Hierarchy| {
            one.controllers.is_empty() || one.controllers.iter().any(|name| name == "memory")
        };
        found.extend(by_id(&hierarchies, Some(id), has_memory));
        found.sort();
        found.dedup();
    }
    for directory in &found {
        writeln!(out, "cgroup {}\n", directory.display())?;
        for file in FILES {
            section_if_there(out, directory.join(file))?;
        }
    }
    match found.is_empty() {
        true => Err(Lack::Absent(
            "it is in no cgroup but the root, or its cgroup is gone".into(),
        )),
        false => Ok(()),
    }
}

/// Finds the hierarchies in a list of mounts.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    const CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "blkio", "pids", "io"];
    let hierarchy = |line: &str| {
        let (fields, after) = line.split_once(" - ")?;
        let mount = PathBuf::from(fields.split(' ').nth(4)?);
        let mut after = after.split(' ');
        match after.next()? {
            "cgroup2" => Some(Hierarchy {
                mount,
                controllers: Vec::new(),
            }),
            "cgroup" => {
                let options = after.nth(1)?.split(',');
                let controllers: Vec<String> = options
                    .filter(|option| CONTROLLERS.contains(option))
                    .map(str::to_owned)
                    .collect();
                (!controllers.is_empty()).then_some(Hierarchy { mount, controllers })
            }
            _ => None,
        }
    };
    mountinfo.lines().filter_map(hierarchy).collect()
}

/// Finds the directories of a process's cgroups: "4:memory:/a/b" and "0::/a/b".
fn of_process(cgroup: &str, hierarchies: &[Hierarchy]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mut controllers = controllers
            .split(',')
            .filter(|name| !name.is_empty())
            .peekable();
        let is_unified = controllers.peek().is_none();
        let names: Vec<&str> = controllers.collect();
        let hierarchy = hierarchies.iter().find(|hierarchy| match is_unified {
            true => hierarchy.controllers.is_empty(),
            false => hierarchy
                .controllers
                .iter()
                .any(|one| names.contains(&one.as_str())),
        });
        // The root of a hierarchy is the host, which others describe.
        if let Some(hierarchy) = hierarchy
            && path != "/"
        {
            found.push(hierarchy.mount.join(path.trim_start_matches('/')));
        }
    }
    found
}

/// Finds the cgroup with this id in a hierarchy that is wanted. The root is none: it is the host, which others describe.
fn by_id(
    hierarchies: &[Hierarchy],
    id: Option<u64>,
    is_wanted: impl Fn(&Hierarchy) -> bool,
) -> Option<PathBuf> {
    let mut wanted = hierarchies.iter().filter(|one| is_wanted(one));
    wanted.find_map(|one| with_id(&one.mount, id?).filter(|found| *found != one.mount))
}

/// Finds the cgroup with this id, which is the inode of its directory.
fn with_id(mount: &Path, id: u64) -> Option<PathBuf> {
    let mut waiting = vec![mount.to_owned()];
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        seen += 1;
        if seen > DIRECTORIES_MAX {
            return None;
        }
        if fs::metadata(&directory).is_ok_and(|metadata| metadata.ino() == id) {
            return Some(directory);
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_are_found() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      33 25 0:29 / / rw - ext4 /dev/vda rw\nnonsense\n";
        let hierarchies = hierarchies(mounts);
        assert_eq!(hierarchies.len(), 2);
        let found = of_process(
            "4:memory:/a/b\n3:cpuset:/c\n1:name=systemd:/d\n0::/system.slice/x:y.service\nbad\n",
            &hierarchies,
        );
        assert_eq!(
            found,
            [
                Path::new("/sys/fs/cgroup/memory/a/b"),
                Path::new("/sys/fs/cgroup/unified/system.slice/x:y.service"),
            ]
        );
        assert!(of_process("4:memory:/\n0::/\n", &hierarchies).is_empty());
    }
}
