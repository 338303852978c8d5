//! `recorder show`: the story of a dump.
//!
//! First what happened, to whom, and how much of it the dump knows; then a timeline of what is near it: the failures, what
//! the process did and how it was started, and the last processes that came and went. `--all` shows every event, an option
//! that chooses events shows all it chooses, `--json` writes the lines that `export` writes.

mod facts;
pub(super) mod fault;
mod filter;
mod line;
mod overview;
mod sample;
mod story;
mod survey;
mod timeline;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use self::survey::Survey;
use self::timeline::Timeline;
use super::reading::{self, DumpArg};
use super::text::{Palette, Progress, Style, plural};
use crate::config::Paths;
use crate::event::Body;
use crate::read::{Damages, Dump};
use crate::view::Story as _;

pub use facts::Facts;
pub use filter::{AboutArgs, Filter, FilterArgs};
pub use line::describe;
pub use overview::Overview;

/// Show what happened, and what led up to it
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// Show every event
    #[arg(long)]
    all: bool,
    /// Write the events as JSON Lines, as export does
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs `recorder show`.
///
/// # Errors
///
/// A dump that cannot be read, or output that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(show(args, paths))
}

fn show(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths, &[])?;
    let stdout = io::stdout().lock();
    if args.json {
        return super::export::lines(&dump, &args.filter, &mut { stdout }, "standard output");
    }
    let choice = Choice {
        filter: &args.filter,
        all: args.all,
    };
    let mut out = BufWriter::new(stdout);
    render(&dump, &choice, Palette::of_stdout(), &mut out)
}

/// Which events the timeline has.
struct Choice<'a> {
    filter: &'a FilterArgs,
    all: bool,
}

/// Reads the dump twice: to know what there is, then to show it.
fn render(
    dump: &Dump,
    choice: &Choice<'_>,
    palette: Palette,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let facts = Facts::of(dump);
    let filter = choice.filter.filter(facts.trigger_unix_ns)?;
    let mut progress = Progress::new("read", dump.bytes() * 2);
    let (mut survey, damages, unknown) = first_reading(dump, &facts, &mut progress)?;
    if let Some(Body::SignalFatal(fatal)) = survey.trigger.as_mut().map(|entry| &mut entry.body) {
        super::symbolize::resolver(&facts, &[]).resolve(fatal);
    }
    let chosen = match choice.all || !choice.filter.is_empty() {
        true => None,
        false => Some(survey.chosen()),
    };
    let written = |result| reading::written(result, "standard output");
    let trigger = survey.trigger.as_ref().map(|entry| entry.order);
    let mut timeline = Timeline::new(palette, facts.trigger_unix_ns, trigger);
    let head = story::tell(&facts, &survey, &damages, palette);
    written(writeln!(out, "{head}\n{}", timeline.head()))?;
    let mut shown = 0;
    let mut events = dump.events();
    while let Some(entry) = events.next() {
        let mut entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        let is_chosen = chosen
            .as_ref()
            .is_none_or(|chosen| chosen.contains(&entry.order));
        if is_chosen && filter.wants(&entry) {
            shown += 1;
            filter.narrow(&mut entry);
            written(out.write_all(timeline.event(&entry).as_bytes()))?;
        }
        if entry.order.is_multiple_of(4096) {
            progress.at(dump.bytes() + events.position());
        }
    }
    drop(progress);
    let foot = foot(&survey, shown, chosen.is_some(), palette);
    written(write!(out, "{}\n{foot}", timeline.end(survey.last_order)))?;
    written(out.flush())?;
    Ok(reading::note(dump, &damages, unknown))
}

fn first_reading(
    dump: &Dump,
    facts: &Facts,
    progress: &mut Progress,
) -> Result<(Survey, Damages, u64)> {
    let mut overview = Overview::of(facts.clone());
    let mut events = dump.events();
    while let Some(entry) = events.next() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        overview.take(&entry);
        if entry.order.is_multiple_of(4096) {
            progress.at(events.position());
        }
    }
    let survey = overview.finish();
    Ok((survey, events.damages().clone(), events.unknown()))
}

/// Says what the dump holds, and how to see what was not shown.
fn foot(survey: &Survey, shown: u64, was_chosen: bool, palette: Palette) -> String {
    let mut types: Vec<_> = survey.types.iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let types: Vec<String> = types
        .iter()
        .map(|(topic, count)| line::tally(**count, topic))
        .collect();
    let events = survey.events();
    let mut foot = match types.is_empty() {
        true => "no events\n".to_owned(),
        false => format!("{}: {}\n", plural(events, "event"), types.join(", ")),
    };
    if shown < events {
        let hint = match was_chosen {
            true => {
                "what is near the trigger is shown; --all shows every event, --around 5s or --type signal some of them"
            }
            false => "what the options choose is shown; without them, what is near the trigger",
        };
        foot.push_str(&palette.paint(Style::Dim, hint));
        foot.push('\n');
    }
    foot
}
