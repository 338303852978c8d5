//! `recorder evidence`: the processes that collect evidence. The agent starts them; a collector also runs by hand:
//!
//! ```text
//! # recorder evidence collect process --pid 812
//! ==> /proc/812/status <==
//! ```

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};

use crate::evidence::{Builtin, builtin::About, supervise};

/// Arguments of `recorder evidence`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a built-in collector and put out what it finds
    Collect {
        /// Which
        #[arg(value_name = "NAME", value_parser = names())]
        name: String,
        #[command(flatten)]
        about: About,
    },
    /// Run the collector that standard input describes, and contain it
    Supervise,
}

fn names() -> impl clap::builder::TypedValueParser<Value = String> {
    PossibleValuesParser::new(Builtin::ALL.map(Builtin::name)).map(|name| name)
}

/// Runs one of the processes.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Supervise => {
            supervise::run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Collect { name, about } => {
            let builtin = Builtin::ALL
                .into_iter()
                .find(|builtin| builtin.name() == name);
            Ok(builtin.map_or(ExitCode::FAILURE, |builtin| builtin.run(about)))
        }
    }
}
