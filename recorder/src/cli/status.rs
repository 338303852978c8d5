//! `recorder status`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::text::{Palette, Style, bytes, count, duration, escape};
use crate::api::{Client, LaneStatus, SampleStatus, Status};
use crate::config::Paths;
use crate::dump::ProbeState;

/// Arguments of `recorder status`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Says what the running recorder does, holds and has lost.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let status = Client::new(paths.control_socket()).status()?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &status).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        write(&mut out, &status, now_ns, Palette::of_stdout())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(
    out: &mut impl Write,
    status: &Status,
    now_unix_ns: u64,
    palette: Palette,
) -> io::Result<()> {
    writeln!(
        out,
        "{} for {} (recorder {}, process {})",
        palette.paint(Style::Green, &status.state),
        duration(now_unix_ns.saturating_sub(status.started_unix_ns)),
        status.version,
        status.pid,
    )?;
    writeln!(
        out,
        "window   {} before an incident, {} after",
        duration(status.before_ns),
        duration(status.after_ns)
    )?;
    for probe in &status.probes {
        let (state, style) = match probe.state {
            ProbeState::Attached => ("attached", Style::Green),
            ProbeState::Fallback => ("fallback", Style::Yellow),
            ProbeState::Unavailable => ("unavailable", Style::Red),
        };
        let detail = probe.detail.as_deref().unwrap_or_default();
        let line = format!(
            "probe    {:<20} {} {} {}",
            probe.event,
            palette.paint(style, &format!("{state:<11}")),
            probe.hook,
            escape(detail)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    for lane in &status.lanes {
        lane_line(out, lane, palette)?;
    }
    samples_lines(out, &status.samples, palette)?;
    for (program, times) in &status.skipped {
        let text = format!(
            "skipped  {program}: {} (the CPU was inside it already)",
            count(*times)
        );
        writeln!(out, "{}", palette.paint(Style::Yellow, &text))?;
    }
    let incidents = &status.incidents;
    writeln!(
        out,
        "incident {} open, {} ever; {} joined one, {} suppressed by the cooldown, {} with too many open, {} over the limits",
        count(incidents.open),
        count(incidents.opened),
        count(incidents.joined),
        count(incidents.suppressed),
        count(incidents.overflow),
        count(incidents.limited),
    )?;
    let dumps = &status.dumps;
    writeln!(
        out,
        "dumps    {} written to {}, {} failed",
        count(dumps.written),
        escape(&status.dumps_dir),
        count(dumps.failed)
    )?;
    if let Some(last) = &dumps.last {
        writeln!(out, "         last: {}", escape(last))?;
    }
    if dumps.pinned + dumps.evicted > 0 {
        writeln!(
            out,
            "         {} pinned ({}), {} evicted",
            count(dumps.pinned),
            bytes(dumps.pinned_bytes),
            count(dumps.evicted)
        )?;
    }
    if let Some(warning) = &dumps.warning {
        let warning = escape(warning);
        writeln!(out, "         {}", palette.paint(Style::Yellow, &warning))?;
    }
    if let Some(error) = &dumps.last_error {
        writeln!(
            out,
            "         {}",
            palette.paint(Style::Red, &escape(error))
        )?;
    }
    Ok(())
}

fn samples_lines(out: &mut impl Write, samples: &SampleStatus, palette: Palette) -> io::Result<()> {
    let warned = |text: String, is_bad: bool| match is_bad {
        true => palette.paint(Style::Red, &text),
        false => text,
    };
    if samples.interval_ns > 0 {
        let lacking = format!(
            "{} missed, {} dropped",
            count(samples.missed),
            count(samples.dropped)
        );
        writeln!(
            out,
            "samples  {} of the host, {} of its processes, one each {}, {} of CPU time each; {}",
            count(samples.taken),
            count(samples.processes),
            duration(samples.interval_ns),
            duration(samples.cpu_ns / samples.taken.max(1)),
            warned(lacking, samples.missed + samples.dropped > 0),
        )?;
    }
    let lacking = format!(
        "{} overwritten by the kernel, {} beyond the limit",
        count(samples.log_lost),
        count(samples.log_left_out)
    );
    writeln!(
        out,
        "log      {} lines of the kernel, {} filtered; {}",
        count(samples.log_lines),
        count(samples.log_filtered),
        warned(lacking, samples.log_lost + samples.log_left_out > 0),
    )
}

fn lane_line(out: &mut impl Write, lane: &LaneStatus, palette: Palette) -> io::Result<()> {
    let lost: u64 = lane.cpus.iter().map(|cpu| cpu.lost).sum();
    let losses = format!("{} lost, {} dropped", count(lost), count(lane.dropped));
    let style = if lost + lane.dropped == 0 {
        Style::Green
    } else {
        Style::Red
    };
    let span = match lane.span_ns {
        Some(span) => format!("the last {}", duration(span)),
        None => "empty".to_owned(),
    };
    writeln!(
        out,
        "lane     {:<9} {} of {}, {} records, {span}; {}, {} evicted",
        lane.lane,
        bytes(lane.used_bytes),
        bytes(lane.capacity_bytes),
        count(lane.records),
        palette.paint(style, &losses),
        count(lane.evicted),
    )
}
