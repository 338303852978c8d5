//! What was measured on.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Describes the machine, the kernel and the versions.
pub fn describe() -> Value {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let packages = super::peer::PACKAGES.map(|need| need.package);
    let peers = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${Version}, "])
        .args(packages)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    // It fails when one of them is not installed, and still tells of the others.
    let peers = peers.map_or_else(
        |_| "programs of unknown versions".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    json!({
        "machine": processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        "cpus": cpus,
        "kernel": release.trim(),
        "recorder": env!("CARGO_PKG_VERSION"),
        "peers": peers.trim_end_matches(", "),
    })
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
