//! What recording may cost.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A share of one core, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u64);

impl Share {
    /// Most that can be written: more than any host has.
    const MAX: Self = Self(8192 * 1_000_000);

    /// Returns what `ns` of CPU time are of `elapsed_ns`.
    pub fn of(ns: u64, elapsed_ns: u64) -> Self {
        let millionths = u128::from(ns) * 1_000_000 / u128::from(elapsed_ns.max(1));
        Self(u64::try_from(millionths).unwrap_or(u64::MAX))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write a share of one core in percent, from 0.01% on: \"1%\", or \"0%\" for any"
                .to_owned()
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |text: &str| {
            (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        // Percent have ten thousand millionths each: four digits behind the point.
        if !(is_digits(part) && (is_digits(whole) || whole.len() == 5 || whole.len() == 6)) {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = format!("{part:0<4}").parse().map_err(|_| wrong())?;
        let share = Self(whole * 10_000 + part);
        if share > Self::MAX || (1..100).contains(&share.0) {
            return Err(wrong());
        }
        Ok(share)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        let part = format!("{part:04}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

/// As a dump's description of the configuration has it: the text of the file.
impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What recording may cost; 0 for any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// CPU time of the threads that record and of the probes, as a share of one core.
    pub cpu: Share,
    /// Time that a run of the dearest probe of processes takes on average, in nanoseconds.
    pub probe_ns: u64,
    /// Memory of the agent's own, in bytes.
    pub memory_bytes: u64,
}

/// Something that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU time.
    Cpu,
    /// Time of a probe.
    ProbeNs,
    /// Memory.
    Memory,
}

impl Resource {
    /// Every one, in the order in which they are looked at.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::ProbeNs, Self::Memory];

    /// Returns its name, which is that of its setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::ProbeNs => "probe_ns",
            Self::Memory => "memory",
        }
    }

    /// Says an amount of it.
    pub fn words(self, amount: u64) -> String {
        match self {
            // Of one core; two digits are enough for who reads a sentence.
            Self::Cpu => format!("{:.2} %", amount as f64 / 1e4),
            Self::ProbeNs => format!("{amount} ns a run"),
            Self::Memory => crate::units::bytes(amount),
        }
    }
}

impl Contract {
    /// Returns how much of it there may be, in the unit of its field; `None` for any.
    pub fn of(&self, resource: Resource) -> Option<u64> {
        let limit = match resource {
            Resource::Cpu => self.cpu.0,
            Resource::ProbeNs => self.probe_ns,
            Resource::Memory => self.memory_bytes,
        };
        (limit > 0).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written() {
        for (text, millionths) in [
            ("0%", 0),
            ("1%", 10_000),
            ("0.01%", 100),
            ("12.5%", 125_000),
            ("800%", 8_000_000),
            ("0.0123%", 123),
        ] {
            let share: Share = text.parse().expect(text);
            assert_eq!(share.0, millionths, "{text}");
            assert_eq!(share.to_string(), text);
        }
        assert_eq!("2.50%".parse(), Ok(Share(25_000)));
        assert_eq!("2 %".parse(), Ok(Share(20_000)));
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in [
            "", "%", "1", "-1%", "+1%", "1,5%", "0.00001%", "0.001%", ".5%", "1.%", "1e3%", "1%%",
            "half", "999999%", "9999999%", "٣%",
        ] {
            let error = text.parse::<Share>().expect_err(text);
            assert!(error.contains("\"1%\""), "{text}: {error}");
        }
    }

    #[test]
    fn a_share_of_time_is_in_millionths() {
        assert_eq!(Share::of(10_000_000, 1_000_000_000), Share(10_000));
        assert_eq!(Share::of(0, 0), Share(0));
        assert_eq!(Share::of(u64::MAX, 1), Share(u64::MAX));
    }
}
