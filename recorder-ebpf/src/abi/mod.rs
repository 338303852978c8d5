//! Records, one module for each family of events.
//!
//! Every record starts with a [`Header`] and is a multiple of eight bytes long. Layouts have no implicit padding (zerocopy's
//! derives refuse it) and no `bool` or enum, so that any bytes decode. [`LAYOUT_HASH`] is stored in the BPF object and
//! compared before it is loaded: a stale object is an error with one sentence, not a wrong field.

mod block;
mod cgroup;
mod filesystem;
mod hardware;
mod header;
mod layout;
mod limits;
mod note;
mod oom;
mod process;
mod sample;
mod signal;
mod stats;
mod switch;
mod task;
mod throttle;
mod turn;

pub use block::IoError;
pub use cgroup::CgroupChange;
pub use filesystem::WritebackError;
pub use hardware::{MachineCheck, MemoryFailure};
pub use header::{COMM_LEN, EventKind, HEADER_OWN, Header, Lane, decode};
pub use layout::{LAYOUT_HASH, LAYOUT_HASH_SYMBOL};
pub use limits::{
    ARGV_BYTES_MAX, AUXILIARY_WORDS, CGROUP_PATH_BYTES_MAX, CPUS_MAX, EXE_BYTES_MAX, EXE_NAMES_MAX,
    FAULTS_MAX, FILENAME_BYTES_MAX, INSTRUCTION_BYTES, MAPPING_PATH_BYTES_MAX, MAPPINGS_MAX,
    REGISTERS_MAX, SENDERS_MAX, STACK_FRAMES_MAX, STACK_MEMORY_BYTES_MAX,
};
pub use note::{Note, NoteKind};
pub use oom::OomKill;
pub use process::{
    EXEC_ARGV_TRUNCATED, EXEC_FILENAME_TRUNCATED, EXEC_REDACTED, Exec, Exit, Lineage,
    PROCESS_ADOPTED, PROCESS_FORKED, PROCESS_REDUCED, TaskHung,
};
pub use sample::Sample;
pub use signal::{
    Arch, BUILD_ID_LEN, Frame, MAPPING_EXECUTE, MAPPING_FILE, MAPPING_PATH_TRUNCATED, MAPPING_READ,
    MAPPING_SHARED, MAPPING_WRITE, Mapping, RECEIVED_BLOCKED, RECEIVED_HANDLED, RECEIVED_IGNORED,
    SENDER_EXITING, SENDER_INIT, SENDER_KERNEL, SIGNAL_HAS_BASES, SIGNAL_HAS_REGISTERS,
    SIGNAL_HAS_SENDER, SIGNAL_RERAISED, SIGNAL_WAS_ASKED, Sender, SignalFatal, SignalSent,
};
pub use stats::{KIND_SLOTS, LaneStats};
pub use switch::{SWITCHES_MAX, Saving, Switch};
pub use task::{LIVE_FORKED, LIVE_KERNEL_THREAD, LIVE_THREADS_CUT, LiveProcess};
pub use throttle::{THROTTLES_MAX, Throttle, ThrottleKey};
pub use turn::{TURNS_MAX, Turns};
