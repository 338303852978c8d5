//! Dumps, read in two ways: as users do, with the recorder's own export; and as strangers do, with the MCAP library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{Event, Json, output, recorder};

/// A dump on disk.
#[derive(Debug)]
pub struct Dump {
    path: PathBuf,
    sidecar: Json,
    events: OnceLock<Vec<Event>>,
}

/// A message as the MCAP library reads it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic of its channel: the event type.
    pub topic: String,
    /// What the channel says of itself, beside its topic.
    pub channel: std::collections::BTreeMap<String, String>,
    /// Number of the record among those of its lane and CPU, as far as 32 bits go.
    pub sequence: u32,
    /// Wall clock, in nanoseconds.
    pub log_time: u64,
    /// The Protobuf message.
    pub data: Vec<u8>,
}

impl Dump {
    /// Opens a dump by its path, and reads its sidecar.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let dump = Self::try_open(path);
        dump.unwrap_or_else(|error| panic!("the sidecar of {}: {error}", path.display()))
    }

    /// The same, unless its sidecar cannot be read.
    #[track_caller]
    pub(crate) fn try_open(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path.with_extension("json"))?;
        Ok(Self {
            path: path.to_owned(),
            sidecar: Json::parse(&text),
            events: OnceLock::new(),
        })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all of its sidecar.
    pub fn sidecar(&self) -> &Json {
        &self.sidecar
    }

    /// Returns the incident it is about.
    #[track_caller]
    pub fn incident(&self) -> Json {
        self.sidecar.at("incident")
    }

    /// Returns its events in order, as `recorder export --format jsonl` has them.
    ///
    /// # Panics
    ///
    /// If the export says anything but that the dump is whole.
    #[track_caller]
    pub fn events(&self) -> &[Event] {
        self.events.get_or_init(|| {
            let mut export = recorder(["export", "--format", "jsonl"]);
            let events = output(export.arg(&self.path)).expect_code(0).json_lines();
            crate::fields::note(&events);
            events
        })
    }

    /// Returns its events of one type about one process.
    #[track_caller]
    pub fn about(&self, event_type: &str, pid: u32) -> Vec<&Event> {
        let is_about = |event: &&Event| {
            event.str("type") == event_type
                && event.get("body.process.pid") == Some(&Value::from(pid))
        };
        self.events().iter().filter(is_about).collect()
    }

    /// Returns the event of this type about this process, of which there must be exactly one.
    #[track_caller]
    pub fn only(&self, event_type: &str, pid: u32) -> &Event {
        match self.about(event_type, pid).as_slice() {
            [event] => event,
            events => panic!(
                "{} {event_type} of process {pid}, not 1, in {}:\n{events:#?}\nall of that process:\n{}",
                events.len(),
                self.path.display(),
                self.story(pid),
            ),
        }
    }

    /// Returns its events of one type whose body has `value` at `path`.
    #[track_caller]
    pub fn matching(&self, event_type: &str, path: &str, value: &Value) -> Vec<&Event> {
        let path = format!("body.{path}");
        let matches =
            |event: &&Event| event.str("type") == event_type && event.get(&path) == Some(value);
        self.events().iter().filter(matches).collect()
    }

    /// Returns the event behind `event`.
    #[track_caller]
    pub fn cause(&self, event: &Event) -> &Event {
        let order = event.number("cause");
        let cause = self
            .events()
            .iter()
            .find(|other| other.number("order") == order);
        cause.unwrap_or_else(|| panic!("no event has the order of the cause of\n{event}"))
    }

    /// Returns all its messages as the MCAP library reads them, in the order they were written.
    #[track_caller]
    pub fn messages(&self) -> Vec<Message> {
        let bytes = std::fs::read(&self.path).expect("the dump is there");
        let messages = mcap::MessageStream::new(&bytes).expect("the dump is MCAP");
        messages
            .map(|message| {
                let message =
                    message.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
                Message {
                    topic: message.channel.topic.clone(),
                    channel: message.channel.metadata.clone(),
                    sequence: message.sequence,
                    log_time: message.log_time,
                    data: message.data.into_owned(),
                }
            })
            .collect()
    }

    /// Returns its metadata record of this name; values that are JSON are parsed.
    #[track_caller]
    pub fn metadata(&self, name: &str) -> Json {
        let bytes = std::fs::read(&self.path).expect("the dump is there");
        let records = mcap::read::LinearReader::new(&bytes).expect("the dump is MCAP");
        for record in records {
            let record = record.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
            if let mcap::records::Record::Metadata(metadata) = record
                && metadata.name == name
            {
                let json = metadata.metadata.get("json").expect("every record has it");
                return Json::new(serde_json::from_str(json).expect("it is JSON"));
            }
        }
        panic!("{} has no metadata {name}", self.path.display());
    }

    /// Returns whatever the dump has about a process, for the message of a test that fails.
    fn story(&self, pid: u32) -> String {
        let pid = Some(Value::from(pid));
        self.events()
            .iter()
            .filter(|event| event.get("body.process.pid") == pid.as_ref())
            .map(|event| format!("{}\n", event.value()))
            .collect()
    }
}
