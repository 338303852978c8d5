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

use super::killed;
use crate::dump::{Clocks, Frozen, Host, Recovery};
use crate::event::ClockPair;
use crate::identity::{Cursor, Directory, Identities};
use crate::incident::{Incident, Severity, Subject, Trigger};
use crate::ring::{Abandoned, Flaw, LaneWindow, OldArena, RingConfig, boot_id};
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
    /// Where it was found.
    path: PathBuf,
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
    /// Of what one agent left, one is taken of `rings` and their copies on disk, `twins`: its ring, if the host was not booted
    /// since; else the copy, which says of what is in it that it is whole.
    pub(super) fn choose(mut rings: Vec<Self>, mut twins: Vec<Self>) -> Vec<Self> {
        let this_boot = boot_id().ok();
        let writers = |found: &[Self]| found.iter().map(Self::writer).collect::<Vec<_>>();
        let is_of_this_boot = |(boot_id, _): ([u8; 16], u32)| Some(boot_id) == this_boot;
        let (of_rings, of_twins) = (writers(&rings), writers(&twins));
        let keep = |found: &mut Vec<Self>, is_wanted: &dyn Fn(([u8; 16], u32)) -> bool| {
            for unwanted in found.extract_if(.., |one| !is_wanted(one.writer())) {
                let mut unwanted = unwanted;
                unwanted.forget();
            }
        };
        keep(&mut twins, &|writer| {
            !is_of_this_boot(writer) || !of_rings.contains(&writer)
        });
        keep(&mut rings, &|writer| {
            is_of_this_boot(writer) || !of_twins.contains(&writer)
        });
        rings.append(&mut twins);
        rings
    }

    /// Looks for a ring, or the copy of one, at `path`, and for those that agents before the last one have found and not written:
    /// oldest first. Afterwards there is room for one as large as `config` wants, if that is all that lacked.
    pub(super) fn find(path: &Path, config: &RingConfig) -> Vec<Self> {
        let mut found = Vec::new();
        let mut free = None;
        for name in names_of_old(path) {
            match open(&name) {
                Some(arena) => found.push(Self {
                    left: Left::File(Box::new(arena)),
                    path: path.to_owned(),
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
                path: path.to_owned(),
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

    /// Returns where it was found.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns who recorded into it: the boot, and the process id of the agent.
    fn writer(&self) -> ([u8; 16], u32) {
        match &self.left {
            Left::File(arena) => arena.writer(),
            Left::Memory(old) => (old.boot_id, old.pid),
        }
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
    /// How the agent died, if the kernel says.
    killed: Option<String>,
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
            killed: match is_of_this_boot(old) && !old.was_stopped() {
                true => old
                    .span()
                    .and_then(|(_, newest)| killed::for_memory(old.pid, newest)),
                false => None,
            },
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
        let how = match &self.killed {
            Some(how) => format!(" ({how})"),
            None => String::new(),
        };
        let mut summary = format!(
            "recorder[{}] {what}{how}; this is its window of {kept}",
            old.pid
        );
        let gap = duration(self.now.boot_ns.saturating_sub(newest));
        let rule = match is_unclean(old) {
            true => "unclean-boot",
            false => rule,
        };
        if is_unclean(old) {
            summary = format!(
                "unclean end of the previous boot; this is the window of {kept} that recorder[{}] had flushed to disk",
                old.pid
            );
            if let Some(copied) = old.copied {
                let gap = duration(self.now.unix_ns.saturating_sub(copied.unix_ns));
                summary += &format!(", {gap} before it was found");
            }
        } else if !is_of_this_boot(old) {
            summary += ", from another boot of the host";
        } else if self.by_hand {
            summary += &format!(", which ended {gap} before it was recovered by hand");
        } else {
            summary += &format!(", and nothing was recorded for {gap} after it");
        }
        let is_torn = |flaw: &Flaw| matches!(flaw, Flaw::Checksum { .. });
        // What the disk was at when power went is torn, and nothing else is wrong with it.
        if !old.flaws.iter().all(is_torn) {
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
            severity: match is_unclean(old) {
                true => Severity::Critical,
                false => Severity::default(),
            },
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
        let pair = match (is_of_this_boot(old), old.copied.or(old.made)) {
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

/// Tells whether it is the copy on disk that a boot of the host left which did not end as it should.
pub(super) fn is_unclean(old: &Abandoned) -> bool {
    old.is_twin && !is_of_this_boot(old) && !old.was_stopped()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;
    use crate::ingest::now_pair;
    use crate::ring::{FlightRing, Twin};

    /// Where a ring's file has the boot.
    const BOOT_ID: u64 = 24;

    fn config() -> RingConfig {
        RingConfig {
            lane_bytes: [1 << 20; 3],
            made: Some(now_pair()),
            ..RingConfig::default()
        }
    }

    /// Leaves a ring with one record, and its copy on disk, of this boot or of another.
    fn leave(ring: &Path, twin: &Path, is_of_this_boot: bool) {
        let mut flight = FlightRing::create(Some(ring), &config()).expect("there is room");
        if !is_of_this_boot {
            let file = fs::File::options().write(true).open(ring).expect("ours");
            file.write_all_at(&[7; 16], BOOT_ID).expect("ours");
        }
        let mut header = Header::new_zeroed();
        header.kind = EventKind::ProcessExit as u8;
        header.len = size_of::<Header>() as u32;
        header.boot_ns = 5;
        flight
            .push(Lane::Lifecycle, header.as_bytes())
            .expect("it fits");
        let mut twin = Twin::create(twin, ring).expect("there is room");
        twin.flush(now_pair()).expect("there is room");
    }

    #[test]
    fn of_what_one_agent_left_the_better_one_is_taken() {
        for (is_of_this_boot, has_ring, taken, rule) in [
            (true, true, "ring", "recorder-died"),
            (true, false, "twin", "recorder-died"),
            (false, true, "twin", "unclean-boot"),
            (false, false, "twin", "unclean-boot"),
        ] {
            let directory = tempfile::tempdir().expect("there is room for tests");
            let (ring, twin) = (directory.path().join("ring"), directory.path().join("twin"));
            leave(&ring, &twin, is_of_this_boot);
            if !has_ring {
                fs::remove_file(&ring).expect("it is there");
            }
            let find_all = || {
                let find = |path| Previous::find(path, &config());
                Previous::choose(find(&ring), find(&twin))
            };
            let mut found = find_all();
            let [one] = found.as_mut_slice() else {
                panic!("one of both is enough: {found:?}");
            };
            assert_eq!(one.path(), directory.path().join(taken));
            let old = one.read().expect("it is there");
            let incident = Found::new(one.path(), &old, now_pair()).incident(&old);
            let incident = incident.expect("it has a record");
            assert_eq!(incident.rule, rule);
            let is_said = incident
                .summary
                .starts_with("unclean end of the previous boot");
            assert_eq!(is_said, rule == "unclean-boot", "{}", incident.summary);
            // Until there is a dump of it, it is found again; then nothing is left.
            assert_eq!(find_all().len(), 1);
            one.forget();
            let left = fs::read_dir(directory.path()).expect("it is there").count();
            assert_eq!(left, 0, "{taken} of this boot: {is_of_this_boot}");
        }
    }
}
