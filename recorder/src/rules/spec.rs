//! A rule as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{explained, line_of, parse_duration, text_of_duration};
use crate::incident::Severity;

/// The name of the tables that are rules.
pub const TABLE: &str = "rule";
/// The rules that every host has.
const BUILTIN: &str = include_str!("builtin.toml");

/// A rule as it is written in TOML; what it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// What it is called, in every dump that it makes.
    pub name: String,
    /// Type of the events that it looks at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What must be true of the event, in CEL; any event will do, if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How many such events it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The time in which so many must happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Time>,
    /// What must be the same in all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// What must be different in each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct: Option<Vec<String>>,
    /// How long it must be true of every sample.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Time>,
    /// How far back the dump reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Time>,
    /// How far the dump goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Time>,
    /// How long the same failure makes no further dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Time>,
    /// How grave it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Which collectors run; all that are for it, if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collectors: Option<Vec<String>>,
    /// Who is told; whoever is told of all, if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<String>>,
    /// Whether it is in force; true, if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
}

/// Where a rule and each of its keys is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file; `None` for the built-in ones.
    pub path: Option<PathBuf>,
    /// The line where it begins.
    pub line: usize,
    /// The file and line of each key.
    keys: BTreeMap<String, (Option<PathBuf>, usize)>,
}

impl Place {
    /// Returns where a key is, or the rule if it has none.
    pub fn of(&self, key: &str) -> (Option<&Path>, usize) {
        let (path, line) = match self.keys.get(key) {
            Some((path, line)) => (path, *line),
            None => (&self.path, self.line),
        };
        (path.as_deref(), line)
    }
}

/// What is wrong with a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file; `None` if it is in none.
    pub path: Option<PathBuf>,
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong, with the rule and the key.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}:{}: ", path.display(), self.line)?;
        }
        f.write_str(&self.text)
    }
}

impl RuleSpec {
    /// Returns a fault of one of its keys.
    pub fn fault(&self, key: &str, text: impl fmt::Display) -> Fault {
        let (path, line) = self.place.of(key);
        Fault {
            path: path.map(Path::to_owned),
            line,
            text: format!("rule {:?}: {key}: {text}", self.name),
        }
    }

    /// Takes over what another rule of the same name says.
    fn change(&mut self, by: Self) {
        let Self {
            name: _,
            event,
            when,
            count,
            within,
            by: group,
            distinct,
            lasting,
            before,
            after,
            cooldown,
            severity,
            tags,
            collectors,
            notify,
            enabled,
            place,
        } = by;
        fn take<T>(to: &mut Option<T>, from: Option<T>) {
            if from.is_some() {
                *to = from;
            }
        }
        take(&mut self.event, event);
        take(&mut self.when, when);
        take(&mut self.count, count);
        take(&mut self.within, within);
        take(&mut self.by, group);
        take(&mut self.distinct, distinct);
        take(&mut self.lasting, lasting);
        take(&mut self.before, before);
        take(&mut self.after, after);
        take(&mut self.cooldown, cooldown);
        take(&mut self.severity, severity);
        take(&mut self.tags, tags);
        take(&mut self.collectors, collectors);
        take(&mut self.notify, notify);
        take(&mut self.enabled, enabled);
        self.place.path = place.path;
        self.place.line = place.line;
        self.place.keys.extend(place.keys);
    }
}

/// Returns the built-in rules.
pub fn builtin() -> Vec<RuleSpec> {
    // Tested: they are part of the program.
    read_text(None, BUILTIN).unwrap_or_default()
}

/// Adds a rule, or changes the one that has its name.
pub fn add(rules: &mut Vec<RuleSpec>, rule: RuleSpec) {
    match rules.iter_mut().find(|one| one.name == rule.name) {
        Some(one) => one.change(rule),
        None => rules.push(rule),
    }
}

/// Reads the rules of a text that has nothing else.
///
/// # Errors
///
/// The first that is none.
pub fn read_text(path: Option<&Path>, text: &str) -> Result<Vec<RuleSpec>, Fault> {
    let fault = |span: Range<usize>, what: String| Fault {
        path: path.map(Path::to_owned),
        line: line_of(text, span.start),
        text: what,
    };
    let tables = DeTable::parse(text).map_err(|error| {
        let message: Vec<&str> = error.message().lines().collect();
        fault(error.span().unwrap_or_default(), message.join(", "))
    })?;
    let mut rules = Vec::new();
    for (table, content) in tables.get_ref() {
        if table.get_ref() == TABLE {
            rules.extend(read(path, text, content)?);
        }
    }
    Ok(rules)
}

/// Reads the rules in the list of a file's rules.
///
/// # Errors
///
/// The first that is none.
pub fn read(
    path: Option<&Path>,
    text: &str,
    list: &Spanned<DeValue<'_>>,
) -> Result<Vec<RuleSpec>, Fault> {
    let fault = |span: Range<usize>, what: String| Fault {
        path: path.map(Path::to_owned),
        line: line_of(text, span.start),
        text: what,
    };
    let DeValue::Array(rules) = list.get_ref() else {
        return Err(fault(list.span(), "rule: write [[rule]]".to_owned()));
    };
    let one = |rule: &Spanned<DeValue<'_>>| {
        let deserializer = rule.clone().into_deserializer();
        let mut spec = RuleSpec::deserialize(deserializer).map_err(|error: toml::de::Error| {
            let span = error.span().unwrap_or_else(|| rule.span());
            fault(span, explained(TABLE, error.message()))
        })?;
        spec.place.path = path.map(Path::to_owned);
        spec.place.line = line_of(text, rule.span().start);
        if let DeValue::Table(keys) = rule.get_ref() {
            for (key, value) in keys {
                let line = line_of(text, value.span().start);
                let place = (path.map(Path::to_owned), line);
                spec.place.keys.insert(key.get_ref().to_string(), place);
            }
        }
        let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &spec.name;
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_fit) {
            return Err(spec.fault("name", "write 1 to 64 of a-z, 0-9 and -"));
        }
        Ok(spec)
    };
    rules.iter().map(one).collect()
}

/// A time, written with its unit: "60s".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = parse_duration(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(time))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text_of_duration(self.0))
    }
}
