//! The events of a page, in blocks: first the columns that all of the page needs, then the bodies.

use std::io::{self, Write};

use serde::Serialize;

use super::packed;
use crate::event::{Body, proto};
use crate::read::{Dump, Entry};

/// Events of a block.
const BLOCK_EVENTS: usize = 4096;
/// Most losses that are drawn.
const LOSSES_MAX: usize = 4096;

/// A gap as the page draws it: from and to in nanoseconds from the trigger, lane, words.
type Gap = (i64, i64, String, String);

/// What the page keeps of every event; times and orders are differences to the one before.
#[derive(Default, Serialize)]
struct Columns {
    types: Vec<&'static str>,
    names: Vec<String>,
    time: Vec<i64>,
    order: Vec<u64>,
    #[serde(rename = "type")]
    kind: Vec<usize>,
    cause: Vec<u64>,
    pid: Vec<u32>,
    parent: Vec<u32>,
    start: Vec<u64>,
    failed: Vec<u8>,
    name: Vec<usize>,
    text: Vec<String>,
}

/// Events that are not written yet.
struct Block {
    columns: Columns,
    bodies: Vec<Body>,
    last: (i64, u64),
}

/// Writes all events that can be read; returns the losses among them.
pub(super) fn write(
    out: &mut dyn Write,
    dump: &Dump,
    origin_unix_ns: u64,
    describe: fn(&Body) -> String,
) -> io::Result<Vec<Gap>> {
    let mut block = Block::new();
    let mut losses = Vec::new();
    for entry in dump.events() {
        let entry = entry?;
        let offset = i128::from(entry.unix_ns) - i128::from(origin_unix_ns);
        let offset_ns = i64::try_from(offset).unwrap_or(i64::MAX);
        if let Body::Loss(loss) = &entry.body
            && losses.len() < LOSSES_MAX
        {
            losses.push(gap(loss, offset_ns, describe(&entry.body)));
        }
        block.take(entry, offset_ns, describe);
        if block.bodies.len() == BLOCK_EVENTS {
            block.write(out)?;
            block = Block::new();
        }
    }
    block.write(out)?;
    Ok(losses)
}

/// Places a loss: it ends where its record stands.
fn gap(loss: &proto::Loss, offset_ns: i64, words: String) -> Gap {
    let span = loss.until_boot_ns().saturating_sub(loss.since_boot_ns());
    let from = offset_ns.saturating_sub(i64::try_from(span).unwrap_or(i64::MAX));
    (from, offset_ns, loss.lane().to_owned(), words)
}

impl Block {
    fn new() -> Self {
        Self {
            columns: Columns::default(),
            bodies: Vec::with_capacity(BLOCK_EVENTS),
            last: (0, 0),
        }
    }

    fn take(&mut self, entry: Entry, offset_ns: i64, describe: fn(&Body) -> String) {
        let columns = &mut self.columns;
        let process = entry.body.process();
        let name = process.and_then(|process| process.comm.clone());
        columns.time.push(offset_ns.saturating_sub(self.last.0));
        columns.order.push(entry.order.saturating_sub(self.last.1));
        self.last = (offset_ns, entry.order);
        columns
            .kind
            .push(place(&mut columns.types, entry.body.topic()));
        columns.cause.push(entry.cause.unwrap_or(0));
        let number = |take: fn(&proto::Process) -> Option<u32>| process.and_then(take).unwrap_or(0);
        columns.pid.push(number(|process| process.pid));
        columns.parent.push(number(|process| process.ppid));
        let start = process.and_then(|process| process.start_boot_ns);
        columns.start.push(start.unwrap_or(0));
        columns.failed.push(u8::from(is_failed(&entry.body)));
        columns
            .name
            .push(place(&mut columns.names, name.unwrap_or_default()));
        columns.text.push(describe(&entry.body));
        self.bodies.push(entry.body);
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.bodies.is_empty() {
            return Ok(());
        }
        write!(
            out,
            "<script type=\"application/octet-stream\" class=\"events\">"
        )?;
        packed(out, &self.columns)?;
        write!(out, "</script><script type=\"application/octet-stream\">")?;
        packed(out, &self.bodies)?;
        writeln!(out, "</script>")
    }
}

/// Tells whether an event says that something ended badly.
fn is_failed(body: &Body) -> bool {
    match body {
        Body::ProcessExit(exit) => exit.signal.is_some() || exit.exit_code() != 0,
        _ => false,
    }
}

/// Returns where a value stands in a list, which grows if it is new. Blocks hold few names, most of them just used.
fn place<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    if let Some(at) = list.iter().rposition(|one| *one == value) {
        return at;
    }
    list.push(value);
    list.len() - 1
}
