//! Dumps: a frozen window and what is known about it, as one durable file.
//!
//! The format is described in `docs/dump-format.md`. Writing takes two walks over the frozen records, neither of which
//! copies them: a [survey] of what is there and a [timeline] in the order of time. One thread turns records into messages,
//! another compresses them; both are off the data plane.
//!
//! ```text
//! survey ─► ledger ─► metadata records ─┐
//! timeline ─► event::decode ─► encode ─►│ chunks ─► compress ─► sink ─► file, CRC, SHA-256
//!                  └► gaps ─► recorder.loss
//! ```
//!
//! Evidence follows behind the events: see [`evidence`].
//!
//! # Size
//!
//! The cap on a dump's size is kept by the sink, which takes no byte beyond it. How well a window compresses is known only
//! once it is compressed: so everything is written first, and if it does not fit, what did fit says how many of the oldest
//! lifecycle events to leave out of the next attempt.

mod compress;
mod encode;
mod evidence;
mod file;
mod gaps;
mod ledger;
mod mcap;
mod metadata;
mod name;
mod names;
mod sink;
mod size;
mod survey;
#[cfg(test)]
mod tests;
mod timeline;
mod write;

use std::sync::Arc;

use recorder_ebpf::abi::{Lane, LaneStats};

pub use evidence::{
    Attachment, CollectorReport, CollectorState, EVIDENCE, Evidence, EvidenceReport,
};
#[cfg(test)]
pub(crate) use file::faults;
pub use file::{TEMPORARY_PREFIX, copy_file, remove_file, write_file};
pub use metadata::{
    CLOCKS, CONFIG, COVERAGE, Chain, Clocks, Coverage, CpuCoverage, CpuLoss, DELIVERY, Derived,
    Filtered, HOST, Host, INCIDENT, LOSS, LaneCoverage, LaneLoss, Link, LossLedger, PROBES, Probe,
    ProbeState, RECOVERY, Recovery, Refusal, Shortfall, Sidecar, Skipped, Throttled, Verdict,
};
pub use name::{DUMP_EXTENSION, SIDECAR_EXTENSION, SIGNATURE_EXTENSION, short_id};
pub use names::{Original, beside_copy, with_names};
pub use write::{DumpWriter, WriteError, Written, find_written, write};

use crate::{
    event::Body,
    identity::Directory,
    incident::Incident,
    ring::{LaneWindow, Window},
};

/// Most bytes that writing a dump takes beside its [`Directory`]: chunks and what compresses them, and the catalog's pages.
pub const WRITER_BYTES: usize = 5 << 19;
/// Bytes that are set aside for dumps at the start: enough, too, for the names of as many ended processes as can be known, and of some
/// hundred that live.
pub const RESERVE_BYTES: usize = WRITER_BYTES + (7 << 18);

const LANES: usize = Lane::ALL.len();

/// The records that a dump is made from.
pub trait Frozen {
    /// Returns a lane's records, in the order in which they were committed; the same ones each time.
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_>;

    /// Returns what is held of the lane, and what is lacking.
    fn lane(&self, lane: Lane) -> LaneWindow;

    /// Tells whether this version knows the fields of the records; else only those of their headers.
    fn is_known(&self) -> bool {
        true
    }
}

impl Frozen for Window {
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(Self::records(self, lane))
    }

    fn lane(&self, lane: Lane) -> LaneWindow {
        Self::lane(self, lane)
    }
}

/// What the probes counted on one CPU, in one lane.
#[derive(Clone, Copy, Debug)]
pub struct CpuStats {
    /// The lane.
    pub lane: Lane,
    /// The CPU.
    pub cpu: u16,
    /// The counters, read before the kernel rings were drained for the freeze: then every record that they count is either
    /// frozen or lost.
    pub stats: LaneStats,
}

/// Tells whether a file may go on growing.
pub type Grow = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a dump is made from.
#[derive(Clone, Copy)]
pub struct DumpInput<'a> {
    /// The incident; its window says which of the frozen records belong into the dump.
    pub incident: &'a Incident,
    /// The records.
    pub frozen: &'a dyn Frozen,
    /// The host.
    pub host: &'a Host,
    /// The clocks.
    pub clocks: Clocks,
    /// Who processes and cgroups are.
    pub directory: &'a Directory,
    /// The effective configuration.
    pub config: &'a serde_json::Value,
    /// Every probe.
    pub probes: &'a [Probe],
    /// The counters of every lane and CPU that has any.
    pub kernel: &'a [CpuStats],
    /// Cgroups of which records were left out.
    pub throttled: &'a [Throttled],
    /// What the kernel may have skipped inside the window.
    pub skipped: &'a [Skipped],
    /// What was left out to keep to the budget.
    pub filtered: &'a [Filtered],
    /// What was collected beside the events.
    pub evidence: &'a Evidence,
    /// Of records that another agent left: what they were found in.
    pub recovery: Option<&'a Recovery>,
    /// Where it was to be written first, and why it is not there.
    pub refused: &'a [Refusal],
    /// Tells whether the file may go on growing: there is free space beyond what is to stay free.
    pub may_grow: &'a Grow,
    /// Adds to an event what its record does not say; called once for each event of an attempt.
    pub enrich: &'a dyn Fn(&mut Body),
}

/// Bounds of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the dump's file; it is never longer, not even while it is written.
    pub max_dump_bytes: u64,
}
