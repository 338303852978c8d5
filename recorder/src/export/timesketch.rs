//! Timesketch: the timeline of forensic teams, as JSON Lines or CSV.
//!
//! `message`, `datetime` (ISO 8601), `timestamp` (microseconds) and `timestamp_desc` are what Timesketch demands; the fields
//! of the body follow, flat: `signal.name` becomes `signal_name`, a list is one JSON text.

use serde_json::Value;

use crate::event::Body;
use crate::harmless::json;
use crate::read::Entry;

use super::csv;
use super::time::Clock;
use super::{Origin, Stream};

/// Deepest nesting that is taken apart.
const DEPTH_MAX: usize = 8;

/// Says what the time of an event is the time of.
fn time_is_of(body: &Body) -> &'static str {
    match body {
        Body::ProcessExec(_) => "Program executed",
        Body::ProcessExit(_) => "Process ended",
        Body::SignalFatal(_) => "Process killed by signal",
        Body::OomKill(_) => "Process killed for memory",
        Body::IoError(_) => "I/O failed",
        Body::WritebackError(_) => "Write lost",
        Body::TaskHung(_) => "Hung task found",
        Body::MemoryFailure(_) => "Broken memory found",
        Body::MachineCheck(_) => "Hardware error reported",
        Body::SignalSent(_) => "Signal sent",
        Body::CgroupMkdir(_) => "Control group made",
        Body::CgroupRmdir(_) => "Control group removed",
        Body::SampleSystem(_) | Body::SampleProcess(_) | Body::SampleCgroup(_) => "Sample taken",
        Body::KernelLog(_) => "Kernel message logged",
        Body::Note(_) => "Remark made",
        Body::Loss(_) => "Records missing",
        Body::Unknown(_) => "Event recorded",
    }
}

/// JSON Lines for Timesketch.
#[derive(Default)]
pub struct TimesketchLines {
    clock: Clock,
}

impl Stream for TimesketchLines {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        out.extend_from_slice(b"{\"message\":");
        json(out, (origin.describe)(&entry.body).as_str());
        out.extend_from_slice(b",\"datetime\":\"");
        self.clock.write_micros(out, entry.unix_ns);
        out.extend_from_slice(b"\",\"timestamp\":");
        json(out, &(entry.unix_ns / 1_000));
        field(out, "timestamp_desc", &time_is_of(&entry.body).into());
        let data_type = format!("recorder:{}", entry.body.topic().replace('.', ":"));
        field(out, "data_type", &data_type.into());
        field(out, "unix_ns", &entry.unix_ns.into());
        field(out, "order", &entry.order.into());
        let texts = [
            ("environment", origin.environment()),
            ("host", origin.hostname()),
            ("incident", origin.incident_id.as_deref()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                field(out, name, &text.into());
            }
        }
        if let Some(cause) = entry.cause {
            field(out, "cause", &cause.into());
        }
        // A message is always an object.
        if let Ok(body) = serde_json::to_value(&entry.body) {
            flat(out, "", &body, DEPTH_MAX);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &Value) {
    out.push(b',');
    json(out, name);
    out.push(b':');
    json(out, value);
}

/// Names that Timesketch and the envelope have taken.
const TAKEN: [&str; 10] = [
    "message",
    "datetime",
    "timestamp",
    "timestamp_desc",
    "data_type",
    "order",
    "environment",
    "host",
    "incident",
    "cause",
];

/// Appends the fields of a value, each under the path to it.
fn flat(out: &mut Vec<u8>, path: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if depth > 0 => {
            for (name, value) in fields {
                let path = match (path, name.as_str()) {
                    // The fields of the process are what analysts filter by.
                    ("", "process") => String::new(),
                    ("", name) => name.to_owned(),
                    (path, name) => format!("{path}_{name}"),
                };
                flat(out, &path, value, depth - 1);
            }
        }
        Value::Array(_) | Value::Object(_) => {
            let mut text = Vec::new();
            json(&mut text, value);
            field(out, path, &String::from_utf8_lossy(&text).as_ref().into());
        }
        _ if TAKEN.contains(&path) => field(out, &format!("body_{path}"), value),
        _ => field(out, path, value),
    }
}

/// CSV for Timesketch.
#[derive(Default)]
pub struct TimesketchCsv {
    clock: Clock,
}

impl Stream for TimesketchCsv {
    fn head(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"message,datetime,timestamp,timestamp_desc,data_type,order,environment,host,incident,cause,\
              pid,tid,ppid,comm,exe,uid,cgroup,unit,container_id\n",
        );
    }

    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        csv::first(out, &(origin.describe)(&entry.body));
        out.push(b',');
        self.clock.write_micros(out, entry.unix_ns);
        csv::number(out, Some(entry.unix_ns / 1_000));
        csv::text(out, Some(time_is_of(&entry.body)));
        let data_type = format!("recorder:{}", entry.body.topic().replace('.', ":"));
        csv::text(out, Some(&data_type));
        csv::number(out, Some(entry.order));
        csv::text(out, origin.environment());
        csv::text(out, origin.hostname());
        csv::text(out, origin.incident_id.as_deref());
        csv::number(out, entry.cause);
        csv::process(out, entry.body.process());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_becomes_flat_and_takes_no_name_of_the_timeline() {
        let mut out = b"{\"a\":0".to_vec();
        let body = json!({"process": {"pid": 1, "comm": "x"}, "signal": {"name": "SIGSEGV"},
            "stack": [{"offset": 1}], "message": "forged"});
        flat(&mut out, "", &body, DEPTH_MAX);
        out.push(b'}');
        let flat: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            flat,
            json!({"a": 0, "pid": 1, "comm": "x", "signal_name": "SIGSEGV",
                "stack": "[{\"offset\":1}]", "body_message": "forged"})
        );
    }
}
