//! `recorder merge`: dumps of several hosts as one timeline.
//!
//! ```text
//! $ recorder merge web-1.mcap web-2.mcap db-1.mcap > timeline.jsonl
//! recorder: web-1: clock exact to 1 ms at most
//! recorder: web-2: clock not synchronised: its events may stand anywhere near their place
//! ```
//!
//! Hosts meet on the wall clock: events of two hosts that are closer together than their clocks are wrong may stand the
//! other way round. Dumps of one boot meet on its boot clock, which is exact; an event that is in several of them is
//! written once. `order` and `cause` are those of each event's own dump.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::export::output::{self, Unfinished};
use super::export::{Format, Read};
use super::reading;
use super::show::describe;
use super::text::{Progress, duration, escape, plural};
use crate::config::Paths;
use crate::event::ClockPair;
use crate::export::{Origin, Visitor, Writing};
use crate::read::{Dump, Entry};

/// Join dumps, of one host or of several, into one timeline
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Path of a dump, the first characters of its id, or "latest"
    #[arg(value_name = "DUMP", required = true, num_args = 1..)]
    dumps: Vec<String>,
    /// Format to write: jsonl, csv, timesketch, timesketch-csv, journal, pcapng, otlp or ecs
    #[arg(long, value_enum, default_value_t = Format::Jsonl, hide_possible_values = true)]
    format: Format,
    /// File to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long)]
    force: bool,
}

/// Runs `recorder merge`.
///
/// # Errors
///
/// A dump that cannot be read or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(merge(args, paths))
}

fn merge(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let rows = !matches!(
        args.format,
        Format::Perfetto | Format::Stacks | Format::Ctf | Format::Sqlite | Format::Core
    );
    let Some(stream) = args.format.stream().filter(|_| rows) else {
        bail!(
            "this format is of one dump: export each, or merge to jsonl, csv, timesketch, journal, otlp or ecs"
        );
    };
    let found = args.dumps.iter().map(|name| reading::find(name, paths));
    let found: Vec<PathBuf> = found.collect::<Result<_>>()?;
    reading::confine(args.output.as_deref().as_slice())?;
    let mut dumps = Vec::new();
    for path in &found {
        let dump = Dump::open(path)?;
        let origin = Origin::of(&dump, describe);
        dumps.push((dump, origin));
    }
    let clocks = common_clocks(&dumps);
    for line in clock_errors(&dumps) {
        eprintln!("recorder: {line}");
    }
    let (out, unfinished, to): (Box<dyn Write>, _, _) = match &args.output {
        None => (
            Box::new(io::stdout().lock()),
            None,
            "standard output".to_owned(),
        ),
        Some(path) => {
            let to = path.display().to_string();
            let file = output::create(path, args.force).with_context(|| format!("create {to}"))?;
            (Box::new(file), Some(Unfinished::new(path)), to)
        }
    };
    let mut writing = Writing::new(stream, out);
    let code = join(&dumps, &clocks, &mut writing, &to)?;
    if let Some(unfinished) = unfinished {
        unfinished.keep();
    }
    Ok(code)
}

/// Returns for each dump the clock pair that its events' times are to be by: that of the first dump of its boot.
fn common_clocks(dumps: &[(Dump, Origin)]) -> Vec<Option<ClockPair>> {
    let mut boots: HashMap<&str, ClockPair> = HashMap::new();
    let common = dumps.iter().map(|(_, origin)| {
        let freeze = origin.clocks?.freeze;
        match origin.host.as_ref().filter(|host| !host.boot_id.is_empty()) {
            Some(host) => Some(*boots.entry(&host.boot_id).or_insert(freeze)),
            None => Some(freeze),
        }
    });
    common.collect()
}

/// Says of each boot how far its clock can be trusted.
fn clock_errors(dumps: &[(Dump, Origin)]) -> Vec<String> {
    let mut boots: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for (_, origin) in dumps {
        let boot = origin
            .host
            .as_ref()
            .map_or("", |host| host.boot_id.as_str());
        if boots.contains(&boot) && !boot.is_empty() {
            continue;
        }
        boots.push(boot);
        let host = escape(origin.hostname().unwrap_or("a host without a name"));
        let Some(clocks) = origin.clocks else {
            lines.push(format!(
                "{host}: its clocks are gone from the dump: the times are as they are"
            ));
            continue;
        };
        let error = match (clocks.synchronised, clocks.error_ns) {
            (Some(true), Some(error_ns)) => {
                format!(
                    "clock right within {} by its own account",
                    duration(error_ns)
                )
            }
            (Some(false), _) => {
                "clock not synchronised: its events may be anywhere near their place".to_owned()
            }
            _ => "it is not known how far its clock was right".to_owned(),
        };
        let moved = clocks
            .freeze
            .unix_ns_at(0)
            .abs_diff(clocks.start.unix_ns_at(0));
        // Slewing within the recording is part of it.
        let moved = match moved {
            0..1_000_000 => String::new(),
            moved => format!(", and it was set by {} while recording", duration(moved)),
        };
        lines.push(format!("{host}: {error}{moved}"));
    }
    lines
}

/// Identifies an event of a boot.
type Identity = (String, &'static str, u32, Option<u32>);

fn join(
    dumps: &[(Dump, Origin)],
    clocks: &[Option<ClockPair>],
    out: &mut dyn Visitor,
    to: &str,
) -> Result<ExitCode> {
    let total = dumps.iter().map(|(dump, _)| dump.bytes()).sum();
    let mut progress = Progress::new("merge", total);
    let mut all: Vec<_> = dumps.iter().map(|(dump, _)| dump.events()).collect();
    let mut heads: Vec<Option<Entry>> = Vec::new();
    for (index, events) in all.iter_mut().enumerate() {
        heads.push(next(events, &dumps[index], clocks[index])?);
    }
    // What has been written of the moment that is being written.
    let mut moment = (0_u64, Vec::<Identity>::new());
    let (mut twice, mut written) = (0_u64, 0_u64);
    loop {
        let times = heads.iter().enumerate();
        let earliest = times
            .filter_map(|(index, head)| Some((head.as_ref()?.unix_ns, index)))
            .min();
        let Some((time, index)) = earliest else { break };
        let Some(entry) = heads[index].take() else {
            break;
        };
        let origin = &dumps[index].1;
        if moment.0 != time {
            moment = (time, Vec::new());
        }
        let boot = origin
            .host
            .as_ref()
            .map_or("", |host| host.boot_id.as_str());
        let process = entry.body.process();
        let identity = (
            boot.to_owned(),
            entry.body.topic(),
            entry.sequence,
            process.and_then(|process| process.tid),
        );
        if !boot.is_empty() && moment.1.contains(&identity) {
            twice += 1;
        } else {
            reading::written(out.event(origin, &entry), to)?;
            written += 1;
            moment.1.push(identity);
        }
        if (twice + written).is_multiple_of(1024) {
            progress.at(all.iter().map(|events| events.position()).sum());
        }
        heads[index] = next(&mut all[index], &dumps[index], clocks[index])?;
    }
    reading::written(out.finish(), to)?;
    drop(progress);
    if twice > 0 {
        let twice = plural(twice, "event");
        eprintln!("recorder: {twice} in more than one dump of the same boot, written once");
    }
    let mut code = ExitCode::SUCCESS;
    for (events, (dump, _)) in all.iter().zip(dumps) {
        let read = Read {
            damages: events.damages().clone(),
            unknown: events.unknown(),
        };
        if !read.is_whole() {
            code = read.note(dump, Vec::new());
        }
    }
    Ok(code)
}

/// Returns the next event of a dump, by the clock of its boot.
fn next(
    events: &mut crate::read::Events<'_>,
    (dump, origin): &(Dump, Origin),
    clock: Option<ClockPair>,
) -> Result<Option<Entry>> {
    let Some(entry) = events.next() else {
        return Ok(None);
    };
    let mut entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
    if let (Some(clock), Some(boot_ns)) = (clock, origin.boot_ns(entry.unix_ns)) {
        entry.unix_ns = clock.unix_ns_at(boot_ns);
    }
    Ok(Some(entry))
}
