//! The thread that decodes records once and gives them to every reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select, tick};
use recorder_ebpf::abi::{EventKind, Header, Lane, decode};
use tokio::sync::oneshot;

use super::frame::Frames;
use super::reader::Subscriber;
use super::{Format, Live, LiveCounters};
use crate::event;
use crate::export::Envelope;
use crate::identity::{Directory, Learnt, Naming};
use crate::ingest::{Batch, Command, Commands, Spout, now_pair};
use crate::read::Entry;
use crate::ring::Window;

/// How often readers that went away are noticed, and what is missing is said though nothing else comes.
const TICK: Duration = Duration::from_secs(1);
/// How long what is known of processes and cgroups serves.
const DIRECTORY_AGE: Duration = Duration::from_secs(5);
/// The same, once a cgroup was made.
const DIRECTORY_AGE_MIN: Duration = Duration::from_secs(1);
/// Of the past, most records of a lane that are looked at.
const PAST_RECORDS: u64 = 50_000;
/// Of the past, most bytes that a reader gets while it is the only one.
const PAST_BYTES: usize = 4 << 20;

/// The fan-out, not yet running.
pub struct Fanout {
    spout: Spout,
    arriving: Receiver<Subscriber>,
    commands: Commands,
    counters: Arc<LiveCounters>,
    frames: Frames,
    directory: Directory,
    directory_from: Option<Instant>,
    /// Of what was given since then.
    learnt: Learnt,
    subscribers: Vec<Subscriber>,
    numbers: Numbers,
}

impl Fanout {
    /// Makes it, and the way to it.
    pub fn new(spout: Spout, commands: Commands, envelope: &Envelope<'_>) -> (Self, Live) {
        let (live, arriving) = Live::new();
        let fanout = Self {
            spout,
            arriving,
            commands,
            counters: Arc::clone(&live.counters),
            frames: Frames::new(envelope),
            directory: Directory::default(),
            directory_from: None,
            learnt: Learnt::default(),
            subscribers: Vec::new(),
            numbers: Numbers::default(),
        };
        (fanout, live)
    }

    /// Serves until the last way to it is gone.
    pub fn run(mut self) {
        loop {
            let ticks = match self.subscribers.is_empty() {
                true => never(),
                false => tick(TICK),
            };
            select! {
                recv(self.arriving) -> subscriber => match subscriber {
                    Ok(subscriber) => self.take_in(subscriber),
                    Err(_) => return,
                },
                recv(self.spout.batches()) -> batch => {
                    if let Ok(batch) = batch {
                        self.spread(batch);
                    }
                }
                recv(ticks) -> _ => {}
            }
            self.settle();
        }
    }

    fn take_in(&mut self, mut subscriber: Subscriber) {
        if self.subscribers.is_empty() {
            self.numbers = Numbers::default();
            self.spout.open();
        }
        if let Some(since_boot_ns) = subscriber.request.since_boot_ns {
            let (reply, answer) = oneshot::channel();
            if self.commands.send(Command::Window(since_boot_ns, reply))
                && let Ok(window) = answer.blocking_recv()
            {
                self.refresh_directory(Duration::ZERO);
                self.give_past(&mut subscriber, &window, since_boot_ns);
            }
        }
        self.subscribers.push(subscriber);
    }

    /// Lets go of readers that went away, and tells the others what is missing.
    fn settle(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.settle();
        }
        let before = self.subscribers.len();
        self.subscribers.retain(|subscriber| !subscriber.is_gone());
        if before > 0 && self.subscribers.is_empty() {
            self.spout.close();
            self.directory = Directory::default();
            self.directory_from = None;
            self.learnt = Learnt::default();
        }
    }

    fn refresh_directory(&mut self, age: Duration) {
        if self.directory_from.is_none_or(|from| from.elapsed() >= age) {
            self.commands.fill(&mut self.directory);
            self.directory_from = Some(Instant::now());
            self.learnt = Learnt::default();
        }
    }

    /// Gives a batch, and those that have come meanwhile, to every reader.
    fn spread(&mut self, first: Batch) {
        let mut batches = vec![first];
        batches.extend(self.spout.batches().try_iter());
        let records = batches.iter().flat_map(Batch::records);
        let mut records: Vec<(Header, Lane, &[u8])> = records
            .filter_map(|(lane, record)| Some((decode::<Header>(record)?, lane, record)))
            .collect();
        for (header, lane, _) in &records {
            self.numbers.take(*lane, header);
        }
        let missed = self.numbers.missed();
        self.counters.missed.fetch_add(missed, Ordering::Relaxed);
        for subscriber in &mut self.subscribers {
            subscriber.miss(missed);
        }
        let new_cgroup = EventKind::CgroupMkdir as u8;
        let age = match records.iter().any(|(header, ..)| header.kind == new_cgroup) {
            true => DIRECTORY_AGE_MIN,
            false => DIRECTORY_AGE,
        };
        self.refresh_directory(age);
        records.sort_by_key(|(header, ..)| header.boot_ns);
        let clock = now_pair();
        let mut naming = Naming::resume(&self.directory, std::mem::take(&mut self.learnt));
        let (mut delivered, mut lost) = (0, 0);
        for (header, lane, record) in records {
            let mut event = event::decode(lane, record);
            naming.name(record, &mut event);
            let entry = Entry {
                order: 0,
                cause: None,
                unix_ns: clock.unix_ns_at(event.boot_ns),
                // As in a dump: the low half.
                sequence: event.sequence as u32,
                body: event.body,
            };
            let mut written: [Option<Vec<u8>>; 2] = [None, None];
            for subscriber in &mut self.subscribers {
                let request = &subscriber.request;
                if !request.selection.wants(&entry.body) || subscriber.had(lane, &header) {
                    continue;
                }
                let format = request.format;
                let mut write = |entry: &Entry| {
                    let mut frame = Vec::with_capacity(1024);
                    self.frames.event(&mut frame, format, entry);
                    frame
                };
                let is_taken = match request.selection.narrows(&entry.body) {
                    true => {
                        let mut own = entry.clone();
                        request.selection.narrow(&mut own.body);
                        subscriber.offer(&write(&own))
                    }
                    false => {
                        let shared = &mut written[(format == Format::Protobuf) as usize];
                        subscriber.offer(shared.get_or_insert_with(|| write(&entry)))
                    }
                };
                match is_taken {
                    true => delivered += 1,
                    false => lost += 1,
                }
            }
        }
        self.counters
            .delivered
            .fetch_add(delivered, Ordering::Relaxed);
        self.counters.lost.fetch_add(lost, Ordering::Relaxed);
        self.learnt = naming.learnt();
        for batch in batches {
            self.spout.give_back(batch);
        }
    }

    /// Gives a reader what it wants of a window: the newest of it, as much as there is room for.
    fn give_past(&mut self, subscriber: &mut Subscriber, window: &Window, since_boot_ns: u64) {
        let mut records: Vec<(u64, Lane, &[u8])> = Vec::new();
        let mut left_out = 0;
        let most = subscriber.share(PAST_BYTES);
        for lane in Lane::ALL {
            let too_many = window.lane(lane).records.saturating_sub(PAST_RECORDS);
            for (index, record) in (0..).zip(window.records(lane)) {
                let Some(header) = decode::<Header>(record) else {
                    continue;
                };
                let last = subscriber.past.entry((lane, header.cpu)).or_default();
                *last = header.seq.max(*last);
                match header.boot_ns >= since_boot_ns {
                    true if index < too_many => left_out += 1,
                    true => records.push((header.boot_ns, lane, record)),
                    false => {}
                }
            }
        }
        records.sort_by_key(|(boot_ns, ..)| *boot_ns);
        let clock = now_pair();
        let mut naming = Naming::new(&self.directory);
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (boot_ns, lane, record) in records {
            let mut event = event::decode(lane, record);
            naming.name(record, &mut event);
            if !subscriber.request.selection.wants(&event.body) {
                continue;
            }
            subscriber.request.selection.narrow(&mut event.body);
            let entry = Entry {
                order: 0,
                cause: None,
                unix_ns: clock.unix_ns_at(boot_ns),
                sequence: event.sequence as u32,
                body: event.body,
            };
            self.frames
                .event(&mut bytes, subscriber.request.format, &entry);
            ends.push(bytes.len());
            if bytes.len() > 2 * most {
                left_out += shorten(&mut bytes, &mut ends, most);
            }
        }
        left_out += shorten(&mut bytes, &mut ends, most);
        bytes.shrink_to_fit();
        subscriber.give_past(bytes, left_out);
    }
}

/// Cuts the oldest frames so that the rest has room; returns how many.
fn shorten(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, most: usize) -> u64 {
    let too_much = bytes.len().saturating_sub(most);
    let last = ends.partition_point(|end| *end < too_much);
    let Some(&cut) = ends.get(last).filter(|_| too_much > 0) else {
        return 0;
    };
    let frames = last + 1;
    bytes.drain(..cut);
    ends.drain(..frames);
    ends.iter_mut().for_each(|end| *end -= cut);
    frames as u64
}

/// The numbers that records have, by lane and CPU.
#[derive(Debug, Default)]
struct Numbers {
    next: HashMap<(Lane, u16), u64>,
    /// Below nothing while a record is awaited that an interrupt has overtaken.
    missing: i64,
}

impl Numbers {
    fn take(&mut self, lane: Lane, header: &Header) {
        let seq = header.seq;
        let next = self.next.entry((lane, header.cpu)).or_insert(seq);
        match seq.checked_sub(*next) {
            Some(gap) => {
                self.missing = self.missing.saturating_add_unsigned(gap);
                *next = seq + 1;
            }
            None => self.missing -= 1,
        }
    }

    /// Returns how many are missing since the last call.
    fn missed(&mut self) -> u64 {
        let missed = u64::try_from(self.missing).unwrap_or(0);
        self.missing -= missed as i64;
        missed
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    #[test]
    fn a_gap_in_the_numbers_is_what_was_missed() {
        let mut numbers = Numbers::default();
        let mut gap = |cpu, seqs: &[u64]| {
            for seq in seqs {
                let mut header = Header::new_zeroed();
                (header.cpu, header.seq) = (cpu, *seq);
                numbers.take(Lane::Lifecycle, &header);
            }
            numbers.missed()
        };
        assert_eq!(gap(0, &[100, 101]), 0, "who comes later has missed nothing");
        assert_eq!(gap(1, &[7]), 0, "each CPU has its own");
        assert_eq!(gap(0, &[105, 106]), 3);
        assert_eq!(gap(0, &[108, 107, 109]), 0, "an interrupt overtook one");
    }

    #[test]
    fn of_too_much_past_the_newest_stays() {
        let mut bytes = vec![b'a'; PAST_BYTES];
        let mut ends = vec![1, PAST_BYTES];
        assert_eq!(
            shorten(&mut bytes, &mut ends, PAST_BYTES),
            0,
            "exactly full"
        );
        bytes.extend_from_slice(&[b'b'; 100]);
        ends.push(bytes.len());
        assert_eq!(shorten(&mut bytes, &mut ends, PAST_BYTES), 2);
        assert_eq!((bytes.len(), ends.as_slice()), (100, &[100][..]));
    }
}
