//! `recorder recover`: a dump of the ring that an agent left.
//!
//! ```text
//! # recorder recover /run/recorder/ring -o /tmp
//! /tmp/20261124T154033Z-recorder-died-b275d65e.mcap: 4,812 events; recorder[812] died; this is its window of 5 min, …
//! ```

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::text::{escape, plural};
use super::{PROBLEMS, reading};
use crate::agent::{self, Recovered};
use crate::config::Paths;
use crate::dump::{Recovery, Verdict};
use crate::incident::Incident;

/// Arguments of `recorder recover`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The ring; that of the run directory if none is given. It is only read, also while an agent writes to it
    #[arg(value_name = "RING")]
    ring: Option<PathBuf>,
    /// Directory that the dump is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// What was recovered, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    path: String,
    bytes: u64,
    sha256: &'a str,
    events: u64,
    verdict: Verdict,
    incident: &'a Incident,
    recovery: &'a Recovery,
}

/// Runs `recorder recover`; the exit code is 3 if the ring was damaged or of another version.
///
/// # Errors
///
/// No ring, one without a record, or a directory that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let ring = args.ring.clone().unwrap_or_else(|| paths.ring());
    // Under Landlock a process may not look into another: whether there is an agent is asked before.
    let is_in_use = agent::is_in_use(&ring);
    reading::confine(&[&args.output])?;
    let recovered = agent::recover(&ring, &args.output, is_in_use)?;
    let text = match args.json {
        true => json(&recovered),
        false => line(&recovered).into_bytes(),
    };
    reading::written(io::stdout().write_all(&text), "standard output")?;
    let recovery = &recovered.recovery;
    let path = escape(&recovery.ring).into_owned();
    if recovery.in_use {
        eprintln!(
            "recorder: {path} is in use by process {}: this is what it held by now",
            recovery.pid
        );
    }
    let Some(first) = recovery.flaws.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let all = recovery.flaws.len() as u64 + recovery.further_flaws;
    let more = match all {
        1 => String::new(),
        all => format!(", and {} in all", plural(all, "flaw")),
    };
    eprintln!(
        "recorder: {path} is not as it should be: {first}{more}; what is whole was recovered"
    );
    Ok(ExitCode::from(PROBLEMS))
}

fn json(recovered: &Recovered) -> Vec<u8> {
    let mut text = Vec::new();
    let answer = Answer {
        path: recovered.written.path.display().to_string(),
        bytes: recovered.written.bytes,
        sha256: &recovered.written.sha256,
        events: recovered.written.events,
        verdict: recovered.written.verdict,
        incident: &recovered.incident,
        recovery: &recovered.recovery,
    };
    crate::harmless::json(&mut text, &answer);
    text.push(b'\n');
    text
}

fn line(recovered: &Recovered) -> String {
    format!(
        "{}: {}; {}\n",
        escape(&recovered.written.path.display().to_string()),
        plural(recovered.written.events, "event"),
        escape(&recovered.incident.summary)
    )
}
