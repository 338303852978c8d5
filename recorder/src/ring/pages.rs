//! Pages of a file, mapped by the kernel.

use std::{fs::File, io, ptr, ptr::NonNull};

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, munmap},
};

/// Fewest bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;

/// Maps the first `len` bytes of `file` for reading and writing, shared.
pub(super) fn map(file: &File, len: usize) -> io::Result<NonNull<u8>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: with a null hint and without `FIXED` the kernel picks addresses that nothing uses.
    let base = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
    NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory.into())
}

/// Makes every page of a whole mapping present and writable, so that recording takes no page faults later. Returns whether the
/// kernel can: not before Linux 5.14.
pub(super) fn populate(base: NonNull<u8>, len: usize) -> io::Result<bool> {
    // SAFETY: the advice changes which pages of the mapping are present, not what they hold.
    match unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxPopulateWrite) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps the pages of a whole mapping from being swapped out, so that recording never waits for a disk. Best effort: whoever
/// may not lock so much memory records nevertheless.
pub(super) fn lock(base: NonNull<u8>, len: usize) {
    // SAFETY: where the pages of the mapping are changes nothing about what they hold.
    let _ = unsafe { mlock(base.as_ptr().cast(), len) };
}

/// Gives a mapping back.
///
/// # Safety
///
/// It is what [`map`] returned for `len` bytes, and is not used any more.
pub(super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: the caller promises just that.
    let unmapped = unsafe { munmap(base.as_ptr().cast(), len) };
    debug_assert!(unmapped.is_ok());
}
