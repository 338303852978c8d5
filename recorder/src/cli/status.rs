//! `recorder status`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::text::{Palette, Style, bytes, count, duration, escape, plural};
use crate::api::{Client, LaneStatus, Measurement, SampleStatus, Status, TwinStatus};
use crate::budget::Resource;
use crate::config::Paths;
use crate::dump::ProbeState;
use crate::health::Word;
use crate::rules::RuleStats;

/// Arguments of `recorder status`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Measure for some seconds what each probe costs, instead: the kernel does so only while it is asked
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    probes: Option<u64>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Says what the running recorder does, holds and has lost.
///
/// The exit code is that of the verdict: 0 recording, 3 degraded, 1 not recording.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let client = Client::new(paths.control_socket());
    let mut out = io::stdout().lock();
    if let Some(seconds) = args.probes {
        let measured = client.probes(seconds)?;
        match args.json {
            true => {
                serde_json::to_writer(&mut out, &measured).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            false => probes(&mut out, &measured)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let status = client.status()?;
    if args.json {
        serde_json::to_writer(&mut out, &status).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        write(&mut out, &status, now_ns, Palette::of_stdout())?;
    }
    Ok(match status.health.state {
        Word::Recording => ExitCode::SUCCESS,
        Word::Degraded => ExitCode::from(super::PROBLEMS),
        Word::NotRecording => ExitCode::from(super::FAILED),
    })
}

fn probes(out: &mut impl Write, measured: &Measurement) -> io::Result<()> {
    writeln!(
        out,
        "{:<28} {:>10} {:>10} {:>12} {:>8}",
        "PROGRAM", "RUNS/S", "NS/RUN", "NS/S", "% CPU"
    )?;
    let mut programs: Vec<_> = measured.programs.iter().collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.run_ns));
    for program in programs {
        let each = |count: u64| {
            u128::from(count) * 1_000_000_000 / u128::from(measured.measured_ns.max(1))
        };
        let ns = each(program.run_ns);
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let percent = ns as f64 / 1e7;
        writeln!(
            out,
            "{:<28} {:>10} {:>10} {ns:>12} {percent:>8.3}",
            escape(&program.program),
            each(program.runs),
            program.run_ns / program.runs.max(1),
        )?;
    }
    Ok(())
}

fn write(
    out: &mut impl Write,
    status: &Status,
    now_unix_ns: u64,
    palette: Palette,
) -> io::Result<()> {
    let style = match status.health.state {
        Word::Recording => Style::Green,
        Word::Degraded => Style::Yellow,
        Word::NotRecording => Style::Red,
    };
    writeln!(
        out,
        "{} for {} (recorder {}, process {})",
        palette.paint(style, status.health.state.name()),
        duration(now_unix_ns.saturating_sub(status.started_unix_ns)),
        status.version,
        status.pid,
    )?;
    for reason in &status.health.reasons {
        let text = palette.paint(style, &escape(&reason.text));
        writeln!(out, "because  {text}")?;
    }
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
    for group in &status.throttled {
        let cgroup = group.cgroup.as_deref().map_or_else(
            || {
                format!(
                    "cgroup {} of hierarchy {}",
                    group.cgroup_id, group.hierarchy
                )
                .into()
            },
            escape,
        );
        let text = format!(
            "throttle {:<9} {} of {cgroup} left out",
            escape(&group.lane),
            plural(group.records, "record")
        );
        writeln!(out, "{}", palette.paint(Style::Yellow, &text))?;
    }
    budget_lines(out, status, palette)?;
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
    rules_lines(out, &status.rules, palette)?;
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
    if let Some(elsewhere) = &dumps.elsewhere {
        let elsewhere = escape(elsewhere);
        writeln!(out, "         {}", palette.paint(Style::Yellow, &elsewhere))?;
    }
    if let Some(error) = &dumps.last_error {
        writeln!(
            out,
            "         {}",
            palette.paint(Style::Red, &escape(error))
        )?;
    }
    let reserve = &dumps.reserve;
    if reserve.bytes > 0 {
        writeln!(
            out,
            "         {} of memory set aside for writing them, at most {} used, {} taken beside it",
            bytes(reserve.bytes),
            bytes(reserve.peak),
            bytes(reserve.beside)
        )?;
    }
    if let Some(space) = &dumps.space {
        writeln!(
            out,
            "disk     {} of {} in {} of {} dumps; {} free, of which {} stay free",
            bytes(space.used_bytes),
            bytes(space.max_bytes),
            count(space.dumps),
            count(space.max_dumps),
            bytes(space.free_bytes),
            bytes(space.keep_free_bytes),
        )?;
    }
    if let Some(twin) = &status.twin {
        twin_lines(out, twin, now_unix_ns, palette)?;
    }
    for target in &status.notify {
        writeln!(
            out,
            "notify   {} ({}): {} delivered, {} waiting, {} given up",
            escape(&target.name),
            escape(&target.kind),
            count(target.delivered),
            count(target.waiting),
            count(target.dropped + target.expired + target.refused),
        )?;
    }
    let live = &status.live;
    if live.readers > 0 || live.lost > 0 {
        writeln!(
            out,
            "live     {} readers; {} events given, {} lost by slow ones",
            count(live.readers),
            count(live.delivered),
            count(live.lost),
        )?;
    }
    writeln!(
        out,
        "uses     {} of CPU time, {} of memory",
        duration(status.usage.cpu_ns),
        bytes(status.usage.resident_bytes),
    )
}

/// What recording costs of what it may cost, and what is left out for that.
fn budget_lines(out: &mut impl Write, status: &Status, palette: Palette) -> io::Result<()> {
    let budget = &status.budget;
    let cost = |resource: Resource| {
        let measured = resource.words(budget.measured.get(resource)?);
        Some(match budget.limits.get(resource) {
            Some(limit) => format!(
                "{} {measured} of {}",
                resource.name(),
                resource.words(limit)
            ),
            None => format!("{} {measured}", resource.name()),
        })
    };
    let costs: Vec<String> = Resource::ALL.into_iter().filter_map(cost).collect();
    if !costs.is_empty() {
        writeln!(out, "budget   {}", costs.join(", "))?;
    }
    if let Some(cgroup) = &budget.cgroup {
        let text = format!(
            "         {} of the {} that cgroup {} may hold",
            bytes(cgroup.used_bytes),
            bytes(cgroup.limit_bytes),
            escape(&cgroup.cgroup)
        );
        match cgroup.is_short {
            true => writeln!(out, "{}", palette.paint(Style::Yellow, &text))?,
            false => writeln!(out, "{text}")?,
        }
    }
    for filtered in &status.filtered {
        let records = plural(filtered.records, "record");
        let text = format!(
            "         {:<11} {} {records}",
            escape(&filtered.what),
            match filtered.until_boot_ns {
                None => "left out:",
                Some(_) => "was left out:",
            }
        );
        writeln!(out, "{}", palette.paint(Style::Yellow, &text))?;
    }
    Ok(())
}

/// How much of the ring would outlive the kernel.
fn twin_lines(
    out: &mut impl Write,
    twin: &TwinStatus,
    now_unix_ns: u64,
    palette: Palette,
) -> io::Result<()> {
    let flushed = match twin.flushed_unix_ns {
        Some(at) => format!("flushed {} ago", duration(now_unix_ns.saturating_sub(at))),
        None => "never flushed".to_owned(),
    };
    writeln!(
        out,
        "twin     of the ring in {}: {flushed}, each {}, in {}; {} in {} flushes, {} failed",
        escape(&twin.path),
        duration(twin.interval_ns),
        duration(twin.took_ns),
        bytes(twin.bytes),
        count(twin.flushes),
        count(twin.failures),
    )?;
    if let Some(error) = &twin.last_error {
        let error = palette.paint(Style::Red, &escape(error));
        writeln!(out, "         {error}")?;
    }
    Ok(())
}

fn rules_lines(out: &mut impl Write, rules: &[RuleStats], palette: Palette) -> io::Result<()> {
    writeln!(
        out,
        "rules    {} in force; matched {} events, fired {} times",
        rules.len(),
        count(rules.iter().map(|rule| rule.matched).sum()),
        count(rules.iter().map(|rule| rule.fired).sum()),
    )?;
    for rule in rules {
        if let Some(why) = &rule.last_error {
            let text = format!(
                "         {} could not be decided on {} of its events, and did not match them: {why}",
                rule.name,
                count(rule.errors)
            );
            writeln!(out, "{}", palette.paint(Style::Yellow, &text))?;
        }
        if rule.groups_forgotten > 0 {
            let text = format!(
                "         {} has forgotten {} groups: there were too many",
                rule.name,
                count(rule.groups_forgotten)
            );
            writeln!(out, "{}", palette.paint(Style::Yellow, &text))?;
        }
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
