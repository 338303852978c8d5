//! `recorder report`: the post-mortem of a dump.
//!
//! ```text
//! $ recorder report latest -o incident.md
//! $ recorder report latest --html -o incident.html
//! $ recorder report latest --json | jq -r .cause.class
//! software
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::reading::{self, DumpArg};
use super::show::{Facts, describe};
use crate::config::Paths;
use crate::harmless;
use crate::read::{Damages, Dump};
use crate::report::{self, Report, Words};

/// Write a post-mortem of a dump: a text for people to complete, or a page to look at
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Write one JSON object instead of Markdown
    #[arg(long)]
    json: bool,
    /// Write a page for a browser, with all events in it, that needs no network
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `recorder report`.
///
/// # Errors
///
/// A dump that cannot be read or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(write(args, paths))
}

fn write(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths, args.output.as_deref().as_slice())?;
    match &args.output {
        Some(path) => {
            let to = path.display().to_string();
            let file = File::create(path).with_context(|| format!("create {to}"))?;
            tell(&dump, args, &mut BufWriter::new(file), &to)
        }
        None => tell(&dump, args, &mut io::stdout().lock(), "standard output"),
    }
}

fn tell(dump: &Dump, args: &Args, out: &mut dyn Write, to: &str) -> Result<ExitCode> {
    let (report, damages, unknown) = report_of(dump)?;
    let written = match (args.json, args.html) {
        (true, _) => {
            let mut text = Vec::new();
            harmless::json(&mut text, &report);
            text.push(b'\n');
            out.write_all(&text)
        }
        (false, true) => report::html(out, dump, &report, describe),
        (false, false) => out.write_all(report::markdown(&report).as_bytes()),
    };
    reading::written(written.and_then(|()| out.flush()), to)?;
    Ok(reading::note(dump, &damages, unknown))
}

/// Reads a dump for a report; returns beside it what of the file is broken, and how many events are of unknown types.
///
/// # Errors
///
/// What the file system reports.
pub fn report_of(dump: &Dump) -> Result<(Report, Damages, u64)> {
    let facts = Facts::of(dump);
    let words = Words {
        describe,
        coverage: facts.coverage,
        missing: facts.loss.map(|loss| loss.words),
    };
    report::gather(dump, words).with_context(|| format!("read {}", dump.path().display()))
}

/// Returns the report of a dump as Markdown.
///
/// # Errors
///
/// A dump that cannot be read.
pub fn markdown(dump: &Dump) -> Result<String> {
    let (report, ..) = report_of(dump)?;
    Ok(report::markdown(&report))
}
