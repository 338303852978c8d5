//! Errors of file systems.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// Dirty data could not be written back: it is lost, though the write had succeeded.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WritebackError {
    /// The header; it names no process.
    pub header: Header,
    /// Inode whose data was lost; for a block device's own pages, the inode of the device.
    pub inode: u64,
    /// `dev_t` of the file system, as the kernel packs it (20 bits of minor).
    pub device: u32,
    /// Positive errno.
    pub errno: u32,
    /// Name of the file system's device, NUL padded.
    pub name: [u8; 32],
}

const _: () = assert!(size_of::<WritebackError>() == size_of::<Header>() + 8 + 8 + 32);
