//! The memory limit of the agent's cgroup, or of one that it is in: what the kernel kills for, beside what the contract says.
//!
//! What the kernel could drop at once, pages of files, does not count: a cgroup that writes dumps is full of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sample::Hierarchy;
use crate::units::bytes;

/// Of a hundred: from here on it is short.
const SHORT: u64 = 90;
/// Of a hundred: below this it is short no longer.
const ENOUGH: u64 = 80;
/// Looks until it is looked for a limit again, if there is none.
const FIND_EVERY: u32 = 10;

/// What the cgroup may hold, and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMemory {
    /// Path of the cgroup whose limit is the next to be reached.
    pub cgroup: String,
    /// What it may hold, in bytes.
    pub limit_bytes: u64,
    /// What it holds, in bytes: its processes together, the flight ring, and what the kernel could drop.
    pub used_bytes: u64,
    /// Whether so little is left that the kernel may soon kill for it.
    pub is_short: bool,
}

/// Looks at the limit.
#[derive(Debug, Default)]
pub(super) struct Limit {
    hierarchy: Option<Hierarchy>,
    /// The cgroup with the limit.
    cgroup: Option<PathBuf>,
    looks: u32,
    is_short: bool,
}

impl Limit {
    /// Looks; `None` if there is no limit.
    pub(super) fn look(&mut self) -> Option<CgroupMemory> {
        if self.cgroup.is_none() && self.looks.is_multiple_of(FIND_EVERY) {
            self.find();
        }
        self.looks = self.looks.wrapping_add(1);
        let found = self.measure();
        if found.is_none() {
            // It was taken away, or the agent was put elsewhere.
            self.cgroup = None;
            self.is_short = false;
        }
        found
    }

    fn find(&mut self) {
        self.hierarchy = Hierarchy::find();
        self.cgroup = self.hierarchy.as_ref().and_then(|hierarchy| {
            let limited = |cgroup: PathBuf| Some((hierarchy.limit_bytes(&cgroup)?, cgroup));
            let limits = hierarchy.of_this_process().into_iter().filter_map(limited);
            limits.min().map(|(_, cgroup)| cgroup)
        });
    }

    fn measure(&mut self) -> Option<CgroupMemory> {
        let (hierarchy, cgroup) = (self.hierarchy.as_ref()?, self.cgroup.as_ref()?);
        let limit = hierarchy.limit_bytes(cgroup)?;
        let used = hierarchy.usage_bytes(cgroup)?;
        let bound = if self.is_short { ENOUGH } else { SHORT };
        let is_beyond = |used: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(bound);
        // Only then it matters what of it could be dropped, which costs the kernel more to say.
        self.is_short =
            is_beyond(used) && is_beyond(used.saturating_sub(hierarchy.droppable_bytes(cgroup)));
        Some(CgroupMemory {
            cgroup: hierarchy.name(cgroup),
            limit_bytes: limit,
            used_bytes: used,
            is_short: self.is_short,
        })
    }
}

impl CgroupMemory {
    /// Says how it is, and what to do if it is short.
    pub fn sentence(&self) -> String {
        let Self {
            cgroup,
            limit_bytes,
            used_bytes,
            is_short,
        } = self;
        let (used, limit) = (bytes(*used_bytes), bytes(*limit_bytes));
        match is_short {
            true => format!(
                "cgroup {cgroup} holds {used} of the {limit} that it may: the kernel will kill the recorder, or what runs \
                 beside it, for more; raise its limit (MemoryMax=), or make the flight ring smaller"
            ),
            false => format!(
                "cgroup {cgroup} has memory again: it holds {used} of the {limit} that it may"
            ),
        }
    }
}

/// Returns the tightest limit that a process which starts now would run under: the cgroup's path, and bytes.
pub fn limit_of_this_process() -> Option<(String, u64)> {
    let mut limit = Limit::default();
    let found = limit.look()?;
    Some((found.cgroup, found.limit_bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A cgroup of version 2, in plain files.
    struct Cgroup(tempfile::TempDir);

    impl Cgroup {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("there is room"))
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn set(&self, limit: &str, used: u64, droppable: u64) {
            for (file, text) in [
                ("memory.max", limit.to_owned()),
                ("memory.current", used.to_string()),
                (
                    "memory.stat",
                    format!("anon 7\ninactive_file {droppable}\nactive_file 0\n"),
                ),
            ] {
                fs::write(self.path().join(file), text).expect("ours");
            }
        }
    }

    #[test]
    fn it_is_short_near_the_limit_and_until_there_is_room_but_not_of_what_can_be_dropped() {
        let cgroup = Cgroup::new();
        cgroup.set("104857600", 50 * MIB, 0);
        let mut limit = Limit {
            hierarchy: Some(Hierarchy::at(cgroup.path())),
            cgroup: Some(cgroup.path().to_owned()),
            looks: 1,
            is_short: false,
        };
        let mut short = |used: u64, droppable: u64| {
            cgroup.set("104857600", used * MIB, droppable * MIB);
            limit.look().expect("there is a limit").is_short
        };
        assert!(!short(89, 0));
        assert!(!short(100, 20));
        assert!(short(100, 10));
        assert!(short(81, 0));
        assert!(!short(79, 0));
        assert!(!short(85, 0));
        assert!(short(95, 0));
        cgroup.set("max", 95 * MIB, 0);
        assert_eq!(limit.look(), None);
    }

    #[test]
    fn what_is_short_is_said_with_what_to_do() {
        let mut found = CgroupMemory {
            cgroup: "/system.slice/recorder.service".to_owned(),
            limit_bytes: 100 * MIB,
            used_bytes: 95 * MIB,
            is_short: true,
        };
        let said = found.sentence();
        assert!(
            said.contains("/system.slice/recorder.service holds 95"),
            "{said}"
        );
        assert!(said.contains("MemoryMax="), "{said}");
        found.is_short = false;
        assert!(found.sentence().contains("again"));
    }
}
