//! `recorder verify`: whether dumps are as they were written, and all there that were.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use serde::Serialize;

use super::text::{Palette, Progress, Style, bytes, escape, plural};
use super::{PROBLEMS, reading};
use crate::config::Paths;
use crate::read::{self, Report, Seal, Signature, State};
use crate::sign::PublicKey;
use crate::store::{self, ChainReport};

/// Arguments of `recorder verify`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Paths of dumps, the first characters of their ids, or "latest"; or a directory: all dumps in it, and that none is missing
    #[arg(value_name = "DUMP", default_value = "latest")]
    dumps: Vec<String>,
    /// Public key that must have signed them: that of the key that `dumps.sign_key` names
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
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
    let key = args.key.as_deref().map(PublicKey::load).transpose()?;
    let dumps = args.dumps.iter().map(|dump| reading::find(dump, paths));
    let dumps: Vec<_> = dumps.collect();
    reading::confine(&[])?;
    let mut all = Vec::new();
    let mut directories = Vec::new();
    for dump in dumps {
        match dump {
            Ok(path) if path.is_dir() => {
                let there =
                    store::dumps(&path).with_context(|| format!("read {}", path.display()))?;
                all.extend(there.into_iter().map(|entry| (Ok(entry.path), true)));
                directories.push(path);
            }
            other => all.push((other, false)),
        }
    }
    for (dump, is_listed) in all {
        let checked = dump.and_then(|path| {
            let report = check(&path, key.as_ref());
            // An agent removes dumps from its directory; the chain says whether it did.
            match report.is_err() && is_listed && !path.exists() {
                true => Ok(None),
                false => report.map(Some),
            }
        });
        match checked {
            Ok(None) => {}
            Ok(Some(report)) => {
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
    for directory in directories {
        let report = store::check_chain(&directory)
            .with_context(|| format!("read {}", directory.display()))?;
        if !report.problems.is_empty() {
            code = ExitCode::from(PROBLEMS);
        }
        let written = match args.json {
            true => json(
                &mut out,
                &serde_json::json!({ "path": directory, "chain": report }),
            ),
            false => chain(&mut out, &directory, &report, palette),
        };
        reading::written(written, "standard output")?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(code),
    }
}

fn check(path: &Path, key: Option<&PublicKey>) -> Result<Report> {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut progress = Progress::new("verify", bytes * 2);
    Ok(read::verify_signed(path, key, &mut |done| {
        progress.at(done);
    })?)
}

fn json(out: &mut impl Write, report: &impl Serialize) -> io::Result<()> {
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
    let signature = match report.signature {
        Signature::Missing => "",
        Signature::Unchecked => ", signed (--key checks by whom)",
        Signature::Matches => ", signed by this key",
        Signature::Differs => ", not signed by this key",
    };
    writeln!(
        out,
        "{}: {}: {}, {}; {sidecar}{signature}",
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

fn chain(
    out: &mut impl Write,
    directory: &Path,
    report: &ChainReport,
    palette: Palette,
) -> io::Result<()> {
    let (word, style) = match report.problems.is_empty() {
        true => ("none is missing", Style::Green),
        false => ("not as it was written", Style::Red),
    };
    let removed: u64 = report
        .removed
        .iter()
        .map(|(first, last)| last - first + 1)
        .sum();
    write!(
        out,
        "{}: {}: {} of {} that were written, {removed} removed by budgets or people",
        escape(&directory.display().to_string()),
        palette.paint(style, word),
        plural(report.dumps, "dump"),
        report.number,
    )?;
    if report.unlinked > 0 {
        write!(out, "; {} not linked to others", report.unlinked)?;
    }
    if report.foreign > 0 {
        write!(out, "; {} of elsewhere", report.foreign)?;
    }
    writeln!(out)?;
    if let Some(sha256) = &report.sha256 {
        writeln!(
            out,
            "  the sidecar of number {} has SHA-256 {sha256}",
            report.number
        )?;
    }
    for problem in &report.problems {
        writeln!(out, "  {}", escape(problem))?;
    }
    Ok(())
}
