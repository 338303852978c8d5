//! What the end-to-end tests are made of.
//!
//! A test starts an [`Agent`] with directories of its own, lets a [`Workload`] fail in one known way, and compares what
//! the [`Dump`] says of it with what the workload said it knew: its pid, the address it would touch, the code it would
//! exit with. Processes are told apart by pid, because anything may fail on the host meanwhile.
//!
//! Everything fails by panicking: a panic names the place, and an agent that is dropped by one prints what it had to say.

mod agent;
mod command;
pub mod cpu;
mod dump;
mod event;
mod fields;
pub mod fixture;
mod gate;
pub mod host;
pub mod http;
pub mod patient;
mod screen;
mod wait;
mod workload;

pub use agent::{Agent, Options};
pub use command::{Output, module_directory, output, python_script, recorder, system};
pub use dump::{Dump, Message};
pub use event::{Event, Json};
pub use gate::{Need, ready, skip};
pub use screen::Screen;
pub use wait::wait_for;
pub use workload::{Ended, Program, Workload};
