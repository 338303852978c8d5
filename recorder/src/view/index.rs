//! One reading of a dump, in slices: a row for each event, and what a timeline needs of the whole.

use std::io;

use crate::dump::{Clocks, LaneCoverage, Shortfall};
use crate::event::{Body, TOPICS};
use crate::incident::Trigger;
use crate::read::{Damages, Dump, Entry, Events, Lookup, Place};
use crate::report::{MEASURES, Measure};

use super::Story;

/// Most events that are listed: 256 MiB of rows.
pub const ROWS_MAX: usize = 8 << 20;
/// Most samples that are drawn, and most gaps.
const POINTS_MAX: usize = 1 << 16;

/// What is kept of an event.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// When, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Its chunk: position in the index.
    chunk: u32,
    /// Its record in the chunk.
    record: u32,
    /// Its order in the dump.
    pub order: u32,
    /// Order of the event behind it, or 0.
    pub cause: u32,
    /// Its sequence number.
    sequence: u32,
    /// Its topic: position in [`TOPICS`].
    pub topic: u8,
}

const _: () = assert!(size_of::<Row>() == 32);

impl Row {
    /// Returns the type of the event.
    pub fn topic(&self) -> &'static str {
        TOPICS
            .get(usize::from(self.topic))
            .map_or("", |topic| topic.name)
    }
}

/// A measure of the host, drawn as a line.
pub struct Series {
    /// A short name: "cpu".
    pub name: &'static str,
    /// What is measured.
    pub measure: &'static Measure,
    /// Values by time in nanoseconds since 1970.
    pub points: Vec<(u64, f64)>,
}

/// What is drawn of the host, under which name, the most telling first.
const DRAWN: [(&str, &str); 6] = [
    ("cpu", "CPU busy"),
    ("memory", "memory available"),
    ("stalled", "memory pressure, some"),
    ("i/o stall", "I/O pressure, some"),
    ("disks", "disks, read and written"),
    ("network", "network, received and sent"),
];

/// A dump as far as it has been read.
pub struct Index<'a> {
    /// The events in their order.
    pub rows: Vec<Row>,
    /// Position of the event that fired the incident.
    pub trigger: Option<u32>,
    /// What the host was like.
    pub series: Vec<Series>,
    /// Spans without records that the dump knows of, in nanoseconds since 1970.
    pub gaps: Vec<(u64, u64)>,
    /// Events of unknown types.
    pub unknown: u64,
    /// What is broken; complete when all is read.
    pub damages: Damages,
    /// Whether there are more events than are listed.
    pub is_cut: bool,
    events: Option<Events<'a>>,
    lookup: Lookup<'a>,
    chunks: Vec<u64>,
    sought: Option<(Trigger, u64)>,
    story: Box<dyn Story + 'a>,
    bytes: u64,
    read: u64,
}

impl<'a> Index<'a> {
    /// Starts before the first event; `sought` is what fired the incident and when, in nanoseconds since 1970.
    pub fn new(dump: &'a Dump, sought: Option<(Trigger, u64)>, story: Box<dyn Story + 'a>) -> Self {
        let series = |(name, of)| {
            let measure = MEASURES.iter().find(|measure| measure.name == of)?;
            let points = Vec::new();
            Some(Series {
                name,
                measure,
                points,
            })
        };
        Self {
            rows: Vec::new(),
            trigger: None,
            series: DRAWN.into_iter().filter_map(series).collect(),
            gaps: Vec::new(),
            unknown: 0,
            damages: Damages::default(),
            is_cut: false,
            events: Some(dump.events()),
            lookup: dump.lookup(),
            chunks: Vec::new(),
            sought,
            story,
            bytes: dump.bytes(),
            read: 0,
        }
    }

    /// Tells whether all has been read.
    pub fn is_whole(&self) -> bool {
        self.events.is_none()
    }

    /// Returns how many of a hundred bytes have been read.
    pub fn percent(&self) -> u64 {
        self.read.saturating_mul(100) / self.bytes.max(1)
    }

    /// Tells the dump as a whole, as far as it is read.
    pub fn story(&mut self) -> String {
        self.story.tell(&self.damages)
    }

    /// Reads the next events, so many at most.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn read(&mut self, most: usize) -> io::Result<()> {
        let Some(mut events) = self.events.take() else {
            return Ok(());
        };
        for _ in 0..most {
            self.is_cut = self.rows.len() == ROWS_MAX;
            let entry = match self.is_cut {
                true => None,
                false => events.next().transpose()?,
            };
            let Some(entry) = entry else {
                self.damages = events.damages().clone();
                self.unknown = events.unknown();
                self.read = self.bytes;
                return Ok(());
            };
            self.take(&entry, events.place());
        }
        self.read = events.position();
        self.events = Some(events);
        Ok(())
    }

    fn take(&mut self, entry: &Entry, place: Place) {
        if self.chunks.last() != Some(&place.chunk) {
            self.chunks.push(place.chunk);
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        if let (None, Some((trigger, unix_ns))) = (self.trigger, &self.sought)
            && entry.is(trigger, *unix_ns)
        {
            self.trigger = Some(small(self.rows.len() as u64));
        }
        self.rows.push(Row {
            unix_ns: entry.unix_ns,
            chunk: small(self.chunks.len() as u64 - 1),
            record: place.record,
            order: small(entry.order),
            cause: small(entry.cause.unwrap_or(0)),
            sequence: entry.sequence,
            topic: u8::try_from(entry.body.topic_index()).unwrap_or(u8::MAX),
        });
        self.story.take(entry);
        match &entry.body {
            Body::SampleSystem(sample) => {
                for one in &mut self.series {
                    let value = (one.measure.take)(sample).filter(|value| value.is_finite());
                    if one.points.len() < POINTS_MAX {
                        one.points.extend(value.map(|value| (entry.unix_ns, value)));
                    }
                }
            }
            Body::Loss(loss) if self.gaps.len() < POINTS_MAX => {
                let span = loss.until_boot_ns().saturating_sub(loss.since_boot_ns());
                self.gaps
                    .push((entry.unix_ns.saturating_sub(span), entry.unix_ns));
            }
            _ => {}
        }
    }

    /// Reads an event again; `None` if the file no longer has it.
    pub fn entry(&mut self, row: u32) -> Option<Entry> {
        let row = *self.rows.get(usize::try_from(row).ok()?)?;
        let place = Place {
            chunk: *self.chunks.get(usize::try_from(row.chunk).ok()?)?,
            record: row.record,
        };
        Some(Entry {
            order: row.order.into(),
            cause: (row.cause > 0).then_some(row.cause.into()),
            unix_ns: row.unix_ns,
            sequence: row.sequence,
            body: self.lookup.body(place, row.topic()).ok().flatten()?,
        })
    }

    /// Finds an event by its order.
    pub fn row_of(&self, order: u32) -> Option<u32> {
        let row = self.rows.binary_search_by_key(&order, |row| row.order);
        row.ok().and_then(|row| u32::try_from(row).ok())
    }

    /// Finds the events that an event is behind, so many at most.
    pub fn effects(&self, order: u32, most: usize) -> Vec<u32> {
        let rows = self.rows.iter().zip(0..);
        rows.filter(|(row, _)| row.cause == order)
            .map(|(_, row)| row)
            .take(most)
            .collect()
    }
}

/// Returns until when a lane lacks the beginning of the window, in nanoseconds since 1970.
pub fn lacks_until(lane: &LaneCoverage, clocks: &Clocks) -> Option<u64> {
    let until = lane.shortfalls.iter().filter_map(|one| match one {
        Shortfall::NotRecording { until_boot_ns }
        | Shortfall::Evicted { until_boot_ns }
        | Shortfall::WindowBudget { until_boot_ns }
        | Shortfall::DumpSize { until_boot_ns, .. } => Some(*until_boot_ns),
        Shortfall::Lost { .. } | Shortfall::Throttled { .. } | Shortfall::Filtered(_) => None,
    });
    until.max().map(|boot_ns| clocks.freeze.unix_ns_at(boot_ns))
}
