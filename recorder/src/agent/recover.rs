//! `recorder recover`: a dump of a ring, by hand.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::crash::Names;
use super::host;
use super::previous::{self, Found};
use crate::dump::{self, DumpInput, Evidence, Grow, Limits, Recovery, Written};
use crate::identity::Directory;
use crate::incident::Incident;
use crate::ingest::now_pair;
use crate::ring::OldArena;

/// What came of it.
#[derive(Debug)]
pub struct Recovered {
    /// What the dump is about.
    pub incident: Incident,
    /// The dump.
    pub written: Written,
    /// What the ring was like.
    pub recovery: Recovery,
}

/// Tells whether an agent records into the ring at `path`, as far as this process may look into others.
pub fn is_in_use(path: &Path) -> bool {
    let arena = OldArena::open(path).ok().flatten();
    arena.is_some_and(|arena| arena.is_in_use())
}

/// Writes all that the ring at `path` holds as a dump into `directory`, which says that it is or is not
/// [in use](is_in_use). The ring is only read, also while an agent writes to it.
///
/// # Errors
///
/// No ring, one without a record, or a directory that cannot be written.
pub fn recover(path: &Path, directory: &Path, is_in_use: bool) -> Result<Recovered> {
    let context = || format!("cannot recover {}", path.display());
    let Some(arena) = OldArena::open(path).with_context(context)? else {
        bail!("there is no ring {}", path.display());
    };
    let old = arena.read().with_context(context)?;
    let mut found = Found::new(path, &old, now_pair());
    found.recovery.in_use = is_in_use;
    found.by_hand = true;
    let Some(incident) = found.incident(&old) else {
        let flaws = match old.flaws.first() {
            Some(flaw) => format!(": {flaw}"),
            None => String::new(),
        };
        bail!("{} holds no record{flaws}", path.display());
    };
    let mut names_of = Directory::default();
    previous::identify(&old, &mut names_of);
    let names = Names::here();
    let input = DumpInput {
        incident: &incident,
        frozen: &old,
        host: &previous::host_then(&old, &host::identify(None)),
        clocks: found.clocks(&old, &incident),
        directory: &names_of,
        // Nobody knows by now what they were.
        config: &serde_json::Value::Null,
        probes: &[],
        kernel: &[],
        throttled: &[],
        skipped: &[],
        filtered: &[],
        evidence: &Evidence::default(),
        recovery: Some(&found.recovery),
        refused: &[],
        may_grow: &(Arc::new(|| true) as Grow),
        enrich: &|body| names.enrich(body),
    };
    let limits = Limits {
        max_dump_bytes: u64::MAX,
    };
    let written = dump::write(directory, &input, &limits)?;
    Ok(Recovered {
        incident,
        written,
        recovery: found.recovery,
    })
}
