//! Decides what is left out: no clock and no host here, only what was measured.
//!
//! ```text
//!            over for 5 measures             over for 5 more
//!   nothing ────────────────────► argv ────────────────────► samples ─► exec ─► exit detail
//!           ◄────────────────────      ◄────────────────────
//!            calm for 10 s, or longer
//! ```
//!
//! One step at a time, in either direction, each judged by measures made after the one before. Calm is less than three
//! quarters of the budget. Where what was taken back proves too dear within a minute, the next calm has to last twice as
//! long, up to five minutes: so a steady load finds its step and stays there.

use std::collections::VecDeque;

use recorder_ebpf::abi::Saving;

use super::contract::{Contract, Resource};

const SECOND_NS: u64 = 1_000_000_000;
/// Measures that an average is of, at most.
const MEASURES_MAX: usize = 10;
/// Measures that are needed to say that it is too much.
const MEASURES_MIN: usize = 5;
/// How long it has to be calm, at first and at most, in nanoseconds.
const PATIENCE_MIN_NS: u64 = 10 * SECOND_NS;
const PATIENCE_MAX_NS: u64 = 300 * SECOND_NS;
/// What was taken back so long ago has held.
const HELD_NS: u64 = 60 * SECOND_NS;

/// What was measured since the measure before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// CPU time of the threads that record and of the probes, in millionths of one core.
    pub cpu: u64,
    /// Average time of a run of the dearest probe of processes, in nanoseconds; `None` if none ran while it was measured.
    pub probe_ns: Option<u64>,
    /// Memory of the agent's own, in bytes.
    pub memory_bytes: u64,
}

impl Measure {
    fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Cpu => Some(self.cpu),
            Resource::ProbeNs => self.probe_ns,
            Resource::Memory => Some(self.memory_bytes),
        }
    }
}

/// One step, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is left out from now on, or no longer.
    pub saving: Saving,
    /// Whether it is left out.
    pub begins: bool,
    /// What there was too much of, or most of; `None` if nothing is bounded any more.
    pub cause: Option<Cause>,
}

/// What a step was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What.
    pub resource: Resource,
    /// The average, in the unit of its field of [`Measure`].
    pub measured: u64,
    /// What it may be.
    pub budget: u64,
}

impl Change {
    /// Returns how many savings are in force after it.
    pub fn savings(&self) -> u32 {
        self.saving as u32 - u32::from(!self.begins)
    }
}

/// Remembers what was measured and what is left out.
#[derive(Debug)]
pub struct Controller {
    contract: Contract,
    /// How many savings are in force.
    savings: usize,
    /// Measures since the last step.
    measures: VecDeque<Measure>,
    /// Since when it has been calm.
    calm_since_ns: Option<u64>,
    patience_ns: u64,
    /// When something was last taken back.
    recovered_ns: Option<u64>,
}

impl Controller {
    /// Begins with nothing left out.
    pub fn new(contract: Contract) -> Self {
        Self {
            contract,
            savings: 0,
            measures: VecDeque::with_capacity(MEASURES_MAX),
            calm_since_ns: None,
            patience_ns: PATIENCE_MIN_NS,
            recovered_ns: None,
        }
    }

    /// Returns what recording may cost.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Returns what is left out.
    pub fn in_force(&self) -> &'static [Saving] {
        &Saving::ALL[..self.savings]
    }

    /// Lets recording cost something else from now on; what is left out stays so until that is measured.
    pub fn set_contract(&mut self, contract: Contract) {
        if contract != self.contract {
            self.contract = contract;
            self.patience_ns = PATIENCE_MIN_NS;
            self.recovered_ns = None;
            self.begin_again();
        }
    }

    /// Takes in a measure and returns the step that is due. The caller takes it.
    ///
    /// `now_ns` never goes back.
    pub fn measured(&mut self, now_ns: u64, measure: Measure) -> Option<Change> {
        if self.measures.len() == MEASURES_MAX {
            self.measures.pop_front();
        }
        self.measures.push_back(measure);
        let worst = self.worst();
        if worst.is_some_and(|cause| cause.measured > cause.budget) {
            self.calm_since_ns = None;
            return self.begin(now_ns, worst);
        }
        // Three quarters of the budget, by the measure of now as well: an average is slow to see a storm.
        let is_calm = |cause: &Cause| cause.measured <= cause.budget / 4 * 3;
        let is_quiet = worst.as_ref().is_none_or(is_calm) && self.is_quiet(measure);
        if !is_quiet {
            self.calm_since_ns = None;
            return None;
        }
        let since_ns = *self.calm_since_ns.get_or_insert(now_ns);
        if self.patience_ns > PATIENCE_MIN_NS
            && let Some(recovered_ns) = self.recovered_ns
            && now_ns.saturating_sub(recovered_ns) >= HELD_NS
        {
            self.patience_ns = PATIENCE_MIN_NS;
        }
        if now_ns.saturating_sub(since_ns) < self.patience_ns {
            return None;
        }
        self.end(now_ns, worst)
    }

    fn begin(&mut self, now_ns: u64, cause: Option<Cause>) -> Option<Change> {
        let of_it = cause.map(|cause| cause.resource);
        let made = self
            .measures
            .iter()
            .filter_map(|measure| measure.of(of_it?));
        if made.count() < MEASURES_MIN {
            return None;
        }
        let saving = *Saving::ALL.get(self.savings)?;
        if let Some(recovered_ns) = self.recovered_ns.take()
            && now_ns.saturating_sub(recovered_ns) < HELD_NS
        {
            self.patience_ns = (self.patience_ns * 2).min(PATIENCE_MAX_NS);
        }
        self.savings += 1;
        self.begin_again();
        Some(Change {
            saving,
            begins: true,
            cause,
        })
    }

    fn end(&mut self, now_ns: u64, cause: Option<Cause>) -> Option<Change> {
        let saving = *self.in_force().last()?;
        self.savings -= 1;
        self.recovered_ns = Some(now_ns);
        self.begin_again();
        Some(Change {
            saving,
            begins: false,
            cause,
        })
    }

    /// Takes a step back that could not be taken.
    pub fn undo(&mut self, change: Change) {
        self.savings = change.saving as usize - usize::from(change.begins);
        if !change.begins {
            self.recovered_ns = None;
        }
    }

    /// What was measured before is no measure of how it is now.
    fn begin_again(&mut self) {
        self.measures.clear();
        self.calm_since_ns = None;
    }

    /// Returns what comes nearest to its budget, or is most beyond it, on average.
    pub fn worst(&self) -> Option<Cause> {
        let of = |resource: Resource| {
            let budget = self.contract.of(resource)?;
            let measured = self.average(resource)?;
            Some(Cause {
                resource,
                measured,
                budget,
            })
        };
        let part =
            |cause: &Cause| u128::from(cause.measured) * 1_000_000 / u128::from(cause.budget);
        Resource::ALL.into_iter().filter_map(of).max_by_key(part)
    }

    /// Returns the average of what was measured; `None` if nothing was.
    pub fn average(&self, resource: Resource) -> Option<u64> {
        let measures = self
            .measures
            .iter()
            .filter_map(|measure| measure.of(resource));
        let (sum, count) = measures.fold((0_u128, 0_u128), |(sum, count), amount| {
            (sum + u128::from(amount), count + 1)
        });
        let average = sum.checked_div(count)?;
        Some(u64::try_from(average).unwrap_or(u64::MAX))
    }

    fn is_quiet(&self, measure: Measure) -> bool {
        Resource::ALL.into_iter().all(|resource| {
            match (measure.of(resource), self.contract.of(resource)) {
                (Some(amount), Some(budget)) => amount <= budget,
                _ => true,
            }
        })
    }
}

#[cfg(test)]
mod tests;
