//! One event in one line: the essentials of its type.

use crate::cli::text::{bytes, count, duration, escape, escape_short, plural};
use crate::event::{Body, proto};
use crate::incident::{machine_check, memory_failure};

use super::{fault, sample};

/// Most characters of a line that come from one text of the event: paths, arguments, notes.
const TEXT_MAX: usize = 120;

/// Says what happened, without the time and the type.
pub fn describe(body: &Body) -> String {
    match body {
        Body::ProcessExec(exec) => process_exec(exec),
        Body::ProcessExit(exit) => process_exit(exit),
        Body::SignalFatal(fatal) => signal_fatal(fatal),
        Body::OomKill(kill) => oom_kill(kill),
        Body::IoError(error) => io_error(error),
        Body::WritebackError(error) => writeback_error(error),
        Body::TaskHung(hung) => format!(
            "{} has not run for longer than the hung-task limit",
            name(hung.process.as_ref())
        ),
        Body::MemoryFailure(failure) => escape(&memory_failure(failure)).into_owned(),
        Body::MachineCheck(check) => escape(&machine_check(check)).into_owned(),
        Body::SignalSent(sent) => signal_sent(sent),
        Body::CgroupMkdir(cgroup) => format!("{} made", cgroup_path(cgroup)),
        Body::CgroupRmdir(cgroup) => format!("{} removed", cgroup_path(cgroup)),
        Body::Note(note) => format!(
            "{}: {}",
            escape_short(note.kind(), TEXT_MAX),
            escape_short(note.text(), TEXT_MAX)
        ),
        Body::SampleSystem(sample) => sample::system(sample),
        Body::SampleProcess(sample) => sample::processes(sample),
        Body::SampleCgroup(sample) => sample::cgroups(sample),
        Body::KernelLog(log) => sample::kernel_log(log),
        Body::Loss(loss) => gap(loss),
        Body::Unknown(unknown) => format!(
            "record of an unknown kind {}, {}",
            unknown.kind(),
            bytes(unknown.record().len() as u64)
        ),
    }
}

fn cgroup_path(cgroup: &proto::Cgroup) -> String {
    match &cgroup.path {
        Some(path) => format!("cgroup {}", escape_short(path, TEXT_MAX)),
        None => format!("cgroup {}", cgroup.id()),
    }
}

/// Writes a process as "comm\[pid\]".
pub fn name(process: Option<&proto::Process>) -> String {
    let process = process.cloned().unwrap_or_default();
    named(process.comm.as_deref(), process.pid)
}

/// Writes "comm\[pid\]" of what is known of both.
pub fn named(comm: Option<&str>, pid: Option<u32>) -> String {
    let comm = comm.map_or("?".into(), escape);
    match pid {
        Some(pid) => format!("{comm}[{pid}]"),
        None => comm.into_owned(),
    }
}

/// Writes a signal as "SIGSEGV", or "signal 70" without a name.
pub fn signal(signal: &proto::Signal) -> String {
    match &signal.name {
        Some(name) => escape(name).into_owned(),
        None => format!("signal {}", signal.number()),
    }
}

/// Writes what was executed, by whom and with what arguments.
pub fn process_exec(exec: &proto::ProcessExec) -> String {
    let process = exec.process.as_ref();
    let mut line = format!(
        "{} {}",
        name(process),
        escape_short(exec.filename(), TEXT_MAX)
    );
    // The first argument is the program's name again, unless it says otherwise.
    let arguments = exec.argv.get(1..).unwrap_or_default();
    let mut shown = String::new();
    for argument in arguments {
        shown.push(' ');
        shown.push_str(&quoted(argument));
        if shown.len() > 2 * TEXT_MAX {
            break;
        }
    }
    line.push_str(&escape_short(&shown, TEXT_MAX));
    if exec.argv_filtered() {
        line.push_str(" (arguments left out)");
    }
    if exec.argv_truncated() && !line.ends_with('…') {
        line.push_str(" …");
    }
    if let Some(parent) = process.and_then(|process| process.ppid) {
        line.push_str(&format!(" (parent {parent})"));
    }
    line
}

/// Quotes an argument that would otherwise read as several, or as none.
fn quoted(argument: &str) -> String {
    match argument.is_empty() || argument.contains([' ', '\'', '"']) {
        true => format!("'{argument}'"),
        false => argument.to_owned(),
    }
}

/// Writes how a process ended and what it used.
pub fn process_exit(exit: &proto::ProcessExit) -> String {
    let mut line = name(exit.process.as_ref());
    match (&exit.signal, exit.exit_code) {
        (Some(number), _) => {
            line.push_str(&format!(" ended by {}", signal(number)));
            if exit.core_dumped() {
                line.push_str(", core dumped");
            }
        }
        (None, Some(code)) => line.push_str(&format!(" exit code {code}")),
        (None, None) => line.push_str(" ended"),
    }
    if let Some(lifetime) = exit.lifetime_ns {
        line.push_str(&format!(" after {}", duration(lifetime)));
    }
    if exit.usage_filtered() {
        line.push_str(", what it used was left out");
        return line;
    }
    let cpu = exit.user_ns().saturating_add(exit.system_ns());
    line.push_str(&format!(
        ", CPU {}, {}",
        duration(cpu),
        bytes(exit.max_rss_bytes())
    ));
    line
}

fn signal_fatal(fatal: &proto::SignalFatal) -> String {
    let mut line = name(fatal.process.as_ref());
    line.push(' ');
    line.push_str(&fault::signal_and_code(fatal));
    if let Some(access) = fault::access(fatal) {
        line.push_str(&format!(", {access}"));
    }
    if let Some(frame) = fault::best_stack(fatal).first() {
        line.push_str(&format!(", at {}", fault::place(frame)));
    }
    if let Some(sender) = &fatal.sender {
        line.push_str(&format!(", {}", fault::sender(sender)));
    }
    if fatal.reraised() {
        line.push_str(", raised again by a handler");
    }
    line
}

fn signal_sent(sent: &proto::SignalSent) -> String {
    let mut line = name(sent.process.as_ref());
    if let Some(number) = &sent.signal {
        line.push_str(&format!(" was asked to end by {}", signal(number)));
    }
    if let Some(sender) = &sent.sender {
        line.push_str(&format!(", {}", fault::sender(sender)));
    }
    if let Some(reception) = &sent.reception {
        line.push_str(&format!(" ({})", escape(reception)));
    }
    line
}

fn oom_kill(kill: &proto::OomKill) -> String {
    let mut line = format!(
        "{} killed for memory: {} anonymous, {} file, {} shared",
        name(kill.process.as_ref()),
        bytes(kill.anon_rss_bytes()),
        bytes(kill.file_rss_bytes()),
        bytes(kill.shmem_rss_bytes()),
    );
    if kill.oom_score_adj() != 0 {
        line.push_str(&format!(", score adjustment {}", kill.oom_score_adj()));
    }
    if kill.trigger.is_some() {
        line.push_str(&format!(
            ", when {} asked for more",
            name(kill.trigger.as_ref())
        ));
    }
    line
}

fn io_error(error: &proto::IoError) -> String {
    let device = match (&error.disk, &error.device) {
        (Some(disk), Some(device)) => format!("{} ({})", escape(disk), escape(device)),
        (Some(one), None) | (None, Some(one)) => escape(one).into_owned(),
        (None, None) => "?".to_owned(),
    };
    let mut line = format!(
        "{device} {} of {} at sector {} failed",
        escape(error.operation()),
        bytes(error.bytes()),
        error.sector()
    );
    let reasons: Vec<_> = [&error.errno, &error.status]
        .into_iter()
        .flatten()
        .map(|reason| escape(reason))
        .collect();
    if !reasons.is_empty() {
        line.push_str(&format!(": {}", reasons.join(", ")));
    }
    line
}

fn writeback_error(error: &proto::WritebackError) -> String {
    format!(
        "{} ({}) inode {}: data lost after its write had succeeded, {}",
        error.name.as_deref().map_or("?".into(), escape),
        error.device.as_deref().map_or("?".into(), escape),
        error.inode(),
        error
            .errno
            .as_deref()
            .map_or("unknown error".into(), escape)
    )
}

/// Says what is missing where.
fn gap(loss: &proto::Loss) -> String {
    let mut line = match loss.count {
        Some(lost) => plural(lost, "record"),
        None => "records".to_owned(),
    };
    line.push_str(" missing here");
    if let Some(lane) = &loss.lane {
        line.push_str(&format!(", {} lane", escape(lane)));
    }
    if let Some(cpu) = loss.cpu {
        line.push_str(&format!(", CPU {cpu}"));
    }
    let reason = match loss.reason() {
        "lost" => "the kernel ring was full",
        "dropped" => "the flight ring could not take them",
        "evicted" => "newer records took their place",
        "unknown" | "" => "why is not known",
        other => &escape(other),
    };
    line.push_str(&format!(": {reason}"));
    if let (Some(since), Some(until)) = (loss.since_boot_ns, loss.until_boot_ns) {
        line.push_str(&format!(" ({})", duration(until.saturating_sub(since))));
    }
    line
}

/// Writes how many events of which type: "1,204 process.exit".
pub fn tally(number: u64, topic: &str) -> String {
    format!("{} {}", count(number), escape(topic))
}
