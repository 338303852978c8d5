//! Disks that fail below their driver, and devices made of others: in machines that the tests have for themselves.

use recorder_tests::host::guest::{self, BadBlocks, Mapped};
use recorder_tests::{Agent, Ended, Need, Program, Workload, ready};

const NEEDS: [Need; 4] = [Need::Guest, Need::Root, Need::Btf, Need::Agent];

/// The sector that the machine's own disks cannot read.
const BAD_SECTOR: u64 = 2048;
/// The sector that scsi_debug cannot read: 0x1234.
const SCSI_DEBUG_BAD_SECTOR: u64 = 4660;

/// What a dump must say of a failed read or write, beside where it was.
struct Failure<'a> {
    disk: &'a str,
    operation: &'a str,
    sector: u64,
    /// Where the kernel tells it.
    status: &'a str,
    errno: &'a str,
}

#[track_caller]
fn io(disk: &str, operation: &str, sector: u64) -> Ended {
    let mut io = Program::workload().command(["io", operation]);
    io.arg(format!("/dev/{disk}"))
        .args([sector.to_string(), "4096".to_owned()]);
    let io = Workload::start(&mut io).wait();
    assert!(
        io.lines[0].number("transferred") < 0,
        "it did not fail: {io:?}"
    );
    io
}

/// Lets it fail and compares what the dump says.
#[track_caller]
fn check(agent: &Agent, failure: &Failure<'_>) {
    let Failure {
        disk,
        operation,
        sector,
        status,
        errno,
    } = *failure;
    let io = io(disk, operation, sector);
    let number = guest::number(disk);
    let dump = agent.dump_where(&format!("io.error on {disk}"), |incident| {
        incident.get("trigger.type") == Some(&"io.error".into())
            && incident.get("subject.device") == Some(&number.as_str().into())
    });
    let errors = dump.matching("io.error", "disk", &disk.into());
    let error = errors
        .first()
        .unwrap_or_else(|| panic!("no io.error of {disk}"));
    error.expect("body.device", number);
    error.expect("body.operation", operation);
    error.expect("body.sector", sector);
    error.expect("body.errno", errno);
    error.expect_absent("body.partition");
    // The kernel told an errno and no status before 5.18; block_bio_complete always told the status.
    if guest::has_tracepoint("block/block_rq_error") || disk.starts_with("dm-") {
        error.expect("body.status", status);
    }
    let at = error.time("timestamp");
    assert!(
        io.started <= at && at <= io.ended,
        "{error}\nnot within {io:?}"
    );
}

#[test]
fn a_virtio_disk_cannot_read_a_sector() {
    if !ready(&NEEDS) {
        return;
    }
    check(
        &Agent::start(),
        &Failure {
            disk: &guest::disk("vd", None),
            operation: "read",
            sector: BAD_SECTOR,
            status: "BLK_STS_IOERR",
            errno: "EIO",
        },
    );
}

#[test]
fn an_nvme_disk_cannot_read_a_sector() {
    if !ready(&NEEDS) {
        return;
    }
    check(
        &Agent::start(),
        &Failure {
            disk: &guest::disk("nvme", None),
            operation: "read",
            sector: BAD_SECTOR,
            status: "BLK_STS_MEDIUM",
            errno: "ENODATA",
        },
    );
}

#[test]
fn a_scsi_disk_cannot_read_a_sector() {
    if !ready(&NEEDS) {
        return;
    }
    check(
        &Agent::start(),
        &Failure {
            disk: &guest::disk("sd", Some("QEMU")),
            operation: "read",
            sector: BAD_SECTOR,
            status: "BLK_STS_IOERR",
            errno: "EIO",
        },
    );
}

#[test]
fn a_scsi_disk_has_a_medium_error() {
    if !ready(&[&NEEDS[..], &[Need::Module("scsi_debug")]].concat()) {
        return;
    }
    guest::load("scsi_debug", &["dev_size_mb=8", "opts=2"]);
    check(
        &Agent::start(),
        &Failure {
            disk: &guest::disk("sd", Some("Linux")),
            operation: "read",
            sector: SCSI_DEBUG_BAD_SECTOR / 8 * 8,
            status: "BLK_STS_MEDIUM",
            errno: "ENODATA",
        },
    );
}

#[test]
fn a_disk_with_bad_blocks_refuses_a_write() {
    if !ready(&[&NEEDS[..], &[Need::Module("null_blk")]].concat()) {
        return;
    }
    let disk = BadBlocks::new();
    check(
        &Agent::start(),
        &Failure {
            disk: disk.disk(),
            operation: "write",
            sector: BadBlocks::FIRST,
            status: "BLK_STS_IOERR",
            errno: "EIO",
        },
    );
}

#[test]
fn a_mapped_device_fails_without_a_word_in_the_kernels_log() {
    if !ready(&NEEDS) {
        return;
    }
    let device = Mapped::new("failing", "0 2048 error");
    let failure = |operation| Failure {
        disk: device.disk(),
        operation,
        sector: 64,
        status: "BLK_STS_IOERR",
        errno: "EIO",
    };
    check(&Agent::start(), &failure("read"));
    check(&Agent::start(), &failure("write"));
}

#[test]
fn a_mapped_device_fails_because_its_disk_does() {
    if !ready(&NEEDS) {
        return;
    }
    let below = guest::disk("vd", None);
    let device = Mapped::new("above", &format!("0 4096 linear /dev/{below} 1024"));
    let agent = Agent::start();
    io(device.disk(), "read", BAD_SECTOR - 1024);
    let number = guest::number(&below);
    let dump = agent.dump_where("io.error below", |incident| {
        incident.get("subject.device") == Some(&number.as_str().into())
    });
    for (disk, sector) in [
        (below.as_str(), BAD_SECTOR),
        (device.disk(), BAD_SECTOR - 1024),
    ] {
        let errors = dump.matching("io.error", "disk", &disk.into());
        assert!(
            !errors.is_empty(),
            "no error of {disk}: {}",
            dump.path().display()
        );
        errors[0].expect("body.sector", sector);
    }
}
