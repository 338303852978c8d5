//! A trace for Perfetto: <https://ui.perfetto.dev>, or `trace_processor` for SQL.
//!
//! | of a dump | becomes |
//! |---|---|
//! | a process | a process track, named and with its arguments |
//! | its life inside the window | a slice, with exit code, signal and accounting as arguments |
//! | a failure, an exec, a death by signal | an instant on the track of the process, with the whole body as arguments |
//! | what has no process | an instant on a track of its type |
//! | the cause of an event | a flow from the one to the other |
//! | samples | counters of the host; CPU and memory of the busiest processes |
//!
//! The clock is boot time; a snapshot of both clocks lets Perfetto show the wall clock.

mod counters;
mod wire;

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use serde_json::Value;

use crate::event::{Body, proto};
use crate::read::Entry;

use super::{Origin, Stream};
use wire::{
    Annotation, BOOTTIME, COUNTER, Clock, ClockSnapshot, CounterDescriptor, INSTANT, Packet,
    ProcessDescriptor, REALTIME, SLICE_BEGIN, SLICE_END, TrackDescriptor, TrackEvent,
};

/// Field number and wire type of a packet in a trace.
const PACKET_KEY: u8 = (1 << 3) | 2;
/// The one sequence of packets in the file.
const SEQUENCE: u32 = 1;
/// Most processes whose beginning is remembered until they end.
const ALIVE_MAX: usize = 1 << 16;
/// Most tracks of the host that are told apart.
const TRACKS_MAX: usize = 1 << 14;

/// A process: pid and start.
type Id = (u32, u64);

/// A process that executed a program and has not ended.
struct Alive {
    since: u64,
    name: String,
}

/// Writes a trace.
#[derive(Default)]
pub struct Perfetto {
    has_begun: bool,
    /// When the window begins, on the clock of the trace.
    window_start: u64,
    /// Processes with a track; by pid, so that a pid that is used again gets another one.
    tracks: HashMap<u32, u64>,
    /// The last name of each process that is not named yet, by its track. A reader keeps the first name it meets, and
    /// between fork and exec that is the parent's.
    names: HashMap<u64, (Id, String)>,
    /// Effects so far of each event that is the cause of any, by its order.
    effects: HashMap<u64, u8>,
    /// Tracks of the host that are described.
    described: HashSet<u64>,
    alive: HashMap<Id, Alive>,
}

impl Stream for Perfetto {
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry) {
        if !self.has_begun {
            self.has_begun = true;
            self.begin(out, origin);
        }
        let at = origin.boot_ns(entry.unix_ns).unwrap_or(entry.unix_ns);
        match &entry.body {
            Body::SampleSystem(sample) => {
                counters::system(sample, &mut |group, name, unit, value| {
                    if let Some(value) = value {
                        let track = self.counter(out, group, name, unit);
                        count(out, track, at, value);
                    }
                });
                return;
            }
            Body::SampleProcess(sample) => {
                for usage in &sample.top {
                    self.usage(out, at, usage);
                }
                return;
            }
            Body::ProcessExec(exec) => self.executed(out, at, exec),
            Body::ProcessExit(exit) => self.ended(out, at, exit),
            _ => {}
        }
        let process = entry.body.process().filter(|one| one.pid.is_some());
        let track = match process {
            Some(process) => self.process(out, process, &[]),
            None => self.track(out, "Host", entry.body.topic()),
        };
        let mut categories = vec![entry.body.topic().to_owned()];
        if let Some((family, _)) = entry.body.topic().split_once('.') {
            categories.push(family.to_owned());
        }
        let mut arguments = arguments(&entry.body);
        arguments.push(Annotation {
            name: Some("order".to_owned()),
            uint_value: Some(entry.order),
            ..Annotation::default()
        });
        let event = TrackEvent {
            r#type: INSTANT,
            track_uuid: track,
            name: Some((origin.describe)(&entry.body)),
            categories,
            debug_annotations: arguments,
            // A flow ends at one effect, and one that nothing ends is not drawn.
            flow_ids: (0..effects_max(&entry.body))
                .map(|number| flow(entry.order, number))
                .collect(),
            terminating_flow_ids: entry
                .cause
                .map(|cause| self.ends(cause))
                .into_iter()
                .collect(),
            ..TrackEvent::default()
        };
        put(out, at, event);
    }

    fn tail(&mut self, out: &mut Vec<u8>) {
        self.name_all(out);
        // A slice without an end: it was still there.
        let mut alive: Vec<_> = self.alive.drain().collect();
        alive.sort_unstable_by_key(|(id, alive)| (alive.since, *id));
        for (id, alive) in alive {
            let event = TrackEvent {
                r#type: SLICE_BEGIN,
                track_uuid: process_track(id),
                name: Some(alive.name),
                categories: vec!["process".to_owned()],
                ..TrackEvent::default()
            };
            put(out, alive.since, event);
        }
    }
}

impl Perfetto {
    fn begin(&mut self, out: &mut Vec<u8>, origin: &Origin) {
        let Some(clocks) = origin.clocks else { return };
        let coverage = origin.coverage.as_ref();
        self.window_start = coverage.map_or(0, |coverage| coverage.window_start_boot_ns);
        let clock = |clock_id, timestamp| Clock {
            clock_id,
            timestamp,
        };
        let snapshot = ClockSnapshot {
            clocks: vec![
                clock(BOOTTIME, clocks.freeze.boot_ns),
                clock(REALTIME, clocks.freeze.unix_ns),
            ],
            primary_trace_clock: BOOTTIME,
        };
        packet(
            out,
            &Packet {
                clock_snapshot: Some(snapshot),
                ..sequenced()
            },
        );
    }

    fn executed(&mut self, out: &mut Vec<u8>, at: u64, exec: &proto::ProcessExec) {
        let Some(process) = exec.process.as_ref().filter(|one| one.pid.is_some()) else {
            return;
        };
        self.process(out, process, &exec.argv);
        if self.alive.len() < ALIVE_MAX {
            let since = self.begins(process).unwrap_or(at);
            let name = process.comm().to_owned();
            // A process may execute one program after another: the life is one.
            let alive = self.alive.entry(id(process));
            let alive = alive.or_insert(Alive {
                since,
                name: String::new(),
            });
            alive.name = name;
        }
    }

    /// Draws the life of a process, as far as the window goes back.
    fn ended(&mut self, out: &mut Vec<u8>, at: u64, exit: &proto::ProcessExit) {
        let Some(process) = exit.process.as_ref().filter(|one| one.pid.is_some()) else {
            return;
        };
        self.alive.remove(&id(process));
        let track = self.process(out, process, &[]);
        let begin = self.begins(process).unwrap_or(at).min(at);
        let mut event = TrackEvent {
            r#type: SLICE_BEGIN,
            track_uuid: track,
            name: Some(process.comm().to_owned()),
            categories: vec!["process".to_owned()],
            debug_annotations: object(exit, "process"),
            ..TrackEvent::default()
        };
        if begin > process.start_boot_ns() {
            event.debug_annotations.push(Annotation {
                name: Some("started_before_the_window".to_owned()),
                bool_value: Some(true),
                ..Annotation::default()
            });
        }
        put(out, begin, event);
        let end = TrackEvent {
            r#type: SLICE_END,
            track_uuid: track,
            ..TrackEvent::default()
        };
        // The instant of the exit lies inside of the slice.
        put(out, at + 1, end);
        if let Some((id, name)) = self.names.remove(&track) {
            describe_process(out, id, &[], &name);
        }
    }

    /// Returns the flow that ends at the next effect of an event.
    fn ends(&mut self, cause: u64) -> u64 {
        if self.effects.len() >= ALIVE_MAX {
            self.effects.clear();
        }
        let effects = self.effects.entry(cause).or_default();
        *effects = effects.saturating_add(1);
        flow(cause, *effects - 1)
    }

    /// Returns where the slice of a process begins: at its start, if that is inside of the window.
    fn begins(&self, process: &proto::Process) -> Option<u64> {
        process
            .start_boot_ns
            .map(|start| start.max(self.window_start))
    }

    fn usage(&mut self, out: &mut Vec<u8>, at: u64, usage: &proto::ProcessUsage) {
        let Some(process) = usage.process.as_ref().filter(|one| one.pid.is_some()) else {
            return;
        };
        let parent = self.process(out, process, &[]);
        let values = [
            ("CPU", "%", usage.cpu_percent),
            (
                "resident memory",
                "bytes",
                usage.rss_bytes.map(|bytes| bytes as f64),
            ),
        ];
        for (name, unit, value) in values {
            if let Some(value) = value {
                let track = self.child(out, parent, name, Some(unit));
                count(out, track, at, value);
            }
        }
    }

    /// Returns the track of a process, and describes it if it is new.
    fn process(
        &mut self,
        out: &mut Vec<u8>,
        process: &proto::Process,
        arguments: &[String],
    ) -> u64 {
        let track = process_track(id(process));
        let known = self.tracks.get(&process.pid()) == Some(&track);
        if !known || !arguments.is_empty() {
            if self.tracks.len() >= ALIVE_MAX {
                self.tracks.clear();
                self.name_all(out);
            }
            self.tracks.insert(process.pid(), track);
            describe_process(out, id(process), arguments, "");
        }
        let name = self.names.entry(track).or_default();
        if name.1 != process.comm() {
            *name = (id(process), process.comm().to_owned());
        }
        track
    }

    /// Names the processes that are not named yet.
    fn name_all(&mut self, out: &mut Vec<u8>) {
        let mut names: Vec<_> = self.names.drain().map(|(_, named)| named).collect();
        names.sort_unstable();
        for (id, name) in names {
            describe_process(out, id, &[], &name);
        }
    }

    fn track(&mut self, out: &mut Vec<u8>, group: &str, name: &str) -> u64 {
        let parent = self.child(out, 0, group, None);
        self.child(out, parent, name, None)
    }

    fn counter(&mut self, out: &mut Vec<u8>, group: &str, name: &str, unit: &str) -> u64 {
        let parent = self.child(out, 0, group, None);
        self.child(out, parent, name, Some(unit))
    }

    /// Returns a track below another one, and describes it if it is new; a counter if it has a unit.
    fn child(&mut self, out: &mut Vec<u8>, parent: u64, name: &str, unit: Option<&str>) -> u64 {
        let uuid = hash(&[&parent.to_le_bytes(), name.as_bytes()]);
        if self.described.contains(&uuid) {
            return uuid;
        }
        if self.described.len() >= TRACKS_MAX {
            self.described.clear();
        }
        self.described.insert(uuid);
        describe(
            out,
            TrackDescriptor {
                uuid,
                name: Some(name.to_owned()),
                parent_uuid: (parent != 0).then_some(parent),
                counter: unit.map(|unit| CounterDescriptor {
                    unit_name: unit.to_owned(),
                }),
                process: None,
            },
        );
        uuid
    }
}

/// Describes the track of a process; an empty name is none yet.
fn describe_process(out: &mut Vec<u8>, (pid, start): Id, arguments: &[String], name: &str) {
    let descriptor = ProcessDescriptor {
        pid: i32::try_from(pid).unwrap_or(i32::MAX),
        cmdline: arguments.to_vec(),
        process_name: name.to_owned(),
        start_timestamp_ns: i64::try_from(start).ok().filter(|start| *start > 0),
    };
    describe(
        out,
        TrackDescriptor {
            uuid: process_track((pid, start)),
            process: Some(descriptor),
            ..TrackDescriptor::default()
        },
    );
}

fn id(process: &proto::Process) -> Id {
    (process.pid(), process.start_boot_ns())
}

fn process_track((pid, start): Id) -> u64 {
    hash(&[b"process", &pid.to_le_bytes(), &start.to_le_bytes()])
}

/// Returns the id of a track: FNV-1a, and never the 0 that stands for no track.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash | 1
}

/// Returns the id of one of the flows that leave an event.
fn flow(order: u64, number: u8) -> u64 {
    hash(&[b"flow", &order.to_le_bytes(), &[number]])
}

/// Returns how many effects an event may have that are drawn.
fn effects_max(body: &Body) -> u8 {
    match body {
        // It has a signal, an exit, and the samples of who had the memory.
        Body::OomKill(_) => 8,
        Body::SignalFatal(_) | Body::SignalSent(_) | Body::IoError(_) => 4,
        // There are many, and few have any.
        Body::ProcessExit(_) => 1,
        _ => 0,
    }
}

fn sequenced() -> Packet {
    Packet {
        trusted_packet_sequence_id: SEQUENCE,
        ..Packet::default()
    }
}

fn describe(out: &mut Vec<u8>, descriptor: TrackDescriptor) {
    packet(
        out,
        &Packet {
            track_descriptor: Some(descriptor),
            ..sequenced()
        },
    );
}

fn put(out: &mut Vec<u8>, at: u64, event: TrackEvent) {
    packet(
        out,
        &Packet {
            timestamp: Some(at),
            track_event: Some(event),
            ..sequenced()
        },
    );
}

fn count(out: &mut Vec<u8>, track: u64, at: u64, value: f64) {
    let event = TrackEvent {
        r#type: COUNTER,
        track_uuid: track,
        double_counter_value: Some(value),
        ..TrackEvent::default()
    };
    put(out, at, event);
}

fn packet(out: &mut Vec<u8>, packet: &Packet) {
    out.push(PACKET_KEY);
    packet.encode_length_delimited(out).expect("a vector grows");
}

/// Returns a body as arguments; of an exit nothing, as its slice has them.
fn arguments(body: &Body) -> Vec<Annotation> {
    match body {
        Body::ProcessExit(_) => Vec::new(),
        _ => object(body, ""),
    }
}

/// Returns the fields of a message as arguments, but for one.
fn object(message: &impl serde::Serialize, without: &str) -> Vec<Annotation> {
    match serde_json::to_value(message) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .filter(|(name, _)| name != without)
            .map(|(name, value)| annotation(Some(name), value))
            .collect(),
        _ => Vec::new(),
    }
}

fn annotation(name: Option<String>, value: Value) -> Annotation {
    let mut annotation = Annotation {
        name,
        ..Annotation::default()
    };
    match value {
        Value::Null => annotation.string_value = Some(String::new()),
        Value::Bool(value) => annotation.bool_value = Some(value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => annotation.uint_value = Some(number),
            (None, Some(number)) => annotation.int_value = Some(number),
            (None, None) => annotation.double_value = number.as_f64(),
        },
        Value::String(text) => annotation.string_value = Some(text),
        Value::Array(values) => {
            let values = values.into_iter();
            annotation.array_values = values.map(|value| self::annotation(None, value)).collect();
        }
        Value::Object(fields) => {
            let fields = fields.into_iter();
            annotation.dict_entries = fields
                .map(|(name, value)| self::annotation(Some(name), value))
                .collect();
        }
    }
    annotation
}
