//! What the kernel itself left when it died: its records in persistent storage, and the end of its log, if the journal has it.
//!
//! They are copied, never removed: whoever else is to take them finds them.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use uuid::Uuid;

use crate::dump::{Attachment, CollectorReport, CollectorState, Evidence};
use crate::ingest::now_pair;
use crate::sandbox::Starter;

/// Where the kernel shows its records.
const RECORDS: &str = "/sys/fs/pstore";
/// Where systemd-pstore moves them when a host has started.
const ARCHIVE: &str = "/var/lib/systemd/pstore";
/// How deep it does.
const ARCHIVE_DEPTH: u32 = 3;
/// Most records that are taken, and their most bytes: each, and together.
const RECORDS_MAX: usize = 32;
const RECORD_BYTES_MAX: u64 = 1 << 20;
const BYTES_MAX: u64 = 8 << 20;
/// Lines of the journal that are asked for, and how long it may take.
const LOG_LINES: &str = "400";
const LOG_PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);

/// Collects what there is of `boot`; what systemd-pstore keeps only if it is of `since_unix_ns` or later.
pub(super) fn collect(starter: &Starter, boot: Uuid, since_unix_ns: u64) -> Evidence {
    let mut evidence = Evidence::default();
    let mut left = BYTES_MAX;
    let mut records = Vec::new();
    find(Path::new(RECORDS), 1, 0, &mut records);
    find(
        Path::new(ARCHIVE),
        ARCHIVE_DEPTH,
        since_unix_ns,
        &mut records,
    );
    records.sort();
    for path in records.into_iter().take(RECORDS_MAX) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut name = format!("pstore-{name}");
        while evidence.attachments.iter().any(|other| other.name == name) {
            name.push('+');
        }
        let taken = File::open(&path).and_then(|file| copy(file, RECORD_BYTES_MAX.min(left)));
        left -= keep(&mut evidence, name, Vec::new(), taken);
    }
    let command = [
        "journalctl",
        "--no-pager",
        "--quiet",
        "--dmesg",
        "--output=short-monotonic",
        "--lines",
        LOG_LINES,
        &format!("--boot={}", boot.simple()),
    ];
    let taken = log(starter, &command).and_then(|file| copy(file, RECORD_BYTES_MAX));
    let command = command.map(str::to_owned).into();
    keep(&mut evidence, "last-kernel-log".to_owned(), command, taken);
    evidence
}

/// Finds the files below a directory that changed at `since_unix_ns` or later.
fn find(directory: &Path, depth: u32, since_unix_ns: u64, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() && depth > 1 {
            find(&entry.path(), depth - 1, since_unix_ns, found);
        }
        let changed = u64::try_from(metadata.mtime()).unwrap_or(0);
        if metadata.is_file() && changed >= since_unix_ns / 1_000_000_000 {
            found.push(entry.path());
        }
    }
}

/// Copies the beginning of a file into memory; returns it, its bytes, and whether there was more.
fn copy(file: File, most: u64) -> io::Result<(File, u64, bool)> {
    let mut to = File::from(memfd_create("recorder-pstore", MemfdFlags::CLOEXEC)?);
    let bytes = io::copy(&mut (&file).take(most), &mut to)?;
    to.flush()?;
    let is_cut = (&file).read(&mut [0])? > 0;
    Ok((to, bytes, is_cut))
}

/// Asks the journal. Where there is none, this fails.
fn log(starter: &Starter, command: &[&str]) -> io::Result<File> {
    let mut out = File::from(memfd_create("recorder-log", MemfdFlags::CLOEXEC)?);
    let mut journal = Command::new(command[0]);
    journal
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(Stdio::null());
    let mut journal = starter.spawn(journal)?;
    let begun = Instant::now();
    let status = loop {
        match journal.try_wait()? {
            Some(status) => break status,
            None if begun.elapsed() > LOG_PATIENCE => {
                journal.kill()?;
                journal.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            None => sleep(TICK),
        }
    };
    if !status.success() {
        return Err(io::Error::other(format!(
            "it has no log of that boot: {status}"
        )));
    }
    out.rewind()?;
    Ok(out)
}

/// Files what was taken, or why it was not; returns its bytes.
fn keep(
    evidence: &mut Evidence,
    name: String,
    command: Vec<String>,
    taken: io::Result<(File, u64, bool)>,
) -> u64 {
    let mut report = CollectorReport {
        name: name.clone(),
        command,
        ..CollectorReport::default()
    };
    let mut kept = 0;
    match taken {
        Ok((file, bytes, truncated)) => {
            report.state = CollectorState::Done;
            report.truncated = truncated;
            report.bytes = bytes;
            if bytes > 0 {
                kept = bytes;
                report.attachment = Some(name.clone());
                let now = now_pair().unix_ns;
                evidence.attachments.push(Attachment {
                    name,
                    media_type: "text/plain".to_owned(),
                    created_unix_ns: now,
                    finished_unix_ns: now,
                    file,
                    bytes,
                });
            }
        }
        Err(error) => {
            report.state = CollectorState::Absent;
            report.detail = Some(error.to_string());
        }
    }
    evidence.report.collectors.push(report);
    kept
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn files_are_found_by_depth_and_age_and_copied_up_to_a_bound() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let deep = directory.path().join("1/2");
        fs::create_dir_all(&deep).expect("ours");
        fs::write(directory.path().join("dmesg-0"), "first").expect("ours");
        fs::write(deep.join("dmesg-1"), "second").expect("ours");
        let old = File::create(directory.path().join("old")).expect("ours");
        old.set_modified(UNIX_EPOCH + Duration::from_secs(5))
            .expect("ours");
        let names = |depth, since| {
            let mut found = Vec::new();
            find(directory.path(), depth, since, &mut found);
            found.sort();
            let name = |path: &PathBuf| path.file_name().map(|name| name.to_owned());
            found.iter().filter_map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(1, 0), ["dmesg-0", "old"]);
        assert_eq!(names(3, 6_000_000_000), ["dmesg-1", "dmesg-0"]);
        find(&deep.join("none"), 1, 0, &mut Vec::new());

        let mut evidence = Evidence::default();
        let file = File::open(deep.join("dmesg-1")).expect("ours");
        let kept = keep(&mut evidence, "a".into(), Vec::new(), copy(file, 3));
        assert_eq!(kept, 3);
        let report = &evidence.report.collectors[0];
        assert!(report.truncated && report.attachment.as_deref() == Some("a"));
        let missing = File::open(deep.join("none")).and_then(|file| copy(file, 3));
        assert_eq!(keep(&mut evidence, "b".into(), Vec::new(), missing), 0);
        assert_eq!(evidence.report.collectors[1].state, CollectorState::Absent);
        assert_eq!(evidence.attachments.len(), 1);
    }
}
