//! Which program serves which event, and how it is attached.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use aya::Ebpf;
use aya::programs::{BtfTracePoint, Program, ProgramError};
use recorder_ebpf::abi::EventKind;

use super::btf::Btf;
use super::facts::preemptible;
use crate::dump::{Probe, ProbeState};

/// Something to record, and the programs that can, best first.
struct Purpose {
    event: EventKind,
    /// What is recorded beside the event itself.
    part: Option<&'static str>,
    candidates: &'static [Candidate],
}

/// A program of the object.
struct Candidate {
    program: &'static str,
    tracepoint: &'static str,
    /// Structure behind the tracepoint's first argument, where kernels differ.
    takes: Option<&'static str>,
}

const fn candidate(program: &'static str, tracepoint: &'static str) -> Candidate {
    Candidate {
        program,
        tracepoint,
        takes: None,
    }
}

/// Errors of devices made of others, which make no requests: served only where there are such devices.
const STACKED: &str = "of dm and md";
/// Errors of the hardware: served only where the kernel tells of them.
const HARDWARE: [EventKind; 2] = [EventKind::MemoryFailure, EventKind::MachineCheck];
/// What happens on a CPU that is inside the first program: served only where programs are preempted. Behind the first program,
/// since the kernel runs them in the order in which they were attached.
const SECOND: &str = "during another";

/// Everything, in the order in which it is attached: who sends a signal before what the signal does.
const PURPOSES: &[Purpose] = &[
    Purpose {
        event: EventKind::SignalFatal,
        part: Some("sender"),
        candidates: &[candidate("signal_sent", "signal_generate")],
    },
    Purpose {
        event: EventKind::SignalFatal,
        part: None,
        candidates: &[candidate("signal_fatal", "signal_deliver")],
    },
    Purpose {
        event: EventKind::OomKill,
        part: None,
        candidates: &[
            Candidate {
                program: "oom_kill",
                tracepoint: "mark_victim",
                takes: Some("task_struct"),
            },
            candidate("oom_kill_by_pid", "mark_victim"),
        ],
    },
    Purpose {
        event: EventKind::IoError,
        part: None,
        candidates: &[
            candidate("io_error", "block_rq_error"),
            candidate("io_error_complete", "block_rq_complete"),
        ],
    },
    Purpose {
        event: EventKind::IoError,
        part: Some(STACKED),
        candidates: &[candidate("io_error_stacked", "block_bio_complete")],
    },
    Purpose {
        event: EventKind::WritebackError,
        part: None,
        candidates: &[candidate("writeback_error", "filemap_set_wb_err")],
    },
    Purpose {
        event: EventKind::MemoryFailure,
        part: None,
        candidates: &[candidate("memory_failure", "memory_failure_event")],
    },
    Purpose {
        event: EventKind::MachineCheck,
        part: None,
        candidates: &[candidate("machine_check", "mce_record")],
    },
    Purpose {
        event: EventKind::TaskHung,
        part: None,
        candidates: &[candidate("task_hung", "sched_process_hang")],
    },
    // The names of cgroups before the processes in them.
    Purpose {
        event: EventKind::CgroupMkdir,
        part: None,
        candidates: &[candidate("cgroup_mkdir", "cgroup_mkdir")],
    },
    Purpose {
        event: EventKind::CgroupRmdir,
        part: None,
        candidates: &[candidate("cgroup_rmdir", "cgroup_rmdir")],
    },
    Purpose {
        event: EventKind::ProcessExec,
        part: None,
        candidates: &[candidate("process_exec", "sched_process_exec")],
    },
    Purpose {
        event: EventKind::ProcessExec,
        part: Some(SECOND),
        candidates: &[candidate("process_exec_second", "sched_process_exec")],
    },
    Purpose {
        event: EventKind::ProcessExit,
        part: None,
        candidates: &[candidate("process_exit", "sched_process_exit")],
    },
    Purpose {
        event: EventKind::ProcessExit,
        part: Some(SECOND),
        candidates: &[candidate("process_exit_second", "sched_process_exit")],
    },
];

/// Threads that load programs at most: two programs take longer than all the others.
const LOADERS_MAX: usize = 4;
/// Programs that the kernel takes long to check, the longest last.
const LONGEST_LAST: [&str; 6] = [
    "signal_sent",
    "process_exit_second",
    "process_exec_second",
    "process_exit",
    "process_exec",
    "signal_fatal",
];

/// Says of every purpose how it would be served, by the kernel's types alone.
pub(super) fn plan(btf: &Btf<'_>) -> Vec<Probe> {
    serve(wanted(btf), |candidate| supported(btf, candidate))
}

/// Loads and attaches what the kernel supports, and says of every purpose how it is served.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf<'_>, aya_btf: &aya::Btf) -> Vec<Probe> {
    let mut loaded = load_side_by_side(ebpf, btf, aya_btf);
    serve(wanted(btf), |candidate| {
        supported(btf, candidate)?;
        if let Some(refusal) = loaded.remove(candidate.program) {
            refusal?;
        } else {
            load(ebpf, candidate, aya_btf)?;
        }
        attach_loaded(ebpf, candidate)
    })
}

/// Loads the first candidate of each purpose that the kernel supports: the kernel checks each on the processor of whoever
/// loads it, and that is most of the time it takes to start.
fn load_side_by_side(
    ebpf: &mut Ebpf,
    btf: &Btf<'_>,
    aya_btf: &aya::Btf,
) -> HashMap<&'static str, Result<(), String>> {
    let mut wanted: HashMap<&str, &Candidate> = wanted(btf)
        .filter_map(|purpose| {
            let mut candidates = purpose.candidates.iter();
            candidates.find(|candidate| supported(btf, candidate).is_ok())
        })
        .map(|candidate| (candidate.program, candidate))
        .collect();
    let mut programs: Vec<(&Candidate, &mut Program)> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| Some((wanted.remove(name)?, program)))
        .collect();
    // The longest last: they are taken from the end.
    programs
        .sort_by_key(|(candidate, _)| LONGEST_LAST.iter().position(|it| *it == candidate.program));
    let programs = Mutex::new(programs);
    let results = Mutex::new(HashMap::new());
    let threads = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(LOADERS_MAX));
    let work = || {
        while let Some((candidate, program)) = lock(&programs).pop() {
            let result = load_program(program, candidate, aya_btf);
            lock(&results).insert(candidate.program, result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing between its lock and its release panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what there is to serve on this host.
fn wanted(btf: &Btf<'_>) -> impl Iterator<Item = &'static Purpose> {
    let has_stacked = has_stacked_devices(Path::new("/sys/block"));
    let is_preempted = preemptible();
    PURPOSES.iter().filter(move |purpose| match purpose.part {
        Some(STACKED) => has_stacked,
        Some(SECOND) => is_preempted,
        None if HARDWARE.contains(&purpose.event) => {
            let mut candidates = purpose.candidates.iter();
            candidates.any(|candidate| btf.tracepoint(candidate.tracepoint).is_some())
        }
        Some(_) | None => true,
    })
}

/// Serves every purpose by the first candidate that `try_one` accepts.
fn serve(
    purposes: impl Iterator<Item = &'static Purpose>,
    mut try_one: impl FnMut(&Candidate) -> Result<(), String>,
) -> Vec<Probe> {
    purposes
        .map(|purpose| {
            let event = match purpose.part {
                None => purpose.event.name().to_owned(),
                Some(part) => format!("{} {part}", purpose.event.name()),
            };
            let mut reasons = Vec::new();
            for candidate in purpose.candidates {
                let hook = format!("tp_btf/{}", candidate.tracepoint);
                match try_one(candidate) {
                    Ok(()) if reasons.is_empty() => {
                        return Probe {
                            event,
                            hook,
                            state: ProbeState::Attached,
                            detail: None,
                        };
                    }
                    Ok(()) => {
                        return Probe {
                            event,
                            hook,
                            state: ProbeState::Fallback,
                            detail: Some(reasons.join("; ")),
                        };
                    }
                    Err(reason) => reasons.push(reason),
                }
            }
            Probe {
                event,
                hook: String::new(),
                state: ProbeState::Unavailable,
                detail: Some(reasons.join("; ")),
            }
        })
        .collect()
}

/// Whether any of the devices below `directory` is device-mapper's or md's.
fn has_stacked_devices(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|devices| {
        devices.flatten().any(|device| {
            let path = device.path();
            path.join("dm").exists() || path.join("md").exists()
        })
    })
}

fn supported(btf: &Btf<'_>, candidate: &Candidate) -> Result<(), String> {
    let tracepoint = candidate.tracepoint;
    let Some(arguments) = btf.tracepoint(tracepoint) else {
        return Err(format!("this kernel has no tracepoint {tracepoint}"));
    };
    match candidate.takes {
        Some(structure) if arguments.first() != Some(&Some(structure)) => Err(format!(
            "tracepoint {tracepoint} of this kernel does not pass a {structure}"
        )),
        Some(_) | None => Ok(()),
    }
}

fn load(ebpf: &mut Ebpf, candidate: &Candidate, btf: &aya::Btf) -> Result<(), String> {
    let program = ebpf
        .program_mut(candidate.program)
        .ok_or_else(|| lacking(candidate))?;
    load_program(program, candidate, btf)
}

fn load_program(
    program: &mut Program,
    candidate: &Candidate,
    btf: &aya::Btf,
) -> Result<(), String> {
    <&mut BtfTracePoint>::try_from(program)
        .and_then(|program| program.load(candidate.tracepoint, btf))
        .map_err(|error| refused(candidate, &error))
}

fn attach_loaded(ebpf: &mut Ebpf, candidate: &Candidate) -> Result<(), String> {
    let program = ebpf
        .program_mut(candidate.program)
        .ok_or_else(|| lacking(candidate))?;
    <&mut BtfTracePoint>::try_from(program)
        .and_then(BtfTracePoint::attach)
        .map(drop)
        .map_err(|error| refused(candidate, &error))
}

fn lacking(candidate: &Candidate) -> String {
    format!("the object has no program {}", candidate.program)
}

fn refused(candidate: &Candidate, error: &ProgramError) -> String {
    format!("{}: {}", candidate.tracepoint, reason(error))
}

/// One line of what the kernel said.
pub(super) fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        // The verifier explains itself at the end, before its statistics.
        let line = log.lines().rev().map(str::trim).find(|line| {
            !line.is_empty()
                && !line.starts_with("processed ")
                && !line.starts_with("stack depth ")
                && !line.starts_with("verification ")
        });
        return match line {
            Some(line) => format!("the kernel refused the program: {io_error}: {line}"),
            None => format!("the kernel refused the program: {io_error}"),
        };
    }
    format!("{:#}", anyhow::Error::msg(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_devices_are_told_from_disks() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        fs::create_dir_all(directory.path().join("sda/queue")).expect("it is ours");
        assert!(!has_stacked_devices(directory.path()));
        assert!(!has_stacked_devices(&directory.path().join("none")));
        fs::create_dir_all(directory.path().join("dm-0/dm")).expect("it is ours");
        assert!(has_stacked_devices(directory.path()));
    }

    #[test]
    fn the_first_candidate_is_no_fallback_and_the_second_says_why() {
        let probes = serve(PURPOSES.iter(), |candidate| match candidate.tracepoint {
            "block_rq_error" => Err("no such thing".into()),
            "mark_victim" => Err("other argument".into()),
            _ => Ok(()),
        });
        let of = |event: &str| {
            probes
                .iter()
                .find(|probe| probe.event == event)
                .expect("every event is served or not")
        };
        assert_eq!(of("process.exit").state, ProbeState::Attached);
        assert_eq!(of("io.error").state, ProbeState::Fallback);
        assert_eq!(of("io.error").hook, "tp_btf/block_rq_complete");
        assert_eq!(of("io.error").detail.as_deref(), Some("no such thing"));
        assert_eq!(of("oom.kill").state, ProbeState::Unavailable);
        assert_eq!(
            of("oom.kill").detail.as_deref(),
            Some("other argument; other argument")
        );
    }
}
