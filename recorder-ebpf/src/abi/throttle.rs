//! What one cgroup may write to a lane, and what it wrote beyond that.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Cgroups and lanes that are watched at a time; records of further ones are not throttled.
pub const THROTTLES_MAX: usize = 1024;

/// Whose records are counted together.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ThrottleKey {
    /// Id of the cgroup: that of the unified hierarchy, or, where that knows only its root, of the memory controller's.
    pub cgroup_id: u64,
    /// Number of the hierarchy; 0 is the unified one.
    pub hierarchy: u32,
    /// A [`Lane`](super::Lane) as number.
    pub lane: u32,
}

/// What is counted.
#[derive(
    Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, PartialEq, Eq,
)]
#[repr(C)]
pub struct Throttle {
    /// When all that was admitted so far would have come at the allowed rate, in nanoseconds since boot.
    pub due_boot_ns: u64,
    /// Records that were refused.
    pub records: u64,
    /// When the first of them was refused.
    pub since_boot_ns: u64,
    /// When the last of them was.
    pub until_boot_ns: u64,
}
