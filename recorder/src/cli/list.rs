//! `recorder list`: the dumps that are kept, oldest first.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::reading;
use super::text::{Palette, Style, bytes, count, escape_short, plural};
use crate::config::Paths;
use crate::dump::{CLOCKS, Clocks, HOST, Host, LOSS, LossLedger, Verdict, short_id};
use crate::incident::Incident;
use crate::read::Dump;
use crate::store::{self, Entry};

/// Most characters of a summary in the table.
const SUMMARY_MAX: usize = 100;

/// Arguments of `recorder list`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one JSON object for each dump
    #[arg(long)]
    json: bool,
}

/// What is listed of a dump; what is gone from a broken one is absent.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<Incident>,
}

impl Row {
    /// Reads the file beside the dump, or without one the dump's own metadata.
    fn of(entry: &Entry) -> Self {
        let mut row = Self {
            path: entry.path.display().to_string(),
            bytes: entry.bytes,
            time: None,
            host: None,
            events: None,
            verdict: None,
            incident: None,
        };
        if let Some(sidecar) = entry.sidecar() {
            row.time = Some(sidecar.time);
            row.host = Some(sidecar.host.hostname);
            row.events = Some(sidecar.events);
            row.verdict = Some(sidecar.verdict);
            row.incident = Some(sidecar.incident);
        } else if let Ok(dump) = Dump::open(&entry.path) {
            row.incident = dump.incident();
            row.host = dump.metadata::<Host>(HOST).map(|host| host.hostname);
            row.events = dump.stated_events();
            row.verdict = dump.metadata::<LossLedger>(LOSS).map(|loss| loss.verdict);
            row.time = dump
                .metadata::<Clocks>(CLOCKS)
                .zip(row.incident.as_ref())
                .map(|(clocks, incident)| clocks.freeze.unix_ns_at(incident.trigger.boot_ns))
                .and_then(|unix_ns| jiff::Timestamp::from_nanosecond(unix_ns.into()).ok())
                .map(|time| time.to_string());
        }
        row
    }
}

/// Lists the dumps that are kept.
///
/// # Errors
///
/// A directory that cannot be read, or output that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(list(args, &paths.dumps()))
}

fn list(args: &Args, directory: &Path) -> Result<ExitCode> {
    let entries =
        store::dumps(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut out = io::stdout().lock();
    let written = |result| reading::written(result, "standard output");
    if args.json {
        let mut line = Vec::new();
        for entry in &entries {
            line.clear();
            crate::harmless::json(&mut line, &Row::of(entry));
            line.push(b'\n');
            written(out.write_all(&line))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        eprintln!("no dump in {} yet", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    let palette = Palette::of_stdout();
    let head = line(["TIME", "ID", "RULE", "EVENTS", "SIZE", "COMPLETE", "WHAT"]);
    written(writeln!(out, "{}", palette.paint(Style::Dim, &head)))?;
    for entry in &entries {
        written(writeln!(out, "{}", text(&Row::of(entry), palette)))?;
    }
    let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let number = plural(entries.len() as u64, "dump");
    eprintln!("{number}, {} in {}", bytes(total), directory.display());
    Ok(ExitCode::SUCCESS)
}

fn text(row: &Row, palette: Palette) -> String {
    let incident = row.incident.as_ref();
    let complete = match row.verdict {
        Some(Verdict::Complete) => "yes",
        Some(Verdict::Lossy) => "no",
        Some(Verdict::Unknown) | None => "?",
    };
    let mut what = match incident {
        Some(incident) => escape_short(&incident.summary, SUMMARY_MAX),
        None => format!(
            "unreadable: recorder verify {}",
            escape_short(&row.path, 200)
        ),
    };
    if let Some(again) = incident.map(|incident| incident.followers + incident.suppressed_before)
        && again > 0
    {
        let again = format!(" (and {} more)", count(again));
        what.push_str(&palette.paint(Style::Yellow, &again));
    }
    line([
        &row.time.as_deref().map_or_else(|| "?".into(), second),
        &incident.map_or_else(|| "?".into(), |incident| short_id(incident.id)),
        &incident.map_or_else(|| "?".into(), |incident| escape_short(&incident.rule, 16)),
        &row.events.map_or_else(|| "?".into(), count),
        &bytes(row.bytes),
        complete,
        &what,
    ])
}

fn line([time, id, rule, events, size, complete, what]: [&str; 7]) -> String {
    format!("{time:<20} {id:<8} {rule:<16} {events:>9} {size:>9} {complete:<8} {what}")
}

/// Cuts a time to whole seconds, harmless whatever it is.
fn second(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "?".into(),
    }
}
