//! Elastic Common Schema as NDJSON, for Elasticsearch and whatever else speaks it. What the schema has no field for is
//! below `recorder`.

use serde_json::{Map, Value, json};

use crate::event::{Body, proto};
use crate::harmless;
use crate::read::Entry;

use super::time::Clock;
use super::{Origin, Stream, Urgency};

/// Version of the schema.
const VERSION: &str = "8.11.0";

/// Writes documents, one a line.
#[derive(Default)]
pub struct Ecs {
    clock: Clock,
}

impl Stream for Ecs {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        self.clock.write(out, entry.unix_ns);
        out.push(b'"');
        for (name, value) in document(origin, entry) {
            out.push(b',');
            harmless::json(out, &name);
            out.push(b':');
            harmless::json(out, &value);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn document(origin: &Origin, entry: &Entry) -> Map<String, Value> {
    let topic = entry.body.topic();
    let urgency = Urgency::of(&entry.body);
    let (category, kind, outcome) = class(&entry.body);
    let mut event = json!({
        "kind": match entry.body {
            Body::SampleSystem(_) | Body::SampleProcess(_) | Body::SampleCgroup(_) => "metric",
            _ => "event",
        },
        "category": [category],
        "type": [kind],
        "action": topic,
        "module": "recorder",
        "dataset": format!("recorder.{topic}"),
        "sequence": entry.order,
        "severity": urgency as u8,
        "provider": "kernel",
    });
    set(&mut event, "outcome", outcome);
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() && value != json!({}) {
            document.insert(name.to_owned(), value);
        }
    };
    put("ecs", json!({"version": VERSION}));
    put("message", (origin.describe)(&entry.body).into());
    put("event", event);
    put("log", json!({"level": urgency.name()}));
    put("host", host(origin));
    put("error", error(&entry.body));
    if let Some(one) = entry.body.process() {
        put("process", process(one, &entry.body));
        let mut user = json!({});
        set(&mut user, "id", one.uid.map(|uid| uid.to_string()));
        set(&mut user, "name", one.user.clone());
        put("user", user);
        let mut container = json!({});
        set(&mut container, "id", one.container_id.clone());
        set(&mut container, "runtime", one.runtime.clone());
        put("container", container);
    }
    let mut own = json!({});
    set(&mut own, "incident", origin.incident_id.clone());
    set(&mut own, "environment", origin.environment());
    set(&mut own, "cause", entry.cause);
    set(&mut own, "body", serde_json::to_value(&entry.body).ok());
    put("recorder", own);
    document
}

/// Returns category, type and outcome.
fn class(body: &Body) -> (&'static str, &'static str, Option<&'static str>) {
    match body {
        Body::ProcessExec(_) => ("process", "start", Some("success")),
        Body::ProcessExit(exit) => {
            let failed = exit.signal.is_some() || exit.exit_code.is_some_and(|code| code != 0);
            let outcome = if failed { "failure" } else { "success" };
            ("process", "end", Some(outcome))
        }
        Body::SignalFatal(_) | Body::OomKill(_) => ("process", "end", Some("failure")),
        Body::TaskHung(_) => ("process", "info", Some("failure")),
        Body::SignalSent(_) => ("process", "change", None),
        Body::IoError(_)
        | Body::WritebackError(_)
        | Body::MemoryFailure(_)
        | Body::MachineCheck(_) => ("host", "info", Some("failure")),
        Body::Note(_)
        | Body::SampleSystem(_)
        | Body::SampleProcess(_)
        | Body::SampleCgroup(_)
        | Body::KernelLog(_)
        | Body::CgroupMkdir(_)
        | Body::CgroupRmdir(_)
        | Body::Loss(_)
        | Body::Unknown(_) => ("host", "info", None),
    }
}

fn host(origin: &Origin) -> Value {
    let mut host = json!({});
    if let Some(one) = &origin.host {
        set(&mut host, "hostname", one.hostname.as_str());
        set(&mut host, "name", one.hostname.as_str());
        set(&mut host, "id", one.machine_id.clone());
        set(&mut host, "architecture", one.architecture.as_str());
        set(&mut host, "boot", json!({"id": one.boot_id}));
        let os = json!({"type": "linux", "kernel": one.kernel_release});
        set(&mut host, "os", os);
    }
    host
}

fn error(body: &Body) -> Value {
    let code = match body {
        Body::IoError(error) => error.errno.clone(),
        Body::WritebackError(error) => error.errno.clone(),
        Body::SignalFatal(fatal) => fatal.signal.as_ref().and_then(|signal| signal.name.clone()),
        _ => None,
    };
    code.map_or(Value::Null, |code| json!({"code": code}))
}

fn process(process: &proto::Process, body: &Body) -> Value {
    let mut out = json!({});
    set(&mut out, "pid", process.pid);
    set(&mut out, "name", process.comm.clone());
    set(&mut out, "executable", process.exe.clone());
    set(
        &mut out,
        "thread",
        process.tid.map(|tid| json!({"id": tid})),
    );
    let parent = process.ppid.map(|ppid| json!({"pid": ppid}));
    set(&mut out, "parent", parent);
    // Pid and start name a process uniquely on a host.
    if let (Some(pid), Some(start)) = (process.pid, process.start_boot_ns) {
        set(&mut out, "entity_id", format!("{pid}-{start}"));
    }
    match body {
        Body::ProcessExec(exec) => {
            set(&mut out, "args", exec.argv.clone());
            set(&mut out, "args_count", exec.argv.len());
        }
        Body::ProcessExit(exit) => set(&mut out, "exit_code", exit.exit_code),
        _ => {}
    }
    out
}

/// Sets a field, unless the value is unknown.
fn set<T: serde::Serialize>(object: &mut Value, name: &str, value: T) {
    let value = serde_json::to_value(value).unwrap_or_default();
    if let (Value::Object(fields), false) = (object, value.is_null()) {
        fields.insert(name.to_owned(), value);
    }
}
