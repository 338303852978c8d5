//! `recorder selftest`
//!
//! ```text
//! # recorder selftest
//! pass  agent    the one that runs, process 812, dumps in /var/lib/recorder/dumps
//! pass  crash    a process crashed: "selftest-qwzabc[900] died of SIGSEGV ..."; ....mcap has 2140 events, verified, 5.6 s after it
//! pass  memory   ...
//! skip  disk     no loop device: /dev/loop-control: Operation not permitted
//! recorder works: 2 failures were provoked, recorded and verified in 5.7 s
//! ```

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Subcommand;

use super::PROBLEMS;
use super::text::{Palette, Style, duration, escape, plural};
use crate::config::Paths;
use crate::selftest::{self, Failure, Options, State, Step};

/// Arguments of `recorder selftest`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Test an agent of the test's own, although one runs
    #[arg(long)]
    own: bool,
    /// Keep the dumps of the test
    #[arg(long)]
    keep: bool,
    /// Write one JSON object for each step
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The processes of a test.
#[derive(Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
enum Part {
    /// Fail
    #[command(hide = true)]
    Fail {
        /// How
        failure: Failure,
        /// Under which name
        name: String,
    },
    /// Record until the test ends
    #[command(hide = true)]
    Agent {
        /// Arguments of `recorder run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Provokes failures and demands their dumps; or is one of the processes that do.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    match &args.part {
        Some(Part::Fail { failure, name }) => return Ok(failure.provoke(name)?),
        Some(Part::Agent { arguments }) => match selftest::become_agent(arguments)? {},
        None => {}
    }
    let start = Instant::now();
    let steps = selftest::run(
        paths,
        Options {
            own: args.own,
            keep: args.keep,
        },
    )?;
    let took_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut out = io::stdout().lock();
    if args.json {
        for step in &steps {
            let mut line = Vec::new();
            crate::harmless::json(&mut line, step);
            line.push(b'\n');
            out.write_all(&line)?;
        }
    } else {
        write(&mut out, &steps, took_ns, Palette::of_stdout())?;
    }
    let failed = steps.iter().any(|step| step.state == State::Fail);
    Ok(if failed {
        ExitCode::from(PROBLEMS)
    } else {
        ExitCode::SUCCESS
    })
}

fn write(out: &mut impl Write, steps: &[Step], took_ns: u64, palette: Palette) -> io::Result<()> {
    for step in steps {
        let (word, style) = match step.state {
            State::Pass => ("pass", Style::Green),
            State::Skip => ("skip", Style::Yellow),
            State::Fail => ("FAIL", Style::Red),
        };
        let word = palette.paint(style, word);
        writeln!(out, "{word}  {:<7} {}", step.step, escape(&step.found))?;
    }
    let count = |state| steps.iter().filter(|step| step.state == state).count() as u64;
    let took = duration(took_ns);
    match count(State::Fail) {
        0 => {
            // The agent is a step, too.
            let failures = plural(count(State::Pass).saturating_sub(1), "failure");
            writeln!(
                out,
                "recorder works: {failures} provoked, recorded and verified in {took}"
            )
        }
        failed => writeln!(
            out,
            "recorder does not work as it should: {} failed",
            plural(failed, "step")
        ),
    }
}
