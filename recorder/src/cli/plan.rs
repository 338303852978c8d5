//! `recorder plan`: what window the budgets give on this host, and what a wanted one would cost.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ArgMatches;
use recorder_ebpf::abi::Lane;
use serde::Serialize;

use super::reading;
use super::text::{Palette, Style, bytes, count, plural};
use crate::api::{Client, ClientError};
use crate::config::{ConfigFile, Paths, RecordConfig, parse_duration};
use crate::ingest::now_pair;
use crate::plan::{Budgets, DumpShape, Plan, Rates, measure, rates_of_agent};
use crate::read::Dump;
use crate::sample::SampleConfig;
use crate::store::{Access, Catalog, Filter, State};

/// Dumps that are looked at, the newest.
const DUMPS_MAX: u64 = 10;
/// Events from which on a dump says what events take.
const EVENTS_MIN: u64 = 500;
/// Longest measurement.
const SECONDS_MAX: u64 = 3600;

/// Arguments of `recorder plan`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to measure
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Window before an incident to plan for ("10m"), instead of the configured one
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    window: Option<Duration>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: RecordConfig,
}

#[derive(Serialize)]
struct Document<'a> {
    measured_by: &'static str,
    measured_seconds: f64,
    budgets: &'a Budgets,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// Measures and plans. `given` says which flags there were.
///
/// # Errors
///
/// If nothing can be measured.
pub fn run(args: &Args, paths: &Paths, file: &ConfigFile, given: &ArgMatches) -> Result<ExitCode> {
    reading::finish(plan(args, paths, file, given))
}

fn plan(args: &Args, paths: &Paths, file: &ConfigFile, given: &ArgMatches) -> Result<ExitCode> {
    if !(1..=SECONDS_MAX).contains(&args.seconds) {
        bail!("--seconds {}: between 1 and {SECONDS_MAX}", args.seconds);
    }
    let config = file.load(&args.config, given)?.config;
    let budgets = Budgets {
        lane_bytes: [
            config.failure_bytes.0,
            config.lifecycle_bytes.0,
            config.sample_bytes.0,
        ],
        max_dump_bytes: config.max_dump_bytes.0,
        dumps_max_bytes: config.dumps_max_bytes.0,
        dumps_max_count: config.dumps_max_count,
    };
    let shape = shape(paths);
    let started = Instant::now();
    let (measured_by, rates) = rates(args, &config, paths)?;
    let before = args.window.unwrap_or(config.longest_before());
    let plan = Plan::new(&rates, &budgets, shape, before, config.after);
    let mut out = Vec::new();
    if args.json {
        let document = Document {
            measured_by,
            measured_seconds: started.elapsed().as_secs_f64(),
            budgets: &budgets,
            plan: &plan,
        };
        crate::harmless::json(&mut out, &document);
        out.push(b'\n');
    } else {
        text(&mut out, &plan, &budgets, Palette::of_stdout())?;
    }
    reading::written(io::stdout().lock().write_all(&out), "standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Measures through the running agent, or with probes of our own if there is none.
fn rates(args: &Args, config: &RecordConfig, paths: &Paths) -> Result<(&'static str, Rates)> {
    let time = Duration::from_secs(args.seconds);
    let client = Client::new(paths.control_socket());
    let first = match client.status() {
        Ok(first) => first,
        Err(ClientError::Unreachable(..)) => {
            eprintln!(
                "recorder: no agent runs: measuring for {} s with probes of its own",
                args.seconds
            );
            let samples = SampleConfig {
                interval: config.sample_interval,
                ignored: config.kernel_log_ignore.clone(),
            };
            return Ok(("own probes", measure(samples, time)?));
        }
        Err(error) => return Err(error.into()),
    };
    eprintln!(
        "recorder: measuring for {} s through the running agent",
        args.seconds
    );
    let start = Instant::now();
    thread::sleep(time);
    let second = client.status()?;
    let seconds = start.elapsed().as_secs_f64();
    let since_start = now_pair().unix_ns.saturating_sub(second.started_unix_ns);
    let rates = rates_of_agent(&first, &second, seconds, since_start as f64 / 1e9);
    Ok(("agent", rates))
}

/// Learns from the newest dumps what events take.
fn shape(paths: &Paths) -> DumpShape {
    let filter = Filter {
        states: vec![State::Kept],
        limit: Some(DUMPS_MAX),
        ..Filter::default()
    };
    let records = Catalog::open(&paths.state_dir, Access::Read)
        .and_then(|mut catalog| catalog.list(&filter))
        .unwrap_or_default();
    let dumps: Vec<(u64, u64, u64)> = records
        .into_iter()
        .filter_map(|record| Dump::open(&record.path?).ok())
        .filter_map(|dump| {
            let events = dump
                .stated_events()
                .filter(|events| *events >= EVENTS_MIN)?;
            let beside = dump.bytes_beside_events();
            Some((events, dump.bytes().saturating_sub(beside), beside))
        })
        .collect();
    DumpShape::of(&dumps)
}

fn text(out: &mut Vec<u8>, plan: &Plan, budgets: &Budgets, palette: Palette) -> io::Result<()> {
    let wanted = seconds(Some(plan.wanted_seconds));
    let takes = format!("{wanted} TAKE");
    let head = line([
        "LANE",
        "RECORDS/S",
        "BYTES/S",
        "BUDGET",
        "HOLDS",
        "WINDOW",
        &takes,
    ]);
    writeln!(out, "{}", palette.paint(Style::Dim, &head))?;
    for lane in Lane::ALL {
        let planned = &plan.lanes[lane as usize];
        let takes = bytes(planned.wanted_bytes);
        let takes = match planned.wanted_bytes > planned.budget_bytes {
            true => palette.paint(Style::Red, &takes),
            false => takes,
        };
        let line = line([
            lane.name(),
            &format!("{:.1}", planned.rate.records_per_second),
            &bytes(planned.rate.bytes_per_second as u64),
            &bytes(planned.budget_bytes),
            &seconds(planned.holds_seconds),
            &seconds(planned.window_seconds),
            &takes,
        ]);
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    let gives = match plan.window_seconds {
        Some(window) => format!("give {} before an incident", seconds(Some(window))),
        None => "were not touched: nothing happened".to_owned(),
    };
    writeln!(
        out,
        "The budgets {gives}: half of what the smallest lane holds, for the other half goes on recording."
    )?;
    writeln!(
        out,
        "{wanted} before an incident take {} of memory.",
        bytes(plan.wanted_memory_bytes)
    )?;
    let shape = &plan.dump_shape;
    let learnt = match shape.dumps {
        0 => "assumed: no dump of this host says".to_owned(),
        dumps => format!("as in {}", plural(dumps, "dump")),
    };
    writeln!(
        out,
        "A dump of that takes {}: {:.1} bytes for each event ({learnt}) and {} for the rest. The budget of {} holds {}.",
        bytes(plan.dump_bytes),
        shape.bytes_per_event,
        bytes(shape.fixed_bytes),
        bytes(budgets.dumps_max_bytes),
        count(plan.dumps),
    )?;
    for lane in Lane::ALL {
        let planned = &plan.lanes[lane as usize];
        if planned.wanted_bytes > planned.budget_bytes {
            let advice = format!(
                "raise --{}-bytes to {}MiB",
                lane.name(),
                planned.wanted_bytes >> 20
            );
            writeln!(out, "{}", palette.paint(Style::Yellow, &advice))?;
        }
    }
    if plan.dump_bytes > budgets.max_dump_bytes {
        let advice = format!(
            "raise --max-dump-bytes to {}MiB, or dumps are cut at their oldest end",
            (plan.dump_bytes >> 20) + 1
        );
        writeln!(out, "{}", palette.paint(Style::Yellow, &advice))?;
    }
    Ok(())
}

fn line([lane, records, rate, budget, holds, window, takes]: [&str; 7]) -> String {
    format!("{lane:<9} {records:>11} {rate:>10} {budget:>10} {holds:>10} {window:>10} {takes:>12}")
}

/// Returns a span as people say it; "-" for one without end.
fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        Some(seconds) if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        Some(seconds) => format!("{:.0} d", seconds / 86_400.0),
    }
}
