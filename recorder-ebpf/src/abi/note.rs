//! What the agent says of itself, in the same ring as what the probes saw.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// The agent's own remark. No probe writes it; it travels in the sample lane.
///
/// # Shape
///
/// Followed by `text_len` bytes of UTF-8, then zeros up to a multiple of eight.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Note {
    /// The header; the process is the agent, the CPU 0.
    pub header: Header,
    /// A [`NoteKind`] as number.
    pub kind: u32,
    /// Bytes of text that follow.
    pub text_len: u32,
}

const _: () = assert!(size_of::<Note>() == size_of::<Header>() + 8);

/// What a [`Note`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NoteKind {
    /// Recording began.
    Start = 1,
    /// Recording ends.
    Stop = 2,
    /// A person asked for a dump.
    Trigger = 3,
    /// A rule opened an incident.
    Incident = 4,
    /// Something is recorded less well than it should be.
    Degradation = 5,
    /// A storm is over: the same failure again and again, of which only the first made a dump.
    Storm = 6,
    /// An incident makes no dump, because of a limit.
    Limit = 7,
    /// The rules were read again.
    Reload = 8,
    /// Records of a cgroup that writes too many are left out from here on, or are no longer.
    Throttle = 9,
    /// Something is left out from here on to keep to the budget, or is no longer.
    Budget = 10,
    /// The memory that the agent's cgroup may hold is nearly used up, or is no longer.
    Memory = 11,
}

impl NoteKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Start,
        Self::Stop,
        Self::Trigger,
        Self::Incident,
        Self::Degradation,
        Self::Storm,
        Self::Limit,
        Self::Reload,
        Self::Throttle,
        Self::Budget,
        Self::Memory,
    ];

    /// Returns the kind with this number, or `None` for one of a newer agent.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Returns its name as people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Trigger => "trigger",
            Self::Incident => "incident",
            Self::Degradation => "degradation",
            Self::Storm => "storm",
            Self::Limit => "limit",
            Self::Reload => "reload",
            Self::Throttle => "throttle",
            Self::Budget => "budget",
            Self::Memory => "memory",
        }
    }
}
