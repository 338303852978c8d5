//! The thread that proposes tags: what stands out in a dump, as its report says.
//!
//! It reads each dump again after that is durable, so that neither the dump nor who is told of it waits. People take away what
//! does not apply, and it stays away.

use std::path::{Path, PathBuf};

use crossbeam_channel::Receiver;

use crate::read::Dump;
use crate::report;
use crate::store::Store;

/// Looks at the dumps that come until no more can come.
pub(super) fn run(dumps: &Receiver<PathBuf>, store: &Store) {
    super::give_way(super::NICENESS_LAST);
    for path in dumps {
        let done = propose(&path, store);
        store
            .take_said()
            .iter()
            .for_each(|sentence| super::warn(sentence));
        if let Err(error) = done {
            super::warn(&format!(
                "no tags are proposed for {}: {error:#}",
                path.display()
            ));
        }
    }
}

fn propose(path: &Path, store: &Store) -> anyhow::Result<()> {
    // It may have been evicted again.
    if !path.exists() {
        return Ok(());
    }
    let dump = Dump::open(path)?;
    let flags = report::flags(&dump)?;
    let Some(incident) = dump.incident().filter(|_| !flags.is_empty()) else {
        return Ok(());
    };
    let tags: Vec<_> = flags
        .into_iter()
        .map(|flag| (flag.name, flag.reason))
        .collect();
    Ok(store.propose(&incident.id.to_string(), &tags)?)
}
