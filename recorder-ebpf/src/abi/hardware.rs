//! Errors of the hardware itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// The kernel dealt with a page of memory that the hardware says is broken.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryFailure {
    /// The header; it names no process.
    pub header: Header,
    /// Where the page begins in physical memory.
    pub address: u64,
    /// What the page was used for, as this kernel numbers it: `enum mf_action_page_type`.
    pub page_type: u32,
    /// What became of it: `enum mf_result`.
    pub result: u32,
}

const _: () = assert!(size_of::<MemoryFailure>() == size_of::<Header>() + 8 + 4 + 4);

/// A processor reported an error of its own, of its caches, of memory or of a bus.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MachineCheck {
    /// The header; it names no process, and its CPU is the one that told the kernel's listeners.
    pub header: Header,
    /// `MCi_STATUS` of the bank.
    pub status: u64,
    /// `MCi_ADDR`, if the status says that it is valid.
    pub address: u64,
    /// `MCi_MISC`, if the status says that it is valid.
    pub misc: u64,
    /// `IA32_MCG_STATUS`.
    pub global_status: u64,
    /// Instruction pointer, 0 if it is not known.
    pub ip: u64,
    /// The kernel's number of the CPU that the bank belongs to.
    pub cpu: u32,
    /// Its socket.
    pub socket: u32,
    /// Its APIC id.
    pub apic_id: u32,
    /// Its `CPUID` signature: family, model and stepping.
    pub signature: u32,
    /// Revision of its microcode.
    pub microcode: u32,
    /// Number of the bank.
    pub bank: u32,
}

const _: () = assert!(size_of::<MachineCheck>() == size_of::<Header>() + 5 * 8 + 6 * 4);
