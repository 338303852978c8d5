//! What a record says before it is decoded: enough to see that a condition cannot be true of it.

use recorder_ebpf::abi::{EventKind, Exit, Header, SignalFatal, decode};

use super::eval::Value;
use crate::event::names;

/// A record that has not been decoded, or a part of one.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    kind: EventKind,
    record: &'a [u8],
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Event,
    Process,
    Signal,
}

impl<'a> Raw<'a> {
    /// Returns a record of a kind of which something is known.
    pub(super) fn of(kind: EventKind, record: &'a [u8]) -> Option<Self> {
        let is_known = matches!(
            kind,
            EventKind::ProcessExec
                | EventKind::ProcessExit
                | EventKind::SignalFatal
                | EventKind::SignalSent
        );
        is_known.then_some(Self {
            kind,
            record,
            part: Part::Event,
        })
    }

    /// Returns a field, if it is known.
    pub(super) fn field(self, name: &str) -> Option<Value<'a>> {
        let part = |part| Some(Value::Raw(Self { part, ..self }));
        match (self.part, name) {
            (Part::Event, "process") => part(Part::Process),
            (Part::Event, "signal") => self.signal().and_then(|_| part(Part::Signal)),
            (Part::Event, "exit_code") if self.kind == EventKind::ProcessExit => {
                let status = decode::<Exit>(self.record)?.status;
                let code = if status & 0x7f == 0 {
                    status >> 8 & 0xff
                } else {
                    0
                };
                Some(Value::Integer(code.into()))
            }
            (Part::Event, _) => None,
            (Part::Process, name) => self.process(name),
            (Part::Signal, "number") => Some(Value::Integer(self.signal()?.into())),
            (Part::Signal, "name") => names::standard_signal_name(self.signal()?).map(Value::Text),
            (Part::Signal, _) => None,
        }
    }

    fn signal(self) -> Option<u32> {
        match self.kind {
            EventKind::ProcessExit => Some(decode::<Exit>(self.record)?.status & 0x7f),
            EventKind::SignalFatal => {
                // Not the whole of it: it is large.
                let at = std::mem::offset_of!(SignalFatal, signal);
                let bytes = self.record.get(at..)?.first_chunk()?;
                Some(u32::from_ne_bytes(*bytes))
            }
            _ => None,
        }
    }

    fn process(self, name: &str) -> Option<Value<'a>> {
        let header = decode::<Header>(self.record)?;
        let number = match name {
            "pid" => u64::from(header.tgid),
            "tid" => header.pid.into(),
            "uid" => header.uid.into(),
            "gid" => header.gid.into(),
            "start_boot_ns" => header.start_boot_ns,
            "cgroup_id" => header.cgroup_id,
            "comm" => {
                let at = std::mem::offset_of!(Header, comm);
                let comm = self.record.get(at..at + header.comm.len())?;
                let comm = comm.split(|byte| *byte == 0).next()?;
                return std::str::from_utf8(comm).ok().map(Value::Text);
            }
            _ => return None,
        };
        Some(Value::Integer(number.into()))
    }
}
