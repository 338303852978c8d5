//! Tests of the engine, and the records they feed it.

mod accounting;
mod rules;
mod storms;

use std::collections::BTreeMap;

use recorder_ebpf::abi::{
    BUILD_ID_LEN, COMM_LEN, EventKind, Exec, Exit, Header, IoError, MachineCheck, MemoryFailure,
    OomKill, SIGNAL_HAS_SENDER, SignalFatal, TaskHung, WritebackError,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{Engine, Incident, Limits, Outcome, Span};
use crate::event::ClockPair;
use crate::rules::{RuleSet, Settings, builtin as rules_of_every_host};

const SECOND: u64 = 1_000_000_000;
const BEFORE: u64 = 10 * SECOND;
const AFTER: u64 = 5 * SECOND;
const COOLDOWN: u64 = 60 * SECOND;
/// When the first trigger of most tests happens.
const START: u64 = 1000 * SECOND;
const CLOCKS: ClockPair = ClockPair {
    boot_ns: 0,
    unix_ns: 1_800_000_000 * SECOND,
};

/// What tests set.
struct Config {
    span: Span,
    rule_spans: BTreeMap<String, Span>,
    cooldown_ns: u64,
    watch: Vec<String>,
    limits: Limits,
}

fn config() -> Config {
    Config {
        span: Span {
            before_ns: BEFORE,
            after_ns: AFTER,
        },
        rule_spans: BTreeMap::new(),
        cooldown_ns: COOLDOWN,
        watch: vec!["postgres".into()],
        limits: Limits::default(),
    }
}

/// Returns an engine with the built-in rules.
fn engine_of(config: Config) -> Engine {
    let settings = Settings {
        span: config.span,
        spans: config.rule_spans,
        cooldown_ns: config.cooldown_ns,
        watch: config.watch,
    };
    let rules = RuleSet::compile(&rules_of_every_host(), &settings);
    Engine::new(config.limits, rules.expect("they are tested"))
}

fn engine() -> Engine {
    engine_of(config())
}

/// Feeds a record to the engine; returns the incident that it opened.
fn feed(engine: &mut Engine, record: impl IntoBytes + Immutable) -> Option<Incident> {
    match engine.on_record(record.as_bytes(), CLOCKS, |_| ()) {
        Some(Outcome::Opened(incident)) => Some(*incident),
        _ => None,
    }
}

/// Returns a zeroed record of a type with a header.
fn zeroed<T: FromZeros>(
    kind: EventKind,
    boot_ns: u64,
    header: impl Fn(&mut T) -> &mut Header,
) -> T {
    let mut record = T::new_zeroed();
    let header = header(&mut record);
    header.kind = kind as u8;
    header.boot_ns = boot_ns;
    header.len = size_of::<T>() as u32;
    record
}

/// Makes the header that of a process; its start follows from its id.
fn set_process(header: &mut Header, comm: &str, tgid: u32) {
    header.pid = tgid;
    header.tgid = tgid;
    header.start_boot_ns = 1 + u64::from(tgid);
    header.comm = comm_bytes(comm);
}

fn comm_bytes(comm: &str) -> [u8; COMM_LEN] {
    let mut bytes = [0; COMM_LEN];
    bytes[..comm.len()].copy_from_slice(comm.as_bytes());
    bytes
}

/// Returns a crash by SIGSEGV at address 0, at this offset of the program's file.
fn crash(boot_ns: u64, comm: &str, tgid: u32, offset: u64) -> SignalFatal {
    let mut fatal = zeroed(
        EventKind::SignalFatal,
        boot_ns,
        |fatal: &mut SignalFatal| &mut fatal.header,
    );
    set_process(&mut fatal.header, comm, tgid);
    fatal.signal = libc::SIGSEGV as u32;
    fatal.code = 1;
    fatal.ip = 0x5555_0000_0000 + u64::from(tgid) * 0x1000 + offset % 0x1000;
    fatal.stack_len = 1;
    fatal.frames[0].status = 1;
    fatal.frames[0].build_id = [7; BUILD_ID_LEN];
    fatal.frames[0].offset_or_ip = offset;
    fatal
}

/// Makes a crash a signal that this process sent.
fn sent_by(mut fatal: SignalFatal, comm: &str, tgid: u32) -> SignalFatal {
    fatal.header.flags |= SIGNAL_HAS_SENDER;
    fatal.code = 0;
    fatal.sender.tgid = tgid;
    fatal.sender.comm = comm_bytes(comm);
    fatal
}

fn exec(boot_ns: u64, comm: &str, tgid: u32) -> Exec {
    let mut exec = zeroed(EventKind::ProcessExec, boot_ns, |exec: &mut Exec| {
        &mut exec.header
    });
    set_process(&mut exec.header, comm, tgid);
    exec
}

fn exit(boot_ns: u64, comm: &str, tgid: u32, status: u32) -> Exit {
    let mut exit = zeroed(EventKind::ProcessExit, boot_ns, |exit: &mut Exit| {
        &mut exit.header
    });
    set_process(&mut exit.header, comm, tgid);
    exit.status = status;
    exit
}

fn oom(boot_ns: u64, comm: &str, tgid: u32, cgroup: u64) -> OomKill {
    let mut kill = zeroed(EventKind::OomKill, boot_ns, |kill: &mut OomKill| {
        &mut kill.header
    });
    set_process(&mut kill.header, comm, tgid);
    kill.memory_cgroup_id = cgroup;
    kill
}

fn io_error(boot_ns: u64, minor: u32, status: u32) -> IoError {
    let mut error = zeroed(EventKind::IoError, boot_ns, |error: &mut IoError| {
        &mut error.header
    });
    error.major = 8;
    error.minor = minor;
    error.status = status;
    error.disk[..3].copy_from_slice(b"sda");
    error
}

fn writeback(boot_ns: u64, device: u32, errno: u32) -> WritebackError {
    let mut error = zeroed(
        EventKind::WritebackError,
        boot_ns,
        |error: &mut WritebackError| &mut error.header,
    );
    error.device = device;
    error.errno = errno;
    error
}

fn memory_failure(boot_ns: u64, address: u64, result: u32) -> MemoryFailure {
    let mut failure = zeroed(
        EventKind::MemoryFailure,
        boot_ns,
        |failure: &mut MemoryFailure| &mut failure.header,
    );
    failure.address = address;
    failure.result = result;
    failure
}

fn machine_check(boot_ns: u64, cpu: u32, bank: u32, status: u64) -> MachineCheck {
    let mut check = zeroed(
        EventKind::MachineCheck,
        boot_ns,
        |check: &mut MachineCheck| &mut check.header,
    );
    (check.cpu, check.bank, check.status) = (cpu, bank, status);
    check
}

fn hung(boot_ns: u64, comm: &str, tgid: u32) -> TaskHung {
    let mut hung = zeroed(EventKind::TaskHung, boot_ns, |hung: &mut TaskHung| {
        &mut hung.header
    });
    set_process(&mut hung.header, comm, tgid);
    hung
}
