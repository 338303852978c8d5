//! The BPF object: probes that write ABI records into kernel rings.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {
    // Built for the host only as part of the workspace: the probes exist for the BPF target alone.
}
