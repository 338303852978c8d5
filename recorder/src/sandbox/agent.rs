//! What the agent gives up once its probes are attached, for good, and with it all that it starts.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::calls;

/// What the agent keeps of the capabilities that it was started with, and why.
pub const KEPT: [(CapabilitySet, &str); 12] = [
    // Of every agent, as its unit says.
    (
        CapabilitySet::BPF,
        "to ask its programs, which older kernels let nobody else",
    ),
    (CapabilitySet::SYSLOG, "to read the kernel's log"),
    (
        CapabilitySet::SYS_PTRACE,
        "to open the files and arguments of other users' processes",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "to read files that only their owners can",
    ),
    (
        CapabilitySet::CHECKPOINT_RESTORE,
        "to name programs that were replaced while they ran",
    ),
    // Of one that was started as root, and of its collectors.
    (
        CapabilitySet::SYS_ADMIN,
        "to have the kernel measure the probes for a moment; most else that it opens is filtered away",
    ),
    (
        CapabilitySet::DAC_OVERRIDE,
        "to write to directories that belong to the agent's own user",
    ),
    (
        CapabilitySet::CHOWN,
        "to give the control socket to a group",
    ),
    (
        CapabilitySet::FOWNER,
        "to set the modes of what is in those directories",
    ),
    (CapabilitySet::SETUID, "to start collectors as their user"),
    (
        CapabilitySet::SETGID,
        "to start collectors as their user's group",
    ),
    (
        CapabilitySet::KILL,
        "to end collectors that run as another user",
    ),
];

/// Gives up all capabilities but [`KEPT`], every way to gain others, and the system calls that change the kernel. It holds
/// for this thread and those that it starts.
///
/// # Errors
///
/// The kernel refuses; what was given up before that stays so.
pub fn give_up_privileges() -> io::Result<()> {
    let kept = CapabilitySet::from_iter(KEPT.map(|(capability, _)| capability));
    // Before what it needs is gone. What is not in this set is not regained by executing a program as root either.
    for capability in CapabilitySet::all().difference(kept).iter() {
        // One that the kernel does not know, or has let nobody gain already.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let held = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: held.permitted & kept,
            inheritable: held.inheritable & kept,
        },
    )?;
    calls::give_up(calls::CHANGE_THE_KERNEL)
}
