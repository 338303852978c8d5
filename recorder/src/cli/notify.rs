//! `recorder notify`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args as _, FromArgMatches as _, Subcommand};
use uuid::Uuid;

use super::text::escape;
use crate::config::{ConfigFile, RecordConfig};
use crate::incident::Subject;
use crate::ingest::now_pair;
use crate::notify::{self, Notice};

/// Arguments of `recorder notify`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Send a test to a target, here and now, and say what came of it
    Test {
        /// Its name in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Tries a target.
///
/// # Errors
///
/// Why it did not take the test.
pub fn run(args: &Args, file: &ConfigFile) -> Result<ExitCode> {
    let Command::Test { name } = &args.command;
    // No flags here, but the environment counts.
    let command = RecordConfig::augment_args(clap::Command::new("recorder"));
    let matches = command.get_matches_from(["recorder"]);
    let loaded = file.load(&RecordConfig::from_arg_matches(&matches)?, &matches)?;
    let targets = &loaded.config.notify;
    let Some(target) = targets.iter().find(|target| target.name == *name) else {
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        match names.as_slice() {
            [] => bail!("no target {name:?}: the configuration has no [[notify]]"),
            names => bail!("no target {name:?}: there are {}", names.join(", ")),
        }
    };
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let notice = Notice::of_test(
        Uuid::now_v7(),
        now_pair().unix_ns,
        &host,
        loaded.config.environment.as_deref(),
        Subject::default(),
    );
    let begun = Instant::now();
    match notify::test(target, &notice) {
        Ok(()) => {
            let time = begun.elapsed().as_millis();
            println!(
                "{name} ({}) took the test, in {time} ms",
                target.kind.name()
            );
            if !target.enabled {
                eprintln!("recorder: {name} is not enabled: the agent tells it nothing");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => bail!(
            "{name} ({}) did not take the test: {}",
            target.kind.name(),
            escape(&why)
        ),
    }
}
