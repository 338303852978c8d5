//! Process lifecycle.

use recorder_ebpf::abi::{
    self, EXEC_ARGV_TRUNCATED, EXEC_FILENAME_TRUNCATED, EXEC_REDACTED, Exec, Exit, Header, Lineage,
    PROCESS_REDUCED, TaskHung,
};

use super::{known, names, proto, text};

/// Returns the process that a header names.
pub(super) fn subject(header: &Header) -> proto::Process {
    proto::Process {
        pid: Some(header.tgid),
        tid: Some(header.pid),
        start_boot_ns: known(header.start_boot_ns),
        comm: text::name(&header.comm),
        uid: Some(header.uid),
        gid: Some(header.gid),
        cgroup_id: known(header.cgroup_id),
        ..proto::Process::default()
    }
}

pub(super) fn exec(record: &[u8]) -> Option<proto::ProcessExec> {
    let exec = abi::decode::<Exec>(record)?;
    let rest = record.get(size_of::<Exec>()..)?;
    let (exe, rest) = rest.split_at_checked(exec.exe_len.into())?;
    let (filename, rest) = rest.split_at_checked(exec.filename_len.into())?;
    let argv = rest.get(..exec.argv_len.into())?;
    Some(proto::ProcessExec {
        process: Some(proto::Process {
            exe: path_of_names(exe),
            ..descendant(&exec.header, &exec.lineage)
        }),
        filename: Some(text::until_nul(filename)),
        argv: arguments(argv),
        argv_truncated: Some(exec.header.flags & EXEC_ARGV_TRUNCATED != 0),
        filename_truncated: Some(exec.header.flags & EXEC_FILENAME_TRUNCATED != 0),
        euid: Some(exec.euid),
        egid: Some(exec.egid),
        redacted: Some(exec.header.flags & EXEC_REDACTED != 0),
        argv_filtered: is_reduced(&exec.header),
    })
}

/// Tells whether something was left out of the record to keep to the budget; nothing of one that is whole.
fn is_reduced(header: &Header) -> Option<bool> {
    (header.flags & PROCESS_REDUCED != 0).then_some(true)
}

/// Returns the process that a header names, and where it belongs.
pub(super) fn descendant(header: &Header, lineage: &Lineage) -> proto::Process {
    proto::Process {
        ppid: Some(lineage.parent_tgid),
        ns_pid: known(lineage.ns_tgid),
        session: unless_unset(lineage.session),
        loginuid: unless_unset(lineage.login_uid),
        ..subject(header)
    }
}

/// Returns `number` unless it is the one by which the kernel says "none".
pub(crate) fn unless_unset(number: u32) -> Option<u32> {
    (number != u32::MAX).then_some(number)
}

/// Returns the path of a list of names, the innermost first, each ended by a NUL; `None` if there is none.
pub(crate) fn path_of_names(names: &[u8]) -> Option<String> {
    let mut path = String::with_capacity(names.len());
    push_path_of_names(&mut path, names);
    Some(path).filter(|path| !path.is_empty())
}

/// Appends [`path_of_names`]; nothing if there is none.
pub(crate) fn push_path_of_names(path: &mut String, names: &[u8]) {
    let Some(names) = names.strip_suffix(&[0]) else {
        return;
    };
    for name in names.rsplit(|&byte| byte == 0) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
}

/// Splits an argument block; each argument ends with a NUL, but perhaps the last, which may be cut.
fn arguments(block: &[u8]) -> Vec<String> {
    if block.is_empty() {
        return Vec::new();
    }
    block
        .strip_suffix(&[0])
        .unwrap_or(block)
        .split(|&byte| byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

pub(super) fn exit(record: &[u8]) -> Option<proto::ProcessExit> {
    const SIGNAL: u32 = 0x7f;
    const CORE_DUMPED: u32 = 0x80;

    let exit = abi::decode::<Exit>(record)?;
    let header = &exit.header;
    let signal = known(exit.status & SIGNAL);
    let usage_filtered = is_reduced(header);
    let used = |amount: u64| usage_filtered.is_none().then_some(amount);
    let counted = |count: u32| usage_filtered.is_none().then_some(count);
    Some(proto::ProcessExit {
        process: Some(proto::Process {
            ppid: Some(exit.parent_tgid),
            session: unless_unset(exit.session),
            ..subject(header)
        }),
        exit_code: signal.is_none().then_some(exit.status >> 8 & 0xff),
        signal: signal.map(names::signal),
        core_dumped: Some(exit.status & CORE_DUMPED != 0),
        lifetime_ns: known(header.start_boot_ns)
            .map(|start_boot_ns| header.boot_ns.saturating_sub(start_boot_ns)),
        user_ns: used(exit.user_ns),
        system_ns: used(exit.system_ns),
        max_rss_bytes: used(u64::from(exit.max_rss_kib) << 10),
        read_bytes: used(exit.read_bytes),
        write_bytes: used(exit.write_bytes),
        minor_faults: counted(exit.minor_faults),
        major_faults: counted(exit.major_faults),
        voluntary_switches: counted(exit.voluntary_switches),
        involuntary_switches: counted(exit.involuntary_switches),
        usage_filtered,
    })
}

pub(super) fn hung(record: &[u8]) -> Option<proto::TaskHung> {
    let hung = abi::decode::<TaskHung>(record)?;
    Some(proto::TaskHung {
        process: Some(subject(&hung.header)),
    })
}
