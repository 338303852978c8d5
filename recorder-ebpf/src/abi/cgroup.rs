//! Cgroups that come and go: their names, which outlive them nowhere else.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// A cgroup was made or removed.
///
/// # Shape
///
/// Followed by `path_len` bytes of path in its hierarchy (no NUL), then zeros up to a multiple of eight.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CgroupChange {
    /// The header; the process is the one that asked for it.
    pub header: Header,
    /// Id of the cgroup: unique in its hierarchy until the next boot.
    pub id: u64,
    /// Number of the hierarchy, 0 for the unified one: as in `/proc/self/cgroup`.
    pub hierarchy: u32,
    /// Bytes of path that follow; as many as are captured at most if it was longer.
    pub path_len: u32,
}

const _: () = assert!(size_of::<CgroupChange>() == size_of::<Header>() + 16);
