//! The names by which rules, collectors and targets of notifications refer to each other.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::file::{COLLECTOR, Loaded, NOTIFY, Origin};
use super::suggest::no_such;
use crate::evidence::Builtin;
use crate::rules::{Fault, RuleSpec};

/// Stands for no collector.
const NO_COLLECTOR: &str = "none";
/// The rule of whoever asks for a dump.
const MANUAL: &str = "manual";

/// The names that a rule may refer to.
#[derive(Clone, Debug)]
pub struct Names {
    collectors: Vec<String>,
    targets: Vec<String>,
}

impl Names {
    /// Returns those that a configuration defines.
    pub fn of(config: &super::RecordConfig) -> Self {
        let builtin = Builtin::ALL.map(|one| one.name().to_owned());
        let own = config.collectors.iter().map(|one| one.name.clone());
        let collectors = own.chain(builtin).chain([NO_COLLECTOR.to_owned()]);
        Self {
            collectors: collectors.collect(),
            targets: config.notify.iter().map(|one| one.name.clone()).collect(),
        }
    }

    /// Adds those that a file defines beside its rules.
    pub fn add_file(&mut self, text: &str) {
        let Ok(tables) = DeTable::parse(text) else {
            return;
        };
        for (table, content) in tables.get_ref() {
            let names = match table.get_ref().as_ref() {
                COLLECTOR => &mut self.collectors,
                NOTIFY => &mut self.targets,
                _ => continue,
            };
            let DeValue::Array(entries) = content.get_ref() else {
                continue;
            };
            let name = |entry: &DeValue<'_>| match entry.get("name").map(|name| name.get_ref()) {
                Some(DeValue::String(name)) => Some(name.to_string()),
                _ => None,
            };
            names.extend(entries.iter().filter_map(|entry| name(entry.get_ref())));
        }
    }

    /// Returns what rules refer to that is not there.
    pub fn faults(&self, rules: &[RuleSpec]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for rule in rules {
            for (key, what, named, known) in [
                (
                    "collectors",
                    "collector",
                    &rule.collectors,
                    &self.collectors,
                ),
                ("notify", "target", &rule.notify, &self.targets),
            ] {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let unknown = named
                    .iter()
                    .flatten()
                    .filter(|name| !known.contains(&name.as_str()));
                faults.extend(unknown.map(|name| rule.fault(key, no_such(what, name, &known))));
            }
        }
        faults
    }
}

/// Returns every name in a configuration that nothing has.
pub(super) fn faults(loaded: &Loaded) -> Vec<Fault> {
    let config = &loaded.config;
    let mut faults = Names::of(config).faults(&config.rules);
    let rules = config.rules.iter().map(|rule| rule.name.as_str());
    let rules: Vec<&str> = rules.chain([MANUAL]).collect();
    let place = |origin: Option<&Origin>| match origin {
        Some(Origin::File { path, line }) => (Some(path.clone()), *line),
        _ => (None::<PathBuf>, 0),
    };
    let mut add =
        |table: &str, name: &str, origin: Option<&Origin>, checked: Result<(), String>| {
            if let Err(what) = checked {
                let (path, line) = place(origin);
                let text = format!("{table} {name:?}: {what}");
                faults.push(Fault { path, line, text });
            }
        };
    for collector in &config.collectors {
        let origin = loaded.collectors.get(&collector.name);
        add(
            COLLECTOR,
            &collector.name,
            origin,
            collector.validate(&rules),
        );
    }
    for target in &config.notify {
        let origin = loaded.notify.get(&target.name);
        add(NOTIFY, &target.name, origin, target.validate_rules(&rules));
    }
    faults
}
