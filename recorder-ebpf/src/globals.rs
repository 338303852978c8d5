//! Frozen globals that the agent sets before it loads the object.
//!
//! The verifier takes them as constants: it checks the accesses made with them, and drops the branches that they rule out.

use aya_ebpf::Global;
use recorder_ebpf::fields::ABSENT;
use recorder_ebpf::{for_each_fact, for_each_field};

macro_rules! offsets {
    (required { $($global:ident = $structure:ident . $($member:ident).+;)+ }
     optional { $($other:ident = $place:ident . $($inside:ident).+;)+ }) => {
        globals! { $($global)+ $($other)+ }
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
