//! Memory for SQLite, from the allocator of the program: what is kept for dumps is there for its part of them, too.

#![expect(unsafe_code, reason = "SQLite calls back with pointers")]

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::{c_int, c_void};
use std::ptr;

use rusqlite::ffi;

/// What stands before each block: its size. As much as keeps the block aligned for anything.
const HEAD: usize = 16;

/// Has SQLite allocate as the program does. It must not be in use yet; returns whether it was not.
pub fn share_allocator() -> bool {
    let methods = ffi::sqlite3_mem_methods {
        xMalloc: Some(take),
        xFree: Some(give_back),
        xRealloc: Some(resize),
        xSize: Some(size),
        xRoundup: Some(round_up),
        xInit: Some(begin),
        xShutdown: Some(end),
        pAppData: ptr::null_mut(),
    };
    // SAFETY: the option takes a pointer to such methods, which are copied.
    unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) == ffi::SQLITE_OK }
}

/// Returns the layout of a block of so many bytes, with its head.
fn layout(bytes: c_int) -> Option<Layout> {
    let bytes = usize::try_from(bytes).ok()?;
    Layout::from_size_align(HEAD + bytes, HEAD).ok()
}

/// Writes the size into the head of what was allocated, and returns what is behind it.
///
/// # Safety
///
/// `head` is null or has the bytes of [`layout`].
unsafe fn behind(head: *mut u8, bytes: c_int) -> *mut c_void {
    if head.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the head is there, and is aligned for more than an integer.
    unsafe { head.cast::<c_int>().write(bytes) };
    // SAFETY: it is as long as that.
    unsafe { head.add(HEAD) }.cast()
}

/// Returns the head of a block.
///
/// # Safety
///
/// The block is what [`behind`] returned, not null.
unsafe fn head_of(block: *mut c_void) -> *mut u8 {
    // SAFETY: the head is before it.
    unsafe { block.cast::<u8>().sub(HEAD) }
}

unsafe extern "C" fn take(bytes: c_int) -> *mut c_void {
    let Some(layout) = layout(bytes) else {
        return ptr::null_mut();
    };
    // SAFETY: it has at least the head.
    let head = unsafe { alloc(layout) };
    // SAFETY: it was allocated for this layout.
    unsafe { behind(head, bytes) }
}

unsafe extern "C" fn give_back(block: *mut c_void) {
    // SAFETY: SQLite gives back what it took, and that has a size.
    if let Some(layout) = layout(unsafe { size(block) }) {
        // SAFETY: as above: it was allocated for this layout, and is used no more.
        unsafe { dealloc(head_of(block), layout) };
    }
}

unsafe extern "C" fn resize(block: *mut c_void, bytes: c_int) -> *mut c_void {
    // SAFETY: SQLite resizes what it took, and that has a size.
    let (Some(old), Some(new)) = (layout(unsafe { size(block) }), layout(bytes)) else {
        return ptr::null_mut();
    };
    // SAFETY: as above: it was allocated for the old layout; the new size is one for the same alignment.
    let head = unsafe { realloc(head_of(block), old, new.size()) };
    // SAFETY: it has the bytes of the new layout.
    unsafe { behind(head, bytes) }
}

unsafe extern "C" fn size(block: *mut c_void) -> c_int {
    // SAFETY: SQLite asks for the size of what it took; `behind` wrote it there.
    unsafe { head_of(block).cast::<c_int>().read() }
}

unsafe extern "C" fn round_up(bytes: c_int) -> c_int {
    bytes.saturating_add(7) & !7
}

unsafe extern "C" fn begin(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn end(_: *mut c_void) {}
