//! The one thread of the agent that may start programs, and threads that are not bound as the others are.

use std::io;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// Stack of a thread that starts a program, in bytes.
const STACK_BYTES: usize = 64 << 10;

/// Starts programs and threads for those that have given that up.
///
/// Both may what the thread may that starts them: so these are bound by what all of the agent had given up when this was made.
#[derive(Clone, Debug)]
pub struct Starter(Sender<Order>);

/// What somebody wants started.
enum Order {
    Program(Command, Sender<io::Result<Child>>),
    Thread(
        thread::Builder,
        Box<dyn FnOnce() + Send>,
        Sender<io::Result<JoinHandle<()>>>,
    ),
}

impl Starter {
    /// Starts the thread; it ends with the last that can ask it.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub fn new() -> io::Result<Self> {
        let (sender, orders) = unbounded();
        thread::Builder::new()
            .name("starter".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(&orders))?;
        Ok(Self(sender))
    }

    /// Starts a program, as [`Command::spawn`] does.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        self.order(|reply| Order::Program(command, reply))
    }

    /// Starts a thread, as [`thread::Builder::spawn`] does.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn thread(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let builder = thread::Builder::new().name(name.to_owned());
        self.order(|reply| Order::Thread(builder, Box::new(body), reply))
    }

    fn order<T>(&self, order: impl FnOnce(Sender<io::Result<T>>) -> Order) -> io::Result<T> {
        let (reply, answer) = bounded(1);
        // Neither can be: it ends with the last that can ask it.
        let gone = || io::Error::other("nobody starts anything any more");
        self.0.send(order(reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn serve(orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Program(mut command, reply) => {
                // In a thread of its own: a file system that does not answer holds up that program alone.
                let builder = thread::Builder::new().name("starter".to_owned());
                let failed = reply.clone();
                let spawned = builder.stack_size(STACK_BYTES).spawn(move || {
                    // Who asked is gone only if the agent ends.
                    let _ = reply.send(command.spawn());
                });
                if let Err(error) = spawned {
                    let _ = failed.send(Err(error));
                }
            }
            Order::Thread(builder, body, reply) => {
                let _ = reply.send(builder.spawn(body));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_and_what_cannot_be_is_said() {
        let starter = Starter::new().expect("a thread");
        let mut child = starter
            .spawn(Command::new("/bin/true"))
            .expect("it is there");
        assert!(child.wait().expect("it is ours").success());
        let error = starter.spawn(Command::new("/nowhere/to/be/found"));
        assert_eq!(error.expect_err("no").kind(), io::ErrorKind::NotFound);
        let (sender, receiver) = bounded(1);
        let thread = starter.thread("one", move || sender.send(1).expect("it is waited for"));
        thread.expect("a thread").join().expect("it ends");
        assert_eq!(receiver.recv(), Ok(1));
    }
}
