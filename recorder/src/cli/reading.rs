//! What the commands that read dumps have in common: the DUMP argument, the exit codes, the words about damage.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::text::plural;
use crate::config::Paths;
use crate::export::Envelope;
use crate::read::{Damages, Dump, ReadError};
use crate::store::{Access, Catalog, CatalogError, FindError};
use crate::{sandbox, symbol};

use super::show::Facts;

/// Exit code for a dump that is readable but damaged.
pub const DAMAGED: u8 = 3;

/// Exit code for what the user may not read.
pub const NOT_PERMITTED: u8 = 4;

/// Which dump.
#[derive(Args, Clone, Debug)]
pub struct DumpArg {
    /// Path of a dump, the first characters of its id, or "latest"
    #[arg(value_name = "DUMP", default_value = "latest")]
    pub dump: String,
}

impl DumpArg {
    /// Opens the dump, after giving up all that reading it and writing to `outputs` does not need.
    ///
    /// # Errors
    ///
    /// No such dump, several of that id, or a file that cannot be read.
    pub fn open(&self, paths: &Paths, outputs: &[&Path]) -> Result<Dump> {
        let path = find(&self.dump, paths)?;
        // Its crashes may be named from files in them.
        symbol::open_namespaces();
        confine(outputs)?;
        Ok(Dump::open(&path)?)
    }
}

/// Gives up all that reading dumps and writing to `outputs` does not need.
///
/// # Errors
///
/// A directory of an output that is not there, or a kernel that refuses.
pub fn confine(outputs: &[&Path]) -> Result<()> {
    let names = || outputs.iter().map(|path| path.display().to_string());
    sandbox::write_only_to(outputs).with_context(|| {
        let names: Vec<String> = names().collect();
        format!("prepare to write to {}", names.join(" and "))
    })?;
    Ok(())
}

/// Returns the path of a dump named by the user.
///
/// # Errors
///
/// No such dump, or several.
pub fn find(dump: &str, paths: &Paths) -> Result<PathBuf> {
    let path = PathBuf::from(dump);
    if dump.contains('/') || path.exists() {
        return Ok(path);
    }
    let mut catalog = Catalog::open(&paths.state_dir, Access::Read)?;
    let found = catalog.find_dump(dump);
    say(&catalog);
    Ok(found?)
}

/// Says on standard error what stands in the way of using the catalog.
pub fn say(catalog: &Catalog) {
    for sentence in catalog.said() {
        eprintln!("recorder: {sentence}");
    }
}

/// Turns the errors that have an exit code of their own into it: a closed pipe is success, a refusal is 4.
///
/// # Errors
///
/// Every other error, untouched.
pub fn finish(result: Result<ExitCode>) -> Result<ExitCode> {
    let error = match result {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    match io_kind(&error) {
        Some(io::ErrorKind::BrokenPipe) => Ok(ExitCode::SUCCESS),
        Some(io::ErrorKind::PermissionDenied) => {
            eprintln!("recorder: {error:#}; dumps belong to root: run this with sudo");
            Ok(ExitCode::from(NOT_PERMITTED))
        }
        _ => Err(error),
    }
}

fn io_kind(error: &anyhow::Error) -> Option<io::ErrorKind> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .map(io::Error::kind)
            .or_else(|| match cause.downcast_ref::<ReadError>() {
                Some(ReadError::Io { source, .. }) => Some(source.kind()),
                _ => None,
            })
            .or_else(|| match cause.downcast_ref::<CatalogError>() {
                Some(CatalogError::Directory { source, .. }) => Some(source.kind()),
                _ => None,
            })
            .or_else(|| match cause.downcast_ref::<FindError>() {
                Some(FindError::Catalog(CatalogError::Directory { source, .. })) => {
                    Some(source.kind())
                }
                _ => None,
            })
    })
}

/// Says on standard error, once, what could not be read; returns the exit code for it.
pub fn note(dump: &Dump, damages: &Damages, unknown: u64) -> ExitCode {
    let path = dump.path().display();
    let misread = dump.misread();
    if !misread.is_empty() {
        eprintln!(
            "recorder: {path}: {} not understood; it is of another version, or broken",
            misread.join(", ")
        );
    }
    if unknown > 0 {
        eprintln!(
            "recorder: {path}: {} left out, of types that this version does not know",
            plural(unknown, "event")
        );
    }
    if let Some(first) = damages.places.first() {
        let more = match damages.len() {
            1 => String::new(),
            places => format!(", and {} in all", plural(places, "place")),
        };
        eprintln!("recorder: {path} is damaged {first}{more}; what is whole was read");
    }
    match damages.is_empty() && unknown == 0 && misread.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DAMAGED),
    }
}

/// Returns what all JSON lines of a dump begin with; `id` holds the incident's id as text.
pub fn envelope<'a>(facts: &'a Facts, id: &'a str) -> Envelope<'a> {
    let host = facts.host.as_ref();
    Envelope {
        environment: host.and_then(|host| host.environment.as_deref()),
        host: host.map(|host| host.hostname.as_str()),
        incident: (!id.is_empty()).then_some(id),
    }
}

/// Adds what a failed write was about.
///
/// # Errors
///
/// The error of the write.
pub fn written(result: io::Result<()>, to: &str) -> Result<()> {
    result.with_context(|| format!("write to {to}"))
}
