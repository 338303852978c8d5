//! `recorder doctor`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::PROBLEMS;
use super::text::{Palette, Style, escape, plural};
use crate::config::{ConfigFile, Paths};
use crate::doctor::{self, Check, State};

/// Arguments of `recorder doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one JSON object for each check
    #[arg(long)]
    json: bool,
}

/// Checks whether this host can record. Needs no privileges, and says what it could not check without them.
pub fn run(args: &Args, paths: &Paths, file: &ConfigFile) -> Result<ExitCode> {
    let checks = doctor::examine(paths, file);
    let mut out = io::stdout().lock();
    if args.json {
        for check in &checks {
            let mut line = Vec::new();
            crate::harmless::json(&mut line, check);
            line.push(b'\n');
            out.write_all(&line)?;
        }
    } else {
        write(&mut out, &checks, Palette::of_stdout())?;
    }
    let failed = checks.iter().any(|check| check.state == State::Fail);
    Ok(if failed {
        ExitCode::from(PROBLEMS)
    } else {
        ExitCode::SUCCESS
    })
}

fn write(out: &mut impl Write, checks: &[Check], palette: Palette) -> io::Result<()> {
    for check in checks {
        let (word, style) = match check.state {
            State::Pass => ("pass", Style::Green),
            State::Warn => ("warn", Style::Yellow),
            State::Fail => ("FAIL", Style::Red),
        };
        writeln!(
            out,
            "{}  {:<22} {}",
            palette.paint(style, word),
            check.check,
            escape(&check.found)
        )?;
        if let Some(remedy) = &check.remedy {
            writeln!(out, "      {:<22} → {}", "", escape(remedy))?;
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count() as u64;
    let verdict = match (count(State::Fail), count(State::Warn)) {
        (0, 0) => "this host can record everything".to_owned(),
        (0, warnings) => format!(
            "this host can record, with {}",
            plural(warnings, "restriction")
        ),
        (failures, _) => format!(
            "this host cannot record as it should: {} failed",
            plural(failures, "check")
        ),
    };
    writeln!(out, "{verdict}")
}
