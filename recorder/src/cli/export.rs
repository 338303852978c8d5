//! `recorder export`: the events of a dump for other programs.
//!
//! ```text
//! $ recorder export latest --type io | jq -r '.body.disk'
//! sda
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::reading::{self, DumpArg};
use super::show::{Facts, FilterArgs};
use super::text::Progress;
use crate::config::Paths;
use crate::export::JsonLines;
use crate::read::Dump;

/// Bytes of lines that are written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Write the events of a dump in a format for other programs
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Format to write
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON Lines: one event, one line
    Jsonl,
}

/// Runs `recorder export`.
///
/// # Errors
///
/// A dump that cannot be read or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(export(args, paths))
}

fn export(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths)?;
    let Format::Jsonl = args.format;
    match &args.output {
        Some(path) => {
            let mut file =
                File::create(path).with_context(|| format!("create {}", path.display()))?;
            lines(&dump, &args.filter, &mut file, &path.display().to_string())
        }
        None => lines(
            &dump,
            &args.filter,
            &mut io::stdout().lock(),
            "standard output",
        ),
    }
}

/// Writes the events of a dump that a filter wants as JSON Lines; `to` names where for errors.
///
/// # Errors
///
/// A dump that cannot be read further, or a failed write. Damage is noted and is the exit code.
pub fn lines(dump: &Dump, filter: &FilterArgs, out: &mut dyn Write, to: &str) -> Result<ExitCode> {
    let facts = Facts::of(dump);
    let id = facts
        .incident
        .as_ref()
        .map(|incident| incident.id.to_string());
    let id = id.unwrap_or_default();
    let filter = filter.filter(facts.trigger_unix_ns)?;
    let mut format = JsonLines::new(&reading::envelope(&facts, &id));
    let mut progress = Progress::new("export", dump.bytes());
    let mut buffer = Vec::with_capacity(BUFFER_BYTES * 2);
    let mut events = dump.events();
    while let Some(entry) = events.next() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        if filter.wants(&entry) {
            format.write(&mut buffer, &entry);
            if buffer.len() >= BUFFER_BYTES {
                reading::written(out.write_all(&buffer), to)?;
                buffer.clear();
                progress.at(events.position());
            }
        }
    }
    reading::written(out.write_all(&buffer).and_then(|()| out.flush()), to)?;
    drop(progress);
    Ok(reading::note(dump, events.damages(), events.unknown()))
}
