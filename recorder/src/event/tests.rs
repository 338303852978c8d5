use proptest::prelude::*;
use recorder_ebpf::abi::{
    Arch, COMM_LEN, CgroupChange, EXEC_ARGV_TRUNCATED, Exec, Exit, Frame, IoError, Lineage,
    MAPPING_EXECUTE, MAPPING_FILE, MAPPING_PATH_TRUNCATED, MAPPING_READ, MAPPING_WRITE,
    MachineCheck, Mapping, MemoryFailure, Note, NoteKind, OomKill, PROCESS_REDUCED, SENDER_KERNEL,
    SIGNAL_HAS_REGISTERS, SIGNAL_HAS_SENDER, SIGNAL_RERAISED, Sample, Sender, SignalFatal,
    SignalSent, TaskHung, WritebackError,
};
use serde_json::{Value, json};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::CUT_STEP;

fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text);
    bytes
}

fn header(kind: EventKind, flags: u8) -> Header {
    Header {
        boot_ns: 5_000_000_000,
        seq: 77,
        start_boot_ns: 2_000_000_000,
        cgroup_id: 42,
        pid: 1001,
        tgid: 1000,
        uid: 33,
        gid: 34,
        len: 0,
        cpu: 3,
        kind: kind as u8,
        flags,
        comm: padded::<COMM_LEN>(b"worker/1"),
    }
}

fn body_json(record: &[u8]) -> Value {
    serde_json::to_value(decode(Lane::Failure, record).body).expect("messages serialise")
}

fn process_json() -> Value {
    json!({
        "pid": 1000, "tid": 1001, "start_boot_ns": 2_000_000_000_u64, "comm": "worker/1",
        "uid": 33, "gid": 34, "cgroup_id": 42,
    })
}

fn process_json_with_parent(ppid: u32) -> Value {
    let mut process = process_json();
    process["ppid"] = ppid.into();
    process
}

/// "/usr/bin/worker", as the kernel walks it.
const EXE: &[u8] = b"worker\0bin\0usr\0";

/// What [`LINEAGE`] becomes.
fn process_json_with_lineage() -> Value {
    let mut process = process_json();
    for (name, value) in [
        ("ppid", 900),
        ("ns_pid", 7),
        ("session", 3),
        ("loginuid", 1005),
    ] {
        process[name] = value.into();
    }
    process
}

const LINEAGE: Lineage = Lineage {
    parent_tgid: 900,
    ns_tgid: 7,
    session: 3,
    login_uid: 1005,
};

/// Nobody has logged in.
const NO_LOGIN: Lineage = Lineage {
    parent_tgid: 900,
    ns_tgid: 0,
    session: u32::MAX,
    login_uid: u32::MAX,
};

fn exec_record(filename: &[u8], argv: &[u8]) -> Vec<u8> {
    let exec = Exec {
        header: header(EventKind::ProcessExec, EXEC_ARGV_TRUNCATED),
        memory_cgroup_id: 0,
        inode: 7,
        changed_s: 8,
        changed_ns: 9,
        device: 10,
        lineage: LINEAGE,
        euid: 0,
        egid: 5,
        exe_len: EXE.len() as u16,
        filename_len: filename.len() as u16,
        argv_len: argv.len() as u16,
        reserved: 0,
    };
    [exec.as_bytes(), EXE, filename, argv].concat()
}

fn exit(status: u32) -> Exit {
    Exit {
        header: header(EventKind::ProcessExit, 0),
        user_ns: 11,
        system_ns: 12,
        read_bytes: 13,
        write_bytes: 14,
        max_rss_kib: 15,
        status,
        parent_tgid: 900,
        minor_faults: 16,
        major_faults: 17,
        voluntary_switches: 18,
        involuntary_switches: 19,
        session: u32::MAX,
    }
}

fn segv() -> SignalFatal {
    let mut fatal = SignalFatal::new_zeroed();
    fatal.header = header(
        EventKind::SignalFatal,
        SIGNAL_HAS_REGISTERS | SIGNAL_HAS_SENDER | SIGNAL_RERAISED,
    );
    fatal.lineage = LINEAGE;
    fatal.signal = 11;
    fatal.code = 1;
    fatal.ip = 0x5555_0000_1234;
    fatal.sp = 0x7fff_ffff_e000;
    fatal.error_code = 6;
    fatal.trap_number = 14;
    fatal.arch = Arch::X86_64 as u32;
    fatal.stack_len = 3;
    fatal.instruction_len = 3;
    fatal.instruction[..4].copy_from_slice(&[0xc7, 0x00, 0x2a, 0xff]);
    fatal.sender = Sender {
        cgroup_id: 11,
        boot_ns: 4_900_000_000,
        tgid: 1,
        uid: 0,
        signal: 11,
        code: 0,
        flags: SENDER_KERNEL,
        reserved: 0,
        comm: padded(b"init"),
    };
    for (index, register) in fatal.registers.iter_mut().enumerate() {
        *register = index as u64;
    }
    fatal.addresses[..3].copy_from_slice(&[0x5555_0000_1234, 0x7f00_0000_0010, 0x10]);
    fatal.frames[0] = Frame {
        status: 1,
        build_id: [0xab; 20],
        offset_or_ip: 0x1234,
    };
    fatal.frames[1] = Frame {
        status: 1,
        build_id: padded(&[0x01; 8]),
        offset_or_ip: 0x10,
    };
    fatal.frames[2] = Frame {
        status: 2,
        build_id: [0; 20],
        offset_or_ip: 0x10,
    };
    fatal
}

fn io_error(status: u32, errno: u32) -> IoError {
    IoError {
        header: header(EventKind::IoError, 0),
        sector: 2048,
        bytes: 4096,
        major: 7,
        minor: 3,
        partition: 259 << 20 | 65_537,
        status,
        errno,
        cmd_flags: 0x8801,
        disk: padded(b"loop3"),
    }
}

fn note_record(kind: u32, text: &str) -> Vec<u8> {
    let note = Note {
        header: header(EventKind::Note, 0),
        kind,
        text_len: text.len() as u32,
    };
    [note.as_bytes(), text.as_bytes(), &[0; 3]].concat()
}

#[test]
fn header_fields() {
    let event = decode(Lane::Lifecycle, exit(0).as_bytes());
    assert_eq!(event.boot_ns, 5_000_000_000);
    assert_eq!(event.sequence, 77);
    assert_eq!(event.cpu, 3);
    assert_eq!(event.lane, Lane::Lifecycle);
    assert_eq!(event.body.topic(), "process.exit");
    let process = event.body.process().expect("an exit has a process");
    assert_eq!((process.pid(), process.tid()), (1000, 1001));
}

#[test]
fn exec_splits_arguments() {
    let mut exec_json = process_json_with_lineage();
    exec_json["exe"] = "/usr/bin/worker".into();
    assert_eq!(
        body_json(&exec_record(b"/bin/echo", b"echo\0\0a\xffb\0cu")),
        json!({
            "process": exec_json,
            "filename": "/bin/echo",
            "argv": ["echo", "", "a\u{fffd}b", "cu"],
            "argv_truncated": true,
            "filename_truncated": false,
            "euid": 0,
            "egid": 5,
            "redacted": false,
        })
    );
}

#[test]
fn exec_keeps_an_empty_last_argument() {
    let argv = |block: &[u8]| body_json(&exec_record(b"x", block))["argv"].clone();
    assert_eq!(argv(b""), Value::Null);
    assert_eq!(argv(b"a\0"), json!(["a"]));
    assert_eq!(argv(b"a\0\0"), json!(["a", ""]));
    assert_eq!(argv(b"\0"), json!([""]));
}

#[test]
fn exec_whose_strings_lie_beyond_it_is_unknown() {
    let whole = exec_record(b"/bin/echo", b"echo\0");
    let cut = decode(Lane::Lifecycle, &whole[..whole.len() - 1]);
    assert_eq!(cut.body.topic(), "recorder.unknown");
    assert_eq!(cut.sequence, 77);
}

#[test]
fn exit_by_code() {
    assert_eq!(
        body_json(exit(7 << 8).as_bytes()),
        json!({
            "process": process_json_with_parent(900),
            "exit_code": 7,
            "core_dumped": false,
            "lifetime_ns": 3_000_000_000_u64,
            "user_ns": 11,
            "system_ns": 12,
            "max_rss_bytes": 15 << 10,
            "read_bytes": 13,
            "write_bytes": 14,
            "minor_faults": 16,
            "major_faults": 17,
            "voluntary_switches": 18,
            "involuntary_switches": 19,
        })
    );
}

#[test]
fn what_was_left_out_to_keep_to_the_budget_is_absent_and_said() {
    let mut record = exit(7 << 8);
    record.header.flags |= PROCESS_REDUCED;
    assert_eq!(
        body_json(record.as_bytes()),
        json!({
            "process": process_json_with_parent(900),
            "exit_code": 7,
            "core_dumped": false,
            "lifetime_ns": 3_000_000_000_u64,
            "usage_filtered": true,
        })
    );
    let mut exec = exec_record(b"/bin/echo", b"");
    exec[std::mem::offset_of!(Header, flags)] |= PROCESS_REDUCED;
    let exec = body_json(&exec);
    assert_eq!(exec["argv_filtered"], true);
    assert_eq!(exec["argv"], Value::Null);
}

#[test]
fn exit_by_signal() {
    let body = body_json(exit(0x80 | 6).as_bytes());
    assert_eq!(body["signal"], json!({"number": 6, "name": "SIGABRT"}));
    assert_eq!(body["core_dumped"], json!(true));
    assert_eq!(body.get("exit_code"), None);
}

#[test]
fn fatal_signal_of_a_fault() {
    let mut body = body_json(segv().as_bytes());
    let registers = body["registers"].take();
    assert_eq!(registers["r15"], json!("0x0"));
    assert_eq!(registers["rip"], json!("0x10"));
    assert_eq!(registers["ss"], json!("0x14"));
    assert_eq!(registers.as_object().expect("an object").len(), 21);
    assert_eq!(
        body,
        json!({
            "process": process_json_with_lineage(),
            "signal": {"number": 11, "name": "SIGSEGV"},
            "code": {"number": 1, "name": "SEGV_MAPERR"},
            "fault_address": "0x0",
            "ip": "0x555500001234",
            "sp": "0x7fffffffe000",
            "registers": null,
            "error_code": 6,
            "trap_number": 14,
            "cpu": 3,
            "instruction_bytes": "c7002a",
            "stack": [
                {"address": "0x555500001234", "build_id": "ab".repeat(20), "offset": 0x1234},
                {"address": "0x7f0000000010", "build_id": "01".repeat(8), "offset": 0x10},
                {"address": "0x10"},
            ],
            "sender": {
                "pid": 1, "comm": "init", "uid": 0, "kernel": true, "boot_ns": 4_900_000_000_u64,
                "exiting": false, "init": false,
            },
            "reraised": true,
        })
    );
}

#[test]
fn fatal_signal_of_a_process_has_no_fault() {
    let mut fatal = segv();
    fatal.header.flags = 0;
    fatal.signal = 9;
    fatal.code = 0;
    fatal.ip = 0;
    fatal.sp = 0;
    fatal.stack_len = 0;
    fatal.instruction_len = 0;
    assert_eq!(
        body_json(fatal.as_bytes()),
        json!({
            "process": process_json_with_lineage(),
            "signal": {"number": 9, "name": "SIGKILL"},
            "code": {"number": 0, "name": "SI_USER"},
            "cpu": 3,
            "reraised": false,
        })
    );
}

#[test]
fn fatal_signal_with_hostile_lengths() {
    let mut fatal = segv();
    fatal.stack_len = u32::MAX;
    fatal.instruction_len = u32::MAX;
    fatal.arch = 99;
    let body = body_json(fatal.as_bytes());
    assert_eq!(body["stack"].as_array().expect("a stack").len(), 64);
    assert_eq!(body["instruction_bytes"].as_str().map(str::len), Some(32));
    assert_eq!(body.get("registers"), None);
    assert_eq!(body.get("error_code"), None);
}

#[test]
fn fatal_signal_of_aarch64() {
    let mut fatal = segv();
    fatal.arch = Arch::Aarch64 as u32;
    fatal.registers = std::array::from_fn(|index| index as u64);
    fatal.error_code = 0x9200_0046;
    let body = body_json(fatal.as_bytes());
    for (name, value) in [
        ("x0", "0x0"),
        ("x30", "0x1e"),
        ("sp", "0x1f"),
        ("pc", "0x20"),
    ] {
        assert_eq!(body["registers"][name], json!(value));
    }
    assert_eq!(body["registers"]["pstate"], json!("0x21"));
    assert_eq!(body["error_code"], json!(0x9200_0046_u32));
    // The processor has none, and other signals leave an older fault's word where it was.
    assert_eq!(body.get("trap_number"), None);
    fatal.signal = 5;
    assert_eq!(body_json(fatal.as_bytes()).get("error_code"), None);
}

#[test]
fn oom_kill_in_bytes() {
    let kill = OomKill {
        header: header(EventKind::OomKill, 0),
        total_vm_pages: 1,
        anon_rss_pages: 2,
        file_rss_pages: 3,
        shmem_rss_pages: u64::MAX,
        pgtables_bytes: 5,
        trigger_cgroup_id: 6,
        memory_cgroup_id: 7,
        lineage: NO_LOGIN,
        trigger_pid: 8,
        trigger_tgid: 9,
        oom_score_adj: -500,
        trigger_uid: 10,
        trigger_comm: padded(b"eater"),
    };
    let page = rustix::param::page_size() as u64;
    assert_eq!(
        body_json(kill.as_bytes()),
        json!({
            "process": process_json_with_parent(900),
            "total_vm_bytes": page,
            "anon_rss_bytes": 2 * page,
            "file_rss_bytes": 3 * page,
            "shmem_rss_bytes": u64::MAX,
            "pgtables_bytes": 5,
            "oom_score_adj": -500,
            "trigger": {"pid": 9, "tid": 8, "comm": "eater", "uid": 10, "cgroup_id": 6},
            "memory_cgroup_id": 7,
        })
    );
}

#[test]
fn io_error_by_status() {
    assert_eq!(
        body_json(io_error(7, 0).as_bytes()),
        json!({
            "process": {"cgroup_id": 42},
            "device": "7:3",
            "disk": "loop3",
            "partition": "259:65537",
            "operation": "write",
            "sector": 2048,
            "sectors": 8,
            "bytes": 4096,
            "status": "BLK_STS_MEDIUM",
            "errno": "ENODATA",
            "status_number": 7,
        })
    );
}

#[test]
fn io_error_without_a_known_status() {
    let by_errno = body_json(io_error(255, 28).as_bytes());
    assert_eq!(by_errno["errno"], json!("ENOSPC"));
    assert_eq!(by_errno.get("status"), None);
    assert_eq!(by_errno.get("status_number"), None);
    let unknown = body_json(io_error(200, 0).as_bytes());
    assert_eq!(unknown["status_number"], json!(200));
    assert_eq!(unknown.get("status"), None);
    assert_eq!(unknown.get("errno"), None);
}

#[test]
fn writeback_error() {
    let error = WritebackError {
        header: header(EventKind::WritebackError, 0),
        inode: 12,
        device: 7 << 20 | 3,
        errno: 5,
        name: padded(b"loop3"),
    };
    assert_eq!(
        body_json(error.as_bytes()),
        json!({"device": "7:3", "name": "loop3", "inode": 12, "errno": "EIO"})
    );
}

#[test]
fn a_page_that_broke() {
    let failure = MemoryFailure {
        header: header(EventKind::MemoryFailure, 0),
        address: 0x1234000,
        page_type: 12,
        result: 3,
    };
    assert_eq!(
        body_json(failure.as_bytes()),
        json!({"physical_address": "0x1234000", "result": "recovered", "page_type": 12})
    );
}

#[test]
fn a_machine_check_says_what_its_status_says() {
    let mut check = MachineCheck {
        status: 0x9c00_0000_0000_0090,
        address: 0x1234000,
        misc: 0x8c,
        cpu: 1,
        bank: 4,
        ..MachineCheck::new_zeroed()
    };
    check.header = header(EventKind::MachineCheck, 0);
    assert_eq!(
        body_json(check.as_bytes()),
        json!({
            "cpu": 1, "socket": 0, "bank": 4, "uncorrected": false, "context_corrupt": false, "overflow": false,
            "part": "memory", "address": "0x1234000", "status": "0x9c00000000000090", "misc": "0x8c", "global_status": "0x0",
            "apic_id": 0,
        })
    );
    check.status = 0xf200_0000_0000_0800;
    let json = body_json(check.as_bytes());
    assert_eq!(json["part"], json!("bus"));
    for (field, value) in [
        ("uncorrected", true),
        ("context_corrupt", true),
        ("overflow", true),
    ] {
        assert_eq!(json[field], json!(value), "{field}");
    }
    assert_eq!((json.get("address"), json.get("misc")), (None, None));
}

#[test]
fn hung_task_and_notes() {
    let hung = TaskHung {
        header: header(EventKind::TaskHung, 0),
    };
    assert_eq!(
        body_json(hung.as_bytes()),
        json!({"process": process_json()})
    );
    assert_eq!(
        body_json(&note_record(NoteKind::Trigger as u32, "why")),
        json!({"kind": "trigger", "text": "why"})
    );
    assert_eq!(body_json(&note_record(99, ""))["kind"], json!("99"));
}

#[test]
fn process_without_name_and_start() {
    let mut exit = exit(0);
    exit.header.comm = [0; COMM_LEN];
    exit.header.start_boot_ns = 0;
    exit.header.cgroup_id = 0;
    let body = body_json(exit.as_bytes());
    assert_eq!(
        body["process"],
        json!({"pid": 1000, "tid": 1001, "ppid": 900, "uid": 33, "gid": 34})
    );
    assert_eq!(body.get("lifetime_ns"), None);
}

#[test]
fn unknown_kind_keeps_its_bytes() {
    let mut record = exit(0);
    record.header.kind = 200;
    let event = decode(Lane::Lifecycle, record.as_bytes());
    assert_eq!(event.boot_ns, 5_000_000_000);
    assert_eq!(
        event.body,
        Body::Unknown(proto::Unknown {
            kind: Some(200),
            record: Some(record.as_bytes().to_vec()),
        })
    );
    assert_eq!(body_json(&[0xab, 0x01]), json!({"record": "ab01"}));
}

fn sample_record(kind: EventKind, message: &[u8]) -> Vec<u8> {
    let sample = Sample {
        header: header(kind, 0),
        message_len: message.len() as u32,
        reserved: 0,
    };
    [sample.as_bytes(), message].concat()
}

#[test]
fn a_sample_whose_message_is_none_is_unknown() {
    let level = [0x0a, 3, b'e', b'r', b'r'];
    let whole = sample_record(EventKind::KernelLog, &level);
    assert_eq!(body_json(&whole), json!({"level": "err"}));
    let broken = sample_record(EventKind::KernelLog, &[0x0a, 200, b'e']);
    let event = decode(Lane::Sample, &broken);
    assert_eq!(event.body.topic(), "recorder.unknown");
}

/// One whole record of each kind.
fn records() -> Vec<(EventKind, Vec<u8>)> {
    EventKind::ALL
        .into_iter()
        .map(|kind| {
            let record = match kind {
                EventKind::ProcessExec => exec_record(b"", b""),
                EventKind::ProcessExit => exit(0).as_bytes().to_vec(),
                EventKind::SignalFatal => segv().as_bytes().to_vec(),
                EventKind::OomKill => {
                    let mut kill = OomKill::new_zeroed();
                    kill.header = header(kind, 0);
                    kill.as_bytes().to_vec()
                }
                EventKind::IoError => io_error(10, 0).as_bytes().to_vec(),
                EventKind::WritebackError => {
                    let mut error = WritebackError::new_zeroed();
                    error.header = header(kind, 0);
                    error.as_bytes().to_vec()
                }
                EventKind::TaskHung => header(kind, 0).as_bytes().to_vec(),
                EventKind::MemoryFailure => {
                    let mut failure = MemoryFailure::new_zeroed();
                    failure.header = header(kind, 0);
                    failure.as_bytes().to_vec()
                }
                EventKind::MachineCheck => {
                    let mut check = MachineCheck::new_zeroed();
                    check.header = header(kind, 0);
                    check.as_bytes().to_vec()
                }
                EventKind::SignalSent => {
                    let mut sent = SignalSent::new_zeroed();
                    sent.header = header(kind, 0);
                    sent.as_bytes().to_vec()
                }
                EventKind::CgroupMkdir | EventKind::CgroupRmdir => {
                    let mut change = CgroupChange::new_zeroed();
                    change.header = header(kind, 0);
                    change.as_bytes().to_vec()
                }
                EventKind::Note => note_record(1, "")[..size_of::<Note>()].to_vec(),
                EventKind::SampleSystem
                | EventKind::SampleProcess
                | EventKind::SampleCgroup
                | EventKind::KernelLog => sample_record(kind, b""),
            };
            (kind, record)
        })
        .collect()
}

#[test]
fn every_shorter_record_is_unknown() {
    for (kind, record) in records() {
        let whole = decode(kind.lane(), &record);
        assert_eq!(whole.body.topic(), kind.name());
        for len in (0..record.len()).step_by(CUT_STEP) {
            let short = decode(kind.lane(), &record[..len]);
            assert_eq!(
                short.body.topic(),
                "recorder.unknown",
                "{kind:?} of {len} bytes"
            );
        }
    }
}

#[test]
fn messages_round_trip_through_their_topic() {
    for (kind, record) in records() {
        let body = decode(kind.lane(), &record).body;
        let mut bytes = Vec::new();
        body.encode(&mut bytes);
        let back = Body::decode(body.topic(), &bytes).expect("decodes what it encoded");
        assert_eq!(back, body);
        assert_eq!(TOPICS[body.topic_index()].name, body.topic());
    }
    assert!(matches!(
        Body::decode("sample.unheard_of", &[]),
        Err(DecodeError::Topic(_))
    ));
    assert!(matches!(
        Body::decode("process.exit", &[0xff]),
        Err(DecodeError::Message { .. })
    ));
}

#[test]
fn schema_describes_every_topic() {
    for topic in TOPICS {
        let (_, name) = topic.message.rsplit_once('.').expect("a full name");
        // A message descriptor begins with its name: field 1, length-delimited.
        let field = [&[0x0a, name.len() as u8], name.as_bytes()].concat();
        let mut windows = topic.schema.windows(field.len());
        assert!(windows.any(|window| window == field), "{}", topic.name);
    }
    for kind in EventKind::ALL {
        assert!(TOPICS.iter().any(|topic| topic.name == kind.name()));
    }
}

/// How many bytes of anything; an interpreter takes its time.
const BYTES_MAX: usize = if cfg!(miri) { 100 } else { 3200 };

proptest! {
    #[test]
    fn any_bytes_decode(
        kind in 0_u8..20,
        tail in prop::collection::vec(any::<u8>(), 0..BYTES_MAX),
        cut in 0_usize..80,
    ) {
        let mut bytes = header(EventKind::Note, 0xff).as_bytes().to_vec();
        bytes[std::mem::offset_of!(Header, kind)] = kind;
        bytes.truncate(cut.max(1));
        if cut >= size_of::<Header>() {
            bytes.extend(tail);
        }
        let event = decode(Lane::Sample, &bytes);
        let mut encoded = Vec::new();
        event.body.encode(&mut encoded);
        let back = Body::decode(event.body.topic(), &encoded).expect("decodes what it encoded");
        prop_assert_eq!(&back, &event.body);
        serde_json::to_string(&back).expect("messages serialise");
    }

    #[test]
    fn any_message_bytes_are_an_answer(
        topic in 0..TOPICS.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..BYTES_MAX.min(300)),
    ) {
        // A body or an error; never a panic.
        if let Ok(body) = Body::decode(TOPICS[topic].name, &bytes) {
            serde_json::to_string(&body).expect("messages serialise");
        }
    }
}

/// A crash with a word of stack, the mapping of its first frame, and memory whose path was cut.
fn segv_with_stack() -> Vec<u8> {
    let mut fatal = segv();
    fatal.stack_memory_len = 8;
    fatal.stack_memory_address = fatal.sp;
    fatal.mappings_len = 2;
    let mut code = Mapping::new_zeroed();
    code.start = 0x5555_0000_1000;
    code.end = 0x5555_0000_3000;
    code.file_offset = 0x1000;
    code.inode = 99;
    code.device = 8 << 20 | 1;
    code.flags = MAPPING_FILE | MAPPING_READ | MAPPING_EXECUTE;
    code.path[..13].copy_from_slice(b"app\xff\0bin\0usr\0");
    code.path_len = 13;
    let mut cut = Mapping::new_zeroed();
    cut.start = 0x7f00_0000_0000;
    cut.end = 0x7f00_0000_1000;
    cut.flags = MAPPING_FILE | MAPPING_PATH_TRUNCATED | MAPPING_READ | MAPPING_WRITE;
    cut.path[..5].copy_from_slice(b"lib\0\0");
    cut.path_len = 4;
    [
        fatal.as_bytes(),
        &0x1122_3344_5566_7788_u64.to_le_bytes(),
        code.as_bytes(),
        cut.as_bytes(),
    ]
    .concat()
}

#[test]
fn a_crash_has_its_stack_memory_and_what_is_mapped_where() {
    let json = body_json(&segv_with_stack());
    assert_eq!(json["stack_memory"], "8877665544332211");
    assert_eq!(json["stack_memory_address"], json["sp"]);
    assert_eq!(json["stack"][0]["module"], "/usr/bin/app\u{fffd}");
    assert_eq!(
        json["mappings"][0],
        json!({
            "start": "0x555500001000", "end": "0x555500003000", "offset": 0x1000, "permissions": "r-xp",
            "device": "8:1", "inode": 99, "path": "/usr/bin/app\u{fffd}", "build_id": "ab".repeat(20),
        })
    );
    assert_eq!(json["mappings"][1]["path_truncated"], true);
    assert!(
        json["stack"][1].get("module").is_none(),
        "half a path is not a path"
    );
    assert!(json.get("fs_base").is_none());
}

#[test]
fn a_crash_without_all_of_its_stack_is_unknown() {
    let record = segv_with_stack();
    for len in (0..record.len()).step_by(CUT_STEP) {
        let body = decode(Lane::Failure, &record[..len]).body;
        assert_eq!(body.topic(), "recorder.unknown", "{len} bytes");
    }
}
