//! What all events of one dump have in common.

use crate::dump::{CLOCKS, COVERAGE, Clocks, Coverage, HOST, Host, LOSS, LossLedger};
use crate::event::Body;
use crate::incident::Incident;
use crate::read::Dump;

use super::Envelope;

/// What all events of one dump have in common. What is gone from a broken dump is absent.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Name of the dump's file.
    pub file: String,
    /// The host that recorded it.
    pub host: Option<Host>,
    /// What it is about.
    pub incident: Option<Incident>,
    /// Id of the incident as text.
    pub incident_id: Option<String>,
    /// Boot time and wall clock.
    pub clocks: Option<Clocks>,
    /// What it covers.
    pub coverage: Option<Coverage>,
    /// What was lost.
    pub loss: Option<LossLedger>,
    /// Says what happened, in one line that is harmless to a terminal.
    pub describe: fn(&Body) -> String,
}

impl Origin {
    /// Takes it out of a dump.
    pub fn of(dump: &Dump, describe: fn(&Body) -> String) -> Self {
        let incident = dump.incident();
        let file = dump.path().file_name().unwrap_or_default();
        Self {
            file: file.to_string_lossy().into_owned(),
            host: dump.metadata(HOST),
            incident_id: incident.as_ref().map(|incident| incident.id.to_string()),
            incident,
            clocks: dump.metadata(CLOCKS),
            coverage: dump.metadata(COVERAGE),
            loss: dump.metadata(LOSS),
            describe,
        }
    }

    /// Returns what the JSON lines of the dump begin with.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            environment: self.environment(),
            host: self.hostname(),
            incident: self.incident_id.as_deref(),
        }
    }

    /// Returns the name of the host.
    pub fn hostname(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.hostname.as_str())
    }

    /// Returns the label of the host's environment.
    pub fn environment(&self) -> Option<&str> {
        self.host.as_ref()?.environment.as_deref()
    }

    /// Returns the boot id without dashes, as systemd writes it, if it is one.
    pub fn boot_id(&self) -> Option<String> {
        id128(&self.host.as_ref()?.boot_id)
    }

    /// Returns the machine id, if it is one.
    pub fn machine_id(&self) -> Option<String> {
        id128(self.host.as_ref()?.machine_id.as_deref()?)
    }

    /// Returns the time since boot at a wall-clock time.
    pub fn boot_ns(&self, unix_ns: u64) -> Option<u64> {
        Some(self.clocks?.freeze.boot_ns_at(unix_ns))
    }

    /// Returns when the trigger was, by the wall clock.
    pub fn trigger_unix_ns(&self) -> Option<u64> {
        let incident = self.incident.as_ref()?;
        Some(self.clocks?.freeze.unix_ns_at(incident.trigger.boot_ns))
    }
}

/// Returns 32 hex digits, if it is that many with or without dashes.
fn id128(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let is_id = digits.len() == 32 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits_whatever_else_a_file_says() {
        let id = "01234567-89AB-cdef-0123-456789abcdef";
        assert_eq!(
            id128(id).as_deref(),
            Some("0123456789abcdef0123456789abcdef")
        );
        assert_eq!(id128("0123\nINJECTED=1"), None);
        assert_eq!(id128(""), None);
    }
}
