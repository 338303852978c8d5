//! What a dump leaves out of a message because the rest of the message says it.
//!
//! Exits are by far most of the events of a busy host, and times and numbers that differ from one to the next are by far
//! most of their bytes: what repeats costs nothing once it is compressed. So an exit in a dump has its lifetime but not its
//! start, and no thread where the last one was the first. Its lifetime stands before its process, beside the other bytes
//! that differ: a message is what its fields say in whatever order.

use prost::encoding::uint64;

use super::{Body, proto};

/// Number of the field `lifetime_ns` of an exit.
const LIFETIME_NS: u32 = 5;

impl Body {
    /// Appends the message to `buffer` without what [`Body::complete`] puts back, of an event at `boot_ns`, nanoseconds
    /// since boot.
    pub fn encode_brief(&mut self, boot_ns: u64, buffer: &mut Vec<u8>) {
        self.shorten(boot_ns);
        let lifetime_ns = match self {
            Self::ProcessExit(exit) => exit.lifetime_ns.take(),
            _ => None,
        };
        if let Some(lifetime_ns) = &lifetime_ns {
            uint64::encode(LIFETIME_NS, lifetime_ns, buffer);
        }
        self.encode(buffer);
        if let Self::ProcessExit(exit) = self {
            exit.lifetime_ns = lifetime_ns;
        }
        self.complete(Some(boot_ns));
    }

    fn shorten(&mut self, boot_ns: u64) {
        let Some((process, lifetime_ns)) = self.ended() else {
            return;
        };
        if process.tid == process.pid {
            process.tid = None;
        }
        if let (Some(start), Some(lifetime)) = (process.start_boot_ns, lifetime_ns)
            && start.checked_add(lifetime) == Some(boot_ns)
        {
            process.start_boot_ns = None;
        }
    }

    /// Puts back what [`Body::encode_brief`] left out; without a time, as far as that is possible.
    pub fn complete(&mut self, boot_ns: Option<u64>) {
        let Some((process, lifetime_ns)) = self.ended() else {
            return;
        };
        process.tid = process.tid.or(process.pid);
        process.start_boot_ns = process
            .start_boot_ns
            .or_else(|| boot_ns?.checked_sub(lifetime_ns?));
    }

    /// Returns the process that ended, and how long it had lived, of an exit.
    fn ended(&mut self) -> Option<(&mut proto::Process, Option<u64>)> {
        match self {
            Self::ProcessExit(exit) => Some((exit.process.as_mut()?, exit.lifetime_ns)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32, tid: u32, start_boot_ns: Option<u64>, lifetime_ns: Option<u64>) -> Body {
        Body::ProcessExit(proto::ProcessExit {
            process: Some(proto::Process {
                pid: Some(pid),
                tid: Some(tid),
                start_boot_ns,
                ..proto::Process::default()
            }),
            lifetime_ns,
            ..proto::ProcessExit::default()
        })
    }

    #[test]
    fn what_the_rest_says_is_left_out_and_comes_back() {
        let whole = exit(7, 7, Some(1_000), Some(500));
        let mut body = whole.clone();
        body.shorten(1_500);
        let process = body.process().expect("an exit has one");
        assert_eq!((process.tid, process.start_boot_ns), (None, None));
        body.complete(Some(1_500));
        assert_eq!(body, whole);
    }

    #[test]
    fn a_brief_message_is_shorter_and_says_the_same() {
        let mut body = exit(7, 7, Some(1_000), Some(500));
        let whole = body.clone();
        let (mut brief, mut long) = (Vec::new(), Vec::new());
        body.encode(&mut long);
        body.encode_brief(1_500, &mut brief);
        assert_eq!(body, whole, "it is as it was");
        assert!(brief.len() < long.len(), "{brief:x?} {long:x?}");
        let mut read = Body::decode(body.topic(), &brief).expect("it is a message");
        read.complete(Some(1_500));
        assert_eq!(read, whole);
    }

    #[test]
    fn what_the_rest_does_not_say_stays() {
        // The last thread was another, and the clocks of start and end disagree.
        for whole in [
            exit(7, 9, Some(2_000), Some(0)),
            exit(7, 9, None, None),
            exit(7, 9, Some(u64::MAX), Some(500)),
        ] {
            let mut body = whole.clone();
            body.shorten(1_500);
            assert_eq!(body, whole);
            body.complete(Some(1_500));
            assert_eq!(body, whole);
        }
    }

    #[test]
    fn without_a_clock_the_start_stays_unknown() {
        let mut body = exit(7, 7, Some(1_000), Some(500));
        body.shorten(1_500);
        body.complete(None);
        assert_eq!(body, exit(7, 7, None, Some(500)));
    }
}
