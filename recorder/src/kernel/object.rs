//! The BPF object inside this program.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use recorder_ebpf::abi::{LAYOUT_HASH, LAYOUT_HASH_SYMBOL};
use thiserror::Error;

/// The object as it was built in; a stub if it was not.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/recorder.bpf.o"));

/// The same for kernels that do not tell the verifier what type the running task has.
const UNTYPED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/recorder-untyped.bpf.o"));

/// What a stub begins with.
const STUB: &[u8] = b"STUB";

/// Why the object cannot be loaded.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The program was built without one.
    #[error("this recorder was built without its BPF object: build it with `cargo xtask build`")]
    Missing,
    /// It is not an object file.
    #[error("the BPF object inside this recorder is damaged: build it with `cargo xtask build`")]
    Damaged(#[from] object::Error),
    /// It was built from other records.
    #[error(
        "the BPF object inside this recorder is stale (layout {found:016x}, expected {LAYOUT_HASH:016x}): \
         build both together with `cargo xtask build`"
    )]
    Stale {
        /// The layout it was built with, 0 if it does not say.
        found: u64,
    },
}

/// Returns the object for kernels before 5.11, if it fits this program.
pub fn untyped() -> Result<&'static [u8], ObjectError> {
    check(UNTYPED).map(|()| UNTYPED)
}

/// Returns the object, if it fits this program.
pub fn embedded() -> Result<&'static [u8], ObjectError> {
    check(EMBEDDED).map(|()| EMBEDDED)
}

fn check(object: &[u8]) -> Result<(), ObjectError> {
    if object.starts_with(STUB) {
        return Err(ObjectError::Missing);
    }
    let found = layout_hash(object)?.unwrap_or(0);
    if found != LAYOUT_HASH {
        return Err(ObjectError::Stale { found });
    }
    Ok(())
}

/// Reads the layout that the object says it was built with.
fn layout_hash(object: &[u8]) -> Result<Option<u64>, object::Error> {
    let file = object::File::parse(object)?;
    let Some(symbol) = file
        .symbols()
        .find(|symbol| symbol.name() == Ok(LAYOUT_HASH_SYMBOL))
    else {
        return Ok(None);
    };
    let Some(section) = symbol.section_index() else {
        return Ok(None);
    };
    let data = file.section_by_index(section)?.data()?;
    let hash = usize::try_from(symbol.address())
        .ok()
        .and_then(|at| data.get(at..)?.first_chunk());
    Ok(hash.map(|hash| u64::from_le_bytes(*hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_and_rubbish_are_told_apart() {
        assert!(matches!(
            check(b"STUB: built without"),
            Err(ObjectError::Missing)
        ));
        assert!(matches!(
            check(b"\x7fELF but no more"),
            Err(ObjectError::Damaged(_))
        ));
    }
}
