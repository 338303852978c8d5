//! `recorder export`: the events of a dump for other programs.
//!
//! ```text
//! $ recorder export latest --type io | jq -r '.body.disk'
//! sda
//! $ recorder export latest --format perfetto -o incident.pftrace
//! $ recorder export latest --format core -o core && gdb --core core
//! $ recorder export latest --all hand-off/
//! ```

mod crash;
mod format;
mod handoff;
pub mod output;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};

use super::reading::{self, DumpArg};
use super::show::{Facts, Filter, FilterArgs, describe};
use super::text::Progress;
use crate::config::Paths;
use crate::export::jsonl::Lines;
use crate::export::{Origin, Visitor, Writing};
use crate::read::{Damages, Dump, Entry, ahead};

pub use format::Format;

/// Write the events of a dump in a format for other programs
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Format to write
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Where to write to: a file, for ctf a directory, for parquet either; standard output if the format allows it
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Make a folder to hand over: every format, the dump, its report and its evidence, with their hashes (BagIt)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "format"])]
    all: Option<PathBuf>,
    /// Replace what is there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    filter: FilterArgs,
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
    let output = args.output.as_deref().or(args.all.as_deref());
    let dump = args.dump.open(paths, output.as_slice())?;
    if let Some(directory) = &args.all {
        return handoff::make(&dump, &args.filter, directory, args.force);
    }
    if args.format == Format::Core {
        return crash::write(&dump, &args.filter, args.output.as_deref(), args.force);
    }
    let filter = filter(&dump, &args.filter)?;
    let mut target = format::open(args.format, &dump, args.output.as_deref(), args.force)?;
    let mut damages = Vec::new();
    let read = visit(&dump, &filter, &mut [(&mut *target.visitor, &target.to)])?;
    if let Some(case) = target.case.take() {
        damages = case(&dump).with_context(|| format!("write to {}", target.to))?;
    }
    target.keep();
    Ok(read.note(&dump, damages))
}

/// Returns the filter of these options for a dump.
fn filter(dump: &Dump, args: &FilterArgs) -> Result<Filter> {
    args.filter(Facts::of(dump).trigger_unix_ns)
}

/// What came of reading a dump.
pub struct Read {
    /// What of it is broken.
    pub damages: Damages,
    /// Events of types that this version does not know.
    pub unknown: u64,
}

impl Read {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.unknown == 0
    }

    /// Says once what is missing; returns the exit code for it.
    pub fn note(mut self, dump: &Dump, more: Vec<crate::read::Damage>) -> ExitCode {
        for damage in more {
            self.damages.push(damage);
        }
        reading::note(dump, &self.damages, self.unknown)
    }
}

/// Why an export ended early.
enum Failed {
    Read(io::Error),
    Write(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Gives the events that a filter wants to visitors, each of which has a name for errors.
///
/// # Errors
///
/// A dump that cannot be read further, or a failed write.
pub fn visit(
    dump: &Dump,
    filter: &Filter,
    visitors: &mut [(&mut dyn Visitor, &str)],
) -> Result<Read> {
    let origin = Origin::of(dump, describe);
    let mut progress = Progress::new("export", dump.bytes());
    let wants = |entry: &Entry| filter.wants(entry);
    let (damages, unknown) = ahead(dump, wants, |entries, position| {
        progress.at(position);
        for mut entry in entries {
            filter.narrow(&mut entry);
            for (visitor, to) in &mut *visitors {
                reading::written(visitor.event(&origin, &entry), to).map_err(Failed::Write)?;
            }
        }
        Ok(())
    })
    .map_err(|failed| match failed {
        Failed::Read(error) => {
            Error::from(error).context(format!("read {}", dump.path().display()))
        }
        Failed::Write(error) => error,
    })?;
    for (visitor, to) in &mut *visitors {
        reading::written(visitor.finish(), to)?;
    }
    Ok(Read { damages, unknown })
}

/// Writes the events of a dump that a filter wants as JSON Lines; `to` names where for errors.
///
/// # Errors
///
/// A dump that cannot be read further, or a failed write. Damage is noted and is the exit code.
pub fn lines(dump: &Dump, args: &FilterArgs, out: &mut dyn Write, to: &str) -> Result<ExitCode> {
    let filter = filter(dump, args)?;
    let mut writing = Writing::new(Lines::default(), out);
    let read = visit(dump, &filter, &mut [(&mut writing, to)])?;
    Ok(read.note(dump, Vec::new()))
}

/// Whether standard output is a terminal.
fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}
