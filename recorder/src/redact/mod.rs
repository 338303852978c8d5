//! Hides secrets in the arguments of executed programs, before they are recorded anywhere.
//!
//! What is hidden is replaced by as many `*`, so that lengths stay and nothing moves. What an argument may be:
//!
//! | rule | hides |
//! |---|---|
//! | a name with a word for a secret: `--password=x`, `--db-password x`, `-token x`, `AWS_SECRET_ACCESS_KEY=x`, `apiKey: x` | the value, here or in the next argument |
//! | the same inside of an argument: `?token=x&…`, `password=x;…`, `"password": "x"` | the value, to its end |
//! | `scheme://user:password@host` | the password |
//! | `Authorization: Bearer x`, `Bearer x`, `Basic x` | what follows |
//! | `-px` of the clients of MySQL and MariaDB, `-p x` of sshpass, `-u user:x` of curl | the password |
//! | a word of the configuration's own | as a word for a secret |
//!
//! What was on the stack of a crash may be anything: it can be left out altogether.
//!
//! Rules see bytes, not a shell's syntax: they rather hide too much than too little. One pass finds out that there is
//! nothing to hide, which is the rule.

mod rules;

use std::mem::offset_of;

use recorder_ebpf::abi::{self, EXEC_REDACTED, EventKind, Exec, Header, SignalFatal};

pub use rules::Rules;
use zerocopy::IntoBytes as _;

/// Longest record of an exec.
const EXEC_BYTES_MAX: usize =
    size_of::<Exec>() + abi::EXE_BYTES_MAX + abi::FILENAME_BYTES_MAX + abi::ARGV_BYTES_MAX + 8;
/// Longest record of a crash without stack memory.
const FATAL_BYTES_MAX: usize =
    size_of::<SignalFatal>() + abi::MAPPINGS_MAX * size_of::<abi::Mapping>();
/// Longest record that is copied.
const RECORD_BYTES_MAX: usize = if EXEC_BYTES_MAX > FATAL_BYTES_MAX {
    EXEC_BYTES_MAX
} else {
    FATAL_BYTES_MAX
};

/// Hides secrets in records, one at a time.
#[derive(Debug)]
pub struct Redactor {
    rules: Rules,
    /// Whether the memory of stacks is left out.
    no_stacks: bool,
    copy: Box<[u8; RECORD_BYTES_MAX]>,
    /// Records in which something was hidden.
    redacted: u64,
}

impl Redactor {
    /// Makes one that goes by these rules.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            no_stacks: false,
            copy: Box::new([0; RECORD_BYTES_MAX]),
            redacted: 0,
        }
    }

    /// Leaves the memory of stacks out, or not.
    #[must_use]
    pub fn without_stacks(self, no_stacks: bool) -> Self {
        Self { no_stacks, ..self }
    }

    /// Returns the record without its secrets; any other record as it is. Nothing is allocated.
    pub fn apply<'a>(&'a mut self, header: &Header, record: &'a [u8]) -> &'a [u8] {
        if self.no_stacks && header.kind == EventKind::SignalFatal as u8 {
            return without_stack(record, &mut self.copy[..]).unwrap_or_default();
        }
        if header.kind != EventKind::ProcessExec as u8 || self.rules.is_empty() {
            return record;
        }
        let Some(start) = arguments(record) else {
            return record;
        };
        let Some(copy) = self.copy.get_mut(..record.len()) else {
            return record;
        };
        copy.copy_from_slice(record);
        if !self.rules.hide(&mut copy[start.begin..][..start.len]) {
            return record;
        }
        if let Some(flags) = copy.get_mut(offset_of!(Exec, header) + offset_of!(Header, flags)) {
            *flags |= EXEC_REDACTED;
        }
        self.redacted += 1;
        copy
    }

    /// Returns in how many records something was hidden.
    pub fn redacted(&self) -> u64 {
        self.redacted
    }
}

/// Copies the record of a crash without the memory of its stack; `None` if it is not whole.
fn without_stack<'a>(record: &[u8], copy: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut fatal = abi::decode::<SignalFatal>(record)?;
    let behind = record.get(size_of::<SignalFatal>()..)?;
    let mappings = behind.get(fatal.stack_memory_len as usize..)?;
    let len = size_of::<SignalFatal>() + mappings.len();
    fatal.stack_memory_len = 0;
    fatal.header.len = u32::try_from(len).ok()?;
    let copy = copy.get_mut(..len)?;
    let (head, tail) = copy.split_at_mut(size_of::<SignalFatal>());
    head.copy_from_slice(fatal.as_bytes());
    tail.copy_from_slice(mappings);
    Some(copy)
}

struct Arguments {
    begin: usize,
    len: usize,
}

/// Returns where the arguments of an exec lie, if they are whole.
fn arguments(record: &[u8]) -> Option<Arguments> {
    let exec = abi::decode::<Exec>(record)?;
    let begin = size_of::<Exec>() + usize::from(exec.exe_len) + usize::from(exec.filename_len);
    let len = usize::from(exec.argv_len);
    (begin + len <= record.len()).then_some(Arguments { begin, len })
}

#[cfg(test)]
mod tests;
