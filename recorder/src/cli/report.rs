//! `recorder report`: the post-mortem of a dump.
//!
//! ```text
//! $ recorder report latest -o incident.md
//! $ recorder report latest --json | jq -r .cause.class
//! software
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::reading::{self, DumpArg};
use super::show::{Facts, describe};
use crate::config::Paths;
use crate::harmless;
use crate::read::Dump;
use crate::report::{self, Words};

/// Write a post-mortem of a dump, for people to complete
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Write one JSON object instead of Markdown
    #[arg(long)]
    json: bool,
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
    let dump = args.dump.open(paths)?;
    let (text, code) = text(&dump, args.json)?;
    match &args.output {
        Some(path) => {
            let to = path.display().to_string();
            let mut file = File::create(path).with_context(|| format!("create {to}"))?;
            reading::written(file.write_all(&text), &to)?;
        }
        None => {
            let mut out = io::stdout().lock();
            let written = out.write_all(&text).and_then(|()| out.flush());
            reading::written(written, "standard output")?;
        }
    }
    Ok(code)
}

fn text(dump: &Dump, as_json: bool) -> Result<(Vec<u8>, ExitCode)> {
    let facts = Facts::of(dump);
    let words = Words {
        describe,
        coverage: facts.coverage,
        missing: facts.loss.map(|loss| loss.words),
    };
    let read = report::gather(dump, words);
    let (report, damages, unknown) =
        read.with_context(|| format!("read {}", dump.path().display()))?;
    let mut text = Vec::new();
    match as_json {
        true => {
            harmless::json(&mut text, &report);
            text.push(b'\n');
        }
        false => text.extend_from_slice(report::markdown(&report).as_bytes()),
    }
    Ok((text, reading::note(dump, &damages, unknown)))
}
