//! Which events are wanted, by what they say.

use recorder_ebpf::abi::{EventKind, Lane};

use super::{Body, proto};

/// Events of interest: values of one kind are alternatives, those of different kinds all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Types, or families of them: "process" for "process.exec" and "process.exit".
    pub types: Vec<String>,
    /// Processes: as subject, as the sender of a signal, as the one that asked for memory.
    pub pids: Vec<u32>,
    /// Names of processes.
    pub comms: Vec<String>,
    /// systemd units.
    pub units: Vec<String>,
    /// Lanes.
    pub lanes: Vec<Lane>,
}

impl Selection {
    /// Tells whether an event is wanted.
    pub fn wants(&self, body: &Body) -> bool {
        is_any(&self.types, |wanted| is_type(wanted, body.topic()))
            && is_any(&self.lanes, |lane| lane_of(body) == Some(*lane))
            && is_any(&self.pids, |pid| has_pid(*pid, body))
            && is_any(&self.comms, |comm| has_comm(comm, body))
            && is_any(&self.units, |unit| has_unit(unit, body))
    }
}

/// Tells whether one of the alternatives holds; without alternatives everything does.
fn is_any<T>(alternatives: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(holds)
}

fn is_type(wanted: &str, topic: &str) -> bool {
    match topic.strip_prefix(wanted) {
        Some(rest) => rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

fn lane_of(body: &Body) -> Option<Lane> {
    let kinds = EventKind::ALL.into_iter();
    let mut of_topic = kinds.filter(|kind| kind.name() == body.topic());
    of_topic.next().map(EventKind::lane)
}

/// Returns the processes with a part in an event: pid and comm.
fn parties(body: &Body) -> [Option<(Option<u32>, Option<&str>)>; 2] {
    let subject = body
        .process()
        .map(|process| (process.pid, process.comm.as_deref()));
    let other = match body {
        Body::SignalFatal(fatal) => fatal
            .sender
            .as_ref()
            .map(|sender| (sender.pid, sender.comm.as_deref())),
        Body::SignalSent(sent) => sent
            .sender
            .as_ref()
            .map(|sender| (sender.pid, sender.comm.as_deref())),
        Body::OomKill(kill) => kill
            .trigger
            .as_ref()
            .map(|process| (process.pid, process.comm.as_deref())),
        _ => None,
    };
    [subject, other]
}

fn has_pid(wanted: u32, body: &Body) -> bool {
    parties(body)
        .into_iter()
        .flatten()
        .any(|(pid, _)| pid == Some(wanted))
}

fn has_comm(wanted: &str, body: &Body) -> bool {
    parties(body)
        .into_iter()
        .flatten()
        .any(|(_, comm)| comm == Some(wanted))
}

fn has_unit(wanted: &str, body: &Body) -> bool {
    let unit = body
        .process()
        .and_then(|process: &proto::Process| process.unit.as_deref());
    unit.is_some_and(|unit| unit == wanted || unit.strip_suffix(".service") == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_takes_in_its_events_and_no_others() {
        let failures = Selection {
            lanes: vec![Lane::Failure],
            ..Selection::default()
        };
        assert!(failures.wants(&Body::OomKill(proto::OomKill::default())));
        assert!(!failures.wants(&Body::ProcessExit(proto::ProcessExit::default())));
        assert!(!failures.wants(&Body::Unknown(proto::Unknown::default())));
        assert!(Selection::default().wants(&Body::Unknown(proto::Unknown::default())));
    }
}
