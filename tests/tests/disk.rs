//! Disks that fail under the dumps: full, broken, read-only, silent, gone. The window becomes a dump all the same, elsewhere or
//! later, and the dump says why.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use recorder_tests::host::{FileSystem, LoopDevice, public_directory};
use recorder_tests::patient::Patient;
use recorder_tests::{
    Agent, Dump, Need, Options, Program, output, ready, recorder, system, wait_for,
};
use rustix::process::Signal;

const LOOP: [Need; 5] = [Need::Root, Need::Btf, Need::Agent, Need::Loop, Need::Ext4];

/// An ext4 file system on a loop device over memory.
struct Ext4 {
    // In this order: the file system goes before its device.
    disk: Option<FileSystem>,
    _device: LoopDevice,
    _memory: FileSystem,
}

impl Ext4 {
    fn new() -> Self {
        let memory = FileSystem::in_memory(48 << 20);
        let device = LoopDevice::over(&memory, 32 << 20);
        output(system("mkfs.ext4").arg("-q").arg(device.path())).expect_code(0);
        Self {
            disk: Some(FileSystem::ext4(device.path())),
            _device: device,
            _memory: memory,
        }
    }

    fn disk(&mut self) -> FileSystem {
        self.disk.take().expect("once")
    }
}

#[test]
fn a_full_disk_gives_its_dumps_to_memory_and_takes_them_back() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let patient = Patient::new(FileSystem::in_memory(8 << 20), &[]);
    patient.disk.fill();
    let dump = patient.crash_elsewhere(&["free"]);
    patient.expect_nothing_unfinished();
    // It is listed from there.
    let mut list = recorder(["list", "--json"]);
    list.env("RECORDER_STATE_DIR", patient.agent.run_directory());
    let listed = output(&mut list).expect_code(0).json_lines();
    assert_eq!(listed.len(), 1, "{listed:#?}");
    fs::remove_file(patient.disk.path("filler")).expect("ours");
    patient
        .agent
        .run(["trigger", "--reason", "there is room"])
        .expect_code(0);
    patient.expect_back(&dump);
    patient.agent.wait_for_status("all well", |status| {
        status.get("state") == Some(&"recording".into())
    });
}

#[test]
fn a_window_that_nobody_can_write_waits_until_somebody_can() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let patient = Patient::new(
        FileSystem::in_memory(8 << 20),
        &["--dumps-fallback", "none"],
    );
    patient.disk.fill();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    patient
        .agent
        .wait_for_status("a failure", |status| status.count("dumps.failed") == 1);
    patient.expect_nothing_unfinished();
    fs::remove_file(patient.disk.path("filler")).expect("ours");
    let dump = patient.agent.dump_of(crash.pid());
    dump.only("signal.fatal", crash.pid());
    patient.agent.run(["verify", "latest"]).expect_code(0);
}

#[test]
fn the_second_directory_goes_before_memory() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let second = public_directory();
    let second_path = second.path().to_str().expect("plain").to_owned();
    let patient = Patient::new(
        FileSystem::in_memory(8 << 20),
        &["--dumps-fallback", &second_path, "--dumps-fallback", "run"],
    );
    patient.disk.fill();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = patient.agent.dump_of(crash.pid());
    let there: PathBuf = second.path().join("dumps");
    assert_eq!(dump.path().parent(), Some(there.as_path()));
}

#[test]
fn a_disk_that_is_read_only_or_broken_gives_its_dumps_to_memory() {
    if !ready(&LOOP) {
        return;
    }
    let mut ext4 = Ext4::new();
    let patient = Patient::new(ext4.disk(), &[]);
    // As ext4 does itself when it finds itself broken: nobody writes any more, whoever has files open. Whether that is a
    // disk that can only be read or one that fails is not the same on all kernels: this one is asked.
    patient.disk.abort();
    let refused = File::create(patient.disk.path("refused")).expect_err("it is broken");
    let why = match refused.raw_os_error() {
        Some(libc::EROFS) => "Read-only",
        Some(libc::EIO) => "Input/output error",
        _ => panic!("{refused}"),
    };
    patient.crash_elsewhere(&[why]);
    drop(patient);

    let mut ext4 = Ext4::new();
    let patient = Patient::new(ext4.disk(), &[]);
    patient.disk.shut_down();
    patient.crash_elsewhere(&["Input/output error"]);
    // Not the last one either.
    patient.crash_elsewhere(&["Input/output error"]);
}

#[test]
fn a_disk_that_does_not_answer_stops_neither_recording_nor_the_next_dump() {
    if !ready(&LOOP) {
        return;
    }
    let mut ext4 = Ext4::new();
    let patient = Patient::new(ext4.disk(), &["--evidence", "false"]);
    patient.agent.trigger("while it answers");
    let frozen = patient.disk.freeze();
    let first = patient.crash_elsewhere(&["has not come back"]);
    // That it does not answer is known by now.
    let second = patient.crash_elsewhere(&["has not come back"]);
    let status = patient.agent.status();
    status.expect("dumps.waiting", 0);
    drop(frozen);
    // What it was writing is its own by now.
    patient.expect_back(&first);
    patient.expect_back(&second);
}

#[test]
fn an_agent_starts_and_records_on_a_disk_that_is_broken_or_does_not_answer() {
    if !ready(&LOOP) {
        return;
    }
    let mut ext4 = Ext4::new();
    let (patient, ()) = Patient::harmed(ext4.disk(), &[], |disk| disk.shut_down());
    patient.agent.wait_for_note("recording goes on");
    patient.crash_elsewhere(&["Input/output error"]);
    drop(patient);

    let mut ext4 = Ext4::new();
    let (mut patient, frozen) =
        Patient::harmed(ext4.disk(), &["--evidence", "false"], |disk| disk.freeze());
    patient
        .agent
        .wait_for_note("does not answer; recording goes on");
    let dump = patient.crash_elsewhere(&["has not come back"]);
    drop(frozen);
    patient.expect_back(&dump);
    // Nor does one keep it from ending, as far as the kernel lets a process end whose thread waits for a disk.
    let frozen = patient.disk.freeze();
    patient.crash_elsewhere(&["has not come back"]);
    patient.agent.signal(Signal::TERM);
    let socket = patient.agent.run_directory().join("control.sock");
    wait_for("an agent that has ended all else", || !socket.exists());
    drop(frozen);
    let ended = patient.agent.wait();
    assert!(ended.success(), "{ended}: {:?}", patient.agent.notes());
}

/// Options of an agent that keeps a copy of a small ring on its disk.
const SYNC: [&str; 6] = [
    "--ring-sync=100ms",
    "--failure-bytes=1MiB",
    "--lifecycle-bytes=4MiB",
    "--sample-bytes=1MiB",
    "--evidence",
    "false",
];

#[test]
fn a_disk_that_fails_under_the_copy_of_the_ring_holds_up_nothing() {
    if !ready(&LOOP) {
        return;
    }
    let mut ext4 = Ext4::new();
    let patient = Patient::new(ext4.disk(), &SYNC);
    let flushes = |patient: &Patient| patient.agent.status().number("twin.flushes");
    wait_for("a flush", || flushes(&patient) > 0);
    let frozen = patient.disk.freeze();
    // One that was at its end may still come to it.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let when_frozen = flushes(&patient);
    patient.crash_elsewhere(&["has not come back"]);
    patient.crash_elsewhere(&["has not come back"]);
    assert_eq!(flushes(&patient), when_frozen, "the disk does not answer");
    drop(frozen);
    wait_for("it answers again", || flushes(&patient) > when_frozen + 1);
    patient.agent.status().expect("twin.failures", 0);
    let twin = patient.agent.state_directory().join("ring");
    let mut recover = recorder(["recover", "--json", "-o"]);
    let out = tempfile::tempdir().expect("there is room for tests");
    let answer = output(recover.arg(out.path()).arg(twin)).expect_code(0);
    let dump = Dump::open(Path::new(answer.json().str("path")));
    let crashes = dump.events().iter();
    let crashes = crashes.filter(|event| event.str("type") == "signal.fatal");
    assert_eq!(crashes.count(), 2, "what came meanwhile is there");

    patient.disk.shut_down();
    let status = patient
        .agent
        .wait_for_status("a failure", |status| status.number("twin.failures") > 0);
    assert!(
        status.str("twin.last_error").contains("Input/output"),
        "{status}"
    );
    patient.crash_elsewhere(&["Input/output error"]);
    drop(patient);

    let patient = Patient::new(FileSystem::in_memory(4 << 20), &SYNC);
    let status = patient
        .agent
        .wait_for_status("a failure", |status| status.number("twin.failures") > 0);
    assert!(
        status.str("twin.last_error").contains("No space"),
        "{status}"
    );
    patient.agent.trigger("it records");
}

#[test]
fn a_directory_that_disappears_is_made_again_or_done_without() {
    if !ready(&Need::RECORDING) {
        return;
    }
    let directory = public_directory();
    let agent = Agent::start_in(directory.path(), &Options::default());
    agent.trigger("while it is there");
    // The agent may be writing there: then once more.
    let gone = |path: PathBuf| wait_for("it is gone", || fs::remove_dir_all(&path).is_ok());
    gone(agent.state_directory());
    let dump = agent.trigger("it is gone");
    assert_eq!(
        dump.path().parent(),
        Some(agent.dumps_directory().as_path())
    );
    gone(agent.dumps_directory());
    fs::write(agent.dumps_directory(), "in the way").expect("ours");
    let dump = agent.trigger("something is in the way");
    let run = agent.run_directory().join("dumps");
    assert_eq!(dump.path().parent(), Some(run.as_path()));
    fs::remove_file(agent.dumps_directory()).expect("ours");
    agent
        .run(["trigger", "--reason", "nothing is in the way"])
        .expect_code(0);
    wait_for("it is where it belongs", || !dump.path().exists());
    drop(agent);
    drop(directory);
}
