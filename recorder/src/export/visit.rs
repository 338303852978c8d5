//! How exporters are given events.

use std::io::{self, Write};

use super::Origin;
use crate::read::Entry;

/// Takes the events of a dump in their order.
pub trait Visitor {
    /// Takes the next event, which is from the dump of this origin.
    ///
    /// # Errors
    ///
    /// A failed write.
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()>;

    /// Writes what stands behind the last event.
    ///
    /// # Errors
    ///
    /// A failed write.
    fn finish(&mut self) -> io::Result<()>;
}

/// A format that is one sequence of bytes, made as the events come.
pub trait Stream {
    /// Appends what stands before the first event.
    fn head(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Appends an event.
    fn event(&mut self, out: &mut Vec<u8>, origin: &Origin, entry: &Entry);

    /// Appends what stands behind the last event.
    fn tail(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
}

/// Writes a stream somewhere, in large pieces.
pub struct Writing<S, W> {
    stream: S,
    out: W,
    buffer: Vec<u8>,
}

impl<S: Stream, W: Write> Writing<S, W> {
    /// Bytes that are written at once.
    const BUFFER_BYTES: usize = 256 << 10;

    /// Writes `stream` to `out`, which need not be buffered.
    pub fn new(mut stream: S, out: W) -> Self {
        let mut buffer = Vec::with_capacity(Self::BUFFER_BYTES * 2);
        stream.head(&mut buffer);
        Self {
            stream,
            out,
            buffer,
        }
    }
}

impl<S: Stream, W: Write> Visitor for Writing<S, W> {
    fn event(&mut self, origin: &Origin, entry: &Entry) -> io::Result<()> {
        self.stream.event(&mut self.buffer, origin, entry);
        if self.buffer.len() >= Self::BUFFER_BYTES {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.tail(&mut self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}
