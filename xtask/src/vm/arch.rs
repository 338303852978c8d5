//! The architectures of guests.

/// What a guest's processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// That of the host: x86-64.
    Amd64,
    /// aarch64.
    Arm64,
}

/// What is different about a machine.
#[derive(Debug)]
pub struct Facts {
    /// What Debian calls the architecture.
    pub name: &'static str,
    /// What stands before the names of its kernels.
    pub prefix: &'static str,
    /// The package of QEMU that emulates it.
    pub package: &'static str,
    /// That package's program.
    pub program: &'static str,
    /// The machine and its processor, as QEMU is told.
    pub machine: &'static [&'static str],
    /// Words of the kernel's command line.
    pub words: &'static str,
    /// The same for a machine that keeps, through a reset, what memory held at `reserved`.
    pub reserving: &'static str,
    /// Where that memory is, which has a MiB.
    pub reserved: &'static str,
}

/// The clock is a timer: the processor's counter is measured at boot against one that a busy host serves late, and a guest
/// then lived up to three times as fast as its tests expect. The processor says that its string instructions are slow, as they are:
/// the emulator takes them byte by byte, and clearing the pages of rings with them was an eighth of all it did.
const AMD64: Facts = Facts {
    name: "amd64",
    prefix: "",
    package: "qemu-system-x86",
    program: "qemu-system-x86_64",
    machine: &["-cpu", "max,-erms,-fsrm,-fsrs,-fzrm,-fsrc"],
    words: "console=ttyS0 clocksource=hpet",
    reserving: "memmap=0x100000$0x50000000",
    reserved: "0x50000000",
};

/// Its processor signs return addresses, as those of servers do; the algorithm of the emulator's own is a fast one.
const ARM64: Facts = Facts {
    name: "arm64",
    prefix: "arm64-",
    package: "qemu-system-arm",
    program: "qemu-system-aarch64",
    machine: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    words: "console=ttyAMA0",
    // Memory begins at 1 GiB; the kernel is to use no more than this, and what follows is left alone.
    reserving: "mem=1280M",
    reserved: "0x90000000",
};

impl Arch {
    /// Returns what is different about its machines.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::Amd64 => &AMD64,
            Self::Arm64 => &ARM64,
        }
    }
}
