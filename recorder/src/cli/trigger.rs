//! `recorder trigger`

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use anyhow::Result;

use super::text::duration;
use crate::api::{Client, TriggerRequest};
use crate::config::Paths;

/// Arguments of `recorder trigger`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Why; it stands in the dump
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Process that it is about: what is known of it is collected
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks the running recorder for a dump.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let client = Client::new(paths.control_socket());
    let reply = client.trigger(&TriggerRequest {
        reason: args.reason.clone(),
        pid: args.pid,
    })?;
    let mut out = stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &reply).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let joined = if reply.joined {
        " (asked for before; the window is still open)"
    } else {
        ""
    };
    writeln!(out, "incident {}{joined}", reply.incident)?;
    let status = client.status()?;
    eprintln!(
        "recorder: the dump will be in {} in {}",
        status.dumps_dir,
        duration(status.after_ns)
    );
    Ok(ExitCode::SUCCESS)
}
