//! `recorder verify`: whether dumps are as they were written.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::text::{Palette, Progress, Style, bytes, escape, plural};
use super::{PROBLEMS, reading};
use crate::config::Paths;
use crate::read::{self, Report, Seal, State};

/// Arguments of `recorder verify`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Paths of dumps, the first characters of their ids, or "latest"
    #[arg(value_name = "DUMP", default_value = "latest")]
    dumps: Vec<String>,
    /// Write one JSON object for each dump
    #[arg(long)]
    json: bool,
}

/// Checks dumps; the exit code is 3 if one of them is not as it was written.
///
/// # Errors
///
/// A file that cannot be read or is no dump, after all others are checked.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(verify(args, paths))
}

fn verify(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let palette = Palette::of_stdout();
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    let mut failure: Option<anyhow::Error> = None;
    let dumps = args.dumps.iter().map(|dump| reading::find(dump, paths));
    let dumps: Vec<_> = dumps.collect();
    reading::confine(&[])?;
    for dump in dumps {
        match dump.and_then(|path| check(&path)) {
            Ok(report) => {
                if report.state != State::Complete {
                    code = ExitCode::from(PROBLEMS);
                }
                let written = match args.json {
                    true => json(&mut out, &report),
                    false => text(&mut out, &report, palette),
                };
                reading::written(written, "standard output")?;
            }
            Err(error) => {
                // The first is told at the end, with its exit code.
                if let Some(earlier) = failure.replace(error) {
                    eprintln!("recorder: {earlier:#}");
                }
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(code),
    }
}

fn check(path: &Path) -> Result<Report> {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut progress = Progress::new("verify", bytes * 2);
    Ok(read::verify(path, &mut |done| progress.at(done))?)
}

fn json(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut line = Vec::new();
    crate::harmless::json(&mut line, report);
    line.push(b'\n');
    out.write_all(&line)
}

fn text(out: &mut impl Write, report: &Report, palette: Palette) -> io::Result<()> {
    let (word, style) = match report.state {
        State::Complete => ("complete", Style::Green),
        State::Damaged => ("damaged", Style::Red),
        State::Tampered => ("tampered", Style::Red),
    };
    let sidecar = match report.sidecar {
        Seal::Matches => "as its sidecar describes it",
        Seal::Differs => "not the file that its sidecar describes",
        Seal::Missing => "no sidecar vouches for it",
        Seal::Unreadable => "its sidecar cannot be read",
    };
    writeln!(
        out,
        "{}: {}: {}, {}; {sidecar}",
        escape(&report.path.display().to_string()),
        palette.paint(style, word),
        plural(report.events, "event"),
        bytes(report.bytes),
    )?;
    if let Some(derived) = &report.derived_from {
        let doubt = match derived.vouched_for {
            true => "",
            false => ", which nothing vouched for",
        };
        writeln!(
            out,
            "  made by {} of {} (SHA-256 {}){doubt}",
            escape(&derived.by),
            escape(&derived.file),
            escape(&derived.sha256),
        )?;
    }
    for damage in &report.damage.places {
        writeln!(out, "  {damage}")?;
    }
    if report.damage.further > 0 {
        writeln!(
            out,
            "  and {}",
            plural(report.damage.further, "further place")
        )?;
    }
    if let Some(missing) = report.events_missing.filter(|missing| *missing > 0) {
        let missing = plural(missing, "event");
        writeln!(out, "  {missing} of its summary cannot be read")?;
    }
    for contradiction in &report.contradictions {
        writeln!(out, "  {contradiction}")?;
    }
    Ok(())
}
