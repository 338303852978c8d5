//! The head of `show` from one reading of a dump, whoever reads it.

use super::facts::Facts;
use super::story;
use super::survey::{Sought, Survey};
use crate::cli::text::Palette;
use crate::death::DeathsOf;
use crate::read::{Damages, Entry};
use crate::view::Story;

/// What a reading has found so far.
pub struct Overview {
    facts: Facts,
    survey: Survey,
    deaths: DeathsOf,
}

impl Overview {
    /// Starts before the first event of a dump.
    pub fn of(facts: Facts) -> Self {
        let subject = facts
            .incident
            .as_ref()
            .map(|incident| incident.subject.clone());
        Self {
            deaths: DeathsOf::new(
                &subject.unwrap_or_default(),
                facts.trigger_unix_ns.unwrap_or(u64::MAX),
            ),
            survey: Survey::default(),
            facts,
        }
    }

    /// Returns what the dump holds.
    pub fn finish(mut self) -> Survey {
        self.survey.deaths = self.deaths.finish();
        self.survey
    }
}

impl Story for Overview {
    fn take(&mut self, entry: &Entry) {
        let incident = self.facts.incident.as_ref();
        let sought = incident
            .zip(self.facts.trigger_unix_ns)
            .map(|(incident, trigger_unix_ns)| Sought {
                incident,
                trigger_unix_ns,
            });
        self.survey.take(entry, sought.as_ref());
        self.deaths.take(entry.order, entry.unix_ns, &entry.body);
    }

    fn tell(&mut self, damages: &Damages) -> String {
        self.survey.deaths = self.deaths.finish();
        story::tell(&self.facts, &self.survey, damages, Palette::PLAIN)
    }
}
