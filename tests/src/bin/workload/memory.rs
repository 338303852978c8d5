//! Uses memory until the kernel has had enough.

use serde_json::json;

use crate::facts;

/// What kind of memory to use up.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Anonymous,
    Shared,
}

impl Kind {
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "anonymous" => Self::Anonymous,
            "shared" => Self::Shared,
            _ => panic!("memory is anonymous or shared, not {name:?}"),
        }
    }
}

/// Enters the cgroup of `cgroup_procs` and uses `bytes` of memory, or all there is; then sleeps.
pub(crate) fn hog(cgroup_procs: &str, score_adj: &str, kind: Kind, bytes: Option<usize>) {
    const STEP: usize = 1 << 20;
    std::fs::write(cgroup_procs, std::process::id().to_string()).expect("the cgroup takes us");
    std::fs::write("/proc/self/oom_score_adj", score_adj).expect("root may set its score");
    facts::print(&json!({ "oom_score_adj": facts::number::<i32>(score_adj) }));
    let mut used = 0;
    while bytes.is_none_or(|bytes| used < bytes) {
        let sharing = match kind {
            Kind::Anonymous => libc::MAP_PRIVATE,
            Kind::Shared => libc::MAP_SHARED,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                STEP,
                libc::PROT_READ | libc::PROT_WRITE,
                sharing | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "address space is plenty");
        // SAFETY: the mapping is STEP bytes long, writable, and only ours.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0x5a, STEP) };
        used += STEP;
    }
    facts::print_line(&json!({ "used_bytes": used }));
    crate::process::sleep_forever();
}
