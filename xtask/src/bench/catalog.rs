//! What a catalog of many incidents costs: made from the dumps, and used.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::agent::Tools;
use super::table::Table;
use crate::paths;

const INCIDENTS: u64 = 10_000;
/// Beside what every dump has: the length of a real sidecar.
const PADDING: usize = 3000;

/// Measures over made-up dumps: what is in them is not read, what is beside them is.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let state = paths::target().join("bench-catalog");
    let _ = fs::remove_dir_all(&state);
    let dumps = state.join("dumps");
    fs::create_dir_all(&dumps).context("make a directory of dumps")?;
    for number in 0..INCIDENTS {
        add(&dumps, number).context("make a dump")?;
    }
    let name = "catalog";
    let time = |arguments: &[&str]| -> Result<f64> {
        let start = Instant::now();
        let status = Command::new(&tools.agent)
            .args(arguments)
            .arg("--state-dir")
            .arg(&state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("run the recorder")?;
        ensure!(status.success(), "{arguments:?}: {status}");
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let what = |what: &str| format!("{what}, {INCIDENTS} incidents");
    let made = time(&["tag", "latest", "mine"])?;
    table.add(name, what("made from the dumps"), "ms", vec![made]);
    for (words, arguments) in [
        ("list", &["list"][..]),
        ("list --json", &["list", "--json"]),
        (
            "list --tag --limit 20",
            &["list", "--tag", "t1", "--limit", "20"],
        ),
        ("info of an abbreviated id", &["info", "00000042"]),
        ("trends by rule", &["trends"]),
        ("trends by fingerprint", &["trends", "--by", "fingerprint"]),
        ("tag", &["tag", "latest", "other"]),
    ] {
        let values: Result<Vec<f64>> = (0..rounds).map(|_| time(arguments)).collect();
        table.add(name, what(words), "ms", values?);
    }
    fs::remove_dir_all(&state).context("remove the directory of dumps")
}

fn add(dumps: &Path, number: u64) -> Result<()> {
    let path = dumps.join(format!("{number:06}.mcap"));
    fs::write(&path, b"a dump")?;
    let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
    let sidecar = json!({
        "file": path.file_name().map(|name| name.to_string_lossy()),
        "bytes": 6,
        "time": format!("2026-11-23T{hour:02}:{minute:02}:{second:02}Z"),
        "events": number,
        "verdict": "complete",
        "incident": {
            "id": format!("019ab000-0000-7000-8000-0000{number:08x}"),
            "rule": format!("rule-{}", number % 3),
            "severity": "high",
            "tags": [format!("t{}", number % 7)],
            "summary": format!("nginx[{number}] died of SIGSEGV at 0x0 (SEGV_MAPERR)"),
            "trigger": {"type": "signal.fatal", "boot_ns": number, "cpu": 0, "sequence": number},
            "subject": {"pid": number, "comm": format!("nginx-{}", number % 50), "cgroup_id": 1},
            "fingerprint": format!("{:016x}", number % 500),
            "window_start_boot_ns": 0,
            "window_end_boot_ns": number,
            "followers": 1,
            "suppressed_before": 0,
        },
        "host": {"hostname": "web-3", "boot_id": "", "kernel_release": ""},
        "padding": "x".repeat(PADDING),
    });
    fs::write(path.with_extension("json"), sidecar.to_string())?;
    Ok(())
}
