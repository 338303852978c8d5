//! The mapping behind an arena: words that may be shared, and bytes of which the user says that nobody else has them.

use std::{fs::File, io, ptr, ptr::NonNull, slice};

use super::{
    pages,
    sync::{AtomicU64, Relaxed},
};

/// A shared mapping of a whole file. It is unmapped when this is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<u8>,
    len: usize,
    #[cfg(miri)]
    file: File,
}

// SAFETY: `base` is the only field that is not `Send` of itself. It points at a mapping that belongs to the process, not
// to a thread, and that lives until the drop of this.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` gives access to the mapping through `word`, which is atomic, and through `write` and `bytes`, whose
// callers promise that none writes what another accesses.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `file`. Every page is present afterwards.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len());
        let len = len.ok().filter(|len| isize::try_from(*len).is_ok());
        let len = len.ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Self {
            base: pages::map(file, len)?,
            len,
            #[cfg(miri)]
            file: file.try_clone()?,
        };
        if !pages::populate(memory.base, len)? {
            // A store of what is there anyway does the same, page by page. Nobody else has the mapping yet.
            for offset in (0..len).step_by(pages::PAGE_BYTES) {
                memory.word(offset).fetch_or(0, Relaxed);
            }
        }
        pages::lock(memory.base, len);
        Ok(memory)
    }

    /// Returns how many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the word at `offset`, which is to be accessed as such a word only.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(align_of::<AtomicU64>()));
        assert!(offset + size_of::<AtomicU64>() <= self.len);
        // SAFETY: the assertion above keeps the sum within the mapping of `self.len` bytes.
        let word = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: the word lies within the mapping, which outlives `self`; `base` is page-aligned and `offset` a multiple of
        // eight; and the callers of `write` and `bytes` keep them away from words.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// In this process, nobody else accesses that part of the mapping meanwhile, and no word lies in it.
    ///
    /// # Panics
    ///
    /// If it does not lie in the mapping.
    pub(super) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        let target = self.part(offset, bytes.len());
        // SAFETY: the part has room for the bytes, and by the promise of the caller nobody else accesses it: so `bytes` does
        // not overlap it either.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// Returns `len` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// As long as the slice is in use, nobody in this process writes to that part of the mapping, and no word lies in it.
    ///
    /// # Panics
    ///
    /// If it does not lie in the mapping.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.part(offset, len);
        // SAFETY: the part lies within the mapping, which outlives `self`; all of it is initialised, as what the file had
        // or what was written since; and by the promise of the caller nobody writes to it.
        unsafe { slice::from_raw_parts(start, len) }
    }

    fn part(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the assertion above keeps the sum within the mapping of `self.len` bytes.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        #[cfg(miri)]
        pages::keep(&self.file, self.base, self.len);
        // SAFETY: `base` and `len` are what `map` returned and was given, and this is the last use: what `word` and `bytes`
        // hand out borrows from this.
        unsafe { pages::unmap(self.base, self.len) };
    }
}
