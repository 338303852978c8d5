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
    let (file, flags, given) = (file.clone(), args.config.clone(), given.clone());
    let load = move || Ok(file.load(&flags, &given)?.config);
    let config = load()?;
    agent::run(paths, &config, Box::new(load))?;
    Ok(ExitCode::SUCCESS)
}
