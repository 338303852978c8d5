//! The agent before this one: what its arena still holds becomes a dump.
//!
//! An agent that is replaced or that died leaves its flight ring behind. The kernel side of it is gone, so what it had lost by
//! then is not known, and the dump says so. Between its last record and the start of this agent nothing was recorded: the
//! summary says how long that was.

use std::path::Path;
use std::{fs, io};

use recorder_ebpf::abi::{Header, Lane, decode};
use rustix::fs::statvfs;
use sha2::{Digest as _, Sha256};
use uuid::{NoContext, Timestamp, Uuid};

use crate::dump::Frozen;
use crate::event::ClockPair;
use crate::identity::{Cursor, Directory, Identities};
use crate::incident::{Incident, Subject, Trigger};
use crate::ring::{Abandoned, LaneWindow, OldArena, RingConfig};
use crate::units::duration;

impl Frozen for Abandoned {
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(Self::records(self, lane))
    }

    fn lane(&self, lane: Lane) -> LaneWindow {
        Self::lane(self, lane)
    }
}

/// What an agent left, perhaps still in its file.
pub(super) enum Previous {
    /// To be read when there is time.
    File(OldArena),
    /// Read already, because its file took the room that the new one needs.
    Memory(Abandoned),
}

impl Previous {
    /// Looks for a ring at `path`. Afterwards there is room for one as large as `config` wants, if that is all that lacked.
    pub(super) fn find(path: &Path, config: &RingConfig) -> Option<Self> {
        let found = OldArena::open(path).unwrap_or_else(|error| {
            let error = anyhow::Error::from(error);
            super::warn(&format!(
                "the ring {} is not kept: {error:#}",
                path.display()
            ));
            None
        });
        if path.symlink_metadata().is_err() || has_room(path, config) {
            return found.map(Self::File);
        }
        // Small hosts have a small /run.
        let read = found.and_then(|old| old.read().ok()).map(Self::Memory);
        // If it cannot be removed, the new one says what lacks.
        let _ = fs::remove_file(path);
        read
    }

    /// Returns the records.
    pub(super) fn read(self) -> io::Result<Abandoned> {
        match self {
            Self::File(old) => old.read(),
            Self::Memory(old) => Ok(old),
        }
    }
}

/// Tells whether a second ring has room beside the one at `path`.
fn has_room(path: &Path, config: &RingConfig) -> bool {
    let wanted: u64 = config.lane_bytes.iter().sum::<u64>() + (1 << 20);
    let Some(stats) = path.parent().and_then(|directory| statvfs(directory).ok()) else {
        return true;
    };
    stats.f_bavail.saturating_mul(stats.f_frsize) >= wanted
}

/// Returns the incident that the end of the agent is; `None` if it has recorded nothing.
///
/// `start` is when this agent began to record.
pub(super) fn incident(old: &Abandoned, start: ClockPair) -> Option<Incident> {
    let (oldest, newest) = old.span()?;
    let last = old.last_note()?;
    let gap = duration(start.boot_ns.saturating_sub(newest));
    let kept = duration(newest.saturating_sub(oldest));
    let (rule, what) = match old.was_stopped() {
        true => ("recorder-restart", "was stopped"),
        false => ("recorder-died", "died"),
    };
    let hash = Sha256::digest(rule.as_bytes());
    let unix_ns = start.unix_ns;
    let time = Timestamp::from_unix(
        NoContext,
        unix_ns / 1_000_000_000,
        (unix_ns % 1_000_000_000) as u32,
    );
    Some(Incident {
        id: Uuid::new_v7(time),
        rule: rule.to_owned(),
        summary: format!(
            "recorder[{}] {what}; this is its window of {kept}, and nothing was recorded for {gap} after it",
            old.pid
        ),
        trigger: Trigger {
            event_type: "recorder.note".to_owned(),
            boot_ns: last.boot_ns,
            cpu: last.cpu,
            sequence: last.seq,
        },
        subject: Subject {
            pid: Some(old.pid),
            comm: Some("recorder".to_owned()),
            ..Subject::default()
        },
        fingerprint: hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
        window_start_boot_ns: oldest,
        window_end_boot_ns: newest,
        ..Incident::default()
    })
}

/// Adds whom the records name to what is known of the living.
pub(super) fn identify(old: &Abandoned, directory: &mut Directory) {
    let mut identities = Identities::default();
    for lane in [Lane::Lifecycle, Lane::Failure] {
        for record in old.records(lane) {
            if let Some(header) = decode::<Header>(record) {
                identities.on_record(&header, record);
            }
        }
    }
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let page = identities.page(cursor);
        next = page.next;
        directory.add(page);
    }
    directory.finish();
}
