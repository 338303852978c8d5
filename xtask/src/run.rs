//! `cargo xtask run`: builds, then becomes the agent, in the foreground and as root.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::build;
use crate::exec::{is_root, replace};

/// Options of `cargo xtask run`.
#[derive(Args)]
pub struct Options {
    /// What to pass on to `recorder run`
    #[arg(last = true)]
    pub arguments: Vec<OsString>,
}

/// Runs `cargo xtask run`. Returns only if the agent cannot start: signals and the exit code are then its own.
pub fn run(options: &Options) -> Result<()> {
    let agent = build::agent()?;
    let mut command = if is_root() {
        Command::new(agent)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-E").arg(agent); // -E: the agent is configured by RECORDER_* too
        sudo
    };
    Err(replace(command.arg("run").args(&options.arguments)))
}
