//! What the agent writes into the object before it loads it: the offsets of the kernel's fields, into the instructions, and
//! other facts, into frozen globals.
//!
//! The verifier takes both as constants: it checks the accesses made with them, and drops the branches that they rule out.

use core::arch::asm;

use aya_ebpf::Global;
use recorder_ebpf::fields::{ABSENT, NUMBER_MARK};
use recorder_ebpf::{for_each_fact, for_each_field};

/// The offset of the field of this number: see [`recorder_ebpf::fields`].
#[derive(Clone, Copy)]
pub struct Offset<const FIELD: i16>;

impl<const FIELD: i16> Offset<FIELD> {
    /// Returns it in bytes, [`ABSENT`] if the running kernel does not have the field.
    #[inline(always)]
    pub fn load(&self) -> u32 {
        let offset: u64;
        // SAFETY: it sets a register.
        unsafe {
            asm!(
                "{offset} = {field}",
                offset = out(reg) offset,
                field = const NUMBER_MARK + FIELD as i32,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        offset as u32
    }
}

macro_rules! offsets {
    (required { $($field:ident = $structure:ident . $($member:ident).+;)+ }
     optional { $($other:ident = $place:ident . $($inside:ident).+;)+ }) => {
        /// The numbers of the fields.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names of the offsets")]
        #[repr(i16)]
        enum Number {
            $($field,)+
            $($other,)+
        }

        offsets! { $($field)+ $($other)+ }
    };
    ($($name:ident)+) => {
        $(
            #[doc = concat!("See [`recorder_ebpf::fields`].")]
            pub const $name: Offset<{ Number::$name as i16 }> = Offset;
        )+
    };
}

macro_rules! globals {
    ($($name:ident)+) => {
        $(
            #[doc = concat!("See [`recorder_ebpf::fields`].")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )+
    };
}

for_each_field!(offsets);
for_each_fact!(globals);
