//! `recorder info`: all that is known of one incident.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::reading;
use super::text::{Palette, Style, bytes, count, duration, escape};
use crate::config::Paths;
use crate::store::{Access, Catalog, Record, State};

/// Arguments of `recorder info`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// First characters of the incident's id, or "latest"
    #[arg(value_name = "ID", default_value = "latest")]
    id: String,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Says what is known of an incident, whether or not its dump is there.
///
/// # Errors
///
/// No such incident, several, or output that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(info(args, paths))
}

fn info(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let mut catalog = Catalog::open(&paths.state_dir, Access::Read)?;
    let found = catalog.find(&args.id);
    reading::say(&catalog);
    let record = found?;
    let mut out = Vec::new();
    if args.json {
        crate::harmless::json(&mut out, &record);
        out.push(b'\n');
    } else {
        text(&mut out, &record, Palette::of_stdout())?;
    }
    reading::written(io::stdout().lock().write_all(&out), "standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn text(out: &mut Vec<u8>, record: &Record, palette: Palette) -> io::Result<()> {
    let summary = record.summary.as_deref().unwrap_or("unreadable");
    writeln!(out, "{}", palette.paint(Style::Bold, &escape(summary)))?;
    let mut line = |name: &str, value: Option<&str>| match value {
        Some(value) => writeln!(out, "{name:<12} {}", escape(value)),
        None => Ok(()),
    };
    let number = |pointer: &str| record.incident.as_ref()?.pointer(pointer)?.as_u64();
    let word = |pointer: &str| record.incident.as_ref()?.pointer(pointer)?.as_str();
    line("incident", record.id.as_deref())?;
    line("time", Some(&record.time))?;
    line("host", record.host.as_deref())?;
    line("environment", record.environment.as_deref())?;
    line("rule", record.rule.as_deref())?;
    line("severity", Some(&record.severity))?;
    line("subject", record.subject.as_deref())?;
    let process = number("/subject/pid").map(|pid| {
        let comm = word("/subject/comm").unwrap_or("process");
        format!("{comm}[{pid}]")
    });
    line("process", process.as_deref())?;
    line("unit", record.unit.as_deref())?;
    line("device", word("/subject/device"))?;
    line("reason", word("/reason"))?;
    line("fingerprint", record.fingerprint.as_deref())?;
    let window = number("/window_start_boot_ns")
        .zip(number("/trigger/boot_ns"))
        .zip(number("/window_end_boot_ns"))
        .map(|((start, trigger), end)| {
            let before = duration(trigger.saturating_sub(start));
            format!(
                "{before} before, {} after",
                duration(end.saturating_sub(trigger))
            )
        });
    line("window", window.as_deref())?;
    if record.repeats > 0 {
        let again = format!(
            "{} more of the same that made no dump",
            count(record.repeats)
        );
        line("repeats", Some(&again))?;
    }
    let dump = match (&record.path, record.state) {
        (Some(path), _) => path.display().to_string(),
        (None, state) => {
            let why = record.why.as_deref().unwrap_or("the file is gone");
            match (&record.gone, state) {
                (Some(gone), State::Evicted | State::Deleted) => {
                    format!("{} {gone}: {why}", state.name())
                }
                (Some(_) | None, _) => format!("none: {why}"),
            }
        }
    };
    line("dump", Some(&dump))?;
    if record.bytes > 0 {
        line("size", Some(&bytes(record.bytes)))?;
    }
    let events = record.events.map(count);
    line("events", events.as_deref())?;
    line("verdict", record.verdict.as_deref())?;
    let pinned = record
        .pinned
        .then_some("yes: it stays whatever the budgets say");
    line("pinned", pinned)?;
    if !record.tags.is_empty() {
        line("tags", Some(&record.tags.join(", ")))?;
    }
    for note in &record.notes {
        let by = note.uid.map(|uid| format!(" by uid {uid}"));
        let head = format!("{}{}", note.time, by.unwrap_or_default());
        line("note", Some(&head))?;
        for text in note.text.lines() {
            line("", Some(text))?;
        }
    }
    Ok(())
}
