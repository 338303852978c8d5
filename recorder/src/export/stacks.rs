//! Collapsed stacks: one crash, one line, for flame graphs.
//!
//! `comm;outermost;…;innermost 1`. The unwound stack, or else the one that the kernel walked. A line for each crash: every
//! reader of the format adds up equal ones.

use crate::event::{Body, proto};
use crate::harmless::escape;
use crate::read::Entry;

use super::{Origin, Stream};

/// Writes the lines of crashes, and nothing of other events.
#[derive(Default)]
pub struct Stacks;

impl Stream for Stacks {
    fn event(&mut self, out: &mut Vec<u8>, _: &Origin, entry: &Entry) {
        let Body::SignalFatal(fatal) = &entry.body else {
            return;
        };
        let stack = match fatal.unwound_stack.is_empty() {
            true => &fatal.stack,
            false => &fatal.unwound_stack,
        };
        if stack.is_empty() {
            return;
        }
        let comm = fatal.process.as_ref().map_or("?", |process| process.comm());
        name(out, comm);
        for frame in stack.iter().rev() {
            out.push(b';');
            name(out, &function(frame));
            // What was inlined is called by the function it is part of.
            for inlined in frame.inlined.iter().rev() {
                out.push(b';');
                name(out, inlined.symbol());
            }
        }
        out.extend_from_slice(b" 1\n");
    }
}

fn function(frame: &proto::Frame) -> String {
    match (&frame.symbol, &frame.module, frame.offset) {
        (Some(symbol), ..) => symbol.clone(),
        (None, Some(module), Some(offset)) => {
            let file = module.rsplit('/').next().unwrap_or(module);
            format!("{file}+{offset:#x}")
        }
        _ => format!("{:#x}", frame.address()),
    }
}

/// Appends a name without what has a meaning in the format.
fn name(out: &mut Vec<u8>, name: &str) {
    let name = escape(name).replace(';', ":");
    out.extend_from_slice(name.as_bytes());
}
