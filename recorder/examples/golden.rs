//! Writes a dump of a host that never was: what the fixtures in `tests/fixtures/golden` are made with.
//!
//! ```text
//! cargo run --example golden -- DIRECTORY [PROCESSES]
//! ```
//!
//! The same bytes each time, of records made here and written by the dump's own writer. Every type of event is in it, a
//! crash, an OOM kill and an I/O error with their causes, hostile names, and a gap. With more processes it becomes large.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use recorder::dump::{
    Clocks, CpuStats, DumpInput, Evidence, Frozen, Grow, Host, Limits, Probe, ProbeState,
};
use recorder::event::{Body, ClockPair, proto};
use recorder::identity::Directory;
use recorder::incident::Incident;
use recorder::ring::LaneWindow;
use recorder_ebpf::abi::{
    EventKind, Exec, Exit, Frame, Header, IoError, Lane, LaneStats, Lineage, Note, NoteKind,
    OomKill, SIGNAL_HAS_REGISTERS, Sample, Sender, SignalFatal, SignalSent, TaskHung,
    WritebackError,
};
use uuid::Uuid;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// When the trigger was.
const TRIGGER_NS: u64 = 100_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// The same moment by the wall clock: 2026-11-23 09:00:00 UTC.
const TRIGGER_UNIX_NS: u64 = 1_795_424_400_000_000_000;
const INCIDENT: Uuid = Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_601d_e401);
const CRASHED: u32 = 4242;
const HUNGRY: u32 = 4300;

/// Records by lane, each with its own numbers.
#[derive(Default)]
struct Records {
    lanes: [Vec<Vec<u8>>; 3],
    sequences: [u64; 3],
}

impl Frozen for Records {
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.lanes[lane as usize].iter().map(Vec::as_slice))
    }

    fn lane(&self, _: Lane) -> LaneWindow {
        LaneWindow::default()
    }
}

/// A process of the host that never was.
#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    start_ns: u64,
    comm: &'static str,
}

impl Records {
    fn header(&mut self, kind: EventKind, at: u64, process: Option<Process>) -> Header {
        let sequence = &mut self.sequences[kind.lane() as usize];
        *sequence += 1;
        let mut header = Header {
            boot_ns: at,
            seq: *sequence - 1,
            kind: kind as u8,
            ..Header::new_zeroed()
        };
        if let Some(process) = process {
            header.pid = process.pid;
            header.tgid = process.pid;
            header.start_boot_ns = process.start_ns;
            header.uid = 1000;
            header.gid = 1000;
            header.cgroup_id = 77;
            text(&mut header.comm, process.comm);
        }
        header
    }

    fn push<T: IntoBytes + Immutable>(&mut self, kind: EventKind, record: &T, behind: &[u8]) {
        let record = [record.as_bytes(), behind].concat();
        self.lanes[kind.lane() as usize].push(record);
    }

    fn exec(&mut self, at: u64, process: Process, exe: &str, argv: &[&str]) {
        let mut arguments = Vec::new();
        for argument in argv {
            arguments.extend_from_slice(argument.as_bytes());
            arguments.push(0);
        }
        // A path is its names, the file's own first.
        let mut names = Vec::new();
        for name in exe.split('/').rev().filter(|name| !name.is_empty()) {
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        let exec = Exec {
            header: self.header(EventKind::ProcessExec, at, Some(process)),
            lineage: lineage(),
            euid: 1000,
            egid: 1000,
            exe_len: names.len() as u16,
            filename_len: exe.len() as u16,
            argv_len: arguments.len() as u16,
            ..Exec::new_zeroed()
        };
        let behind = [&names, exe.as_bytes(), &arguments].concat();
        self.push(EventKind::ProcessExec, &exec, &behind);
    }

    fn exit(&mut self, at: u64, process: Process, status: u32) {
        let exit = Exit {
            header: self.header(EventKind::ProcessExit, at, Some(process)),
            user_ns: 3_000_000,
            system_ns: 1_000_000,
            read_bytes: 4096,
            max_rss_kib: 5120,
            status,
            parent_tgid: 1,
            minor_faults: 120,
            voluntary_switches: 3,
            session: u32::MAX,
            ..Exit::new_zeroed()
        };
        self.push(EventKind::ProcessExit, &exit, &[]);
    }

    fn crash(&mut self, at: u64, process: Process) {
        let mut fatal = SignalFatal {
            header: self.header(EventKind::SignalFatal, at, Some(process)),
            signal: 11,
            code: 1,
            fault_address: 0x10,
            ip: 0x55d0_0000_1234,
            sp: 0x7ffd_0000_2000,
            error_code: 4,
            trap_number: 14,
            arch: 1,
            stack_len: 3,
            instruction_len: 4,
            lineage: lineage(),
            ..SignalFatal::new_zeroed()
        };
        fatal.header.flags = SIGNAL_HAS_REGISTERS;
        fatal.instruction[..4].copy_from_slice(&[0x48, 0x8b, 0x47, 0x10]);
        for (number, register) in fatal.registers.iter_mut().enumerate() {
            *register = 0x1000 + number as u64;
        }
        for number in 0..3_u64 {
            let at = number as usize;
            fatal.addresses[at] = 0x55d0_0000_1234 + number * 0x100;
            fatal.frames[at] = Frame {
                status: 1,
                build_id: [0xab; 20],
                offset_or_ip: 0x1234 + number * 0x100,
            };
        }
        self.push(EventKind::SignalFatal, &fatal, &[]);
    }

    fn killed(&mut self, at: u64, process: Process) {
        let fatal = SignalFatal {
            header: self.header(EventKind::SignalFatal, at, Some(process)),
            signal: 9,
            code: 128,
            lineage: lineage(),
            ..SignalFatal::new_zeroed()
        };
        self.push(EventKind::SignalFatal, &fatal, &[]);
    }

    fn oom(&mut self, at: u64, process: Process) {
        let mut kill = OomKill {
            header: self.header(EventKind::OomKill, at, Some(process)),
            total_vm_pages: 90_000,
            anon_rss_pages: 65_536,
            file_rss_pages: 12,
            pgtables_bytes: 1 << 20,
            trigger_cgroup_id: 77,
            memory_cgroup_id: 77,
            lineage: lineage(),
            trigger_pid: process.pid,
            trigger_tgid: process.pid,
            trigger_uid: 1000,
            ..OomKill::new_zeroed()
        };
        text(&mut kill.trigger_comm, process.comm);
        self.push(EventKind::OomKill, &kill, &[]);
    }

    fn io_error(&mut self, at: u64) {
        let mut error = IoError {
            header: self.header(EventKind::IoError, at, None),
            sector: 2048,
            bytes: 4096,
            major: 8,
            status: 10,
            cmd_flags: 1,
            ..IoError::new_zeroed()
        };
        text(&mut error.disk, "sda");
        self.push(EventKind::IoError, &error, &[]);
        let mut lost = WritebackError {
            header: self.header(EventKind::WritebackError, at + 1_000, None),
            ..WritebackError::new_zeroed()
        };
        lost.header.uid = 0;
        self.push(EventKind::WritebackError, &lost, &[]);
    }

    fn asked(&mut self, at: u64, process: Process) {
        let mut sender = Sender {
            boot_ns: at,
            tgid: 1,
            signal: 15,
            flags: 8,
            ..Sender::new_zeroed()
        };
        text(&mut sender.comm, "systemd");
        let header = self.header(EventKind::SignalSent, at, Some(process));
        self.push(EventKind::SignalSent, &SignalSent { header, sender }, &[]);
    }

    fn sample(&mut self, kind: EventKind, at: u64, message: &impl prost::Message) {
        let message = message.encode_to_vec();
        let sample = Sample {
            header: self.header(kind, at, None),
            message_len: message.len() as u32,
            reserved: 0,
        };
        self.push(kind, &sample, &message);
    }

    fn note(&mut self, at: u64, kind: NoteKind, words: &str) {
        let note = Note {
            header: self.header(EventKind::Note, at, None),
            kind: kind as u32,
            text_len: words.len() as u32,
        };
        self.push(EventKind::Note, &note, words.as_bytes());
    }
}

fn lineage() -> Lineage {
    Lineage {
        parent_tgid: 1,
        ns_tgid: 0,
        session: u32::MAX,
        login_uid: u32::MAX,
    }
}

fn text(field: &mut [u8], text: &str) {
    field[..text.len()].copy_from_slice(text.as_bytes());
}

/// Makes the records of the window.
fn records(processes: u32) -> Records {
    let mut records = Records::default();
    let begin = TRIGGER_NS - 10 * SECOND_NS;
    records.note(begin, NoteKind::Start, "recording began");
    for second in 0..12 {
        let at = begin + second * SECOND_NS;
        records.sample(EventKind::SampleSystem, at, &system(second));
        records.sample(EventKind::SampleProcess, at + 1_000_000, &busiest(second));
    }
    let shells = [
        "sh",
        "cron",
        "make",
        "a;b,c\"d",
        "=cmd|'/C'!A0",
        "x\u{1b}[2J\n",
    ];
    let step = (9 * SECOND_NS) / u64::from(processes.max(1));
    for number in 0..processes {
        let at = begin + u64::from(number) * step;
        let process = Process {
            pid: 10_000 + number % 20_000,
            start_ns: at.saturating_sub(step / 2),
            comm: shells[number as usize % shells.len()],
        };
        records.exec(at, process, "/usr/bin/tool", &["tool", "--number", "7"]);
        records.exit(
            at + step / 2,
            process,
            if number % 10 == 0 { 256 } else { 0 },
        );
    }
    // A gap: three records were lost here.
    records.sequences[Lane::Lifecycle as usize] += 3;
    let crashed = Process {
        pid: CRASHED,
        start_ns: begin + SECOND_NS,
        comm: "ledger",
    };
    let hungry = Process {
        pid: HUNGRY,
        start_ns: begin + 2 * SECOND_NS,
        comm: "hungry",
    };
    let before = TRIGGER_NS - SECOND_NS / 2;
    records.exec(
        before,
        crashed,
        "/srv/ledger",
        &["ledger", "--password=*****", "/srv/data"],
    );
    records.exec(before + 1_000, hungry, "/srv/hungry", &["hungry"]);
    records.asked(before + 2_000, crashed);
    records.io_error(before + 3_000_000);
    records.oom(before + 5_000_000, hungry);
    records.killed(before + 6_000_000, hungry);
    records.exit(before + 7_000_000, hungry, 9);
    let header = records.header(EventKind::TaskHung, before + 8_000_000, Some(hungry));
    records.push(EventKind::TaskHung, &TaskHung { header }, &[]);
    let log = proto::KernelLog {
        level: Some("err".into()),
        facility: Some("kern".into()),
        sequence: Some(1204),
        text: Some("blk_update_request: I/O error, dev sda, sector 2048".into()),
        ..proto::KernelLog::default()
    };
    records.sample(EventKind::KernelLog, before + 9_000_000, &log);
    let cgroups = proto::SampleCgroup {
        reason: Some("oom.kill".into()),
        cgroups: Some(1),
        top: vec![proto::CgroupMemory {
            path: Some("/system.slice/hungry.service".into()),
            id: Some(77),
            usage_bytes: Some(256 << 20),
            limit_bytes: Some(256 << 20),
            ran_out: Some(true),
            ..proto::CgroupMemory::default()
        }],
        ..proto::SampleCgroup::default()
    };
    records.sample(EventKind::SampleCgroup, before + 10_000_000, &cgroups);
    records.crash(TRIGGER_NS, crashed);
    records.exit(TRIGGER_NS + 50_000, crashed, 11 | 0x80);
    records
}

fn system(second: u64) -> proto::SampleSystem {
    let stall = |percent| proto::Stall {
        avg10_percent: Some(percent),
        ..proto::Stall::default()
    };
    proto::SampleSystem {
        interval_ns: (second > 0).then_some(SECOND_NS),
        load: Some(proto::Load {
            load1: Some(0.5 + second as f64 / 4.0),
            runnable: Some(second),
            threads: Some(300),
            ..proto::Load::default()
        }),
        cpu: Some(proto::CpuUsage {
            user_percent: Some(12.5),
            system_percent: Some(7.25),
            idle_percent: Some(80.25 - second as f64),
            ..proto::CpuUsage::default()
        }),
        memory: Some(proto::Memory {
            total_bytes: Some(8 << 30),
            available_bytes: Some((4 << 30) - (second << 26)),
            ..proto::Memory::default()
        }),
        pressure: vec![proto::Pressure {
            resource: Some("memory".into()),
            some: Some(stall(second as f64)),
            full: Some(stall(second as f64 / 2.0)),
        }],
        disks: vec![proto::DiskUsage {
            device: Some("8:0".into()),
            name: Some("sda".into()),
            busy_percent: Some(second as f64),
            ..proto::DiskUsage::default()
        }],
        ..proto::SampleSystem::default()
    }
}

fn busiest(second: u64) -> proto::SampleProcess {
    proto::SampleProcess {
        interval_ns: Some(SECOND_NS),
        processes: Some(120),
        top: vec![proto::ProcessUsage {
            process: Some(proto::Process {
                pid: Some(HUNGRY),
                start_boot_ns: Some(TRIGGER_NS - 8 * SECOND_NS),
                comm: Some("hungry".into()),
                ..proto::Process::default()
            }),
            cpu_percent: Some(50.0),
            rss_bytes: Some((second + 1) << 24),
            ..proto::ProcessUsage::default()
        }],
        ..proto::SampleProcess::default()
    }
}

/// Names what a record does not say.
fn enrich(body: &mut Body) {
    if let Body::SignalFatal(fatal) = body {
        for (frame, symbol) in fatal.stack.iter_mut().zip(["post", "handle", "main"]) {
            frame.module = Some("/srv/ledger".into());
            frame.symbol = Some(symbol.into());
        }
    }
    if let Some(process) = body.process_mut().filter(|one| one.cgroup_id == Some(77)) {
        process.cgroup = Some("/system.slice/hungry.service".into());
        process.unit = Some("hungry.service".into());
    }
}

fn incident() -> Result<Incident, serde_json::Error> {
    // As a dump says it: what later versions add is not in it.
    serde_json::from_value(serde_json::json!({
        "id": INCIDENT,
        "rule": "signal.fatal",
        "summary": "ledger[4242] died of SIGSEGV at 0x10 (SEGV_MAPERR)",
        "trigger": {"type": "signal.fatal", "boot_ns": TRIGGER_NS, "cpu": 0, "sequence": 4},
        "subject": {"pid": CRASHED, "start_boot_ns": TRIGGER_NS - 9 * SECOND_NS, "comm": "ledger"},
        "fingerprint": "abababab+0x1234",
        "window_start_boot_ns": TRIGGER_NS - 10 * SECOND_NS,
        "window_end_boot_ns": TRIGGER_NS + 2 * SECOND_NS,
        "followers": 1,
        "suppressed_before": 0,
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory")?;
    let processes = arguments.next().map_or(Ok(60), |count| count.parse())?;
    let host: Host = serde_json::from_value(serde_json::json!({
        "hostname": "golden-1",
        "environment": "fixture",
        "machine_id": "00112233445566778899aabbccddeeff",
        "boot_id": "01234567-89ab-4def-8123-456789abcdef",
        "kernel_release": "6.12.0",
        "architecture": "x86_64",
        "cpus": 1,
        "recorder_version": "0.1.0",
    }))?;
    let clocks = Clocks {
        start: ClockPair {
            boot_ns: TRIGGER_NS - 90 * SECOND_NS,
            unix_ns: TRIGGER_UNIX_NS - 90 * SECOND_NS,
        },
        freeze: ClockPair {
            boot_ns: TRIGGER_NS,
            unix_ns: TRIGGER_UNIX_NS,
        },
        synchronised: Some(true),
        error_ns: Some(250_000),
    };
    let records = records(processes);
    let kernel = [Lane::Failure, Lane::Lifecycle].map(|lane| CpuStats {
        lane,
        cpu: 0,
        stats: LaneStats {
            attempted: records.sequences[lane as usize],
            ..LaneStats::default()
        },
    });
    let probe = Probe {
        event: "signal.fatal".into(),
        hook: "signal_deliver".into(),
        state: ProbeState::Attached,
        detail: None,
    };
    let input = DumpInput {
        incident: &incident()?,
        frozen: &records,
        host: &host,
        clocks,
        directory: &Directory::default(),
        config: &serde_json::json!({"window": {"before": "10s", "after": "2s"}}),
        probes: &[probe],
        kernel: &kernel,
        throttled: &[],
        skipped: &[],
        filtered: &[],
        evidence: &Evidence::default(),
        recovery: None,
        refused: &[],
        may_grow: &(Arc::new(|| true) as Grow),
        enrich: &enrich,
    };
    let limits = Limits {
        max_dump_bytes: u64::MAX,
    };
    std::fs::create_dir_all(&directory)?;
    let written = recorder::dump::write(Path::new(&directory), &input, &limits)?;
    println!("{} {}", written.path.display(), written.events);
    Ok(())
}
