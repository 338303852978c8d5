//! Reads and writes that fail.

use std::alloc::Layout;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use serde_json::{Value, json};

use crate::facts;

const SECTOR: u64 = 512;
/// Direct I/O wants its memory aligned to the device's block.
const ALIGNMENT: usize = 4096;

/// Reads or writes `bytes` at `sector` past the page cache, in one request.
pub(crate) fn direct(write: bool, device: &str, sector: u64, bytes: usize) {
    let file = File::options()
        .read(!write)
        .write(write)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .expect("the test gives us a device");
    facts::print(&json!({ "sector": sector, "bytes": bytes }));
    let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("a power of two");
    // SAFETY: the layout is not empty; the program ends with the memory still allocated.
    let buffer = unsafe { std::alloc::alloc_zeroed(layout) };
    assert!(!buffer.is_null(), "memory is to be had");
    let offset = i64::try_from(sector * SECTOR).expect("devices here are small");
    let done = if write {
        // SAFETY: `buffer` holds `bytes` initialised bytes.
        unsafe { libc::pwrite(file.as_raw_fd(), buffer.cast(), bytes, offset) }
    } else {
        // SAFETY: `buffer` has room for `bytes` and nothing else refers to it.
        unsafe { libc::pread(file.as_raw_fd(), buffer.cast(), bytes, offset) }
    };
    facts::print_line(&json!({ "transferred": done, "errno": (done < 0).then(last_errno) }));
}

/// Writes through the page cache, then asks for it to be stored.
pub(crate) fn write_back(path: &str, offset: u64, bytes: usize) {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("the test gives us a file");
    let inode = file.metadata().expect("the file is open").ino();
    facts::print(&json!({ "offset": offset, "bytes": bytes, "inode": inode }));
    let write = file.write_all_at(&vec![0xa5; bytes], offset);
    let sync = file.sync_all();
    facts::print_line(&json!({ "write": errno(&write), "sync": errno(&sync) }));
}

fn errno(result: &std::io::Result<()>) -> Value {
    json!(result.as_ref().err().and_then(Error::raw_os_error))
}

fn last_errno() -> Option<i32> {
    Error::last_os_error().raw_os_error()
}
