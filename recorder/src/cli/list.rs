//! `recorder list`: the incidents and their dumps, oldest first.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::reading;
use super::text::{Palette, Style, bytes, count, escape_short, plural};
use super::when::{self, When};
use crate::config::Paths;
use crate::store::{Access, Catalog, Filter, Record, SEVERITIES, State};

/// Most characters of a summary in the table.
const SUMMARY_MAX: usize = 100;

/// Arguments of `recorder list`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those whose dump made way for others, or was removed
    #[arg(long, conflicts_with = "all")]
    evicted: bool,
    /// All, with those whose dump is gone
    #[arg(long)]
    all: bool,
    /// Only the newest ones
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write one JSON object for each incident
    #[arg(long)]
    json: bool,
}

/// Options that choose incidents; those of one kind are alternatives, those of different kinds all hold.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Choosing incidents")]
pub struct FilterArgs {
    /// Not before: "2026-11-23T09:00:00Z", "2026-11-23", "yesterday", or how long ago ("24h", "7d")
    #[arg(long, value_name = "WHEN", value_parser = when::parse, allow_hyphen_values = true)]
    since: Option<When>,
    /// Not after
    #[arg(long, value_name = "WHEN", value_parser = when::parse, allow_hyphen_values = true)]
    until: Option<When>,
    /// Of this rule
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Of this severity
    #[arg(long, value_name = "SEVERITY", value_parser = SEVERITIES)]
    severity: Vec<String>,
    /// That happened to this unit, command or device
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// That happened to this systemd unit
    #[arg(long, value_name = "UNIT")]
    unit: Vec<String>,
    /// That happened to a process with this name
    #[arg(long, value_name = "NAME")]
    comm: Vec<String>,
    /// Whose fingerprint begins so
    #[arg(long, value_name = "HEX")]
    fingerprint: Vec<String>,
    /// That have this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// That are pinned
    #[arg(long)]
    pinned: bool,
}

impl FilterArgs {
    /// Returns the filter for incidents of all states.
    pub fn filter(&self) -> Filter {
        Filter {
            since_unix_ns: self.since.map(|when| when.unix_ns),
            until_unix_ns: self.until.map(|when| when.unix_ns),
            states: Vec::new(),
            rules: self.rule.clone(),
            severities: self.severity.clone(),
            subjects: self.subject.clone(),
            units: self.unit.clone(),
            comms: self.comm.clone(),
            fingerprints: self.fingerprint.clone(),
            tags: self.tag.clone(),
            pinned: self.pinned,
            limit: None,
        }
    }

    fn is_empty(&self) -> bool {
        let Self {
            since,
            until,
            rule,
            severity,
            subject,
            unit,
            comm,
            fingerprint,
            tag,
            pinned,
        } = self;
        let lists = [rule, severity, subject, unit, comm, fingerprint, tag];
        since.is_none() && until.is_none() && !pinned && lists.iter().all(|list| list.is_empty())
    }
}

/// Lists incidents.
///
/// # Errors
///
/// A directory that cannot be read, or output that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(list(args, paths))
}

fn list(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let states = match (args.all, args.evicted) {
        (true, _) => Vec::new(),
        (_, true) => vec![State::Evicted, State::Deleted],
        (false, false) => vec![State::Kept, State::Unwritten],
    };
    let filter = Filter {
        states,
        limit: args.limit,
        ..args.filter.filter()
    };
    let mut catalog = Catalog::open(&paths.state_dir, Access::Read)?;
    let records = catalog.list(&filter)?;
    reading::say(&catalog);
    let mut out = io::stdout().lock();
    let written = |result| reading::written(result, "standard output");
    if args.json {
        let mut line = Vec::new();
        for record in &records {
            line.clear();
            crate::harmless::json(&mut line, record);
            line.push(b'\n');
            written(out.write_all(&line))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let directory = catalog.directory().display();
    if records.is_empty() {
        let chosen = !args.filter.is_empty() || args.evicted;
        match chosen {
            true => eprintln!("no such incident in {directory}"),
            false => eprintln!("no dump in {directory} yet"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let palette = Palette::of_stdout();
    let head = line([
        "TIME", "ID", "RULE", "SEVERITY", "EVENTS", "SIZE", "COMPLETE", "WHAT",
    ]);
    written(writeln!(out, "{}", palette.paint(Style::Dim, &head)))?;
    for record in &records {
        written(writeln!(out, "{}", text(record, palette)))?;
    }
    let kept: Vec<u64> = records
        .iter()
        .filter(|record| record.state == State::Kept)
        .map(|record| record.bytes)
        .collect();
    let number = plural(kept.len() as u64, "dump");
    eprintln!("{number}, {} in {directory}", bytes(kept.iter().sum()));
    Ok(ExitCode::SUCCESS)
}

fn text(record: &Record, palette: Palette) -> String {
    let complete = match (record.state, record.verdict.as_deref()) {
        (State::Kept, Some("complete")) => "yes",
        (State::Kept, Some("lossy")) => "no",
        (State::Kept, Some(_) | None) => "?",
        (State::Unwritten, _) => "no dump",
        (state @ (State::Evicted | State::Deleted), _) => state.name(),
    };
    let mut what = match (&record.summary, &record.path) {
        (Some(summary), _) => escape_short(summary, SUMMARY_MAX),
        (None, Some(path)) => format!(
            "unreadable: recorder verify {}",
            escape_short(&path.display().to_string(), 200)
        ),
        (None, None) => "unreadable, and gone".to_owned(),
    };
    if record.repeats > 0 {
        let again = format!(" (and {} more)", count(record.repeats));
        what.push_str(&palette.paint(Style::Yellow, &again));
    }
    let mut marks: Vec<String> = record
        .tags
        .iter()
        .map(|tag| escape_short(tag, 64))
        .collect();
    if record.pinned {
        marks.insert(0, "pinned".to_owned());
    }
    if !marks.is_empty() {
        let marks = format!(" [{}]", marks.join(", "));
        what.push_str(&palette.paint(Style::Dim, &marks));
    }
    let size = match record.state {
        State::Unwritten => "-".to_owned(),
        State::Kept | State::Evicted | State::Deleted => bytes(record.bytes),
    };
    line([
        &second(&record.time),
        record.short_id().unwrap_or("?"),
        &escape_short(record.rule.as_deref().unwrap_or("?"), 16),
        &escape_short(&record.severity, 8),
        &record.events.map_or_else(|| "?".into(), count),
        &size,
        complete,
        &what,
    ])
}

fn line([time, id, rule, severity, events, size, complete, what]: [&str; 8]) -> String {
    format!(
        "{time:<20} {id:<8} {rule:<16} {severity:<8} {events:>9} {size:>9} {complete:<8} {what}"
    )
}

/// Cuts a time to whole seconds, harmless whatever it is.
pub(super) fn second(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "?".into(),
    }
}
