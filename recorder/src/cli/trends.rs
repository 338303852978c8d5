//! `recorder trends`: what happens how often, since when.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::list::{FilterArgs, second};
use super::reading;
use super::text::{Palette, Style, count, escape_short, plural};
use super::when::{self, When};
use crate::config::Paths;
use crate::store::{Access, By, Catalog, Trend};

/// From when on something is marked as new, if nothing else is asked for.
const NEW: &str = "yesterday";

/// Arguments of `recorder trends`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to count by
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Only what was never seen before: "yesterday", "2026-11-23", "24h"
    #[arg(long, value_name = "WHEN", value_parser = when::parse, allow_hyphen_values = true)]
    new_since: Option<When>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the most frequent ones; by day, the last ones
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write one JSON object for each
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    by: &'static str,
    #[serde(flatten)]
    trend: &'a Trend,
    new: bool,
}

/// Counts incidents.
///
/// # Errors
///
/// A directory that cannot be read, or output that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(trends(args, paths))
}

fn trends(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let mut catalog = Catalog::open(&paths.state_dir, Access::Read)?;
    let mut trends = catalog.trends(&args.filter.filter(), args.by)?;
    reading::say(&catalog);
    let new = match args.new_since {
        Some(new) => {
            trends.retain(|trend| trend.seen_unix_ns.0 >= new.unix_ns);
            new.unix_ns
        }
        None => when::parse(NEW).map_or(i64::MAX, |when| when.unix_ns),
    };
    let limit = args.limit.unwrap_or(usize::MAX);
    match args.by {
        By::Day => drop(trends.drain(..trends.len().saturating_sub(limit))),
        By::Rule | By::Subject | By::Fingerprint | By::Tag => trends.truncate(limit),
    }
    let (head, name) = match args.by {
        By::Rule => ("RULE", "rule"),
        By::Subject => ("SUBJECT", "subject"),
        By::Fingerprint => ("FINGERPRINT", "fingerprint"),
        By::Tag => ("TAG", "tag"),
        By::Day => ("DAY", "day"),
    };
    let mut out = Vec::new();
    if args.json {
        for trend in &trends {
            let line = Line {
                by: name,
                trend,
                new: trend.seen_unix_ns.0 >= new,
            };
            crate::harmless::json(&mut out, &line);
            out.push(b'\n');
        }
    } else if trends.is_empty() {
        let what = if args.new_since.is_some() {
            "nothing new"
        } else {
            "no such incident"
        };
        eprintln!("{what} in {}", catalog.directory().display());
    } else {
        let palette = Palette::of_stdout();
        let head = line([
            head,
            "INCIDENTS",
            "REPEATS",
            "FIRST SEEN",
            "LAST SEEN",
            "",
            "LAST",
        ]);
        writeln!(out, "{}", palette.paint(Style::Dim, &head))?;
        for trend in &trends {
            let is_new = trend.seen_unix_ns.0 >= new && args.by != By::Day;
            let mark = match is_new {
                true => palette.paint(Style::Yellow, "new"),
                false => "   ".to_owned(),
            };
            let key = match trend.key.as_str() {
                "" => "-".to_owned(),
                key => escape_short(key, 32),
            };
            let text = line([
                &key,
                &count(trend.incidents),
                &count(trend.repeats),
                &second(&trend.first_seen),
                &second(&trend.last_seen),
                &mark,
                &escape_short(&trend.summary, 80),
            ]);
            writeln!(out, "{text}")?;
        }
        let sum: u64 = trends.iter().map(|trend| trend.incidents).sum();
        if args.by != By::Tag {
            eprintln!("{}", plural(sum, "incident"));
        }
    }
    reading::written(io::stdout().lock().write_all(&out), "standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn line([key, incidents, repeats, first, last, mark, what]: [&str; 7]) -> String {
    format!("{key:<32} {incidents:>9} {repeats:>9} {first:<20} {last:<20} {mark:<3} {what}")
}
