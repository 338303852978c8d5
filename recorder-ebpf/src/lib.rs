//! The wire ABI between the probes and the agent.
//!
//! Compiled into both sides, so that neither can disagree with the other about a byte. This library knows no BPF helper
//! and no operating system: it is layouts, constants and checked copies, nothing else.
//!
//! In here `pid` and `tgid` are the kernel's words (a thread and its group). Wherever a person or a reader looks, they are
//! called `tid` and `pid`; the agent converts them once.
#![no_std]

pub mod abi;
pub mod fields;
