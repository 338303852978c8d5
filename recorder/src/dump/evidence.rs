//! Evidence: what collectors put out, as attachments of the dump, and what became of each collector.
//!
//! Attachments stand behind all events, so that no damage to them costs one. Together they take at most half of the dump's
//! cap; an attachment that does not fit is left out, and its collector's report says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use super::mcap::{self, AttachmentIndex};
use super::sink::{Sink, SinkError};

/// Name of the metadata record that holds the [`EvidenceReport`].
pub const EVIDENCE: &str = "recorder.evidence";
/// Bytes read back at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// An attachment that is to stand in the dump.
#[derive(Debug)]
pub struct Attachment {
    /// Its name, unique in the dump.
    pub name: String,
    /// Its type: "text/plain".
    pub media_type: String,
    /// When its collector started, by the wall clock.
    pub created_unix_ns: u64,
    /// When it was complete, by the wall clock.
    pub finished_unix_ns: u64,
    /// The bytes, from the start of the file on.
    pub file: File,
    /// How many of them.
    pub bytes: u64,
}

/// All evidence of an incident.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What became of each collector.
    pub report: EvidenceReport,
    /// What they put out.
    pub attachments: Vec<Attachment>,
}

/// What became of every collector, in the order in which they were planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// One entry for each.
    pub collectors: Vec<CollectorReport>,
}

/// What became of a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorReport {
    /// Its name.
    pub name: String,
    /// The program and its arguments; absent if it is built in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub command: Vec<String>,
    /// How it ended.
    pub state: CollectorState,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// When it started, in nanoseconds after the trigger.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_after_ns: Option<u64>,
    /// How long it took, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ns: Option<u64>,
    /// Code it exited with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    /// Processes that it had left behind and that were killed.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub killed: u64,
    /// Bytes that were kept.
    pub bytes: u64,
    /// Whether it put out more than was kept.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub truncated: bool,
    /// First bytes of what it wrote to stderr.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stderr: Option<String>,
    /// Name of the attachment that holds what was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attachment: Option<String>,
}

/// How a collector ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectorState {
    /// It exited with 0.
    Done,
    /// It exited with another code.
    Failed,
    /// A signal ended it that was not its time limit.
    Crashed,
    /// It took longer than it may, and was killed.
    TimedOut,
    /// It put out more than it may, or than there was room for, and was ended.
    OverLimit,
    /// The dump could not wait for it any longer; what it had put out by then is kept.
    Late,
    /// What it was to look at is not there any more.
    Absent,
    /// It could not be started.
    NotStarted,
    /// It was not run.
    #[default]
    Skipped,
}

impl CollectorState {
    /// Returns its name as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::TimedOut => "timed out",
            Self::OverLimit => "over its limit",
            Self::Late => "late",
            Self::Absent => "absent",
            Self::NotStarted => "not started",
            Self::Skipped => "skipped",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The evidence that a dump takes.
pub(super) struct Taken<'a> {
    pub(super) report: EvidenceReport,
    pub(super) attachments: Vec<&'a Attachment>,
}

impl<'a> Taken<'a> {
    /// Takes the attachments, in order, that fit into half of a dump.
    pub(super) fn new(evidence: &'a Evidence, max_dump_bytes: u64) -> Self {
        let mut left = max_dump_bytes / 2;
        let mut taken = Self {
            report: evidence.report.clone(),
            attachments: Vec::new(),
        };
        left = left.saturating_sub(taken.report_bytes());
        for attachment in &evidence.attachments {
            let bytes = encoded_bytes(attachment);
            if bytes <= left {
                left -= bytes;
                taken.attachments.push(attachment);
            } else {
                taken
                    .report
                    .leave_out(&attachment.name, "no room in the dump");
            }
        }
        taken
    }

    /// Takes no attachment.
    pub(super) fn nothing(evidence: &'a Evidence, why: &str) -> Self {
        let mut report = evidence.report.clone();
        for attachment in &evidence.attachments {
            report.leave_out(&attachment.name, why);
        }
        Self {
            report,
            attachments: Vec::new(),
        }
    }

    /// Returns how many bytes of the file the attachments and their index take.
    pub(super) fn bytes(&self) -> u64 {
        let attachments = self.attachments.iter();
        attachments
            .map(|attachment| encoded_bytes(attachment))
            .sum()
    }

    /// Returns about how many bytes the report takes.
    fn report_bytes(&self) -> u64 {
        serde_json::to_vec(&self.report).map_or(0, |json| json.len() as u64)
    }
}

impl EvidenceReport {
    fn leave_out(&mut self, attachment: &str, why: &str) {
        let name = Some(attachment);
        for collector in &mut self.collectors {
            if collector.attachment.as_deref() == name {
                collector.attachment = None;
                collector.bytes = 0;
                collector.truncated = true;
                collector.detail = Some(match collector.detail.take() {
                    Some(detail) => format!("{detail}; output left out: {why}"),
                    None => format!("output left out: {why}"),
                });
            }
        }
    }
}

/// Returns how many bytes an attachment takes, with its entry in the index.
fn encoded_bytes(attachment: &Attachment) -> u64 {
    let mut index = Vec::new();
    let mut head = Vec::new();
    mcap::attachment_head(&mut head, &header(attachment));
    mcap::attachment_index(&mut index, &entry(attachment, 0, 0));
    (head.len() + index.len() + mcap::CRC_BYTES) as u64 + attachment.bytes
}

fn header(attachment: &Attachment) -> mcap::AttachmentHeader<'_> {
    mcap::AttachmentHeader {
        log_time: attachment.finished_unix_ns,
        create_time: attachment.created_unix_ns,
        name: &attachment.name,
        media_type: &attachment.media_type,
        data_bytes: attachment.bytes,
    }
}

fn entry(attachment: &Attachment, offset: u64, bytes: u64) -> AttachmentIndex<'_> {
    AttachmentIndex {
        offset,
        bytes,
        header: header(attachment),
    }
}

/// Why an attachment is not in the file.
pub(super) enum AttachError {
    /// It could not be read back.
    Unreadable,
    /// The file could not take it.
    Sink(SinkError),
}

impl From<SinkError> for AttachError {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// Writes an attachment; returns where it is.
pub(super) fn write<'a>(
    sink: &mut Sink,
    attachment: &'a Attachment,
) -> Result<AttachmentIndex<'a>, AttachError> {
    let offset = sink.bytes();
    let mut block = Vec::new();
    mcap::attachment_head(&mut block, &header(attachment));
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[mcap::PREFIX_BYTES..]);
    sink.write(&block)?;
    let mut at = 0;
    while at < attachment.bytes {
        let left = usize::try_from(attachment.bytes - at).unwrap_or(usize::MAX);
        block.resize(left.min(BLOCK_BYTES), 0);
        let read: io::Result<()> = attachment.file.read_exact_at(&mut block, at);
        read.map_err(|_| AttachError::Unreadable)?;
        crc.update(&block);
        sink.write(&block)?;
        at += block.len() as u64;
    }
    sink.write(&crc.finalize().to_le_bytes())?;
    Ok(entry(attachment, offset, sink.bytes() - offset))
}
