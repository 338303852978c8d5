//! Who is at the other end of the control socket.

use std::fmt::{self, Display};
use std::fs;

use tokio::net::UnixStream;

use crate::harmless::escape;

/// The process that connected, as the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    uid: Option<u32>,
    gid: Option<u32>,
    pid: Option<i32>,
    comm: Option<String>,
}

impl Peer {
    /// Asks the kernel who connected.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else {
            return Self::default();
        };
        let pid = credentials.pid();
        // By its number: who it was when it connected may be gone by now.
        let comm = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        Self {
            uid: Some(credentials.uid()),
            gid: Some(credentials.gid()),
            pid,
            comm: comm.map(|comm| comm.trim_end_matches('\n').to_owned()),
        }
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("?".to_owned(), |n| n.to_string());
        let pid = self.pid.map_or("?".to_owned(), |pid| pid.to_string());
        write!(
            f,
            "{}[{pid}], uid {}, gid {}",
            escape(self.comm.as_deref().unwrap_or("?")),
            number(self.uid),
            number(self.gid)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_named_without_acting_on_a_terminal() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let peer = runtime.block_on(async {
            let (one, _other) = UnixStream::pair().expect("two sockets");
            Peer::of(&one)
        });
        let own = format!("[{}], uid ", std::process::id());
        assert!(peer.to_string().contains(&own), "{peer}");
        let hostile = Peer {
            comm: Some("\x1b[2J".to_owned()),
            ..Peer::default()
        };
        assert_eq!(hostile.to_string(), "\\u{1b}[2J[?], uid ?, gid ?");
    }
}
