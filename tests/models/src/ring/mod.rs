//! The ring's own code, on other memory and other atomics.

#![allow(dead_code, reason = "the models need no statistics, and no files")]

#[path = "../../../../recorder/src/ring/arena.rs"]
mod arena;
#[path = "../../../../recorder/src/ring/config.rs"]
mod config;
#[path = "../../../../recorder/src/ring/follow.rs"]
mod follow;
#[path = "../../../../recorder/src/ring/lane.rs"]
mod lane;
#[path = "../../../../recorder/src/ring/layout.rs"]
mod layout;
#[path = "../../../../recorder/src/ring/look.rs"]
mod look;
mod memory;
#[path = "../../../../recorder/src/ring/stats.rs"]
mod stats;
pub mod sync;
#[path = "../../../../recorder/src/ring/window.rs"]
mod window;

mod reader;
mod ring;

pub use memory::Order;
pub use reader::{Copier, Reader};
pub use ring::{Ring, Shape};
