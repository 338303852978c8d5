//! Which program serves which event, and how it is attached.

use aya::Ebpf;
use aya::programs::{BtfTracePoint, ProgramError};
use recorder_ebpf::abi::EventKind;

use super::btf::Btf;
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
        candidates: &[Candidate {
            program: "oom_kill",
            tracepoint: "mark_victim",
            takes: Some("task_struct"),
        }],
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
        event: EventKind::WritebackError,
        part: None,
        candidates: &[candidate("writeback_error", "filemap_set_wb_err")],
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
        event: EventKind::ProcessExit,
        part: None,
        candidates: &[candidate("process_exit", "sched_process_exit")],
    },
];

/// Says of every purpose how it would be served, by the kernel's types alone.
pub(super) fn plan(btf: &Btf<'_>) -> Vec<Probe> {
    serve(|candidate| supported(btf, candidate))
}

/// Loads and attaches what the kernel supports, and says of every purpose how it is served.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf<'_>, aya_btf: &aya::Btf) -> Vec<Probe> {
    serve(|candidate| {
        supported(btf, candidate)?;
        load_and_attach(ebpf, candidate, aya_btf)
    })
}

/// Serves every purpose by the first candidate that `try_one` accepts.
fn serve(mut try_one: impl FnMut(&Candidate) -> Result<(), String>) -> Vec<Probe> {
    PURPOSES
        .iter()
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

fn load_and_attach(ebpf: &mut Ebpf, candidate: &Candidate, btf: &aya::Btf) -> Result<(), String> {
    let mut attempt = || {
        let Some(program) = ebpf.program_mut(candidate.program) else {
            return Ok(false);
        };
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load(candidate.tracepoint, btf)?;
        program.attach()?;
        Ok(true)
    };
    match attempt() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the object has no program {}", candidate.program)),
        Err(error) => Err(format!("{}: {}", candidate.tracepoint, reason(&error))),
    }
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
    fn the_first_candidate_is_no_fallback_and_the_second_says_why() {
        let probes = serve(|candidate| match candidate.tracepoint {
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
    }
}
