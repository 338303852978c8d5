//! How many events of a large dump the readers pass on in a second, whole command, wall time; beside babeltrace2, which reads
//! the same events from the dump's CTF export.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::agent::Tools;
use super::table::Table;
use crate::exec::{cargo, exec};
use crate::paths;

/// Processes of the dump; each has two events.
const PROCESSES: u32 = 250_000;
/// Formats, and whether they write a file or a directory and not standard output.
const FORMATS: [(&str, bool); 12] = [
    ("jsonl", false),
    ("csv", false),
    ("timesketch", false),
    ("timesketch-csv", false),
    ("perfetto", false),
    ("journal", false),
    ("pcapng", false),
    ("ctf", true),
    ("parquet", true),
    ("sqlite", true),
    ("otlp", false),
    ("ecs", false),
];

/// Measures over one dump, made here.
pub fn run(tools: &Tools, rounds: usize, table: &mut Table) -> Result<()> {
    let directory = paths::target().join("bench-readers");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).context("make a directory")?;
    let (dump, events) = dump(&directory)?;
    let mut add = |what: String, run: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let mut values = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            run()?;
            values.push(events / start.elapsed().as_secs_f64());
        }
        table.add("readers", what, "events/s", values);
        Ok(())
    };
    let dump = dump.as_os_str();
    for arguments in [
        &["show"][..],
        &["show", "--all"],
        &["report", "--html"],
        &["verify"],
    ] {
        let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        all.push(dump);
        add(arguments.join(" "), &mut || quietly(&tools.agent, &all))?;
    }
    for (format, is_file) in FORMATS {
        let out = directory.join(format!("out.{format}"));
        let mut all = vec![
            OsStr::new("export"),
            dump,
            OsStr::new("--format"),
            OsStr::new(format),
        ];
        if is_file {
            all.extend([OsStr::new("--force"), OsStr::new("-o"), out.as_os_str()]);
        }
        add(format!("export --format {format}"), &mut || {
            quietly(&tools.agent, &all)
        })?;
    }
    let ctf = directory.join("out.ctf");
    let babeltrace = Path::new("/usr/bin/babeltrace2");
    if babeltrace.exists() {
        add("babeltrace2, of the CTF export".to_owned(), &mut || {
            quietly(babeltrace, &[ctf.as_os_str()])
        })?;
    }
    fs::remove_dir_all(&directory).context("remove the directory")
}

/// Runs a command whose output nobody reads.
fn quietly(program: &Path, arguments: &[&OsStr]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    ensure!(
        status.success(),
        "{} {arguments:?}: {status}",
        program.display()
    );
    Ok(())
}

/// Makes the dump; returns its path and its events.
fn dump(directory: &Path) -> Result<(PathBuf, f64)> {
    let mut make = cargo("run");
    make.args([
        "--quiet",
        "--package",
        "recorder",
        "--example",
        "golden",
        "--",
    ])
    .arg(directory)
    .arg(PROCESSES.to_string());
    exec(&mut make)?;
    let files = fs::read_dir(directory).context("list the directory")?;
    let paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    let of = |extension: &str| {
        let found = paths
            .iter()
            .find(|path| path.extension() == Some(OsStr::new(extension)));
        found.with_context(|| format!("no .{extension} was made"))
    };
    let sidecar: Value =
        serde_json::from_slice(&fs::read(of("json")?).context("read the sidecar")?)
            .context("read the sidecar")?;
    let events = sidecar["events"].as_f64().context("it counts no events")?;
    Ok((of("mcap")?.clone(), events))
}
