//! `recorder symbolize`: names for the addresses of a dump's crashes, from the files and the debug data at hand.
//!
//! ```text
//! $ recorder symbolize 7f3a --debug-dir /srv/debug -o named.mcap
//! server[4711] died of SIGSEGV (SEGV_MAPERR), write to 0x0
//!   #0  0x000055d0c2a41139  store+0x19 at src/table.c:18 (/usr/bin/server+0x1139)
//!   #1  0x000055d0c2a411a0  main+0x20 at src/main.c:40 (/usr/bin/server+0x11a0)
//! ```
//!
//! A file is used only if it has the build ID that the kernel recorded. Directories of debug data are laid out as
//! `.build-id/ab/cdef.debug`, or hold files with debug data or symbols anywhere.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::export::output::{self, Unfinished};
use super::reading::{self, DumpArg};
use super::show::{Facts, fault};
use super::text::plural;
use crate::config::Paths;
use crate::dump::{self, Original, SIDECAR_EXTENSION};
use crate::event::{Body, proto};
use crate::export::JsonLines;
use crate::harmless::escape;
use crate::read::{self, Dump, Entry, Seal};
use crate::symbol::Resolver;

/// Name the functions and lines of the crashes in a dump
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Directory with debug data, or with the programs themselves
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
    /// Write a copy of the dump that has the names
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the crashes as JSON Lines, as export does
    #[arg(long)]
    json: bool,
    /// Replace files that are there already
    #[arg(long, requires = "output")]
    force: bool,
}

/// Runs `recorder symbolize`.
///
/// # Errors
///
/// A dump that cannot be read, or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(symbolize(args, paths))
}

fn symbolize(args: &Args, paths: &Paths) -> Result<ExitCode> {
    for directory in &args.debug_dir {
        std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    }
    let dump = args.dump.open(paths, args.output.as_deref().as_slice())?;
    let facts = Facts::of(&dump);
    let mut resolver = resolver(&facts, &args.debug_dir);
    let id = facts
        .incident
        .as_ref()
        .map(|incident| incident.id.to_string());
    let id = id.unwrap_or_default();
    let mut lines = JsonLines::new(&reading::envelope(&facts, &id));
    let mut crashes = 0;
    let mut events = dump.events();
    for entry in events.by_ref() {
        let mut entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        let Body::SignalFatal(fatal) = &mut entry.body else {
            continue;
        };
        resolver.resolve(fatal);
        crashes += 1;
        let text = match args.json {
            true => json(&mut lines, &entry),
            false => text(fatal).into_bytes(),
        };
        reading::written(io::stdout().write_all(&text), "standard output")?;
    }
    if crashes == 0 {
        eprintln!("recorder: {}: no crash in it", dump.path().display());
    }
    if let Some(output) = &args.output {
        copy(&dump, output, args.force, &mut resolver)?;
    }
    Ok(reading::note(&dump, events.damages(), events.unknown()))
}

/// Returns what resolves the crashes of a dump: with the files of this host if that is where it was recorded.
pub fn resolver(facts: &Facts, directories: &[PathBuf]) -> Resolver {
    let here = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let is_here = facts.host.as_ref().is_some_and(|host| {
        let machine = host.machine_id.is_some() && host.machine_id == here("/etc/machine-id");
        machine || Some(&host.boot_id) == here("/proc/sys/kernel/random/boot_id").as_ref()
    });
    Resolver::with_debug_data(directories, is_here)
}

fn json(lines: &mut JsonLines, entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    lines.write(&mut line, entry);
    line
}

fn text(fatal: &proto::SignalFatal) -> String {
    let process = fatal.process.clone().unwrap_or_default();
    let mut text = format!(
        "{}[{}] died of {}",
        escape(process.comm()),
        process.pid(),
        fault::signal_and_code(fatal)
    );
    if let Some(access) = fault::access(fatal) {
        text.push_str(&format!(", {access}"));
    }
    text.push('\n');
    for line in fault::stack(fatal, usize::MAX) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Copies a dump, with names in its crashes, and puts a sidecar beside the copy that says what it was made of.
fn copy(dump: &Dump, to: &Path, force: bool, resolver: &mut Resolver) -> Result<()> {
    let from = dump.path();
    let beside = output::sidecar_of_copy(from, to)?;
    let bytes = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let (copy, crashes) = dump::with_names(&bytes, |fatal| resolver.resolve(fatal))
        .with_context(|| format!("copy {}", from.display()))?;
    let of = sidecar(&from.with_extension(SIDECAR_EXTENSION));
    let sidecar = dump::beside_copy(
        &file_name(to),
        &copy,
        &Original {
            name: &file_name(from),
            bytes: &bytes,
            sidecar: of.as_ref(),
            vouched_for: read::verify(from, &mut |_| {})?.sidecar == Seal::Matches,
            incident: dump.incident().as_ref(),
        },
    );
    let mut text = serde_json::to_vec_pretty(&sidecar)?;
    text.push(b'\n');
    let dump = write(to, force, &copy)?;
    write(&beside, force, &text)?.keep();
    dump.keep();
    eprintln!("{}: {} named", to.display(), plural(crashes, "crash"));
    Ok(())
}

/// Reads a sidecar; `None` if there is none, or the file is something else.
fn sidecar(path: &Path) -> Option<serde_json::Map<String, serde_json::Value>> {
    let text = std::fs::read(path).ok()?;
    let object: serde_json::Map<_, _> = serde_json::from_slice(&text).ok()?;
    object.contains_key("sha256").then_some(object)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<Unfinished> {
    let mut file = output::create(path, force).context("create the copy")?;
    let unfinished = Unfinished::new(path);
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(unfinished)
}
