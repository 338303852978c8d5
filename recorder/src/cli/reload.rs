//! `recorder reload`

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use anyhow::Result;

use crate::api::Client;
use crate::config::Paths;
use crate::rules::counted;

/// Arguments of `recorder reload`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks the running recorder to read its configuration again.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let reply = Client::new(paths.control_socket()).reload()?;
    let mut out = stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&reply)?)?,
        false => writeln!(out, "reloaded: {}", counted(reply.configured, reply.rules))?,
    }
    if !reply.needs_restart.is_empty() {
        let settings = reply.needs_restart.join(", ");
        eprintln!("recorder: these have changed and need a restart: {settings}");
    }
    Ok(ExitCode::SUCCESS)
}
