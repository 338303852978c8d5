//! Targets, as the configuration defines them.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Notice;
use super::message::Shape;
use crate::config::{no_such, parse_duration, text_of_duration};
use crate::incident::Severity;

/// Somebody, or something, that is told of incidents.
///
/// ```toml
/// [[notify]]
/// name = "on-call"
/// kind = "webhook"
/// shape = "pagerduty"
/// url = "https://events.pagerduty.com/v2/enqueue"
/// secret_file = "/etc/recorder/pagerduty.key"
/// min_severity = "high"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name. A later one of the same name takes its place.
    pub name: String,
    /// How it is told.
    pub kind: Kind,
    /// Of what it is told.
    #[serde(default = "occasions")]
    pub events: Vec<Occasion>,
    /// Of which incidents: those at least as grave.
    #[serde(default = "least")]
    pub min_severity: Severity,
    /// Of which rules; of all, if none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Whether it is told.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// How long one attempt may take.
    #[serde(
        default = "timeout",
        serialize_with = "write_duration",
        deserialize_with = "read_duration"
    )]
    pub timeout: Duration,
    /// How long it is tried again and again.
    #[serde(
        default = "retry_for",
        serialize_with = "write_duration",
        deserialize_with = "read_duration"
    )]
    pub retry_for: Duration,
    /// exec: program and arguments. No shell is between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// webhook: where to. What is behind the host may be a secret and is not shown.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_url"
    )]
    pub url: Option<String>,
    /// webhook: a file with the URL, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// webhook: how the body is shaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// webhook: a file with the token, for the header Authorization or for PagerDuty's routing_key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// webhook: a variable of the agent's environment with the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// webhook: the certificates to trust, in PEM, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// journal, syslog: another socket than the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// syslog: how a line is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SyslogFormat>,
}

/// How a target is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A program, with the notice as JSON on its standard input.
    Exec,
    /// A POST request.
    Webhook,
    /// An entry of the systemd journal.
    Journal,
    /// A line of the system's log.
    Syslog,
}

impl Kind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Webhook => "webhook",
            Self::Journal => "journal",
            Self::Syslog => "syslog",
        }
    }
}

/// What may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// An incident has opened: its window is not over yet.
    Incident,
    /// Its dump is durable.
    Dump,
    /// No dump of it could be written.
    DumpFailed,
    /// Nothing: somebody tries the target.
    #[serde(skip_deserializing)]
    Test,
}

impl Occasion {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Dump => "dump",
            Self::DumpFailed => "dump-failed",
            Self::Test => "test",
        }
    }
}

/// How a line of the system's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogFormat {
    /// As the C library does: what every daemon on a local socket understands.
    #[default]
    Rfc3164,
    /// With structured data.
    Rfc5424,
}

/// Longest name.
const NAME_MAX: usize = 64;
/// Longest attempt.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// Longest time for all attempts.
const RETRY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn occasions() -> Vec<Occasion> {
    vec![Occasion::Incident, Occasion::Dump, Occasion::DumpFailed]
}

fn least() -> Severity {
    Severity::Low
}

fn enabled() -> bool {
    true
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn retry_for() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text_of_duration(*duration))
}

/// Writes a URL up to its host: many services have a token in the path.
fn write_url<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let uri = url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    let shown = uri.and_then(|uri| Some((uri.scheme_str()?.to_owned(), uri.host()?.to_owned())));
    match shown {
        Some((scheme, host)) => serializer.collect_str(&format_args!("{scheme}://{host}/(hidden)")),
        None => serializer.serialize_str("(hidden)"),
    }
}

impl Target {
    /// Tells whether it wants to hear of this.
    pub fn wants(&self, notice: &Notice) -> bool {
        let is_named = match &notice.targets {
            Some(targets) => targets.contains(&self.name),
            None => true,
        };
        self.enabled
            && is_named
            && self.events.contains(&notice.event)
            && notice.severity >= self.min_severity
            && (self.rules.is_empty() || self.rules.contains(&notice.rule))
    }

    /// Checks it by itself.
    ///
    /// # Errors
    ///
    /// What is wrong, with the key.
    pub fn validate(&self) -> Result<(), String> {
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.name.is_empty() || self.name.len() > NAME_MAX || !self.name.bytes().all(is_harmless)
        {
            return Err(format!(
                "name {:?}: write 1 to {NAME_MAX} letters, digits, '.', '_' or '-'",
                self.name
            ));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err("timeout: write a time of at most \"5m\"".to_owned());
        }
        if self.retry_for > RETRY_MAX {
            return Err("retry_for: write a time of at most \"168h\"".to_owned());
        }
        if self.events.is_empty() {
            return Err("events: empty: then it is told nothing; write enabled = false".to_owned());
        }
        self.validate_keys()?;
        match self.kind {
            Kind::Exec => match self.command.first() {
                Some(program) if program.starts_with('/') => Ok(()),
                _ => Err("command: write a program by its path, and its arguments: [\"/usr/bin/logger\", \"incident\"]".to_owned()),
            },
            Kind::Webhook => self.validate_webhook(),
            Kind::Journal | Kind::Syslog => Ok(()),
        }
    }

    /// Refuses what the kind has no use for.
    fn validate_keys(&self) -> Result<(), String> {
        use Kind::{Exec, Journal, Syslog, Webhook};
        let keys: [(&str, bool, &[Kind]); 9] = [
            ("command", !self.command.is_empty(), &[Exec]),
            ("url", self.url.is_some(), &[Webhook]),
            ("url_file", self.url_file.is_some(), &[Webhook]),
            ("shape", self.shape.is_some(), &[Webhook]),
            ("secret_file", self.secret_file.is_some(), &[Webhook]),
            ("secret_env", self.secret_env.is_some(), &[Webhook]),
            ("ca_file", self.ca_file.is_some(), &[Webhook]),
            ("socket", self.socket.is_some(), &[Journal, Syslog]),
            ("format", self.format.is_some(), &[Syslog]),
        ];
        for (key, is_given, kinds) in keys {
            if is_given && !kinds.contains(&self.kind) {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                return Err(format!("{key}: only for kind {}", kinds.join(", ")));
            }
        }
        Ok(())
    }

    fn validate_webhook(&self) -> Result<(), String> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => {
                check_url(url)?;
            }
            (None, Some(_)) => {}
            (None, None) => return Err("url: write where to, or url_file".to_owned()),
            (Some(_), Some(_)) => return Err("url, url_file: write one of them".to_owned()),
        }
        let has_secret = match (&self.secret_file, &self.secret_env) {
            (Some(_), Some(_)) => {
                return Err("secret_file, secret_env: write one of them".to_owned());
            }
            (None, None) => false,
            _ => true,
        };
        if self.shape == Some(Shape::Pagerduty) && !has_secret {
            return Err(
                "shape \"pagerduty\": write secret_file or secret_env, for the routing key"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Checks the names of rules against those that there are.
    ///
    /// # Errors
    ///
    /// Which does not exist, and which may be meant.
    pub fn validate_rules(&self, rules: &[&str]) -> Result<(), String> {
        for rule in &self.rules {
            if !rules.contains(&rule.as_str()) {
                return Err(format!("rules: {}", no_such("rule", rule, rules)));
            }
        }
        Ok(())
    }
}

/// Reads the URL of a webhook; says nothing of it, for it may be a secret.
pub(super) fn check_url(url: &str) -> Result<Uri, String> {
    let wanted = "write it as \"https://host/path\"";
    let uri: Uri = url.parse().map_err(|_| format!("url: {wanted}"))?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    match uri.authority() {
        Some(authority) if is_known && !authority.as_str().contains('@') => Ok(uri),
        Some(_) if is_known => {
            Err("url: no user or password in it; a token goes to secret_file".to_owned())
        }
        _ => Err(format!("url: {wanted}")),
    }
}
