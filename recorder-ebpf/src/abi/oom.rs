//! Kills by the out-of-memory killer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, Header, Lineage};

/// The kernel chose a process and killed it to get memory back.
///
/// The header's process is the victim; the trigger is the task whose allocation failed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OomKill {
    /// The header; `flags` holds the `PROCESS_*` flags.
    pub header: Header,
    /// Address space of the victim, in pages.
    pub total_vm_pages: u64,
    /// Anonymous resident memory, in pages.
    pub anon_rss_pages: u64,
    /// File-backed resident memory, in pages.
    pub file_rss_pages: u64,
    /// Shared resident memory, in pages.
    pub shmem_rss_pages: u64,
    /// Page tables, in bytes.
    pub pgtables_bytes: u64,
    /// Cgroup of the trigger in the unified hierarchy.
    pub trigger_cgroup_id: u64,
    /// Id of the victim's cgroup in the hierarchy that carries the memory controller (equal to the header's on cgroup v2).
    pub memory_cgroup_id: u64,
    /// Where the victim belongs.
    pub lineage: Lineage,
    /// The kernel's pid of the trigger.
    pub trigger_pid: u32,
    /// The kernel's tgid of the trigger.
    pub trigger_tgid: u32,
    /// Adjustment of the victim's score, from -1000 to 1000.
    pub oom_score_adj: i32,
    /// Real user id of the trigger.
    pub trigger_uid: u32,
    /// Name of the trigger.
    pub trigger_comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<OomKill>() == size_of::<Header>() + 7 * 8 + 16 + 4 * 4 + COMM_LEN);
