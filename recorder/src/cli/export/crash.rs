//! The core dump of a crash.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::{Read, output};
use crate::cli::reading;
use crate::cli::show::{Facts, FilterArgs};
use crate::event::{Body, proto};
use crate::read::Dump;

/// A crash, and the arguments of the program if they were recorded.
pub struct Crash {
    fatal: proto::SignalFatal,
    arguments: Vec<String>,
}

impl Crash {
    /// Returns the bytes of its core dump.
    ///
    /// # Errors
    ///
    /// A crash of which too little was recorded.
    pub fn core(&self) -> Result<Vec<u8>> {
        Ok(crate::export::core(&self.fatal, &self.arguments)?)
    }
}

/// Finds a crash: the incident's, if it is among the events that the options choose, else the first.
///
/// # Errors
///
/// A dump that cannot be read.
pub fn find(dump: &Dump, filter: &FilterArgs) -> Result<(Option<Crash>, Read)> {
    let facts = Facts::of(dump);
    let filter = filter.filter(facts.trigger_unix_ns)?;
    let subject = facts
        .incident
        .as_ref()
        .and_then(|incident| incident.subject.pid);
    let mut executed: HashMap<u32, Vec<String>> = HashMap::new();
    let mut chosen: Option<Crash> = None;
    let mut events = dump.events();
    for entry in events.by_ref() {
        let entry = entry.with_context(|| format!("read {}", dump.path().display()))?;
        let is_wanted = filter.wants(&entry);
        match entry.body {
            Body::ProcessExec(exec) => {
                let pid = exec.process.as_ref().and_then(|process| process.pid);
                executed.insert(pid.unwrap_or_default(), exec.argv);
            }
            Body::SignalFatal(fatal) if is_wanted => {
                let pid = fatal.process.as_ref().and_then(|process| process.pid);
                let is_subject = pid.is_some() && pid == subject;
                if chosen.is_none() || is_subject {
                    let arguments = pid.and_then(|pid| executed.get(&pid));
                    chosen = Some(Crash {
                        fatal,
                        arguments: arguments.cloned().unwrap_or_default(),
                    });
                }
                if is_subject {
                    break;
                }
            }
            _ => {}
        }
    }
    let read = Read {
        damages: events.damages().clone(),
        unknown: events.unknown(),
    };
    Ok((chosen, read))
}

/// Writes the core dump of a crash.
///
/// # Errors
///
/// A dump without one, or a file that cannot be written.
pub fn write(
    dump: &Dump,
    filter: &FilterArgs,
    path: Option<&Path>,
    force: bool,
) -> Result<ExitCode> {
    let (crash, read) = find(dump, filter)?;
    let Some(crash) = crash else {
        bail!("{}: no crash to make a core dump of", dump.path().display());
    };
    let bytes = crash.core()?;
    let Some(path) = path else {
        if super::is_terminal() {
            bail!("a core dump is not for a terminal: name a file with --output");
        }
        reading::written(io::stdout().write_all(&bytes), "standard output")?;
        return Ok(read.note(dump, Vec::new()));
    };
    let to = path.display().to_string();
    let mut file = output::create(path, force).with_context(|| format!("create {to}"))?;
    reading::written(file.write_all(&bytes), &to)?;
    Ok(read.note(dump, Vec::new()))
}
