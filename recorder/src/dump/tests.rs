//! Dumps written to a directory and read with the `mcap` crate.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use recorder_ebpf::abi::{EventKind, Exit, Header, IoError, Note, NoteKind};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use uuid::Uuid;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    event::{Body, ClockPair},
    incident::{Subject, Trigger},
    read,
};

const BOOT_NS: u64 = 100_000_000_000;
const UNIX_NS: u64 = 1_795_424_400_000_000_000;
const WINDOW: std::ops::RangeInclusive<u64> = BOOT_NS - 60_000_000_000..=BOOT_NS + 5_000_000_000;

/// Records kept in vectors.
#[derive(Default)]
struct Records {
    lanes: [Vec<Vec<u8>>; LANES],
    windows: [LaneWindow; LANES],
}

impl Frozen for Records {
    fn records(&self, lane: Lane) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.lanes[lane as usize].iter().map(Vec::as_slice))
    }

    fn lane(&self, lane: Lane) -> LaneWindow {
        self.windows[lane as usize]
    }
}

impl Records {
    fn exit(&mut self, cpu: u16, seq: u64, boot_ns: u64) {
        let mut exit = Exit::new_zeroed();
        exit.header = header(EventKind::ProcessExit, cpu, seq, boot_ns);
        self.lanes[Lane::Lifecycle as usize].push(exit.as_bytes().to_vec());
    }

    fn io_error(&mut self, cpu: u16, seq: u64, boot_ns: u64) {
        let mut error = IoError::new_zeroed();
        error.header = header(EventKind::IoError, cpu, seq, boot_ns);
        error.status = 10;
        self.lanes[Lane::Failure as usize].push(error.as_bytes().to_vec());
    }

    fn note(&mut self, boot_ns: u64, text: &str) {
        let note = Note {
            header: header(EventKind::Note, 0, 0, boot_ns),
            kind: NoteKind::Incident as u32,
            text_len: text.len() as u32,
        };
        self.lanes[Lane::Sample as usize].push([note.as_bytes(), text.as_bytes()].concat());
    }
}

fn header(kind: EventKind, cpu: u16, seq: u64, boot_ns: u64) -> Header {
    Header {
        boot_ns,
        seq,
        start_boot_ns: boot_ns - 1000,
        pid: 1000 + seq as u32,
        tgid: 1000 + seq as u32,
        cpu,
        kind: kind as u8,
        ..Header::new_zeroed()
    }
}

/// What a test dumps, and what it may change before.
struct Case {
    incident: Incident,
    records: Records,
    start_boot_ns: u64,
    kernel: Vec<CpuStats>,
    max_dump_bytes: u64,
    is_low_on_space: bool,
    evidence: Evidence,
    filtered: Vec<Filtered>,
    skipped: Vec<Skipped>,
}

impl Case {
    fn new(records: Records) -> Self {
        let kernel = [Lane::Failure, Lane::Lifecycle].map(|lane| CpuStats {
            lane,
            cpu: 0,
            stats: LaneStats::default(),
        });
        Self {
            incident: Incident {
                id: Uuid::from_u128(0x019a_b000_0000_7000_8000_0000_1234_abcd),
                rule: "io.error".into(),
                summary: "I/O error on loop3".into(),
                trigger: Trigger {
                    event_type: "io.error".into(),
                    boot_ns: BOOT_NS,
                    cpu: 0,
                    sequence: 3,
                },
                subject: Subject::default(),
                fingerprint: "loop3 io".into(),
                reason: None,
                window_start_boot_ns: *WINDOW.start(),
                window_end_boot_ns: *WINDOW.end(),
                followers: 2,
                suppressed_before: 7,
                ..Incident::default()
            },
            records,
            start_boot_ns: 1,
            kernel: kernel.into(),
            max_dump_bytes: u64::MAX,
            is_low_on_space: false,
            evidence: Evidence::default(),
            filtered: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Adds a collector's output.
    fn attach(&mut self, name: &str, data: &[u8]) {
        let mut file = tempfile::tempfile().expect("there is room");
        file.write_all(data).expect("there is room");
        self.evidence.attachments.push(Attachment {
            name: name.into(),
            media_type: "text/plain".into(),
            created_unix_ns: UNIX_NS + 1,
            finished_unix_ns: UNIX_NS + 2,
            file,
            bytes: data.len() as u64,
        });
        self.evidence.report.collectors.push(CollectorReport {
            name: name.into(),
            state: CollectorState::Done,
            bytes: data.len() as u64,
            attachment: Some(name.into()),
            ..CollectorReport::default()
        });
    }

    fn stats(&mut self, lane: Lane, attempted: u64, lost: u64) {
        let stats = self.kernel.iter_mut().find(|stats| stats.lane == lane);
        let stats = &mut stats.expect("both lanes are there").stats;
        stats.attempted = attempted;
        stats.lost[EventKind::ProcessExit as usize] = lost;
    }

    fn write(&self, dir: &Path) -> Result<Written, WriteError> {
        let host = Host {
            hostname: "web-3".into(),
            ..Host::default()
        };
        let clocks = Clocks {
            start: ClockPair {
                boot_ns: self.start_boot_ns,
                unix_ns: 1,
            },
            freeze: ClockPair {
                boot_ns: BOOT_NS,
                unix_ns: UNIX_NS,
            },
            synchronised: Some(true),
            error_ns: Some(1_000),
        };
        let probe = Probe {
            event: "io.error".into(),
            hook: "block_rq_error".into(),
            state: ProbeState::Attached,
            detail: None,
        };
        let is_low = self.is_low_on_space;
        let may_grow: Grow = Arc::new(move || !is_low);
        let input = DumpInput {
            directory: &Directory::default(),
            incident: &self.incident,
            frozen: &self.records,
            host: &host,
            clocks,
            config: &serde_json::json!({"before_s": 60}),
            probes: &[probe],
            kernel: &self.kernel,
            throttled: &[],
            skipped: &self.skipped,
            filtered: &self.filtered,
            evidence: &self.evidence,
            recovery: None,
            refused: &[],
            may_grow: &may_grow,
            enrich: &|_| {},
        };
        let limits = Limits {
            max_dump_bytes: self.max_dump_bytes,
        };
        write(dir, &input, &limits)
    }

    fn dump(&self) -> Dump {
        let dir = TempDir::new().expect("a directory");
        let written = self.write(dir.path()).expect("a dump");
        let bytes = fs::read(&written.path).expect("the dump is there");
        let sidecar = fs::read(&written.sidecar).expect("the sidecar is there");
        Dump {
            sidecar: serde_json::from_slice(&sidecar).expect("the sidecar is JSON"),
            messages: messages(&bytes),
            bytes,
            written,
            _dir: dir,
        }
    }
}

/// A dump read back.
struct Dump {
    written: Written,
    sidecar: Sidecar,
    bytes: Vec<u8>,
    messages: Vec<Message>,
    _dir: TempDir,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    boot_ns: u64,
    sequence: u32,
    lane: String,
    cpu: u16,
    from_writer: bool,
    body: Body,
}

fn messages(bytes: &[u8]) -> Vec<Message> {
    let clock = ClockPair {
        boot_ns: BOOT_NS,
        unix_ns: UNIX_NS,
    };
    ::mcap::MessageStream::new(bytes)
        .expect("the file begins as one")
        .map(|message| {
            let message = message.expect("an intact message");
            assert_eq!(message.log_time, message.publish_time);
            let metadata = &message.channel.metadata;
            let boot_ns = clock.boot_ns_at(message.log_time);
            let mut body =
                Body::decode(&message.channel.topic, &message.data).expect("a known message");
            body.complete(Some(boot_ns));
            Message {
                boot_ns,
                sequence: message.sequence,
                lane: metadata["lane"].clone(),
                cpu: metadata["cpu"].parse().expect("a number"),
                from_writer: metadata.contains_key("source"),
                body,
            }
        })
        .collect()
}

impl Dump {
    fn topics(&self) -> Vec<&'static str> {
        self.messages
            .iter()
            .map(|message| message.body.topic())
            .collect()
    }

    fn lane(&self, lane: Lane) -> &LaneCoverage {
        &self.sidecar.coverage.lanes[lane as usize]
    }

    fn losses(&self) -> Vec<(u32, u64, String)> {
        self.messages
            .iter()
            .filter_map(|message| match &message.body {
                Body::Loss(loss) => Some((message.sequence, loss.count(), loss.reason().into())),
                Body::ProcessExec(_)
                | Body::ProcessExit(_)
                | Body::SignalFatal(_)
                | Body::OomKill(_)
                | Body::IoError(_)
                | Body::WritebackError(_)
                | Body::MemoryFailure(_)
                | Body::MachineCheck(_)
                | Body::TaskHung(_)
                | Body::SignalSent(_)
                | Body::CgroupMkdir(_)
                | Body::CgroupRmdir(_)
                | Body::Note(_)
                | Body::SampleSystem(_)
                | Body::SampleProcess(_)
                | Body::SampleCgroup(_)
                | Body::KernelLog(_)
                | Body::Unknown(_) => None,
            })
            .collect()
    }
}

/// Four exits on two CPUs around one I/O error.
fn small() -> Case {
    let mut records = Records::default();
    records.exit(0, 10, BOOT_NS - 300);
    records.exit(1, 70, BOOT_NS - 200);
    records.exit(0, 11, BOOT_NS - 100);
    records.exit(1, 71, BOOT_NS + 100);
    records.io_error(0, 3, BOOT_NS);
    Case::new(records)
}

#[test]
fn events_are_in_the_order_of_time() {
    let dump = small().dump();
    assert_eq!(
        dump.topics(),
        [
            "process.exit",
            "process.exit",
            "process.exit",
            "io.error",
            "recorder.note",
            "process.exit",
        ]
    );
    let places: Vec<_> = dump
        .messages
        .iter()
        .map(|message| (message.lane.as_str(), message.cpu, message.sequence))
        .collect();
    assert_eq!(
        places,
        [
            ("lifecycle", 0, 10),
            ("lifecycle", 1, 70),
            ("lifecycle", 0, 11),
            ("failure", 0, 3),
            ("sample", 0, 0),
            ("lifecycle", 1, 71),
        ]
    );
    assert_eq!(dump.messages[0].boot_ns, BOOT_NS - 300);
    assert!(dump.messages[4].from_writer && !dump.messages[3].from_writer);
    assert_eq!(dump.written.verdict, Verdict::Complete);
    assert_eq!(dump.written.events, 6);
}

#[test]
fn file_is_private_and_named_after_its_incident() {
    let dump = small().dump();
    let name = dump.written.path.file_name().expect("a name");
    assert_eq!(name, "20261123T090000Z-io.error-1234abcd.mcap");
    assert_eq!(
        dump.written.sidecar,
        dump.written.path.with_extension("json")
    );
    for path in [&dump.written.path, &dump.written.sidecar] {
        let mode = fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let names = fs::read_dir(dump._dir.path()).expect("a directory").count();
    assert_eq!(names, 2, "nothing temporary is left");
}

#[test]
fn sidecar_tells_what_the_file_is() {
    let dump = small().dump();
    let hash: String = Sha256::digest(&dump.bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(dump.sidecar.sha256, hash);
    assert_eq!(dump.sidecar.bytes, dump.bytes.len() as u64);
    assert_eq!(dump.sidecar.bytes, dump.written.bytes);
    assert_eq!(dump.sidecar.events, 6);
    assert_eq!(dump.sidecar.time, "2026-11-23T09:00:00Z");
    assert_eq!(dump.sidecar.host.hostname, "web-3");
    assert_eq!(dump.sidecar.incident, small().incident);
    let coverage = dump.lane(Lane::Lifecycle);
    assert!(coverage.complete);
    assert_eq!(coverage.records, 4);
    assert_eq!(
        coverage.cpus[1],
        CpuCoverage {
            cpu: 1,
            records: 2,
            first_boot_ns: BOOT_NS - 200,
            last_boot_ns: BOOT_NS + 100,
            first_sequence: 70,
            last_sequence: 71,
            missing: 0,
        }
    );
}

#[test]
fn summary_and_metadata_read_with_the_public_crate() {
    let dump = small().dump();
    let summary = ::mcap::Summary::read(&dump.bytes)
        .expect("an intact summary")
        .expect("a summary");
    let statistics = summary.stats.expect("statistics");
    assert_eq!(statistics.message_count, 6);
    assert_eq!(statistics.metadata_count, 8);
    assert_eq!(statistics.chunk_count, 1);
    assert_eq!(statistics.schema_count, 3);
    assert_eq!(statistics.channel_count, 4);
    assert_eq!(statistics.message_start_time, UNIX_NS - 300);
    assert_eq!(statistics.message_end_time, UNIX_NS + 100);
    assert_eq!(summary.channels.len(), 4);
    assert_eq!(summary.schemas.len(), 3);
    let metadata: Vec<(String, Value)> = summary
        .metadata_indexes
        .iter()
        .map(|index| {
            let metadata = ::mcap::read::metadata(&dump.bytes, index).expect("a metadata record");
            let json = serde_json::from_str(&metadata.metadata["json"]).expect("JSON");
            (metadata.name, json)
        })
        .collect();
    let names: Vec<&str> = metadata.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            INCIDENT, HOST, CLOCKS, PROBES, COVERAGE, LOSS, EVIDENCE, CONFIG
        ]
    );
    let sidecar = serde_json::to_value(&dump.sidecar).expect("JSON");
    assert_eq!(metadata[0].1, sidecar["incident"]);
    assert_eq!(metadata[1].1, sidecar["host"]);
    assert_eq!(metadata[2].1, sidecar["clocks"]);
    assert_eq!(metadata[4].1, sidecar["coverage"]);
    assert_eq!(metadata[5].1, sidecar["loss"]);
    assert_eq!(metadata[7].1, serde_json::json!({"before_s": 60}));
}

#[test]
fn only_records_of_the_window_are_in_it() {
    let mut records = Records::default();
    records.exit(0, 0, WINDOW.start() - 1);
    records.exit(0, 1, *WINDOW.start());
    records.exit(0, 2, *WINDOW.end());
    records.exit(0, 3, WINDOW.end() + 1);
    let dump = Case::new(records).dump();
    let sequences: Vec<u32> = dump
        .messages
        .iter()
        .filter(|message| !message.from_writer)
        .map(|message| message.sequence)
        .collect();
    assert_eq!(sequences, [1, 2]);
    assert_eq!(dump.written.verdict, Verdict::Complete);
}

#[test]
fn losses_stand_in_their_place() {
    let mut records = Records::default();
    for seq in [0, 1, 5, 6, 9] {
        records.exit(0, seq, BOOT_NS + seq);
    }
    records.exit(1, 0, BOOT_NS + 3);
    let mut case = Case::new(records);
    case.stats(Lane::Lifecycle, 13, 8);
    let dump = case.dump();
    assert_eq!(
        dump.losses(),
        [
            (2, 3, "lost".into()),
            (7, 2, "lost".into()),
            (10, 3, "lost".into())
        ]
    );
    let first = dump
        .messages
        .iter()
        .position(|message| message.body.topic() == "recorder.loss")
        .expect("a loss");
    assert_eq!(dump.messages[first + 1].sequence, 5);
    assert_eq!(dump.messages[first].boot_ns, BOOT_NS + 5);
    assert_eq!(dump.messages[first].lane, "lifecycle");
    assert!(dump.messages[first].from_writer);
    assert_eq!(dump.written.verdict, Verdict::Lossy);
    assert_eq!(
        dump.lane(Lane::Lifecycle).shortfalls,
        [Shortfall::Lost { records: 8 }]
    );
    let loss = &dump.sidecar.loss.lanes[Lane::Lifecycle as usize].cpus;
    assert_eq!(loss[0].attempted, Some(13));
    assert_eq!(loss[0].lost["process.exit"], 8);
    assert_eq!(loss[0].missing, 8);
    assert_eq!(loss[1].attempted, None);
    assert_eq!(loss[1].missing, 0);
}

#[test]
fn what_was_left_out_to_keep_to_the_budget_is_a_shortfall_of_its_window() {
    let left_out = |what: &str, lane: &str, since_boot_ns, until_boot_ns, records| Filtered {
        what: what.into(),
        lane: lane.into(),
        since_boot_ns,
        until_boot_ns,
        records,
    };
    let mut case = small();
    let exec = left_out("exec", "lifecycle", BOOT_NS - 1, None, 7);
    let samples = left_out("samples", "sample", 1, Some(*WINDOW.start()), 2);
    case.filtered = vec![
        exec.clone(),
        samples.clone(),
        // Before the window, after it, and nothing.
        left_out("argv", "lifecycle", 1, Some(WINDOW.start() - 1), 5),
        left_out("argv", "lifecycle", WINDOW.end() + 1, None, 5),
        left_out("exit_detail", "lifecycle", BOOT_NS, None, 0),
    ];
    let stats = &mut case.kernel[Lane::Lifecycle as usize].stats;
    stats.filtered[EventKind::ProcessExec as usize] = 7;
    let dump = case.dump();
    assert_eq!(
        dump.lane(Lane::Lifecycle).shortfalls,
        [Shortfall::Filtered(exec)]
    );
    assert_eq!(
        dump.lane(Lane::Sample).shortfalls,
        [Shortfall::Filtered(samples)]
    );
    assert!(dump.lane(Lane::Failure).complete);
    assert_eq!(dump.written.verdict, Verdict::Lossy);
    let cpu = &dump.sidecar.loss.lanes[Lane::Lifecycle as usize].cpus[0];
    assert_eq!(cpu.filtered["process.exec"], 7);
    assert_eq!(dump.losses(), []);
}

#[test]
fn what_is_still_on_its_way_is_not_lost() {
    let mut case = small();
    case.stats(Lane::Lifecycle, 15, 0);
    let dump = case.dump();
    assert_eq!(dump.written.verdict, Verdict::Complete);
    assert_eq!(dump.losses(), []);
}

#[test]
fn losses_beside_the_window_leave_the_verdict_open() {
    let mut records = Records::default();
    records.exit(0, 0, WINDOW.start() - 10);
    records.exit(0, 5, BOOT_NS);
    let mut case = Case::new(records);
    case.stats(Lane::Lifecycle, 6, 4);
    let dump = case.dump();
    assert_eq!(dump.written.verdict, Verdict::Unknown);
    assert!(dump.lane(Lane::Lifecycle).complete);
    let loss = &dump.sidecar.loss.lanes[Lane::Lifecycle as usize].cpus[0];
    assert_eq!((loss.missing, loss.missing_beside), (0, 4));
}

#[test]
fn losses_of_a_cpu_without_records_leave_the_verdict_open() {
    let mut case = Case::new(Records::default());
    case.stats(Lane::Lifecycle, 9, 2);
    assert_eq!(case.dump().written.verdict, Verdict::Unknown);
}

#[test]
fn what_the_kernel_may_have_skipped_leaves_the_verdict_open() {
    let mut case = small();
    assert_eq!(case.dump().written.verdict, Verdict::Complete);
    case.skipped = vec![Skipped {
        program: "process_exit".into(),
        since_boot_ns: WINDOW.start() - 10,
        times: 2,
    }];
    let dump = case.dump();
    assert_eq!(dump.written.verdict, Verdict::Unknown);
    assert_eq!(dump.sidecar.loss.skipped, case.skipped);
}

#[test]
fn without_counters_the_verdict_is_open() {
    let mut case = small();
    case.kernel.clear();
    assert_eq!(case.dump().written.verdict, Verdict::Unknown);
}

#[test]
fn recording_that_began_inside_the_window_is_a_shortfall_but_no_loss() {
    let mut case = small();
    case.start_boot_ns = BOOT_NS - 400;
    let dump = case.dump();
    assert_eq!(
        dump.lane(Lane::Failure).shortfalls,
        [Shortfall::NotRecording {
            until_boot_ns: BOOT_NS - 400
        }]
    );
    assert_eq!(dump.written.verdict, Verdict::Complete);
}

#[test]
fn eviction_inside_the_window_is_a_shortfall() {
    let mut case = small();
    let window = &mut case.records.windows[Lane::Lifecycle as usize];
    window.complete_after_boot_ns = Some(BOOT_NS - 350);
    let dump = case.dump();
    assert_eq!(
        dump.lane(Lane::Lifecycle).shortfalls,
        [Shortfall::Evicted {
            until_boot_ns: BOOT_NS - 350
        }]
    );
    assert_eq!(dump.written.verdict, Verdict::Lossy);
    case.records.windows[Lane::Lifecycle as usize].complete_after_boot_ns =
        Some(WINDOW.start() - 1);
    assert_eq!(case.dump().written.verdict, Verdict::Complete);
}

#[test]
fn the_agents_own_note_is_not_repeated() {
    let mut case = small();
    let id = case.incident.id;
    let note = format!("I/O error on loop3 ({id})");
    case.records.note(BOOT_NS + 50, &note);
    let notes = |dump: &Dump| {
        dump.topics()
            .iter()
            .filter(|topic| **topic == "recorder.note")
            .count()
    };
    assert_eq!(notes(&case.dump()), 1);
    case.records
        .note(BOOT_NS + 60, "I/O error on loop3 (another incident)");
    assert_eq!(notes(&case.dump()), 2);
}

#[test]
fn unknown_records_are_kept() {
    let mut records = Records::default();
    records.exit(0, 0, BOOT_NS);
    let kind = std::mem::offset_of!(Header, kind);
    records.lanes[Lane::Lifecycle as usize][0][kind] = 99;
    let dump = Case::new(records).dump();
    assert_eq!(dump.topics(), ["recorder.unknown", "recorder.note"]);
    assert_eq!(dump.messages[0].lane, "lifecycle");
}

/// Many exits that do not compress, and a few failures.
fn large(exits: u64) -> Case {
    let mut records = Records::default();
    let mut noise = 88_172_645_463_325_252_u64;
    for seq in 0..exits {
        let mut exit = Exit::new_zeroed();
        exit.header = header(EventKind::ProcessExit, 0, seq, BOOT_NS - exits + seq);
        for field in [&mut exit.user_ns, &mut exit.system_ns, &mut exit.read_bytes] {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *field = noise;
        }
        records.lanes[Lane::Lifecycle as usize].push(exit.as_bytes().to_vec());
    }
    for seq in 0..5 {
        records.io_error(0, seq, BOOT_NS - 5 + seq);
    }
    let mut case = Case::new(records);
    case.stats(Lane::Lifecycle, exits, 0);
    case
}

#[test]
fn the_cap_is_hard_and_costs_the_oldest_lifecycle_events() {
    let mut case = large(40_000);
    let whole = case.dump();
    assert!(whole.bytes.len() > 1_200_000, "{}", whole.bytes.len());
    case.max_dump_bytes = 500_000;
    let dump = case.dump();
    assert!(dump.bytes.len() <= 500_000, "{}", dump.bytes.len());
    assert!(dump.bytes.len() > 250_000, "{}", dump.bytes.len());
    let count = |topic| dump.topics().iter().filter(|name| **name == topic).count() as u64;
    assert_eq!(count("io.error"), 5);
    let kept = count("process.exit");
    let first = dump
        .messages
        .iter()
        .find(|message| message.body.topic() == "process.exit")
        .expect("some are left");
    assert_eq!(u64::from(first.sequence), 40_000 - kept);
    assert_eq!(
        dump.lane(Lane::Lifecycle).shortfalls,
        [Shortfall::DumpSize {
            records: 40_000 - kept,
            until_boot_ns: first.boot_ns,
        }]
    );
    assert_eq!(dump.lane(Lane::Lifecycle).records, kept);
    assert!(dump.lane(Lane::Failure).complete);
    assert_eq!(dump.written.verdict, Verdict::Lossy);
    assert_eq!(dump.losses(), [], "what was left out is not lost");
}

#[test]
fn a_cap_that_holds_no_lifecycle_event_still_gives_a_dump() {
    let mut case = large(2_000);
    case.max_dump_bytes = 16_000;
    let dump = case.dump();
    assert!(dump.bytes.len() <= 16_000);
    let failures = |topic: &&&str| **topic == "io.error";
    assert_eq!(dump.topics().iter().filter(failures).count(), 5);
}

#[test]
fn an_impossible_cap_is_an_error_that_leaves_nothing() {
    let mut case = small();
    let dir = TempDir::new().expect("a directory");
    case.max_dump_bytes = 1_000;
    let error = case.write(dir.path()).expect_err("it cannot fit");
    assert!(matches!(
        error,
        WriteError::TooSmall {
            max_dump_bytes: 1_000
        }
    ));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn a_file_system_that_somebody_else_fills_ends_the_dump_and_leaves_nothing() {
    let mut case = large(40_000);
    let dir = TempDir::new().expect("a directory");
    case.is_low_on_space = true;
    let error = case.write(dir.path()).expect_err("space is low");
    assert!(matches!(error, WriteError::LowSpace(_)), "{error}");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let dir = TempDir::new().expect("a directory");
    let missing = dir.path().join("missing");
    let error = small().write(&missing).expect_err("no directory");
    assert!(matches!(error, WriteError::Io { .. }));
    assert!(error.to_string().contains("missing"));
}

#[test]
fn a_dump_that_is_whole_is_found_by_its_incident() {
    let case = small();
    let dir = TempDir::new().expect("a directory");
    assert_eq!(find_written(dir.path(), &case.incident), None);
    let written = case.write(dir.path()).expect("a dump");
    assert_eq!(
        find_written(dir.path(), &case.incident),
        Some(written.clone())
    );
    let mut other = case.incident.clone();
    other.rule = "other".to_owned();
    assert_eq!(find_written(dir.path(), &other), None);
    let file = fs::File::options().write(true).open(&written.path);
    file.expect("ours").set_len(100).expect("ours");
    assert_eq!(find_written(dir.path(), &case.incident), None, "it is cut");
}

#[test]
fn a_sidecar_that_cannot_be_written_leaves_nothing() {
    let dir = TempDir::new().expect("a directory");
    let beside = "20261123T090000Z-io.error-1234abcd.json";
    let squatter = dir.path().join(format!("{TEMPORARY_PREFIX}{beside}"));
    fs::write(&squatter, "").expect("a file");
    small().write(dir.path()).expect_err("the name is taken");
    let names: Vec<_> = fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(names, [squatter]);
}

/// Opens a dump from memory; `None` if it is none.
fn open(bytes: &[u8]) -> Option<read::Dump> {
    let source = read::source::Source::Memory(bytes.to_vec());
    read::Dump::read(Path::new("dump.mcap"), source).ok()
}

/// Returns how many events a dump gives, and whether it is undamaged.
fn events_of(bytes: &[u8]) -> (usize, bool) {
    let dump = open(bytes).expect("it begins as one");
    let mut events = dump.events();
    let count = events.by_ref().filter(Result::is_ok).count();
    (count, events.damages().is_empty())
}

#[test]
fn a_dump_cut_at_any_byte_gives_every_whole_chunk() {
    let dump = small().dump();
    let all = dump.messages.len();
    let summary = ::mcap::Summary::read(&dump.bytes)
        .expect("an intact file")
        .expect("with a summary");
    let [chunk] = summary.chunk_indexes.as_slice() else {
        panic!("one chunk, not {}", summary.chunk_indexes.len());
    };
    let end = (chunk.chunk_start_offset + chunk.chunk_length) as usize;
    assert_eq!(events_of(&dump.bytes), (all, true));
    for len in 0..dump.bytes.len() {
        let (events, is_whole) = events_of(&dump.bytes[..len]);
        assert_eq!(events, if len < end { 0 } else { all }, "{len} bytes");
        assert!(!is_whole, "{len} bytes");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found_even_without_the_sidecar() {
    let dump = small().dump();
    let mut bytes = dump.bytes.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = open(&bytes).expect("one of its ends is that of a dump");
        let report = read::verify_alone(&flipped).expect("memory can be read");
        assert_ne!(report.state, read::State::Complete, "bit {bit}");
        assert!(report.events as usize <= dump.messages.len(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A small dump with two attachments, one of which holds a chunk of another dump.
fn with_evidence() -> Case {
    let inner = small().dump().bytes;
    let summary = ::mcap::Summary::read(&inner)
        .expect("an intact file")
        .expect("with a summary");
    let chunk = &summary.chunk_indexes[0];
    let start = chunk.chunk_start_offset as usize;
    let inner = &inner[start..start + chunk.chunk_length as usize];
    let mut case = small();
    case.attach("memory", b"MemFree: 12 kB\n");
    case.attach("another dump", inner);
    case
}

#[test]
fn attachments_read_with_the_public_crate() {
    let dump = with_evidence().dump();
    let summary = ::mcap::Summary::read(&dump.bytes)
        .expect("an intact summary")
        .expect("a summary");
    assert_eq!(summary.stats.expect("statistics").attachment_count, 2);
    let [memory, another] = summary.attachment_indexes.as_slice() else {
        panic!("two, not {}", summary.attachment_indexes.len());
    };
    assert_eq!(
        (memory.name.as_str(), another.name.as_str()),
        ("memory", "another dump")
    );
    let attachment = ::mcap::read::attachment(&dump.bytes, memory).expect("intact");
    assert_eq!(attachment.data.as_ref(), b"MemFree: 12 kB\n");
    assert_eq!(attachment.media_type, "text/plain");
    assert_eq!(
        (attachment.create_time, attachment.log_time),
        (UNIX_NS + 1, UNIX_NS + 2)
    );
    let linear = ::mcap::read::LinearReader::new(&dump.bytes).expect("a file");
    let records: Result<Vec<_>, _> = linear.collect();
    let is_attachment = |record: &&::mcap::records::Record<'_>| {
        matches!(record, ::mcap::records::Record::Attachment { .. })
    };
    let records = records.expect("intact");
    assert_eq!(records.iter().filter(is_attachment).count(), 2);
}

/// Returns the attachments that can be read and are what was written.
fn attachments_of(dump: &read::Dump) -> Vec<(String, Vec<u8>)> {
    let attachments = dump.attachments().expect("memory can be read");
    let mut whole = Vec::new();
    for attachment in attachments.found {
        let mut data = Vec::new();
        let damage = attachment.copy_to(dump.source(), &mut data);
        if damage.expect("memory can be read").is_none() {
            whole.push((attachment.name, data));
        }
    }
    whole
}

#[test]
fn a_dump_with_evidence_cut_at_any_byte_gives_all_that_is_whole_and_no_more() {
    let dump = with_evidence().dump();
    let summary = ::mcap::Summary::read(&dump.bytes)
        .expect("an intact file")
        .expect("with a summary");
    let events_end = summary.attachment_indexes[0].offset as usize;
    let ends: Vec<usize> = summary
        .attachment_indexes
        .iter()
        .map(|index| (index.offset + index.length) as usize)
        .collect();
    let all = dump.messages.len();
    assert_eq!(events_of(&dump.bytes), (all, true));
    let whole = attachments_of(&open(&dump.bytes).expect("a dump"));
    assert_eq!(whole.len(), 2);
    for len in 0..dump.bytes.len() {
        let cut = &dump.bytes[..len];
        let (events, is_whole) = events_of(cut);
        assert_eq!(
            events,
            if len < events_end { 0 } else { all },
            "{len} bytes"
        );
        assert!(!is_whole, "{len} bytes");
        let expected = ends.iter().filter(|end| **end <= len).count();
        let found = open(cut).map_or(Vec::new(), |dump| attachments_of(&dump));
        assert_eq!(found, whole[..expected], "{len} bytes");
    }
}

#[test]
fn a_flipped_bit_among_the_evidence_is_found_and_costs_no_event() {
    let dump = with_evidence().dump();
    let summary = ::mcap::Summary::read(&dump.bytes)
        .expect("an intact file")
        .expect("with a summary");
    let first = summary.attachment_indexes[0].offset as usize;
    let last = &summary.attachment_indexes[1];
    let last = (last.offset + last.length) as usize;
    let all = dump.messages.len();
    let mut bytes = dump.bytes.clone();
    for bit in first * 8..last * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = open(&bytes).expect("a dump");
        let report = read::verify_alone(&flipped).expect("memory can be read");
        assert_eq!(report.state, read::State::Damaged, "bit {bit}");
        assert_eq!(report.events as usize, all, "bit {bit}");
        assert_eq!(attachments_of(&flipped).len(), 1, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn evidence_takes_at_most_half_of_a_dump_and_what_is_left_out_is_said() {
    let mut case = large(40_000);
    case.max_dump_bytes = 500_000;
    case.attach("first", &[7; 200_000]);
    case.attach("second", &[8; 200_000]);
    case.attach("third", &[9; 10_000]);
    let dump = case.dump();
    assert!(dump.bytes.len() <= 500_000, "{}", dump.bytes.len());
    let read = open(&dump.bytes).expect("a dump");
    let names: Vec<String> = attachments_of(&read)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["first", "third"]);
    let report: EvidenceReport = read.metadata(EVIDENCE).expect("it is there");
    let second = &report.collectors[1];
    assert_eq!(
        (second.attachment.as_deref(), second.bytes, second.truncated),
        (None, 0, true)
    );
    assert_eq!(
        second.detail.as_deref(),
        Some("output left out: no room in the dump")
    );
    assert_eq!(report.collectors[2].attachment.as_deref(), Some("third"));
    assert!(
        dump.lane(Lane::Lifecycle).records > 0,
        "events have their room"
    );
}

#[test]
fn evidence_that_cannot_be_read_back_costs_no_event() {
    let mut case = with_evidence();
    case.evidence.attachments[0].bytes += 1;
    let dump = case.dump();
    assert_eq!(dump.messages.len(), 6);
    let read = open(&dump.bytes).expect("a dump");
    assert_eq!(attachments_of(&read), []);
    let report: EvidenceReport = read.metadata(EVIDENCE).expect("it is there");
    let detail = report.collectors[0].detail.as_deref();
    assert_eq!(detail, Some("output left out: it could not be read back"));
}

#[test]
fn many_chunks_read_in_order() {
    let dump = large(40_000).dump();
    assert!(dump.messages.is_sorted_by_key(|message| message.boot_ns));
    assert_eq!(dump.messages.len(), 40_000 + 5 + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever order records were committed in, the timeline is sorted, stable and whole.
    #[test]
    fn any_order_becomes_the_order_of_time(
        offsets in prop::collection::vec(0_u64..200, 0..300),
        swaps in prop::collection::vec((0_usize..9000, 0_usize..9000), 0..20),
    ) {
        let mut times: Vec<u64> = (0..9000).map(|index| BOOT_NS + index * 3).collect();
        for (index, offset) in offsets.iter().enumerate() {
            times[index * 17 % 9000] += offset;
        }
        for (left, right) in swaps {
            times.swap(left, right);
        }
        let mut records = Records::default();
        for (seq, boot_ns) in times.iter().enumerate() {
            records.exit((seq % 3) as u16, seq as u64 / 3, *boot_ns);
        }
        let spans = [survey::Span { from: BOOT_NS, to: u64::MAX }; LANES];
        let survey = survey::Survey::new(&records, &spans);
        let order: Vec<(u64, &[u8])> = timeline::Timeline::new(&records, &spans, &survey)
            .map(|entry| (entry.boot_ns, entry.record))
            .collect();
        let mut expected: Vec<(u64, &[u8])> = records.lanes[Lane::Lifecycle as usize]
            .iter()
            .zip(&times)
            .map(|(record, boot_ns)| (*boot_ns, record.as_slice()))
            .collect();
        expected.sort_by_key(|(boot_ns, _)| *boot_ns);
        prop_assert_eq!(order, expected);
    }
}
