//! How often the data plane looks at the kernel rings.

use std::time::Duration;

use crate::kernel::Switches;

/// Longest time between two looks. Failures wake the thread at once.
const TICK: Duration = Duration::from_millis(100);
/// The same while the probes wake it for every record: looking is most of what an idle host pays.
const QUIET_TICK: Duration = Duration::from_secs(1);
/// Looks in a row that find nothing, after which it has itself woken.
const QUIET_LOOKS: u32 = 10;

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Looks in a row that found nothing.
    quiet: u32,
    /// Whether the probes wake for every record.
    is_woken: bool,
}

impl Pace {
    /// Takes note of a look. A host on which nothing happens is not looked at so often: what happens next says so itself.
    pub(super) fn looked(&mut self, found: bool, switches: Option<&mut Switches>) {
        self.quiet = match found {
            true => 0,
            false => self.quiet.saturating_add(1),
        };
        let is_quiet = self.quiet >= QUIET_LOOKS;
        if is_quiet != self.is_woken
            && let Some(switches) = switches
            && switches.set_waking(is_quiet).is_ok()
        {
            self.is_woken = is_quiet;
        }
    }

    /// Returns the longest time until the next look.
    pub(super) fn tick(&self) -> Duration {
        // One more look after the probes were told, for what came meanwhile.
        match self.is_woken && self.quiet > QUIET_LOOKS {
            true => QUIET_TICK,
            false => TICK,
        }
    }
}
