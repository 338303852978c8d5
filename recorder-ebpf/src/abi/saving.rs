//! What is left out so that recording costs no more than it may.

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
