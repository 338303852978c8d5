//! What was measured on.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::exec::answer;

/// Describes the machine, the kernel and the versions.
pub fn describe() -> Value {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let peers = answer(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Package} ${Version}  ",
        "libbpf-tools",
    ]));
    json!({
        "machine": processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        "cpus": cpus,
        "kernel": release.trim(),
        "recorder": env!("CARGO_PKG_VERSION"),
        "peers": peers.unwrap_or_default().trim(),
    })
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
