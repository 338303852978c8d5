//! What other threads ask of the data plane.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use recorder_ebpf::abi::NoteKind;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::State;
use crate::budget::Change;
use crate::event::ClockPair;
use crate::identity::{Cursor, Directory, Page, Process};
use crate::incident::{Limits, Subject};
use crate::ring::Window;
use crate::rules::RuleSet;

/// Most requests that wait: they come from people.
const QUEUE: usize = 64;

/// A request to the data plane.
#[derive(Debug)]
pub enum Command {
    /// Make an incident of now.
    Trigger {
        /// Why, in the words of who asks.
        reason: Option<String>,
        /// What it is about.
        subject: Subject,
        /// Where the answer goes; `None` if as many incidents are open as may be.
        reply: oneshot::Sender<Option<Triggered>>,
    },
    /// Say what the data plane holds and counts.
    State(oneshot::Sender<State>),
    /// Put other rules and limits in force.
    Rules(Box<RuleSet>, Limits, oneshot::Sender<()>),
    /// Give all that the ring holds, and this moment on both clocks.
    Everything(oneshot::Sender<(Window, ClockPair)>),
    /// Take note that a dump of so many bytes has been written.
    Written(u64),
    /// Hold the records from then on, in nanoseconds since boot.
    Window(u64, oneshot::Sender<Window>),
    /// Take in processes that somebody looked at.
    Learn(Vec<Process>),
    /// Say who processes and cgroups are, from there on.
    Identities(Cursor, oneshot::Sender<Page>),
    /// Leave something out to keep to the budget, or no longer.
    Budget(Change),
    /// Write a note of the agent's own, and say it.
    Note(NoteKind, String),
    /// Finish every incident and end.
    Stop,
}

/// The incident that a request made or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// The incident's id.
    pub incident: Uuid,
    /// Whether it was open already.
    pub joined: bool,
}

/// The way to the data plane, for any thread.
#[derive(Clone, Debug)]
pub struct Commands {
    sender: Sender<Command>,
    wake: Arc<OwnedFd>,
}

/// The data plane's end.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<Command>,
    wake: Arc<OwnedFd>,
}

/// Makes both ends.
pub(super) fn channel() -> io::Result<(Commands, Inbox)> {
    let (sender, receiver) = bounded(QUEUE);
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let inbox = Inbox {
        receiver,
        wake: Arc::clone(&wake),
    };
    Ok((Commands { sender, wake }, inbox))
}

impl Commands {
    /// Returns a way to a data plane that has ended.
    ///
    /// # Errors
    ///
    /// If no descriptor is left.
    pub fn to_nobody() -> io::Result<Self> {
        channel().map(|(commands, _)| commands)
    }

    /// Sends a command; false if the data plane has ended or does not keep up.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.sender.try_send(command).is_ok();
        // Fails only when its counter is full, which wakes as well.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        sent
    }

    /// Fills a directory with what the data plane knows; what is known after the data plane has ended is nothing.
    ///
    /// Waits for the data plane, page by page.
    pub fn fill(&self, directory: &mut Directory) {
        directory.begin();
        let mut next = Some(Cursor::default());
        while let Some(cursor) = next {
            let (reply, answer) = oneshot::channel();
            if !self.send(Command::Identities(cursor, reply)) {
                break;
            }
            let Ok(page) = answer.blocking_recv() else {
                break;
            };
            next = page.next;
            directory.add(page);
        }
        directory.finish();
    }
}

impl Inbox {
    /// The descriptor that is readable when there are commands.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes the next command.
    pub(super) fn next(&self) -> Option<Command> {
        self.receiver.try_recv().ok()
    }

    /// Waits for the next command; `None` once nobody can send any.
    pub(super) fn wait(&self) -> Option<Command> {
        self.receiver.recv().ok()
    }

    /// Forgets wake-ups that were seen.
    pub(super) fn clear(&self) {
        // Fails only when there were none.
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
    }
}
