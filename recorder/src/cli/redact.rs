//! `recorder redact`: a copy of a dump for people who are not to know everything.
//!
//! ```text
//! $ recorder redact latest -o for-the-vendor.mcap
//! for-the-vendor.mcap: 4,812 events without arguments, names, addresses
//! $ recorder verify for-the-vendor.mcap
//! ```

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::export::output::{self, Unfinished};
use super::reading::{self, DumpArg};
use super::show::describe;
use super::text::{Progress, plural};
use crate::config::Paths;
use crate::dump::{Derived, Sidecar};
use crate::export::redacted::{self, Copied, Policy, Redaction, Redactor};
use crate::export::{Origin, bag};
use crate::read::{Seal, verify, verify_alone};

/// Copy a dump without arguments, names and addresses
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    dump: DumpArg,
    /// File to write the copy to; its sidecar goes beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What to remove
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "arguments,names,addresses"
    )]
    policy: Vec<What>,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

/// Something to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum What {
    /// Arguments of programs
    Arguments,
    /// Names and paths: the same one becomes the same pseudonym
    Names,
    /// Addresses and registers
    Addresses,
}

/// Runs `recorder redact`.
///
/// # Errors
///
/// A dump that cannot be read or a file that cannot be written.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    reading::finish(redact(args, paths))
}

fn redact(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let dump = args.dump.open(paths, &[&args.output])?;
    let sidecar_path = output::sidecar_of_copy(dump.path(), &args.output)?;
    let to = args.output.display().to_string();
    let origin = Origin::of(&dump, describe);
    let policies = policies(&args.policy);
    let checked = verify_alone(&dump)?;
    let redaction = Redaction {
        policies: policies.iter().map(ToString::to_string).collect(),
        recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
        original_sha256: checked.sha256.clone(),
        attachments_removed: dump.attachments()?.found.len() as u64,
    };
    let redactor = Redactor::new(Policy {
        arguments: args.policy.contains(&What::Arguments),
        names: args.policy.contains(&What::Names),
        addresses: args.policy.contains(&What::Addresses),
    });
    let mut sidecar_file =
        output::create(&sidecar_path, args.force).context("create the sidecar")?;
    let unfinished_sidecar = Unfinished::new(&sidecar_path);
    let mut file =
        output::create(&args.output, args.force).with_context(|| format!("create {to}"))?;
    let unfinished = Unfinished::new(&args.output);
    let mut progress = Progress::new("redact", dump.bytes());
    let mut out = BufWriter::new(&mut file);
    let copied = redacted::copy(&dump, &origin, &redactor, &redaction, &mut out, |done| {
        progress.at(done);
    });
    let copied = copied.with_context(|| format!("copy to {to}"))?;
    reading::written(out.flush(), &to)?;
    drop(out);
    drop(progress);
    reading::written(file.sync_all(), &to)?;
    let derived = Derived {
        file: file_name(dump.path()),
        sha256: checked.sha256,
        by: concat!("recorder ", env!("CARGO_PKG_VERSION"), " redact").to_owned(),
        vouched_for: verify(dump.path(), &mut |_| {})?.sidecar == Seal::Matches,
    };
    if let Some(sidecar) = sidecar(&args.output, &copied, derived)? {
        let mut text = serde_json::to_vec_pretty(&sidecar)?;
        text.push(b'\n');
        reading::written(sidecar_file.write_all(&text), "the sidecar")?;
        sidecar_file.sync_all()?;
        unfinished_sidecar.keep();
    }
    unfinished.keep();
    let line = format!(
        "{to}: {} without {}\n",
        plural(copied.events, "event"),
        policies.join(", ")
    );
    reading::written(io::stdout().write_all(line.as_bytes()), "standard output")?;
    Ok(reading::note(&dump, &copied.damages, copied.unknown))
}

fn policies(chosen: &[What]) -> Vec<&'static str> {
    let mut chosen = chosen.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    let name = |what| match what {
        What::Arguments => "arguments",
        What::Names => "names",
        What::Addresses => "addresses",
    };
    chosen.into_iter().map(name).collect()
}

/// Returns what vouches for the copy, unless the original's metadata is gone.
fn sidecar(path: &Path, copied: &Copied, derived: Derived) -> Result<Option<Sidecar>> {
    let origin = &copied.origin;
    let (Some(incident), Some(host), Some(clocks), Some(coverage), Some(loss)) = (
        &origin.incident,
        &origin.host,
        origin.clocks,
        &origin.coverage,
        &origin.loss,
    ) else {
        return Ok(None);
    };
    let (sha256, bytes) = bag::hash(path).with_context(|| format!("read {}", path.display()))?;
    let trigger = origin.trigger_unix_ns().unwrap_or_default();
    let trigger = jiff::Timestamp::from_nanosecond(trigger.into());
    Ok(Some(Sidecar {
        file: file_name(path),
        bytes,
        sha256,
        events: copied.events,
        time: trigger.unwrap_or_default().to_string(),
        verdict: loss.verdict,
        incident: incident.clone(),
        deaths: copied.deaths.clone(),
        host: host.clone(),
        clocks,
        coverage: coverage.clone(),
        loss: loss.clone(),
        derived_from: Some(derived),
        chain: None,
    }))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
