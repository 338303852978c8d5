//! Pages of a file for an interpreter that maps none: they are read when they are mapped, and written back when they are given
//! back, as if nobody else had looked meanwhile.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    ptr::NonNull,
    slice,
};

/// Fewest bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, PAGE_BYTES).expect("it is no longer than a file of these tests")
}

/// Copies the first `len` bytes of `file`.
pub(super) fn map(file: &File, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: there is at least the page of the header.
    let base = unsafe { alloc_zeroed(layout(len)) };
    let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: these are the bytes that were just allocated, and nobody else has them yet.
    let bytes = unsafe { slice::from_raw_parts_mut(base.as_ptr(), len) };
    file.read_exact_at(bytes, 0)?;
    Ok(base)
}

/// Does nothing: they are present.
pub(super) fn populate(_: NonNull<u8>, _: usize) -> io::Result<bool> {
    Ok(true)
}

/// Does nothing: they stay.
pub(super) fn lock(_: NonNull<u8>, _: usize) {}

/// Writes pages that [`map`] returned, and that nobody uses any more, to their file.
pub(super) fn keep(file: &File, base: NonNull<u8>, len: usize) {
    // SAFETY: they are still allocated, and nobody writes to them.
    let bytes = unsafe { slice::from_raw_parts(base.as_ptr(), len) };
    file.write_all_at(bytes, 0).expect("the file is ours");
}

/// Gives pages back.
///
/// # Safety
///
/// They are what [`map`] returned for `len` bytes, and are not used any more.
pub(super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: the caller promises just that.
    unsafe { dealloc(base.as_ptr(), layout(len)) };
}
