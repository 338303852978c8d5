//! Access to what is inside JSON: the only place that knows how values are written.

use std::fmt::Display;

use jiff::Timestamp;
use serde_json::Value;

/// A JSON document, with access by path that fails with the whole document.
#[derive(Clone, Debug)]
pub struct Json(Value);

/// An event as JSON Lines have it.
pub type Event = Json;

impl Json {
    /// Wraps a document.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// Parses a document.
    ///
    /// # Panics
    ///
    /// If `text` is not JSON.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(value) => Self(value),
            Err(error) => panic!("not JSON ({error}): {text:?}"),
        }
    }

    /// Returns the document itself.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Returns what is at `path`: names and indexes with dots between them. `None` if nothing or null is there.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut value = &self.0;
        for name in path.split('.') {
            value = match name.parse::<usize>() {
                Ok(index) if value.is_array() => value.get(index)?,
                Ok(_) | Err(_) => value.get(name)?,
            };
        }
        Some(value).filter(|value| !value.is_null())
    }

    /// Returns what is at `path` as a document of its own.
    #[track_caller]
    pub fn at(&self, path: &str) -> Self {
        Self(self.must(path).clone())
    }

    /// Returns the documents in the array at `path`; an array that is absent is empty.
    #[track_caller]
    pub fn all(&self, path: &str) -> Vec<Self> {
        let Some(value) = self.get(path) else {
            return Vec::new();
        };
        let array = value.as_array();
        let array = array.unwrap_or_else(|| self.fail(path, "is no array"));
        array.iter().cloned().map(Self).collect()
    }

    /// Returns the string at `path`.
    #[track_caller]
    pub fn str(&self, path: &str) -> &str {
        let value = self.must(path).as_str();
        value.unwrap_or_else(|| self.fail(path, "is no string"))
    }

    /// Returns the number at `path`.
    #[track_caller]
    pub fn number(&self, path: &str) -> i128 {
        let value = self.must(path);
        let number = value.as_i64().map(i128::from);
        let number = number.or_else(|| value.as_u64().map(i128::from));
        number.unwrap_or_else(|| self.fail(path, "is no whole number"))
    }

    /// Returns the number at `path`, or 0 if it is absent.
    #[track_caller]
    pub fn count(&self, path: &str) -> i128 {
        if self.get(path).is_some() {
            self.number(path)
        } else {
            0
        }
    }

    /// Returns how often, as a status says, the kernel did not run a program because the CPU was inside it already. Kernels from 7.0 on
    /// do so where a probe is preempted; an emulated processor is slow enough for that to happen.
    #[track_caller]
    pub fn skipped(&self, program: &str) -> i128 {
        self.count(&format!("skipped.{program}"))
    }

    /// Whether a status says that all is recorded but what the kernel skipped.
    #[track_caller]
    pub fn is_recording(&self) -> bool {
        let is_skip = |reason: &Self| reason.str("code") == "skipped-events";
        match self.str("state") {
            "degraded" => self.all("reasons").iter().all(is_skip),
            state => state == "recording",
        }
    }

    /// Expects a status to say so.
    #[track_caller]
    pub fn expect_recording(&self) {
        assert!(self.is_recording(), "it does not record: {self}");
    }

    /// Returns the address at `path`, which is written "0x...".
    #[track_caller]
    pub fn address(&self, path: &str) -> u64 {
        let digits = self.str(path).strip_prefix("0x");
        let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        address.unwrap_or_else(|| self.fail(path, "is no address"))
    }

    /// Returns whether `path` holds true; what is absent is false.
    pub fn is_true(&self, path: &str) -> bool {
        self.get(path) == Some(&Value::Bool(true))
    }

    /// Returns the point in time at `path`, in RFC 3339.
    #[track_caller]
    pub fn time(&self, path: &str) -> Timestamp {
        let time = self.str(path).parse();
        time.unwrap_or_else(|error| self.fail(path, &format!("is no point in time: {error}")))
    }

    /// Compares what is at `path` with what it must be.
    #[track_caller]
    pub fn expect(&self, path: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let found = self.must(path);
        if *found != expected {
            self.fail(path, &format!("is {found}, not {expected}"));
        }
    }

    /// Compares what is at `path` with the same of `other`, at `other_path`.
    #[track_caller]
    pub fn expect_same(&self, path: &str, other: &Self, other_path: &str) {
        self.expect(path, other.must(other_path).clone());
    }

    /// Demands that nothing is at `path`.
    #[track_caller]
    pub fn expect_absent(&self, path: &str) {
        if let Some(found) = self.get(path) {
            self.fail(path, &format!("is {found} where nothing was expected"));
        }
    }

    /// Demands that the number at `path` lies in `range`.
    #[track_caller]
    pub fn expect_within(&self, path: &str, range: std::ops::RangeInclusive<i128>) {
        let found = self.number(path);
        if !range.contains(&found) {
            self.fail(path, &format!("is {found}, not within {range:?}"));
        }
    }

    /// Returns the value of a register of a fault.
    #[track_caller]
    pub fn register(&self, name: &str) -> u64 {
        self.address(&format!("body.registers.{name}"))
    }

    #[track_caller]
    fn must(&self, path: &str) -> &Value {
        self.get(path)
            .unwrap_or_else(|| self.fail(path, "is missing"))
    }

    #[track_caller]
    fn fail(&self, path: &str, what: &str) -> ! {
        panic!("{path} {what}. All there is:\n{self}");
    }
}

impl Display for Json {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Json {
        Json::new(json!({
            "type": "signal.fatal",
            "timestamp": "2026-11-23T09:00:00.123456789Z",
            "body": {
                "fault_address": "0xdeadbeef",
                "registers": { "rsi": "0x7" },
                "argv": ["a", "b"],
                "nothing": null,
                "big": u64::MAX,
                "small": -6,
            },
        }))
    }

    #[test]
    fn a_path_leads_through_objects_and_arrays() {
        assert_eq!(document().str("body.argv.1"), "b");
        assert!(document().get("body.argv.2").is_none());
        assert!(document().get("body.nothing").is_none());
    }

    #[test]
    fn numbers_of_all_sizes_are_whole() {
        assert_eq!(document().number("body.big"), i128::from(u64::MAX));
        assert_eq!(document().number("body.small"), -6);
        assert_eq!(document().count("body.absent"), 0);
    }

    #[test]
    fn addresses_and_registers_are_hexadecimal_strings() {
        assert_eq!(document().address("body.fault_address"), 0xdead_beef);
        assert_eq!(document().register("rsi"), 7);
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(
            document().time("timestamp").subsec_nanosecond(),
            123_456_789
        );
    }

    #[test]
    #[should_panic(expected = "deadbeef")]
    fn a_failure_shows_the_whole_document() {
        document().expect("type", "oom.kill");
    }

    #[test]
    #[should_panic(expected = "body.ip is missing")]
    fn a_failure_names_the_path() {
        document().address("body.ip");
    }
}
