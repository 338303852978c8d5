//! The BPF object: probes that write ABI records into kernel rings.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod budget;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod throttle;
#[cfg(target_arch = "bpf")]
mod turn;

/// Layout of the records inside, for the loader to compare with its own.
#[cfg(target_arch = "bpf")]
#[used]
#[unsafe(no_mangle)]
static RECORDER_LAYOUT_HASH: u64 = recorder_ebpf::abi::LAYOUT_HASH;

/// Licence as the kernel wants it said: several of the helpers are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // No code path that the verifier accepts gets here.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    // Built for the host only as part of the workspace: the probes exist for the BPF target alone.
}
