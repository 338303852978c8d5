//! An incident in one sentence, and what it happened to.
//!
//! Names in it are as the kernel gave them: whoever shows the sentence escapes it.

use crate::event::{Body, proto};

use super::Subject;

/// Returns one sentence that says what happened: "nginx[812] died of SIGSEGV at 0x0 (SEGV_MAPERR)".
pub(super) fn sentence(body: &Body) -> String {
    match body {
        Body::SignalFatal(fatal) => fatal_signal(fatal),
        Body::OomKill(kill) => oom_kill(kill),
        Body::IoError(error) => io_error(error),
        Body::WritebackError(error) => writeback_error(error),
        Body::TaskHung(hung) => format!(
            "{} did not run for longer than the kernel's hung-task limit",
            process(hung.process.as_ref())
        ),
        Body::MemoryFailure(failure) => memory_failure(failure),
        Body::MachineCheck(check) => machine_check(check),
        Body::ProcessExit(exit) => exit_of(exit),
        Body::ProcessExec(exec) => format!(
            "{} executed {}",
            process(exec.process.as_ref()),
            exec.filename.as_deref().unwrap_or("a program")
        ),
        Body::SignalSent(sent) => {
            let sender = sent.sender.as_ref();
            let comm = sender.and_then(|sender| sender.comm.as_deref());
            format!(
                "{} was sent {} by {}",
                process(sent.process.as_ref()),
                signal(sent.signal.as_ref()),
                named(comm, sender.and_then(|sender| sender.pid))
            )
        }
        Body::KernelLog(line) => format!("kernel log: {}", line.text.as_deref().unwrap_or("")),
        Body::CgroupMkdir(cgroup) => {
            format!("cgroup {} was made", cgroup.path.as_deref().unwrap_or("?"))
        }
        Body::CgroupRmdir(cgroup) => format!(
            "cgroup {} was removed",
            cgroup.path.as_deref().unwrap_or("?")
        ),
        Body::SampleSystem(_) => "the state of the host".into(),
        Body::SampleProcess(_) => "the processes of the host".into(),
        Body::SampleCgroup(_) => "the memory cgroups of the host".into(),
        // No rule fires on these.
        Body::Note(_) | Body::Loss(_) | Body::Unknown(_) => body.topic().into(),
    }
}

/// Returns what it happened to.
pub(super) fn subject(body: &Body) -> Subject {
    let process = body.process();
    let device = match body {
        Body::IoError(error) => error.device.clone(),
        Body::WritebackError(error) => error.device.clone(),
        Body::ProcessExec(_)
        | Body::ProcessExit(_)
        | Body::SignalFatal(_)
        | Body::OomKill(_)
        | Body::TaskHung(_)
        | Body::MemoryFailure(_)
        | Body::MachineCheck(_)
        | Body::CgroupMkdir(_)
        | Body::CgroupRmdir(_)
        | Body::SignalSent(_)
        | Body::Note(_)
        | Body::SampleSystem(_)
        | Body::SampleProcess(_)
        | Body::SampleCgroup(_)
        | Body::KernelLog(_)
        | Body::Loss(_)
        | Body::Unknown(_) => None,
    };
    let memory_cgroup_id = match body {
        Body::OomKill(kill) => kill.memory_cgroup_id,
        _ => None,
    };
    Subject {
        memory_cgroup_id,
        pid: process.and_then(|process| process.pid),
        start_boot_ns: process.and_then(|process| process.start_boot_ns),
        comm: process.and_then(|process| process.comm.clone()),
        cgroup_id: process.and_then(|process| process.cgroup_id),
        device,
        ..Subject::default()
    }
}

fn fatal_signal(fatal: &proto::SignalFatal) -> String {
    let victim = process(fatal.process.as_ref());
    let mut text = format!("{victim} died of {}", signal(fatal.signal.as_ref()));
    let pid = fatal.process.as_ref().and_then(|process| process.pid);
    if let Some(address) = fatal.fault_address {
        text += &format!(" at {address:#x}");
        if let Some(code) = fatal.code.as_ref().and_then(|code| code.name.as_ref()) {
            text += &format!(" ({code})");
        }
    } else if let Some(sender) = fatal.sender.as_ref()
        && sender.kernel != Some(true)
    {
        match sender.pid == pid {
            true => text += ", which it sent itself",
            false => text += &format!(" sent by {}", named(sender.comm.as_deref(), sender.pid)),
        }
    }
    text
}

fn oom_kill(kill: &proto::OomKill) -> String {
    let parts = [
        kill.anon_rss_bytes,
        kill.file_rss_bytes,
        kill.shmem_rss_bytes,
    ];
    let resident = parts.into_iter().flatten().fold(0, u64::saturating_add);
    let mut text = format!(
        "{} killed by the OOM killer: {} resident",
        process(kill.process.as_ref()),
        binary_units(resident)
    );
    if let Some(cgroup) = kill.memory_cgroup_id {
        text += &format!(", in memory cgroup {cgroup}");
    }
    text
}

fn io_error(error: &proto::IoError) -> String {
    let disk = error.disk.as_ref().or(error.device.as_ref());
    let mut text = format!(
        "{}: {} of {} sectors at {} failed",
        disk.map_or("a disk", String::as_str),
        error.operation.as_deref().unwrap_or("operation"),
        error.sectors.unwrap_or(0),
        error.sector.unwrap_or(0),
    );
    match (&error.errno, &error.status, error.status_number) {
        (Some(errno), Some(status), _) => text += &format!(": {errno} ({status})"),
        (Some(name), None, _) | (None, Some(name), _) => text += &format!(": {name}"),
        (None, None, Some(number)) => text += &format!(": status {number}"),
        (None, None, None) => {}
    }
    text
}

fn writeback_error(error: &proto::WritebackError) -> String {
    let device = error.name.as_ref().or(error.device.as_ref());
    let mut text = format!(
        "{}: data of inode {} was lost in write-back",
        device.map_or("a file system", String::as_str),
        error.inode.unwrap_or(0),
    );
    if let Some(errno) = &error.errno {
        text += &format!(": {errno}");
    }
    text
}

/// Returns "the memory at 0x1234000 is broken: recovered".
pub(crate) fn memory_failure(failure: &proto::MemoryFailure) -> String {
    let address = failure.physical_address();
    let mut text = format!("the memory at {address:#x} is broken");
    if let Some(result) = &failure.result {
        text += &format!(": {result}");
    }
    text
}

/// Returns "CPU 0 bank 4: corrected error of memory at 0x1234000".
pub(crate) fn machine_check(check: &proto::MachineCheck) -> String {
    let mut text = format!("CPU {} bank {}: ", check.cpu(), check.bank());
    text += match check.uncorrected() {
        true => "uncorrected error",
        false => "corrected error",
    };
    match &check.part {
        Some(part) => text += &format!(" of {part}"),
        None => text += &format!(" {:#06x}", check.status() & 0xffff),
    }
    if let Some(address) = check.address {
        text += &format!(" at {address:#x}");
    }
    if check.context_corrupt() {
        text += ", the processor's state may be corrupt";
    }
    text
}

fn exit_of(exit: &proto::ProcessExit) -> String {
    let process = process(exit.process.as_ref());
    match (&exit.signal, exit.exit_code) {
        (Some(killer), _) => format!("{process} died of {}", signal(Some(killer))),
        (None, Some(code)) => format!("{process} exited with code {code}"),
        (None, None) => format!("{process} ended"),
    }
}

/// Returns "nginx[812]".
fn process(process: Option<&proto::Process>) -> String {
    let comm = process.and_then(|process| process.comm.as_deref());
    named(comm, process.and_then(|process| process.pid))
}

fn named(comm: Option<&str>, pid: Option<u32>) -> String {
    let comm = comm.unwrap_or("process");
    match pid {
        Some(pid) => format!("{comm}[{pid}]"),
        None => comm.into(),
    }
}

fn signal(signal: Option<&proto::Signal>) -> String {
    let name = signal.and_then(|signal| signal.name.clone());
    name.unwrap_or_else(|| {
        let number = signal.and_then(|signal| signal.number).unwrap_or(0);
        format!("signal {number}")
    })
}

/// Returns "2.0 GiB".
fn binary_units(bytes: u64) -> String {
    let mut value = bytes as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        // As it will be shown: 1023.96 would be "1024.0".
        if value < 1023.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} EiB")
}
