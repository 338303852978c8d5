//! The agent before this one: what its arena still holds becomes a dump.
//!
//! An agent that is replaced or that died leaves its flight ring behind. The kernel side of it is gone, so what it had lost by
//! then is not known, and the dump says so. Between its last record and the start of this agent nothing was recorded: the
//! summary says how long that was. A damaged ring, or one of another version, is kept as far as it can be read, and the dump
//! says what was wrong with it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use recorder_ebpf::abi::{EventKind, Header, Lane, decode};
use rustix::fs::statvfs;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::dump::{Clocks, Frozen, Host, Recovery};
use crate::event::ClockPair;
use crate::identity::{Cursor, Directory, Identities};
use crate::incident::{Incident, Subject, Trigger};
use crate::ring::{Abandoned, LaneWindow, OldArena, RingConfig, boot_id};
use crate::units::duration;

/// Flaws of a ring that a dump tells one by one.
const FLAWS_MAX: usize = 16;

impl Frozen for Abandoned {
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(Self::records(self, lane))
    }

    fn lane(&self, lane: Lane) -> LaneWindow {
        Self::lane(self, lane)
    }

    fn is_known(&self) -> bool {
        Self::is_known(self)
    }
}

/// What an agent left.
#[derive(Debug)]
pub(super) struct Previous {
    left: Left,
    /// The file to remove once there is a dump of it. Until then it is there for the next agent, should this one die.
    kept: Option<PathBuf>,
}

#[derive(Debug)]
enum Left {
    /// To be read when there is time.
    File(Box<OldArena>),
    /// Read already, because its file took the room that the new one needs.
    Memory(Box<Abandoned>),
}

impl Previous {
    /// Looks for a ring at `path`, and for those that agents before the last one have found and not written: oldest first.
    /// Afterwards there is room for one as large as `config` wants, if that is all that lacked.
    pub(super) fn find(path: &Path, config: &RingConfig) -> Vec<Self> {
        let mut found = Vec::new();
        let mut free = None;
        for name in names_of_old(path) {
            match open(&name) {
                Some(arena) => found.push(Self {
                    left: Left::File(Box::new(arena)),
                    kept: Some(name),
                }),
                None => {
                    // Nothing, or nothing that anybody can use.
                    let _ = fs::remove_file(&name);
                    free.get_or_insert(name);
                }
            }
        }
        if let Some(arena) = open(path) {
            let kept = free.filter(|name| fs::rename(path, name).is_ok());
            let is_kept = kept.is_some();
            let mut last = Self {
                left: Left::File(Box::new(arena)),
                kept,
            };
            if !is_kept {
                last.read_now();
            }
            found.push(last);
        }
        // Small hosts have a small /run.
        for one in &mut found {
            if has_room(path, config) {
                break;
            }
            one.read_now();
        }
        found
    }

    /// Reads it, and gives the room of its file back.
    fn read_now(&mut self) {
        if let Left::File(arena) = &self.left
            && let Ok(old) = arena.read()
        {
            self.left = Left::Memory(Box::new(old));
        }
        self.forget();
    }

    /// Removes the file: there is a dump of it, or never will be.
    pub(super) fn forget(&mut self) {
        if let Some(kept) = self.kept.take() {
            // What cannot be removed is found again, and its dump takes the place of the one that there is.
            let _ = fs::remove_file(kept);
        }
    }

    /// Returns the records.
    pub(super) fn read(&mut self) -> io::Result<Abandoned> {
        match std::mem::replace(&mut self.left, Left::Memory(Box::default())) {
            Left::File(arena) => arena.read(),
            Left::Memory(old) => Ok(*old),
        }
    }
}

/// Opens the ring at `path`, and says so if there is something else.
fn open(path: &Path) -> Option<OldArena> {
    OldArena::open(path).unwrap_or_else(|error| {
        let error = anyhow::Error::from(error);
        super::warn(&format!(
            "the ring {} is not kept: {error:#}",
            path.display()
        ));
        None
    })
}

/// Returns the names that rings wait under until there is a dump of them: a start that is cut short leaves one, and they are
/// as large as the ring itself.
fn names_of_old(path: &Path) -> [PathBuf; 2] {
    [".old", ".older"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

/// Tells whether a second ring has room beside the one at `path`.
fn has_room(path: &Path, config: &RingConfig) -> bool {
    let wanted: u64 = config.lane_bytes.iter().sum::<u64>() + (1 << 20);
    let Some(stats) = path.parent().and_then(|directory| statvfs(directory).ok()) else {
        return true;
    };
    stats.f_bavail.saturating_mul(stats.f_frsize) >= wanted
}

/// What is known of a ring that was found, beside its records.
#[derive(Debug)]
pub(super) struct Found {
    /// What the dump says of the ring.
    pub(super) recovery: Recovery,
    /// When it was found.
    pub(super) now: ClockPair,
    /// Whether it is looked at by hand, and no agent takes its place.
    pub(super) by_hand: bool,
}

impl Found {
    /// Describes the ring at `path`.
    pub(super) fn new(path: &Path, old: &Abandoned, now: ClockPair) -> Self {
        let flaws = old.flaws.iter().take(FLAWS_MAX).map(ToString::to_string);
        Self {
            recovery: Recovery {
                ring: path.display().to_string(),
                pid: old.pid,
                boot_id: Uuid::from_bytes(old.boot_id).to_string(),
                in_use: false,
                flaws: flaws.collect(),
                further_flaws: old.flaws.len().saturating_sub(FLAWS_MAX) as u64,
            },
            now,
            by_hand: false,
        }
    }

    /// Returns the incident that the end of the agent is; `None` if it has recorded nothing.
    pub(super) fn incident(&self, old: &Abandoned) -> Option<Incident> {
        let (oldest, newest) = old.span()?;
        let last = old.last()?;
        let kept = duration(newest.saturating_sub(oldest));
        let (rule, what) = match (self.recovery.in_use, old.was_stopped()) {
            (true, _) => ("recorder-copy", "still records"),
            (false, true) => ("recorder-restart", "was stopped"),
            (false, false) => ("recorder-died", "died"),
        };
        let mut summary = format!("recorder[{}] {what}; this is its window of {kept}", old.pid);
        let gap = duration(self.now.boot_ns.saturating_sub(newest));
        if !is_of_this_boot(old) {
            summary += ", from another boot of the host";
        } else if self.by_hand {
            summary += &format!(", which ended {gap} before it was recovered by hand");
        } else {
            summary += &format!(", and nothing was recorded for {gap} after it");
        }
        if !old.flaws.is_empty() {
            summary += "; its ring was damaged, or of another version";
        }
        let hash = Sha256::digest(rule.as_bytes());
        let ended = self
            .clocks_of(old, oldest, newest)
            .freeze
            .unix_ns_at(newest);
        Some(Incident {
            id: id(old, ended, newest),
            rule: rule.to_owned(),
            summary,
            trigger: Trigger {
                event_type: EventKind::from_number(last.kind)
                    .map_or("recorder.unknown", EventKind::name)
                    .to_owned(),
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

    /// Returns the clocks that the records were made by.
    pub(super) fn clocks(&self, old: &Abandoned, incident: &Incident) -> Clocks {
        let (oldest, newest) = (incident.window_start_boot_ns, incident.window_end_boot_ns);
        self.clocks_of(old, oldest, newest)
    }

    fn clocks_of(&self, old: &Abandoned, oldest: u64, newest: u64) -> Clocks {
        let pair = match (is_of_this_boot(old), old.made) {
            (false, Some(made)) => made,
            // Of another boot, without its clock: no later than now is all that is known.
            (false, None) => ClockPair {
                boot_ns: newest,
                unix_ns: self.now.unix_ns,
            },
            (true, _) => self.now,
        };
        let at = |boot_ns| ClockPair {
            boot_ns,
            unix_ns: pair.unix_ns_at(boot_ns),
        };
        Clocks {
            start: at(oldest),
            freeze: match is_of_this_boot(old) {
                true => self.now,
                false => at(newest),
            },
            // How far it was wrong then nobody knows now.
            synchronised: None,
            error_ns: None,
        }
    }
}

/// Returns the id of the incident: always the same for what a ring holds, so that what is written twice is there once.
fn id(old: &Abandoned, ended_unix_ns: u64, newest_boot_ns: u64) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(old.boot_id);
    hash.update(old.pid.to_ne_bytes());
    hash.update(newest_boot_ns.to_ne_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hash.finalize()[..10]);
    Builder::from_unix_timestamp_millis(ended_unix_ns / 1_000_000, &random).into_uuid()
}

/// Tells whether the host was not booted since: then its clock is the one that counts now.
fn is_of_this_boot(old: &Abandoned) -> bool {
    boot_id().is_ok_and(|boot_id| boot_id == old.boot_id)
}

/// Returns the host as it was when an agent left its ring.
pub(super) fn host_then(old: &Abandoned, now: &Host) -> Host {
    let mut host = now.clone();
    if !is_of_this_boot(old) {
        host.boot_id = Uuid::from_bytes(old.boot_id).to_string();
        host.kernel_release = "unknown".to_owned();
    }
    host
}

/// Adds whom the records name to what is known of the living.
pub(super) fn identify(old: &Abandoned, directory: &mut Directory) {
    if !old.is_known() {
        return;
    }
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
