//! What happened, one variant for each topic of a dump.

use prost::Message;
use serde::Serialize;
use thiserror::Error;

use super::proto;
use super::reflect::Reflect;

/// Why a message of a dump is no event.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A newer writer's topic.
    #[error("unknown topic {0:?}")]
    Topic(String),
    /// The bytes are not the message of the topic.
    #[error("malformed message of topic {topic}")]
    Message {
        /// The topic.
        topic: &'static str,
        /// What is wrong with the bytes.
        source: prost::DecodeError,
    },
}

/// A type of events, and how its messages are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name: "process.exit".
    pub name: &'static str,
    /// Full name of its message: "recorder.v1.ProcessExit".
    pub message: &'static str,
    /// The message's schema, as a serialised `google.protobuf.FileDescriptorSet`.
    pub schema: &'static [u8],
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident($message:ident) = $topic:literal,)+) => {
        /// What happened.
        ///
        /// Serialised, it is the `body` object of the JSON form.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Body {
            $($(#[$doc])* $variant(proto::$message),)+
        }

        /// Every topic.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: $topic,
            message: concat!("recorder.v1.", stringify!($message)),
            schema: include_bytes!(concat!(
                env!("OUT_DIR"), "/", stringify!($message), ".binpb"
            )),
        },)+];

        /// The topics by position in [`TOPICS`].
        enum Position {
            $($variant,)+
        }

        impl Body {
            /// Returns the topic: the type of the event.
            pub fn topic(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $topic,)+
                }
            }

            /// Returns the topic's position in [`TOPICS`].
            pub fn topic_index(&self) -> usize {
                match self {
                    $(Self::$variant(_) => Position::$variant as usize,)+
                }
            }

            /// Returns the message, to be read by the names of its fields.
            pub fn message(&self) -> &dyn Reflect {
                match self {
                    $(Self::$variant(message) => message,)+
                }
            }

            /// Appends the message to `buffer`.
            pub fn encode(&self, buffer: &mut Vec<u8>) {
                // Not `encode`, which first counts the bytes to see whether there is room: a vector grows.
                match self {
                    $(Self::$variant(message) => message.encode_raw(buffer),)+
                }
            }

            /// Returns the message that `bytes` hold, which came under `topic`.
            ///
            /// # Errors
            ///
            /// [`DecodeError`] if the topic is unknown or the bytes are not its message.
            pub fn decode(topic: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
                match topic {
                    $($topic => proto::$message::decode(bytes)
                        .map(Self::$variant)
                        .map_err(|source| DecodeError::Message { topic: $topic, source }),)+
                    _ => Err(DecodeError::Topic(topic.into())),
                }
            }
        }
    };
}

bodies! {
    /// A process executed a program.
    ProcessExec(ProcessExec) = "process.exec",
    /// A process ended.
    ProcessExit(ProcessExit) = "process.exit",
    /// A signal ended a process.
    SignalFatal(SignalFatal) = "signal.fatal",
    /// The kernel killed a process for its memory.
    OomKill(OomKill) = "oom.kill",
    /// A block device failed a request.
    IoError(IoError) = "io.error",
    /// Data was lost after its write had succeeded.
    WritebackError(WritebackError) = "fs.writeback_error",
    /// A task did not run for too long.
    TaskHung(TaskHung) = "task.hung",
    /// A process was asked to end and may decline.
    SignalSent(SignalSent) = "signal.sent",
    /// The recorder's own remark.
    Note(Note) = "recorder.note",
    /// The state of the host.
    SampleSystem(SampleSystem) = "sample.system",
    /// The processes that used most.
    SampleProcess(SampleProcess) = "sample.process",
    /// The memory cgroups that used most.
    SampleCgroup(SampleCgroup) = "sample.cgroup",
    /// A line of the kernel's log.
    KernelLog(KernelLog) = "kernel.log",
    /// A cgroup was made.
    CgroupMkdir(Cgroup) = "cgroup.mkdir",
    /// A cgroup was removed.
    CgroupRmdir(Cgroup) = "cgroup.rmdir",
    /// A page of memory is broken.
    MemoryFailure(MemoryFailure) = "hw.memory_failure",
    /// A processor reported an error of the hardware.
    MachineCheck(MachineCheck) = "hw.machine_check",
    /// Records are missing here.
    Loss(Loss) = "recorder.loss",
    /// A record that the writer could not interpret.
    Unknown(Unknown) = "recorder.unknown",
}

impl Body {
    /// Returns the process it is about, if it is about one.
    pub fn process(&self) -> Option<&proto::Process> {
        match self {
            Self::ProcessExec(exec) => exec.process.as_ref(),
            Self::ProcessExit(exit) => exit.process.as_ref(),
            Self::SignalFatal(fatal) => fatal.process.as_ref(),
            Self::OomKill(kill) => kill.process.as_ref(),
            Self::IoError(error) => error.process.as_ref(),
            Self::TaskHung(hung) => hung.process.as_ref(),
            Self::SignalSent(sent) => sent.process.as_ref(),
            Self::CgroupMkdir(cgroup) | Self::CgroupRmdir(cgroup) => cgroup.process.as_ref(),
            Self::WritebackError(_)
            | Self::MemoryFailure(_)
            | Self::MachineCheck(_)
            | Self::Note(_)
            | Self::SampleSystem(_)
            | Self::SampleProcess(_)
            | Self::SampleCgroup(_)
            | Self::KernelLog(_)
            | Self::Loss(_)
            | Self::Unknown(_) => None,
        }
    }

    /// Returns the process it is about, to be changed.
    pub fn process_mut(&mut self) -> Option<&mut proto::Process> {
        match self {
            Self::ProcessExec(exec) => exec.process.as_mut(),
            Self::ProcessExit(exit) => exit.process.as_mut(),
            Self::SignalFatal(fatal) => fatal.process.as_mut(),
            Self::OomKill(kill) => kill.process.as_mut(),
            Self::IoError(error) => error.process.as_mut(),
            Self::TaskHung(hung) => hung.process.as_mut(),
            Self::SignalSent(sent) => sent.process.as_mut(),
            Self::CgroupMkdir(cgroup) | Self::CgroupRmdir(cgroup) => cgroup.process.as_mut(),
            Self::WritebackError(_)
            | Self::MemoryFailure(_)
            | Self::MachineCheck(_)
            | Self::Note(_)
            | Self::SampleSystem(_)
            | Self::SampleProcess(_)
            | Self::SampleCgroup(_)
            | Self::KernelLog(_)
            | Self::Loss(_)
            | Self::Unknown(_) => None,
        }
    }
}
