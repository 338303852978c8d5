//! A file of the kernel that is read over and over.

use std::fs::File;
use std::path::PathBuf;

use rustix::io::{Errno, pread};

/// Most bytes taken of a file: /proc/stat of thousands of CPUs is smaller.
const BYTES_MAX: usize = 1 << 20;
/// Room to begin with.
const BYTES_START: usize = 4096;

/// Kept open, and read from its start each time into the same memory.
#[derive(Debug)]
pub(super) struct KernelFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl KernelFile {
    /// Names a file; it is opened when it is read.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            file: None,
            buffer: Vec::new(),
        }
    }

    /// Returns what it holds now; `None` if it is not there, or the kernel does not give it.
    ///
    /// A file longer than [`BYTES_MAX`] is cut.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let file = self.file.as_ref()?;
        if self.buffer.is_empty() {
            self.buffer.resize(BYTES_START, 0);
        }
        let mut len = 0;
        loop {
            match pread(file, &mut self.buffer[len..], len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    // Perhaps another is there now, or will be.
                    self.file = None;
                    return None;
                }
            }
            if len == self.buffer.len() {
                if len >= BYTES_MAX {
                    break;
                }
                self.buffer.resize(len * 2, 0);
            }
        }
        self.buffer.get(..len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::allocations_of_this_thread;

    #[test]
    fn a_file_is_read_anew_each_time_and_may_come_and_grow() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let mut file = KernelFile::new(&path);
        assert_eq!(file.read(), None);
        std::fs::write(&path, "one").expect("ours");
        assert_eq!(file.read(), Some(b"one".as_slice()));
        let long = vec![b'x'; 3 * BYTES_START + 1];
        std::fs::write(&path, &long).expect("ours");
        assert_eq!(file.read(), Some(long.as_slice()));
        std::fs::write(&path, "").expect("ours");
        assert_eq!(file.read(), Some(b"".as_slice()));
        std::fs::write(&path, vec![b'x'; 2 * BYTES_MAX]).expect("ours");
        assert_eq!(file.read().map(<[u8]>::len), Some(BYTES_MAX));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(KernelFile::new(directory.path()).read(), None);
    }

    #[test]
    fn reading_again_allocates_nothing() {
        let mut file = KernelFile::new("/proc/stat");
        file.read();
        let before = allocations_of_this_thread();
        assert!(file.read().is_some());
        assert_eq!(allocations_of_this_thread(), before);
    }
}
