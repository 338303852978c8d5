//! Disks that fail under the dumps at a moment of the test's choice: before, while and after one is written. By device-mapper,
//! by a device that goes, and by a mount that does: in machines that the tests have for themselves.

use std::fs;
use std::path::{Path, PathBuf};

use recorder_tests::host::guest::{self, Mapped};
use recorder_tests::host::{FileSystem, LoopDevice, public_directory};
use recorder_tests::patient::Patient;
use recorder_tests::{Dump, Need, Program, output, ready, recorder, system};
use rustix::mount::{UnmountFlags, unmount};

const NEEDS: [Need; 7] = [
    Need::Guest,
    Need::Root,
    Need::Btf,
    Need::Agent,
    Need::Loop,
    Need::Ext4,
    Need::Command("dmsetup"),
];

/// Size of a disk, in MiB and in sectors.
const MIB: u64 = 32;
const SECTORS: u64 = MIB << 11;

/// How a dump's write fails on a disk that says nothing.
const SILENT: [&str; 1] = ["has not come back"];
/// How it fails on one that refuses: ext4 itself may have noticed before, or hold the writer up over it.
const REFUSED: [&str; 3] = ["Input/output error", "Read-only", SILENT[0]];

/// A disk with a file system, whose table can be changed under it.
struct Disk {
    // In this order: each is made of the next.
    mapped: Mapped,
    device: LoopDevice,
    _memory: FileSystem,
}

impl Disk {
    #[track_caller]
    fn new(name: &'static str) -> Self {
        let memory = FileSystem::in_memory((MIB + 16) << 20);
        let device = LoopDevice::over(&memory, MIB << 20);
        let mapped = Mapped::new(name, &linear(&device));
        let disk = Self {
            mapped,
            device,
            _memory: memory,
        };
        output(system("mkfs.ext4").arg("-q").arg(disk.path())).expect_code(0);
        disk
    }

    fn path(&self) -> String {
        format!("/dev/{}", self.mapped.disk())
    }

    #[track_caller]
    fn file_system(&self) -> FileSystem {
        FileSystem::ext4(Path::new(&self.path()))
    }

    /// Says nothing, until what this returns is dropped: before an agent that waits for it is.
    #[track_caller]
    fn silence(&self) -> Silence<'_> {
        self.mapped.suspend();
        Silence { disk: self }
    }

    /// Refuses everything, also what waits at it.
    #[track_caller]
    fn fail(&self) {
        self.mapped.swap(&format!("0 {SECTORS} error"));
    }

    #[track_caller]
    fn heal(&self) {
        self.mapped.swap(&linear(&self.device));
    }
}

/// A disk that says nothing.
struct Silence<'a> {
    disk: &'a Disk,
}

impl Silence<'_> {
    /// Ends it: what waits is refused.
    #[track_caller]
    fn fail(self) {
        self.disk.fail();
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.disk.mapped.resume();
    }
}

fn linear(device: &LoopDevice) -> String {
    format!("0 {SECTORS} linear {} 0", device.path().display())
}

#[track_caller]
fn verify(dump: &Path) {
    output(recorder(["verify"]).arg(dump)).expect_code(0);
}

/// Starts again with the disk as it is when it works, and demands that it is clean and has these dumps.
#[track_caller]
fn after_the_next_start(patient: Patient, disk: &Disk, elsewhere: &[Dump], there: &[PathBuf]) {
    let patient = patient.start_again(|| {
        disk.heal();
        disk.file_system()
    });
    for dump in elsewhere {
        patient.expect_back(dump);
    }
    for dump in there {
        verify(dump);
    }
    patient.expect_nothing_unfinished();
    let dump = patient.agent.trigger("after all that");
    assert_eq!(
        dump.path().parent(),
        Some(patient.agent.dumps_directory().as_path())
    );
    patient.agent.status().expect("dumps.waiting", 0);
}

#[test]
fn a_disk_that_fails_before_a_dump_gives_it_to_memory_and_has_it_after_the_next_start() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("before");
    let patient = Patient::new(disk.file_system(), &[]);
    patient.agent.trigger("while it works");
    disk.fail();
    // Neither the first nor the next.
    let dumps = [
        patient.crash_elsewhere(&REFUSED),
        patient.crash_elsewhere(&REFUSED),
    ];
    after_the_next_start(patient, &disk, &dumps, &[]);
}

#[test]
fn a_disk_that_fails_under_a_write_leaves_nothing_of_it() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("under");
    let patient = Patient::new(disk.file_system(), &["--evidence", "false"]);
    patient.agent.trigger("while it works");
    // What is written waits at the disk, and is refused there.
    let silence = disk.silence();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    patient.wait_for_writing();
    silence.fail();
    let dump = patient.expect_elsewhere(crash.pid(), &REFUSED);
    let next = patient.crash_elsewhere(&REFUSED);
    after_the_next_start(patient, &disk, &[dump, next], &[]);
}

#[test]
fn a_disk_that_fails_after_a_dump_has_it() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("after");
    let patient = Patient::new(disk.file_system(), &[]);
    let dump = patient.agent.trigger("while it works");
    disk.fail();
    let next = patient.crash_elsewhere(&REFUSED);
    let path = dump.path().to_owned();
    let patient = patient.start_again(|| {
        disk.heal();
        disk.file_system()
    });
    verify(&path);
    patient.expect_back(&next);
}

#[test]
fn a_disk_that_never_answers_holds_up_neither_recording_nor_the_next_dump() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("silent");
    let patient = Patient::new(disk.file_system(), &["--evidence", "false"]);
    patient.agent.trigger("while it answers");
    let silence = disk.silence();
    let first = patient.crash_elsewhere(&SILENT);
    let second = patient.crash_elsewhere(&SILENT);
    patient.agent.status().expect("dumps.waiting", 0);
    drop(silence);
    patient.expect_back(&first);
    patient.expect_back(&second);
}

#[test]
fn a_slow_disk_gets_its_dump() {
    if !ready(&[&NEEDS[..], &[Need::Module("dm_delay")]].concat()) {
        return;
    }
    let disk = Disk::new("slow");
    let patient = Patient::new(disk.file_system(), &[]);
    let device = disk.device.path().display().to_string();
    // Each write takes a fifth of a second, each read none.
    disk.mapped
        .swap(&format!("0 {SECTORS} delay {device} 0 0 {device} 0 200"));
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = patient.agent.dump_of(crash.pid());
    dump.only("signal.fatal", crash.pid());
    verify(dump.path());
    disk.heal();
}

#[test]
fn a_disk_that_loses_writes_now_and_then_gets_the_dump_or_memory_does() {
    if !ready(&[&NEEDS[..], &[Need::Module("dm_flakey")]].concat()) {
        return;
    }
    let disk = Disk::new("flakey");
    let patient = Patient::new(disk.file_system(), &[]);
    let device = disk.device.path().display().to_string();
    // It works for a second and refuses writes for the next.
    disk.mapped
        .swap(&format!("0 {SECTORS} flakey {device} 0 1 1 1 error_writes"));
    // Those written elsewhere may go to the disk as soon as that works.
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let crash = Program::workload().run(["segv-write", "0x1234"]);
        let dump = patient.agent.dump_of(crash.pid());
        if dump.path().parent() == Some(patient.agent.dumps_directory().as_path()) {
            there.push(dump.path().to_owned());
        } else {
            elsewhere.push(dump);
        }
    }
    after_the_next_start(patient, &disk, &elsewhere, &there);
}

#[test]
fn the_window_waits_for_a_disk_that_is_the_only_one() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("only");
    let options = ["--dumps-fallback", "none", "--evidence", "false"];
    let patient = Patient::new(disk.file_system(), &options);
    patient.agent.trigger("while it answers");
    let silence = disk.silence();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let status = patient
        .agent
        .wait_for_status("a window that waits", |status| {
            status.count("dumps.failed") > 0 && status.count("dumps.waiting") > 0
        });
    status.expect("state", "degraded");
    assert!(
        status.str("dumps.last_error").contains(SILENT[0]),
        "{status}"
    );
    drop(silence);
    let dump = patient.agent.dump_of(crash.pid());
    dump.only("signal.fatal", crash.pid());
    verify(dump.path());
    assert_eq!(
        dump.path().parent(),
        Some(patient.agent.dumps_directory().as_path())
    );
    patient.expect_nothing_unfinished();
    patient.agent.wait_for_status("none that waits", |status| {
        status.count("dumps.waiting") == 0
    });
}

#[test]
fn every_directory_is_tried_in_order() {
    if !ready(&NEEDS) {
        return;
    }
    let (first, second) = (Disk::new("first"), Disk::new("second"));
    let place = public_directory();
    let mounted = second.file_system().mount(place.path());
    let path = place.path().to_str().expect("plain");
    let fallbacks = ["--dumps-fallback", path, "--dumps-fallback", "run"];
    let patient = Patient::new(first.file_system(), &fallbacks);
    first.fail();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    let dump = patient.agent.dump_of(crash.pid());
    let there = place.path().join("dumps");
    assert_eq!(dump.path().parent(), Some(there.as_path()));
    second.fail();
    let dump = patient.crash_elsewhere(&REFUSED);
    let refused = dump.metadata("recorder.delivery");
    refused.expect("1.directory", there.to_str().expect("plain"));
    assert!(
        REFUSED
            .iter()
            .any(|why| refused.str("1.error").contains(why)),
        "{refused}"
    );
    drop(patient);
    drop(mounted);
}

#[test]
fn a_mount_that_goes_before_a_dump_leaves_its_place() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("gone");
    let patient = Patient::new(disk.file_system(), &[]);
    patient.agent.trigger("while it is there");
    unmount(patient.agent.state_directory(), UnmountFlags::DETACH).expect("it is mounted");
    for _ in 0..2 {
        let crash = Program::workload().run(["segv-write", "0x1234"]);
        let dump = patient.agent.dump_of(crash.pid());
        dump.only("signal.fatal", crash.pid());
        verify(dump.path());
    }
    patient.expect_nothing_unfinished();
}

#[test]
fn a_mount_that_goes_under_a_write_takes_no_dump_with_it() {
    if !ready(&NEEDS) {
        return;
    }
    let disk = Disk::new("going");
    let patient = Patient::new(disk.file_system(), &["--evidence", "false"]);
    patient.agent.trigger("while it is there");
    let silence = disk.silence();
    let crash = Program::workload().run(["segv-write", "0x1234"]);
    patient.wait_for_writing();
    unmount(patient.agent.state_directory(), UnmountFlags::DETACH).expect("it is mounted");
    drop(silence);
    // Not in what nobody can reach any more: where the path leads now, if need be by way of another directory.
    let dump = patient.agent.dump_of(crash.pid());
    if dump.path().parent() == Some(patient.agent.dumps_directory().as_path()) {
        verify(dump.path());
        patient.expect_nothing_unfinished();
    } else {
        patient.expect_back(&dump);
    }
}

#[test]
fn a_device_that_is_taken_out_gives_its_dumps_to_memory_and_the_next_one_takes_them() {
    if !ready(&[&NEEDS[..], &[Need::Module("scsi_debug")]].concat()) {
        return;
    }
    guest::load("scsi_debug", &["dev_size_mb=8"]);
    // Another test's may have it fail in its own way.
    fs::write("/sys/bus/pseudo/drivers/scsi_debug/opts", "0").expect("it is loaded");
    let name = guest::disk("sd", Some("Linux"));
    let path = format!("/dev/{name}");
    output(system("mkfs.ext4").args(["-q", "-F", &path])).expect_code(0);
    let patient = Patient::new(FileSystem::ext4(Path::new(&path)), &[]);
    patient.agent.trigger("while it is there");
    fs::write(format!("/sys/block/{name}/device/delete"), "1").expect("it can be taken out");
    let dumps = [
        patient.crash_elsewhere(&REFUSED),
        patient.crash_elsewhere(&REFUSED),
    ];
    let next = Disk::new("next");
    after_the_next_start(patient, &next, &dumps, &[]);
}
