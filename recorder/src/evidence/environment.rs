//! What a collector is told of its incident: variables of its environment.
//!
//! | variable | holds |
//! |---|---|
//! | `RECORDER_INCIDENT` | id of the incident |
//! | `RECORDER_RULE` | name of the rule |
//! | `RECORDER_EVENT` | type of the event that fired it |
//! | `RECORDER_SUMMARY` | the incident in one sentence; names in it are as the process chose them |
//! | `RECORDER_BOOT_NS` | when, in nanoseconds since boot |
//! | `RECORDER_PID`, `RECORDER_START_BOOT_NS`, `RECORDER_COMM` | the process, if there is one; it may be gone |
//! | `RECORDER_CGROUP_ID` | its cgroup |
//! | `RECORDER_DEVICE` | the device, "major:minor" |
//!
//! Beside them there are `PATH`, `HOME`, `LANG` and what the configuration adds; nothing is inherited from the agent.

use std::collections::BTreeMap;

use crate::incident::Incident;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the environment of a collector.
pub(super) fn of(incident: &Incident) -> BTreeMap<String, String> {
    let subject = &incident.subject;
    let known = [
        ("PATH", Some(PATH.to_owned())),
        ("HOME", Some("/".to_owned())),
        ("LANG", Some("C.UTF-8".to_owned())),
        ("RECORDER_INCIDENT", Some(incident.id.to_string())),
        ("RECORDER_RULE", Some(incident.rule.clone())),
        ("RECORDER_EVENT", Some(incident.trigger.event_type.clone())),
        ("RECORDER_SUMMARY", Some(incident.summary.clone())),
        (
            "RECORDER_BOOT_NS",
            Some(incident.trigger.boot_ns.to_string()),
        ),
        ("RECORDER_PID", subject.pid.map(|pid| pid.to_string())),
        (
            "RECORDER_START_BOOT_NS",
            subject.start_boot_ns.map(|start| start.to_string()),
        ),
        ("RECORDER_COMM", subject.comm.clone()),
        (
            "RECORDER_CGROUP_ID",
            subject.cgroup_id.map(|id| id.to_string()),
        ),
        ("RECORDER_DEVICE", subject.device.clone()),
    ];
    known
        .into_iter()
        // A NUL would end the variable: no name of a process has one.
        .filter_map(|(name, value)| Some((name.to_owned(), value?.replace('\0', ""))))
        .collect()
}
