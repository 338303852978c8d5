//! Errors of block devices.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// A block device failed a request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IoError {
    /// The header; it names no process, only the cgroup that the kernel charged, if it did.
    pub header: Header,
    /// First sector of the request, in units of 512 bytes from the start of the disk.
    pub sector: u64,
    /// Bytes that failed.
    pub bytes: u64,
    /// Major number of the disk.
    pub major: u32,
    /// Minor number of the disk.
    pub minor: u32,
    /// `dev_t` of the partition as the kernel packs it (20 bits of minor), 0 if unknown.
    pub partition: u32,
    /// The block layer's `blk_status_t`; 255 if only the errno is known.
    pub status: u32,
    /// Positive errno if the kernel gave one instead of a status, else 0.
    pub errno: u32,
    /// `cmd_flags` of the request: operation in the low 8 bits.
    pub cmd_flags: u32,
    /// Name of the disk, NUL padded.
    pub disk: [u8; 32],
}

const _: () = assert!(size_of::<IoError>() == size_of::<Header>() + 2 * 8 + 6 * 4 + 32);
