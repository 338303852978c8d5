//! `recorder completions`
//!
//! ```text
//! $ recorder completions bash > ~/.local/share/bash-completion/completions/recorder
//! ```

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;

/// Arguments of `recorder completions`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// For which shell
    shell: Shell,
}

/// Writes what a shell needs to complete the commands, options and values of `command`.
pub fn run(args: &Args, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "recorder", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
