//! Disks that refuse, and data that is lost after its write succeeded.

use recorder_tests::host::{FailingDisk, FailingExt4, LoopDevice, failing_ext4, write_back};
use recorder_tests::{Agent, Dump, Ended, Event, Json, Need, ready};

const NEEDS: [Need; 4] = [Need::Root, Need::Btf, Need::Agent, Need::Loop];

/// Waits for the dump of an incident of this type on this device.
#[track_caller]
fn dump_of(agent: &Agent, event_type: &str, device: &LoopDevice) -> Dump {
    let number = device.number();
    agent.dump_where(
        &format!("{event_type} on {}", device.name()),
        |incident: &Json| {
            incident.get("trigger.type") == Some(&event_type.into())
                && incident.get("subject.device") == Some(&number.as_str().into())
        },
    )
}

#[track_caller]
fn io_error<'a>(dump: &'a Dump, device: &LoopDevice, sector: u64) -> &'a Event {
    let mut errors = dump.matching("io.error", "sector", &sector.into());
    errors.retain(|error| error.get("body.disk") == Some(&device.name().into()));
    match errors.as_slice() {
        [error] => error,
        errors => panic!("{} errors at sector {sector}: {errors:#?}", errors.len()),
    }
}

#[track_caller]
fn check(error: &Event, device: &LoopDevice, io: &Ended, operation: &str) {
    error.expect("body.device", device.number());
    error.expect("body.disk", device.name());
    error.expect("body.operation", operation);
    error.expect_same("body.sector", &io.facts, "sector");
    error.expect_same("body.bytes", &io.facts, "bytes");
    error.expect("body.sectors", (io.facts.number("bytes") / 512) as u64);
    error.expect_absent("body.partition");
    // Nobody in particular: it completes in whatever context there is.
    error.expect_absent("body.process.pid");
    let at = error.time("timestamp");
    assert!(
        io.started <= at && at <= io.ended,
        "{error}\nnot within {io:?}"
    );
}

#[test]
fn a_full_disk_refuses_a_write() {
    if !ready(&[&NEEDS[..], &[Need::LoopErrors]].concat()) {
        return;
    }
    let agent = Agent::start();
    let disk = FailingDisk::new();
    let io = disk.io("write", FailingDisk::HOLE_SECTOR + 64, 16 * 1024);
    io.lines[0].expect("errno", libc::ENOSPC);
    let dump = dump_of(&agent, "io.error", disk.device());
    let error = io_error(&dump, disk.device(), FailingDisk::HOLE_SECTOR + 64);
    check(error, disk.device(), &io, "write");
    error.expect("body.status", "BLK_STS_NOSPC");
    error.expect("body.errno", "ENOSPC");
    // Who wrote is in the same dump.
    dump.only("process.exec", io.pid());
}

#[test]
fn a_disk_whose_file_was_cut_refuses_a_read() {
    if !ready(&[&NEEDS[..], &[Need::LoopErrors]].concat()) {
        return;
    }
    let agent = Agent::start();
    let disk = FailingDisk::new();
    let io = disk.io("read", FailingDisk::CUT_SECTOR + 8, 4096);
    io.lines[0].expect("errno", libc::EIO);
    let dump = dump_of(&agent, "io.error", disk.device());
    let error = io_error(&dump, disk.device(), FailingDisk::CUT_SECTOR + 8);
    check(error, disk.device(), &io, "read");
    error.expect("body.status", "BLK_STS_IOERR");
    error.expect("body.errno", "EIO");
}

#[test]
fn a_disk_that_works_is_not_mentioned() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start();
    let disk = FailingDisk::new();
    let io = disk.io("write", FailingDisk::GOOD_SECTOR, 4096);
    io.lines[0].expect("transferred", 4096);
    let dump = agent.trigger("a write that worked");
    let errors = dump.matching("io.error", "disk", &disk.device().name().into());
    assert!(errors.is_empty(), "{errors:#?}");
}

#[track_caller]
fn errno_name(outcome: &Json) -> &'static str {
    match outcome.number("sync") {
        5 => "EIO",
        28 => "ENOSPC",
        _ => panic!("neither EIO nor ENOSPC: {outcome}"),
    }
}

#[test]
fn a_file_is_lost_after_its_write() {
    if !ready(&[&NEEDS[..], &[Need::Ext4]].concat()) {
        return;
    }
    let agent = Agent::start();
    let disk = failing_ext4();
    let lost = disk.write_back("lost");
    lost.lines[0].expect_absent("write");
    let dump = dump_of(&agent, "fs.writeback_error", disk.device());
    let inode = lost.facts.number("inode") as u64;
    let mut errors = dump.matching("fs.writeback_error", "inode", &inode.into());
    if errors.is_empty() {
        // It has none before Linux 5.11.
        errors = dump.matching("fs.writeback_error", "inode", &0.into());
    }
    assert!(
        !errors.is_empty(),
        "inode {inode}: {}",
        dump.path().display()
    );
    for error in errors {
        error.expect("body.device", disk.device().number());
        error.expect("body.name", disk.device().name());
        error.expect("body.errno", errno_name(&lost.lines[0]));
    }
    // The request behind it failed, too, and is in the window.
    let requests = dump.matching("io.error", "disk", &disk.device().name().into());
    let bytes: i128 = requests
        .iter()
        .map(|request| request.number("body.bytes"))
        .sum();
    assert!(
        bytes >= i128::from(FailingExt4::FILE_BYTES),
        "{requests:#?}"
    );
}

#[test]
fn pages_of_a_device_are_lost_after_their_write() {
    if !ready(&NEEDS) {
        return;
    }
    let agent = Agent::start();
    let disk = FailingDisk::new();
    // Everything behind the first sectors is a hole that the full file system cannot fill.
    let lost = write_back(disk.device().path(), 2 << 20);
    lost.lines[0].expect_absent("write");
    let dump = dump_of(&agent, "io.error", disk.device());
    // The inode of a block device is its number, as the kernel packs it.
    let (major, minor) = disk
        .device()
        .number()
        .split_once(':')
        .map(numbers)
        .expect("major:minor");
    let inode = u64::from(major << 20 | minor);
    let mut errors = dump.matching("fs.writeback_error", "inode", &inode.into());
    if errors.is_empty() {
        // It has none before Linux 5.11.
        errors = dump.matching("fs.writeback_error", "inode", &0.into());
    }
    assert!(
        !errors.is_empty(),
        "inode {inode}: {}",
        dump.path().display()
    );
    errors[0].expect("body.errno", errno_name(&lost.lines[0]));
}

fn numbers((major, minor): (&str, &str)) -> (u32, u32) {
    let parse = |text: &str| text.parse().expect("device numbers are numbers");
    (parse(major), parse(minor))
}
