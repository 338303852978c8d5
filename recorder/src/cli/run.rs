//! `recorder run`

use std::process::ExitCode;

use anyhow::Result;

use crate::agent;
use crate::config::{Paths, RecordConfig};

/// Arguments of `recorder run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: RecordConfig,
}

/// Records until a signal ends it.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    agent::run(paths, &args.config)?;
    Ok(ExitCode::SUCCESS)
}
