//! Entries of the systemd journal, by its native protocol: one datagram of fields, or a sealed memory file for a long one.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::message::sentence;
use super::{Failure, Notice, Occasion};
use crate::incident::Severity;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Identifies entries about incidents: `journalctl MESSAGE_ID=…`.
const INCIDENT_ID: &str = "5c7a1f0be2d94b0e9a53c1d2b8f4e617";
/// Identifies entries about durable dumps.
const DUMP_ID: &str = "9e0d3b6f84c14a5fb7d9a2c6e8135f70";
/// Identifies entries about dumps that could not be written.
const DUMP_FAILED_ID: &str = "d14f6a92c0b74e38a6e5f3b1097c8d2a";

/// Sends an entry.
pub(super) fn send(
    socket: &Path,
    notice: &Notice,
    lost_before: u64,
    timeout: Duration,
) -> Result<(), Failure> {
    let sent = deliver(socket, &entry(notice, lost_before), timeout);
    sent.map_err(|error| Failure::again(format!("{}: {error}", socket.display())))
}

fn deliver(path: &Path, entry: &[u8], timeout: Duration) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(timeout))?;
    socket.connect(path)?;
    match socket.send(entry) {
        Ok(_) => Ok(()),
        Err(error) if is_too_long(&error) => send_file(&socket, entry),
        Err(error) => Err(error),
    }
}

fn is_too_long(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS))
}

/// Sends an entry that is too long for a datagram.
fn send_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let file = memfd_create(
        "recorder-entry",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let mut file = File::from(file);
    file.write_all(entry)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(
        socket,
        &[IoSlice::new(&[])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn entry(notice: &Notice, lost_before: u64) -> Vec<u8> {
    let mut entry = Vec::new();
    let id = match notice.event {
        Occasion::Incident | Occasion::Test => INCIDENT_ID,
        Occasion::Dump => DUMP_ID,
        Occasion::DumpFailed => DUMP_FAILED_ID,
    };
    field(&mut entry, "MESSAGE", &sentence(notice));
    field(&mut entry, "MESSAGE_ID", id);
    field(&mut entry, "PRIORITY", &priority(notice).to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "recorder");
    field(&mut entry, "RECORDER_EVENT", notice.event.name());
    field(
        &mut entry,
        "RECORDER_INCIDENT",
        &notice.incident.to_string(),
    );
    field(&mut entry, "RECORDER_RULE", &notice.rule);
    field(&mut entry, "RECORDER_SEVERITY", notice.severity.name());
    let subject = &notice.subject;
    let optional = [
        ("RECORDER_ENVIRONMENT", notice.environment.clone()),
        ("RECORDER_COMM", subject.comm.clone()),
        ("RECORDER_PID", subject.pid.map(|pid| pid.to_string())),
        ("RECORDER_DEVICE", subject.device.clone()),
        (
            "RECORDER_DUMP",
            notice.dump.as_ref().map(|dump| dump.path.clone()),
        ),
        (
            "RECORDER_DUMP_SHA256",
            notice.dump.as_ref().map(|dump| dump.sha256.clone()),
        ),
        ("RECORDER_ERROR", notice.error.clone()),
        ("RECORDER_FINGERPRINT", Some(notice.fingerprint.clone())),
        (
            "RECORDER_LOST_BEFORE",
            (lost_before > 0).then(|| lost_before.to_string()),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            field(&mut entry, name, &value);
        }
    }
    for tag in &notice.tags {
        field(&mut entry, "RECORDER_TAG", tag);
    }
    entry
}

/// Returns the priority of syslog: 2 critical … 5 notice.
pub(super) fn priority(notice: &Notice) -> u8 {
    match notice.severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
    }
}

/// Appends a field; a value with a line break goes with its length.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}
