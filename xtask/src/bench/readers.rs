//! How many events of a large dump the readers pass on in a second, whole command, wall time; beside babeltrace2, which reads
//! the same events from the dump's CTF export, and perf script and trace-cmd report, which read the same exits.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::agent::{Agent, Tools};
use super::peer::{self, RING_KIB, TRACEPOINTS};
use super::table::Table;
use super::tracefs::Instance;
use crate::build::OBJECT_VARIABLE;
use crate::exec::{cargo, exec, find};
use crate::paths;

/// Processes of the dump; each has two events.
const PROCESSES: u32 = 250_000;
/// Processes that the agent, perf and ftrace record together, for their readers.
const SAME_EXITS: u64 = 100_000;
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
    beside_peers(tools, &directory.join("same"), rounds, table)?;
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
    match find("babeltrace2") {
        Some(program) => add("babeltrace2, of the CTF export".to_owned(), &mut || {
            quietly(&program, &[ctf.as_os_str()])
        })?,
        None => table.add_missing("readers", "babeltrace2", "not installed"),
    }
    fs::remove_dir_all(&directory).context("remove the directory")
}

/// Lets the agent, perf and ftrace record the same exits, and has each read its own.
fn beside_peers(tools: &Tools, directory: &Path, rounds: usize, table: &mut Table) -> Result<()> {
    fs::create_dir(directory).context("make a directory")?;
    let (dump, perf, trace) = record(tools, directory)?;
    let ctf = directory.join("same.ctf");
    let word = OsStr::new;
    let show = [word("show"), word("--all"), dump.as_os_str()];
    let json = [
        word("export"),
        dump.as_os_str(),
        word("--format"),
        word("jsonl"),
    ];
    let make_ctf = [
        word("export"),
        dump.as_os_str(),
        word("--format"),
        word("ctf"),
        word("-o"),
        ctf.as_os_str(),
    ];
    quietly(&tools.agent, &make_ctf)?;
    let perf = perf.map(|data| vec![word("script").into(), word("-i").into(), data.into()]);
    let trace = trace.map(|data| vec![word("report").into(), word("-i").into(), data.into()]);
    let ours = |arguments: &[&OsStr]| Ok(arguments.iter().map(Into::into).collect());
    let readers: [(&str, &Path, Result<Vec<OsString>>); 5] = [
        ("show --all", &tools.agent, ours(&show)),
        ("export --format jsonl", &tools.agent, ours(&json)),
        ("perf script", Path::new("perf"), perf),
        ("trace-cmd report", Path::new("trace-cmd"), trace),
        (
            "babeltrace2",
            Path::new("babeltrace2"),
            ours(&[ctf.as_os_str()]),
        ),
    ];
    for (name, program, arguments) in readers {
        let what = format!("{name}, the same {SAME_EXITS} exits");
        let measured = arguments.and_then(|arguments| {
            let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
            let mut rates = Vec::new();
            for _ in 0..rounds {
                let start = Instant::now();
                quietly(program, &arguments)?;
                rates.push(SAME_EXITS as f64 / start.elapsed().as_secs_f64());
            }
            Ok(rates)
        });
        match measured {
            Ok(rates) => table.add("readers", what, "events/s", rates),
            Err(error) => table.add_missing("readers", what, format!("{error:#}")),
        }
    }
    Ok(())
}

/// Returns the dump, perf.data and trace.dat of the same exits.
fn record(tools: &Tools, directory: &Path) -> Result<(PathBuf, Result<PathBuf>, Result<PathBuf>)> {
    let options = ["--before", "1h", "--after", "0ms", "--evidence", "false"];
    let mut agent = Agent::start(tools, &options)?;
    let perf = peer::perf(&[], directory);
    let ftrace = Instance::start(TRACEPOINTS, RING_KIB);
    tools.flood(SAME_EXITS)?;
    agent.trigger()?;
    let written = agent.next_dump()?;
    let dump = directory.join("same.mcap");
    for extension in ["mcap", "json"] {
        fs::copy(
            written.with_extension(extension),
            dump.with_extension(extension),
        )
        .context("keep the dump")?;
    }
    let data = directory.join("perf.data");
    let perf = perf.and_then(|mut perf| perf.interrupt().map(|()| data));
    let file = directory.join("trace.dat");
    let trace = ftrace.and_then(|ftrace| ftrace.extract(&file).map(|()| file));
    Ok((dump, perf, trace))
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
        "--release",
        "--package",
        "recorder",
        "--example",
        "golden",
        "--target-dir",
    ])
    .arg(paths::target())
    .arg("--")
    .arg(directory)
    .arg(PROCESSES.to_string())
    // As the agent was built, so that what they share is not built twice.
    .env(OBJECT_VARIABLE, paths::bpf_object());
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
