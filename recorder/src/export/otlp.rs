//! OpenTelemetry logs as JSON: one line for each batch, as the collector's `otlpjsonfile` receiver reads them.

use serde_json::Value;

use crate::harmless::json;
use crate::read::Entry;

use super::{Origin, Stream, Urgency};

/// Records in one batch.
const BATCH_RECORDS: usize = 512;

/// Writes batches.
#[derive(Default)]
pub struct Otlp {
    /// Records in the batch that is open.
    records: usize,
    /// Dump of the batch that is open.
    file: String,
}

impl Stream for Otlp {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        if self.records == BATCH_RECORDS || (self.records > 0 && self.file != origin.file) {
            self.tail(out);
        }
        match self.records {
            0 => {
                self.file.clone_from(&origin.file);
                resource(out, origin);
            }
            _ => out.push(b','),
        }
        self.records += 1;
        record(out, origin, entry);
    }

    fn tail(&mut self, out: &mut Vec<u8>) {
        if self.records > 0 {
            out.extend_from_slice(b"]}]}]}\n");
            self.records = 0;
        }
    }
}

/// Opens a batch: what recorded, and where.
fn resource(out: &mut Vec<u8>, origin: &Origin) {
    out.extend_from_slice(b"{\"resourceLogs\":[{\"resource\":{\"attributes\":[");
    let mut attributes = Attributes::default();
    let host = origin.host.as_ref();
    let texts = [
        ("service.name", Some("recorder")),
        (
            "service.version",
            host.map(|host| host.recorder_version.as_str()),
        ),
        ("host.name", origin.hostname()),
        ("host.id", host.and_then(|host| host.machine_id.as_deref())),
        (
            "host.arch",
            host.map(|host| match host.architecture.as_str() {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }),
        ),
        ("os.type", Some("linux")),
        ("os.version", host.map(|host| host.kernel_release.as_str())),
        ("deployment.environment.name", origin.environment()),
        ("recorder.incident.id", origin.incident_id.as_deref()),
        (
            "recorder.incident.rule",
            origin.incident.as_ref().map(|one| one.rule.as_str()),
        ),
    ];
    for (name, text) in texts {
        attributes.text(out, name, text);
    }
    out.extend_from_slice(
        concat!(
            "]},\"scopeLogs\":[{\"scope\":{\"name\":\"recorder\",\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\"},\"logRecords\":["
        )
        .as_bytes(),
    );
}

fn record(out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
    out.extend_from_slice(b"{\"timeUnixNano\":\"");
    json(out, &entry.unix_ns);
    out.extend_from_slice(b"\",\"severityNumber\":");
    let urgency = Urgency::of(&entry.body);
    json(out, &severity_number(urgency));
    out.extend_from_slice(b",\"severityText\":");
    json(out, urgency.name());
    out.extend_from_slice(b",\"eventName\":");
    json(out, &format!("recorder.{}", entry.body.topic()));
    out.extend_from_slice(b",\"body\":{\"stringValue\":");
    json(out, (origin.describe)(&entry.body).as_str());
    out.extend_from_slice(b"},\"attributes\":[");
    let mut attributes = Attributes::default();
    attributes.number(out, "recorder.order", Some(entry.order));
    attributes.number(out, "recorder.cause", entry.cause);
    if let Some(process) = entry.body.process() {
        attributes.number(out, "process.pid", process.pid.map(u64::from));
        attributes.number(out, "process.parent_pid", process.ppid.map(u64::from));
        attributes.number(out, "thread.id", process.tid.map(u64::from));
        attributes.text(out, "process.executable.name", process.comm.as_deref());
        attributes.text(out, "process.executable.path", process.exe.as_deref());
        attributes.text(out, "process.owner", process.user.as_deref());
        attributes.text(out, "process.linux.cgroup", process.cgroup.as_deref());
        attributes.text(out, "container.id", process.container_id.as_deref());
        attributes.text(out, "k8s.pod.uid", process.pod_uid.as_deref());
    }
    if let Ok(body) = serde_json::to_value(&entry.body) {
        attributes.name(out, "recorder.body");
        any_value(out, &body);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// Returns the severity as OpenTelemetry's data model maps it from syslog.
fn severity_number(urgency: Urgency) -> u8 {
    match urgency {
        Urgency::Emergency => 21,
        Urgency::Alert => 19,
        Urgency::Critical => 18,
        Urgency::Error => 17,
        Urgency::Warning => 13,
        Urgency::Notice => 10,
        Urgency::Info => 9,
        Urgency::Debug => 5,
    }
}

/// A list of attributes being written.
#[derive(Default)]
struct Attributes {
    has_any: bool,
}

impl Attributes {
    /// Appends `{"key":…,"value":`; the value and a brace follow.
    fn name(&mut self, out: &mut Vec<u8>, name: &str) {
        if self.has_any {
            out.push(b',');
        }
        self.has_any = true;
        out.extend_from_slice(b"{\"key\":");
        json(out, name);
        out.extend_from_slice(b",\"value\":");
    }

    fn text(&mut self, out: &mut Vec<u8>, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.name(out, name);
            out.extend_from_slice(b"{\"stringValue\":");
            json(out, text);
            out.extend_from_slice(b"}}");
        }
    }

    fn number(&mut self, out: &mut Vec<u8>, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.name(out, name);
            any_value(out, &number.into());
            out.push(b'}');
        }
    }
}

/// Appends a value as OpenTelemetry writes one of any type: 64-bit integers are texts.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"{}"),
        Value::Bool(value) => {
            out.extend_from_slice(b"{\"boolValue\":");
            json(out, value);
            out.push(b'}');
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => {
                out.extend_from_slice(b"{\"intValue\":\"");
                json(out, &number);
                out.extend_from_slice(b"\"}");
            }
            // Above what a signed integer holds: exact as a text.
            (None, Some(number)) => {
                out.extend_from_slice(b"{\"stringValue\":\"");
                json(out, &number);
                out.extend_from_slice(b"\"}");
            }
            (None, None) => {
                out.extend_from_slice(b"{\"doubleValue\":");
                json(out, number);
                out.push(b'}');
            }
        },
        Value::String(text) => {
            out.extend_from_slice(b"{\"stringValue\":");
            json(out, text);
            out.push(b'}');
        }
        Value::Array(values) => {
            out.extend_from_slice(b"{\"arrayValue\":{\"values\":[");
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                any_value(out, value);
            }
            out.extend_from_slice(b"]}}");
        }
        Value::Object(fields) => {
            out.extend_from_slice(b"{\"kvlistValue\":{\"values\":[");
            let mut attributes = Attributes::default();
            for (name, value) in fields {
                attributes.name(out, name);
                any_value(out, value);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_changed() {
        let text = |value: Value| {
            let mut out = Vec::new();
            any_value(&mut out, &value);
            String::from_utf8(out).expect("JSON")
        };
        assert_eq!(
            text(u64::MAX.into()),
            r#"{"stringValue":"18446744073709551615"}"#
        );
        assert_eq!(text((-1).into()), r#"{"intValue":"-1"}"#);
        assert_eq!(text(1.5.into()), r#"{"doubleValue":1.5}"#);
    }
}
