//! `recorder run`

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;

use crate::agent;
use crate::config::{ConfigFile, Paths, RecordConfig};

/// Arguments of `recorder run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: RecordConfig,
}

/// Records until a signal ends it. `given` says which flags there were.
pub fn run(args: &Args, paths: &Paths, file: &ConfigFile, given: &ArgMatches) -> Result<ExitCode> {
    let loaded = file.load(&args.config, given)?;
    agent::run(paths, &loaded.config)?;
    Ok(ExitCode::SUCCESS)
}
