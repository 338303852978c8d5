//! What the agent tells the probes while they run.

/// A number that the agent changes and the probes of processes look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Switch {
    /// How many of [`Saving::ALL`] are in force.
    Savings = 0,
    /// Whether the agent is to be woken for each record, since it does not look often; 0 or 1.
    Waking = 1,
}

/// Number of switches.
pub const SWITCHES_MAX: usize = 2;

/// Something that is not recorded, or less well, to keep to the budget.
///
/// One goes after the other, in the order of their numbers: what tells least for what it costs goes first. Failures are always
/// recorded whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Saving {
    /// The arguments of programs.
    Argv = 1,
    /// Samples of the host and its processes.
    Samples = 2,
    /// Programs that are executed.
    Exec = 3,
    /// What a process used until it ended; that it ended, and how, is recorded.
    ExitDetail = 4,
}

impl Saving {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Argv, Self::Samples, Self::Exec, Self::ExitDetail];

    /// Returns its name as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argv => "argv",
            Self::Samples => "samples",
            Self::Exec => "exec",
            Self::ExitDetail => "exit_detail",
        }
    }
}
