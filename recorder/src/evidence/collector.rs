//! Collectors: what runs when an incident opens, and within which limits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::builtin::Builtin;
use crate::config::{Bytes, no_such, parse_duration, text_of_duration};
use crate::redact::Rules;

/// A collector that the configuration defines.
///
/// ```toml
/// [[collector]]
/// name = "threads.txt"
/// command = ["jcmd", "1", "Thread.print"]
/// timeout = "10s"
/// max_bytes = "4MiB"
/// rules = ["task-hung", "manual"]
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// Its name, and that of its output in the dump. A later one of the same name takes its place.
    pub name: String,
    /// Program and arguments. No shell is between.
    pub command: Vec<String>,
    /// Whose processes it runs as, by name: with that user's group and no other; as the recorder's own, if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it may take.
    #[serde(
        default = "timeout",
        serialize_with = "write_duration",
        deserialize_with = "read_duration"
    )]
    pub timeout: Duration,
    /// How much of its output is kept.
    #[serde(default = "max_bytes", serialize_with = "write_bytes")]
    pub max_bytes: Bytes,
    /// How much memory each process of it may write to.
    #[serde(default = "memory", serialize_with = "write_bytes")]
    pub memory: Bytes,
    /// For which rules it runs; for all, if none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Whether it runs.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Variables of its environment, beside those that describe the incident. Their values are kept out of dumps.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "write_names"
    )]
    pub environment: BTreeMap<String, String>,
}

/// How evidence is collected.
#[derive(Clone, Debug)]
pub struct EvidenceConfig {
    /// Collectors that are built in, by name.
    pub builtin: Vec<String>,
    /// Those that the configuration defines.
    pub collectors: Vec<Collector>,
    /// Most bytes for one incident.
    pub max_bytes: u64,
    /// Most collectors at once.
    pub parallel: usize,
    /// Free space that stays on the file system.
    pub keep_free_bytes: u64,
    /// What is hidden of commands in the report.
    pub rules: Rules,
}

/// A collector as it will run.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) work: Work,
    pub(super) timeout: Duration,
    pub(super) max_bytes: u64,
    pub(super) memory_bytes: u64,
    /// For all rules, if empty.
    pub(super) rules: Vec<String>,
}

/// What a collector is.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Builtin(Builtin),
    Command {
        command: Vec<String>,
        /// The command as it is told of.
        shown: Vec<String>,
        user: Option<String>,
        environment: BTreeMap<String, String>,
    },
}

/// Longest time for a built-in collector: it has nothing to wait for but a kernel that hangs.
const BUILTIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Most output of a built-in collector.
const BUILTIN_BYTES: u64 = 1 << 20;
/// Memory for a built-in collector.
const BUILTIN_MEMORY: u64 = 64 << 20;
/// Longest name.
const NAME_MAX: usize = 64;
/// Longest time that a collector may be given.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn max_bytes() -> Bytes {
    Bytes(1 << 20)
}

fn memory() -> Bytes {
    Bytes(256 << 20)
}

fn enabled() -> bool {
    true
}

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text_of_duration(*duration))
}

fn write_bytes<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(bytes)
}

/// Writes the names alone: a value may be a password.
fn write_names<S: Serializer>(
    map: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.keys().map(|name| (name, "(hidden)")))
}

impl Collector {
    /// Checks it by itself; `rules` are the names of all rules.
    ///
    /// # Errors
    ///
    /// What is wrong, with the key.
    pub fn validate(&self, rules: &[&str]) -> Result<(), String> {
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.name.is_empty()
            || self.name.len() > NAME_MAX
            || self.name.starts_with('.')
            || !self.name.bytes().all(is_harmless)
        {
            return Err(format!(
                "name {:?}: write 1 to {NAME_MAX} letters, digits, '.', '_' or '-'",
                self.name
            ));
        }
        if Builtin::ALL
            .iter()
            .any(|builtin| builtin.file() == self.name)
        {
            return Err(format!("name {:?}: a built-in collector has it", self.name));
        }
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command: write a program and its arguments: [\"jcmd\", \"1\"]".into());
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return Err("command: arguments have no NUL".into());
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err("timeout: write a time of at most \"10m\"".into());
        }
        if self.max_bytes.0 == 0 {
            return Err("max_bytes 0: then there is nothing to keep".into());
        }
        if self.user.as_ref().is_some_and(String::is_empty) {
            return Err("user: write the name of a user of this host".into());
        }
        let bad = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = self.environment.keys().find(bad) {
            return Err(format!("environment: {name:?} is no name of a variable"));
        }
        for rule in &self.rules {
            if !rules.contains(&rule.as_str()) {
                return Err(format!("rules: {}", no_such("rule", rule, rules)));
            }
        }
        Ok(())
    }
}

impl EvidenceConfig {
    /// Returns every collector that runs, in order.
    pub(super) fn plan(&self) -> Vec<Planned> {
        let builtin = Builtin::ALL
            .into_iter()
            .filter(|builtin| self.builtin.iter().any(|name| name == builtin.name()))
            .map(|builtin| Planned {
                name: builtin.file().to_owned(),
                work: Work::Builtin(builtin),
                timeout: BUILTIN_TIMEOUT,
                max_bytes: BUILTIN_BYTES,
                memory_bytes: BUILTIN_MEMORY,
                rules: Vec::new(),
            });
        let own = self.collectors.iter().filter(|one| one.enabled);
        let own = own.map(|collector| Planned {
            name: collector.name.clone(),
            work: Work::Command {
                command: collector.command.clone(),
                shown: self.rules.hidden(&collector.command),
                user: collector.user.clone(),
                environment: collector.environment.clone(),
            },
            timeout: collector.timeout,
            max_bytes: collector.max_bytes.0,
            memory_bytes: collector.memory.0,
            rules: collector.rules.clone(),
        });
        builtin.chain(own).collect()
    }
}
