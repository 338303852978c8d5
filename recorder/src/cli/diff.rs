//! `recorder diff`: in what two dumps differ.
//!
//! ```text
//! $ recorder diff healthy.mcap latest
//! a  2026-11-23 09:00:00.123 UTC  web-3  on demand: healthy
//! b  2026-11-24 15:40:33.122 UTC  web-3  I/O error on sda
//!
//! events per second
//!   process.exit   12.1 → 350
//! samples, mean
//!   pressure on io, %   0.10 → 61.2
//! ```

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use super::export::Read;
use super::reading;
use super::show::describe;
use super::text::{Palette, Progress, Style, escape, escape_short, time};
use crate::compare::{Difference, Profile, compare};
use crate::config::Paths;
use crate::export::Origin;
use crate::harmless;
use crate::read::Dump;

/// Most characters of a name or a value that are shown.
const TEXT_MAX: usize = 100;

/// Say in what two dumps differ: two incidents, or an incident and a dump of healthier times
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The dump to compare with: a path, the first characters of its id, or "latest"
    #[arg(value_name = "A")]
    a: String,
    /// The dump to compare
    #[arg(value_name = "B", default_value = "latest")]
    b: String,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `recorder diff`.
///
/// # Errors
///
/// A dump that cannot be read.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(diff(args, paths))
}

fn diff(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let [a, b] = [&args.a, &args.b].map(|name| reading::find(name, paths));
    let (a, b) = (a?, b?);
    reading::confine(&[])?;
    let (a, b) = (Dump::open(&a)?, Dump::open(&b)?);
    let (origin_a, profile_a, read_a) = profile(&a)?;
    let (origin_b, profile_b, read_b) = profile(&b)?;
    let differences = compare(&profile_a, &profile_b);
    let mut text = Vec::new();
    if args.json {
        let value = json!({
            "a": about(&origin_a),
            "b": about(&origin_b),
            "differences": differences,
        });
        harmless::json(&mut text, &value);
        text.push(b'\n');
    } else {
        tell(&mut text, [&origin_a, &origin_b], &differences)?;
    }
    reading::written(io::stdout().lock().write_all(&text), "standard output")?;
    let mut code = ExitCode::SUCCESS;
    for (read, dump) in [(read_a, &a), (read_b, &b)] {
        if !read.is_whole() {
            code = read.note(dump, Vec::new());
        }
    }
    Ok(code)
}

fn profile(dump: &Dump) -> Result<(Origin, Profile, Read)> {
    let origin = Origin::of(dump, describe);
    let mut profile = Profile::new(dump, &origin);
    let mut progress = Progress::new("read", dump.bytes());
    let mut events = dump.events();
    while let Some(entry) = events.next() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        profile.take(&entry);
        progress.at(events.position());
    }
    let read = Read {
        damages: events.damages().clone(),
        unknown: events.unknown(),
    };
    Ok((origin, profile, read))
}

fn about(origin: &Origin) -> serde_json::Value {
    json!({
        "file": origin.file,
        "host": origin.hostname(),
        "incident": origin.incident_id,
        "trigger_unix_ns": origin.trigger_unix_ns(),
        "summary": origin.incident.as_ref().map(|incident| &incident.summary),
    })
}

fn tell(out: &mut Vec<u8>, origins: [&Origin; 2], differences: &[Difference]) -> io::Result<()> {
    let palette = Palette::of_stdout();
    for (name, origin) in ["a", "b"].iter().zip(origins) {
        let when = origin.trigger_unix_ns().map(time).unwrap_or_default();
        let summary = origin.incident.as_ref().map_or("", |one| &one.summary);
        writeln!(
            out,
            "{}  {when}  {}  {}",
            palette.paint(Style::Bold, name),
            escape(origin.hostname().unwrap_or("?")),
            escape_short(summary, TEXT_MAX)
        )?;
    }
    let mut section = "";
    for one in differences {
        if one.section != section {
            section = one.section;
            writeln!(out, "\n{}", palette.paint(Style::Bold, section))?;
        }
        let name = escape_short(&one.name, TEXT_MAX);
        let value = |text: &str| escape_short(text, TEXT_MAX);
        match (&one.a, &one.b) {
            (Some(a), Some(b)) => writeln!(out, "  {name}   {} → {}", value(a), value(b))?,
            (Some(a), None) => {
                writeln!(
                    out,
                    "  {name}   {} {}",
                    value(a),
                    palette.paint(Style::Dim, "in a only")
                )?;
            }
            (None, Some(b)) => {
                writeln!(
                    out,
                    "  {name}   {} {}",
                    value(b),
                    palette.paint(Style::Dim, "in b only")
                )?;
            }
            (None, None) => {}
        }
    }
    if differences.is_empty() {
        writeln!(out, "\nno difference")?;
    }
    Ok(())
}
