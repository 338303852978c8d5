//! The BPF object inside this program.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use recorder_ebpf::abi::{LAYOUT_HASH, LAYOUT_HASH_SYMBOL};
use recorder_ebpf::fields::{DISPLACEMENT_MARK, NUMBER_MARK};
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

/// Returns the object with these offsets of the kernel's fields, by their numbers, in place of the numbers.
///
/// # Errors
///
/// If it is no object file.
pub fn fitted(object: &[u8], offsets: &[u32]) -> Result<Vec<u8>, ObjectError> {
    let file = object::File::parse(object)?;
    let code = file
        .sections()
        .filter(|section| section.kind() == object::SectionKind::Text)
        .filter_map(|section| section.file_range());
    let mut fitted = object.to_vec();
    for (start, bytes) in code {
        let range = usize::try_from(start)
            .ok()
            .zip(usize::try_from(start + bytes).ok());
        if let Some(code) = range.and_then(|(start, end)| fitted.get_mut(start..end)) {
            fit(code, offsets);
        }
    }
    Ok(fitted)
}

/// See [`fitted`]; of a list of instructions.
///
/// <https://www.rfc-editor.org/rfc/rfc9669#name-instruction-encoding>
fn fit(code: &mut [u8], offsets: &[u32]) {
    const LOAD_NUMBER: u8 = 0x18;
    const MOVE_NUMBER: u8 = 0xb7;
    const CLASS_AND_MODE: u8 = 0xe7;
    const LOAD_FROM_MEMORY: u8 = 0x61;
    let offset = |number: i32| offsets.get(usize::try_from(number).ok()?);
    let mut is_second_half = false;
    for instruction in code.as_chunks_mut::<8>().0 {
        let [code, _, low, high, number @ ..] = instruction;
        if is_second_half {
            is_second_half = false;
            continue;
        }
        is_second_half = *code == LOAD_NUMBER;
        if *code & CLASS_AND_MODE == LOAD_FROM_MEMORY {
            let displacement = i16::from_le_bytes([*low, *high]);
            if let Some(&offset) = offset(i32::from(displacement) - i32::from(DISPLACEMENT_MARK)) {
                // Where the field is absent, or too far away, the verifier never comes, or refuses.
                let offset = i16::try_from(offset).unwrap_or(0);
                [*low, *high] = offset.to_le_bytes();
            }
        } else if *code == MOVE_NUMBER
            && let Some(&offset) = offset(i32::from_le_bytes(*number).wrapping_sub(NUMBER_MARK))
        {
            *number = offset.to_le_bytes();
        }
    }
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
    use recorder_ebpf::fields::ABSENT;

    use super::*;

    #[test]
    fn offsets_take_the_place_of_numbers_and_nothing_else_changes() {
        let displaced = |code: u8, displacement: i16| {
            let [low, high] = displacement.to_le_bytes();
            [code, 0x21, low, high, 0, 0, 0, 0]
        };
        let numbered = |code: u8, number: i32| {
            let [a, b, c, d] = number.to_le_bytes();
            [code, 0x01, 0, 0, a, b, c, d]
        };
        let before = [
            displaced(0x79, DISPLACEMENT_MARK + 1), // u64
            displaced(0x61, DISPLACEMENT_MARK),     // u32
            displaced(0x79, DISPLACEMENT_MARK + 2), // absent
            displaced(0x79, -8),
            displaced(0x7b, DISPLACEMENT_MARK + 1), // a store
            numbered(0xb7, NUMBER_MARK + 1),
            numbered(0xb7, NUMBER_MARK + 2), // absent
            numbered(0xb7, 7),
            numbered(0x18, NUMBER_MARK + 1),
            numbered(0xb7, NUMBER_MARK + 1), // the other half of the one before
            numbered(0x07, NUMBER_MARK + 1), // an addition
        ];
        let mut code = before.concat();
        fit(&mut code, &[4, 9_000, ABSENT]);
        let after = [
            displaced(0x79, 9_000),
            displaced(0x61, 4),
            displaced(0x79, 0),
            before[3],
            before[4],
            numbered(0xb7, 9_000),
            numbered(0xb7, -1),
            before[7],
            before[8],
            before[9],
            before[10],
        ];
        assert_eq!(code, after.concat());
    }

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
