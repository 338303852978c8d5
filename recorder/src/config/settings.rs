//! Every setting: where it stands in a file, and which flag goes before it.
//!
//! A setting is one line of [`SETTINGS`]; its key is the flag's name, in the table that it belongs to. What a value may be
//! is the flag's own parser.

use std::net::SocketAddr;
use std::time::Duration;

use toml::Value;
use toml::de::DeValue;

use crate::budget::Share;

use super::{Bytes, RecordConfig, RuleWindow, SocketMode, duration, text_of_duration};

/// A setting.
pub struct Setting {
    /// Its key in a file, with its table: "window.before".
    pub key: &'static str,
    /// Its flag, without dashes, as the command line's parser knows it: "before".
    pub flag: &'static str,
    get: fn(&RecordConfig) -> Option<Value>,
    set: fn(&mut RecordConfig, &DeValue<'_>) -> Result<(), String>,
    copy: fn(&mut RecordConfig, &RecordConfig),
}

impl Setting {
    /// Returns the value as it would stand in a file; `None` if there is none.
    pub fn get(&self, config: &RecordConfig) -> Option<Value> {
        (self.get)(config)
    }

    /// Takes the value that stands in a file.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn set(&self, config: &mut RecordConfig, value: &DeValue<'_>) -> Result<(), String> {
        (self.set)(config, value)
    }

    /// Takes the value that another configuration has.
    pub fn copy(&self, to: &mut RecordConfig, from: &RecordConfig) {
        (self.copy)(to, from);
    }

    /// Returns the flag as people write it: "--max-dump-bytes".
    pub fn flag(&self) -> String {
        format!("--{}", self.flag.replace('_', "-"))
    }
}

macro_rules! settings {
    ($($key:literal $field:ident),* $(,)?) => {
        [$(Setting {
            key: $key,
            flag: stringify!($field),
            get: |config| config.$field.to_toml(),
            set: |config, value| {
                config.$field = FromToml::from_toml(value)?;
                Ok(())
            },
            copy: |to, from| to.$field.clone_from(&from.$field),
        }),*]
    };
}

/// Every setting, by table, in the order in which `recorder config show` prints them.
pub static SETTINGS: &[Setting] = &settings! {
    "host.environment" environment,
    "window.before" before,
    "window.after" after,
    "window.rules" rule_window,
    "incident.cooldown" cooldown,
    "incident.watch" watch,
    "limits.dumps_per_hour" limit_dumps_per_hour,
    "limits.bytes_per_day" limit_bytes_per_day,
    "limits.failures_per_second" limit_failures_per_second,
    "limits.processes_per_second" limit_processes_per_second,
    "memory.failure_bytes" failure_bytes,
    "memory.lifecycle_bytes" lifecycle_bytes,
    "memory.sample_bytes" sample_bytes,
    "memory.max_age" max_age,
    "memory.ring_sync" ring_sync,
    "budget.cpu" budget_cpu,
    "budget.probe_ns" budget_probe_ns,
    "budget.memory" budget_memory,
    "samples.interval" sample_interval,
    "samples.kernel_log_ignore" kernel_log_ignore,
    "dumps.max_dump_bytes" max_dump_bytes,
    "dumps.max_bytes" dumps_max_bytes,
    "dumps.max_count" dumps_max_count,
    "dumps.max_age" dumps_max_age,
    "dumps.keep_free" dumps_keep_free,
    "dumps.keep_free_percent" dumps_keep_free_percent,
    "dumps.fallback" dumps_fallback,
    "dumps.sign_key" dumps_sign_key,
    "redact.words" redact_word,
    "redact.no_defaults" no_default_redaction,
    "redact.no_stack_memory" no_stack_memory,
    "evidence.enabled" evidence,
    "evidence.builtin" evidence_builtin,
    "evidence.max_bytes" evidence_max_bytes,
    "evidence.grace" evidence_grace,
    "evidence.parallel" evidence_parallel,
    "api.socket_mode" socket_mode,
    "api.socket_group" socket_group,
    "api.metrics_listen" metrics_listen,
};

/// A value that a file can hold.
trait FromToml: Sized {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
    fn to_toml(&self) -> Option<Value>;
}

fn wrong(value: &DeValue<'_>, wanted: &str) -> String {
    format!("{wanted}, not {}", kind(value))
}

/// Returns what kind of value it is, in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a bare number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl FromToml for Duration {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => duration(text),
            None => Err(wrong(value, "write a time with its unit: \"60s\"")),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(text_of_duration(*self).into())
    }
}

impl FromToml for Bytes {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().map(str::to_owned);
        match text.or_else(|| Some(value.as_integer()?.to_string())) {
            Some(text) => text.parse(),
            None => Err(wrong(value, "write a size: \"48MiB\"")),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.to_string().replace(' ', "").into())
    }
}

impl FromToml for Share {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => Err(wrong(value, "write a share of one core in percent: \"1%\"")),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl FromToml for RuleWindow {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => Err(wrong(
                value,
                "write a rule and its window: \"oom-kill=5m/10s\"",
            )),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl FromToml for u64 {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().map(ToString::to_string);
        number
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| "write a number that is not negative".to_owned())
    }

    fn to_toml(&self) -> Option<Value> {
        // What does not fit was given by a flag: nobody means it as a number.
        Some(i64::try_from(*self).unwrap_or(i64::MAX).into())
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| wrong(value, "write true or false"))
    }

    fn to_toml(&self) -> Option<Value> {
        Some((*self).into())
    }
}

impl FromToml for SocketMode {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => Err(wrong(value, "write a mode in quotes: \"0660\"")),
        }
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl FromToml for SocketAddr {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| "write an address and a port: \"127.0.0.1:9464\"".to_owned())
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl FromToml for String {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| wrong(value, "write a text in quotes"))
    }

    fn to_toml(&self) -> Option<Value> {
        Some(self.as_str().into())
    }
}

impl<T: FromToml> FromToml for Option<T> {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn to_toml(&self) -> Option<Value> {
        self.as_ref().and_then(FromToml::to_toml)
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let list = value
            .as_array()
            .ok_or_else(|| wrong(value, "write a list: [\"one\", \"two\"]"))?;
        list.iter().map(|one| T::from_toml(one.get_ref())).collect()
    }

    fn to_toml(&self) -> Option<Value> {
        let list: Option<Vec<Value>> = self.iter().map(FromToml::to_toml).collect();
        list.map(Value::Array)
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn every_flag_is_a_setting_and_every_setting_a_flag() {
        let command = RecordConfig::augment_args(clap::Command::new("recorder"));
        let flags: Vec<&str> = command
            .get_arguments()
            .map(|argument| argument.get_id().as_str())
            .collect();
        for flag in &flags {
            let known = SETTINGS.iter().any(|setting| setting.flag == *flag);
            assert!(known, "{flag} is missing from SETTINGS");
        }
        for setting in SETTINGS {
            assert!(flags.contains(&setting.flag), "{} has no flag", setting.key);
            assert!(setting.key.contains('.'), "{} has no table", setting.key);
        }
    }

    #[test]
    fn times_are_written_in_the_largest_unit_that_is_exact() {
        for text in ["60s", "1500ms", "7us", "3ns"] {
            let value = duration(text).expect("valid").to_toml();
            assert_eq!(value, Some(text.into()));
        }
        assert_eq!(Bytes(48 << 20).to_toml(), Some("48MiB".into()));
    }
}
