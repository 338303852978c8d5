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
            && self.wants_parties(body)
    }

    /// Leaves of an event that is wanted what is wanted of it: of a table of processes, the rows of those asked for.
    pub fn narrow(&self, body: &mut Body) {
        if !self.narrows(body) {
            return;
        }
        if let Body::SampleProcess(sample) = body {
            sample.top.retain(|usage| self.wants_row(usage));
        }
    }

    /// Tells whether [`Selection::narrow`] may change an event.
    pub fn narrows(&self, body: &Body) -> bool {
        matches!(body, Body::SampleProcess(_)) && !self.takes_all_processes()
    }

    fn wants_parties(&self, body: &Body) -> bool {
        if let Body::SampleProcess(sample) = body {
            return self.takes_all_processes()
                || sample.top.iter().any(|usage| self.wants_row(usage));
        }
        is_any(&self.pids, |pid| has_pid(*pid, body))
            && is_any(&self.comms, |comm| has_comm(comm, body))
            && is_any(&self.units, |unit| has_unit(unit, body))
    }

    fn takes_all_processes(&self) -> bool {
        self.pids.is_empty() && self.comms.is_empty() && self.units.is_empty()
    }

    fn wants_row(&self, usage: &proto::ProcessUsage) -> bool {
        let Some(process) = &usage.process else {
            return false;
        };
        is_any(&self.pids, |pid| process.pid == Some(*pid))
            && is_any(&self.comms, |comm| process.comm.as_ref() == Some(comm))
            && is_any(&self.units, |unit| is_unit(unit, process))
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
    body.process()
        .is_some_and(|process| is_unit(wanted, process))
}

fn is_unit(wanted: &str, process: &proto::Process) -> bool {
    let unit = process.unit.as_deref();
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
