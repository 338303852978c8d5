//! What is shown: which event, through which filter, over which span of time.

use std::collections::HashMap;
use std::io;

use crate::event::TOPICS;
use crate::units::duration;

use super::Words;
use super::detail::{self, Line};
use super::hunt::{Chosen, Found, Listed, Search};
use super::index::Index;
use super::lanes::{Counts, Span};

/// Events that are read, filtered or searched before the keys are looked at again.
const SLICE: usize = 4096;
/// Lines of the list that are kept as text.
const TEXTS_KEPT: usize = 4096;
/// Jumps that can be taken back.
const BACK_MAX: usize = 256;

/// What is known of a dump beside its events.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What happened, escaped.
    pub title: String,
    /// Where and when, and what is missing, escaped.
    pub about: String,
    /// Whether something is missing.
    pub is_lossy: bool,
    /// When the trigger was, in nanoseconds since 1970.
    pub trigger_unix_ns: Option<u64>,
    /// The window asked for, in nanoseconds since 1970.
    pub window: Option<(u64, u64)>,
    /// Until when a lane lacks the beginning of the window, by the lane's name.
    pub lacks_until: Vec<(String, u64)>,
}

/// Which part the keys move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// The list of events.
    List,
    /// The event.
    Detail,
}

/// What covers the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The dump.
    Events,
    /// What the keys do.
    Help,
    /// The dump as a whole.
    Story,
}

/// What is being typed, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// A filter, or else a search.
    pub is_filter: bool,
    /// What has been typed.
    pub text: String,
}

/// What a terminal shows of a dump.
pub struct View<'a> {
    /// What is known beside the events.
    pub known: Known,
    pub(super) index: Index<'a>,
    pub(super) words: Words,
    pub(super) listed: Listed,
    /// Line of the list that is chosen.
    pub(super) line: usize,
    /// First line on the screen.
    pub(super) top: usize,
    pub(super) focus: Focus,
    pub(super) page: Page,
    /// First line of the event, or of the page, on the screen.
    pub(super) scroll: usize,
    pub(super) prompt: Option<Prompt>,
    pub(super) search: Option<Search>,
    pub(super) searched: String,
    /// Whether the search that was typed goes towards the beginning.
    pub(super) backwards: bool,
    pub(super) said: Option<String>,
    pub(super) back: Vec<u32>,
    /// Which effect of an event `e` goes to next.
    pub(super) effect: (u32, usize),
    pub(super) resolved: bool,
    pub(super) with_timeline: bool,
    /// Lines of the list, and of what is scrolled, that fit on the screen: as it was drawn last.
    pub(super) fits: usize,
    pub(super) is_over: bool,
    /// Whether the person has chosen an event, or the trigger is still to be found.
    pub(super) has_moved: bool,
    zoomed: Option<Span>,
    texts: HashMap<u32, String>,
    detail: Option<((u32, bool, usize), Vec<Line>)>,
    counts: Option<((usize, Span, usize), Counts)>,
    story: Option<String>,
    lanes: Vec<Option<bool>>,
}

impl<'a> View<'a> {
    /// Starts with nothing read.
    pub fn new(known: Known, index: Index<'a>, words: Words) -> Self {
        Self {
            known,
            index,
            words,
            listed: Listed::All,
            line: 0,
            top: 0,
            focus: Focus::List,
            page: Page::Events,
            scroll: 0,
            prompt: None,
            search: None,
            searched: String::new(),
            backwards: false,
            said: None,
            back: Vec::new(),
            effect: (0, 0),
            resolved: false,
            with_timeline: true,
            fits: 1,
            is_over: false,
            has_moved: false,
            zoomed: None,
            texts: HashMap::new(),
            detail: None,
            counts: None,
            story: None,
            lanes: TOPICS.iter().map(|topic| lane(topic.name)).collect(),
        }
    }

    /// Tells whether the person wants no more of it.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns what stands of the dump when all is read: broken places, and events of unknown types.
    pub fn index(&self) -> &Index<'a> {
        &self.index
    }

    /// Lists the events that a filter wants.
    pub fn choose(&mut self, text: String, choice: super::Choice) {
        let row = self.row();
        self.listed = Listed::Chosen(Box::new(Chosen::new(text, choice)));
        self.search = None;
        self.said = None;
        self.line = 0;
        // A filter finds its lines one after the other: where to stand is known when it has come so far.
        self.has_moved = false;
        if let Some(row) = row {
            self.back.push(row);
        }
    }

    /// Lists all events.
    pub fn choose_all(&mut self) {
        let row = self.row().or(self.back.last().copied());
        self.listed = Listed::All;
        self.search = None;
        if let Some(row) = row {
            self.stand_at(row);
        }
    }

    /// Tells whether there is work that waits for no key.
    pub fn is_busy(&self) -> bool {
        let filtering = match &self.listed {
            Listed::All => false,
            Listed::Chosen(chosen) => !chosen.is_idle(&self.index),
        };
        !self.index.is_whole() || filtering || self.search.is_some()
    }

    /// Does a slice of the work.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn work(&mut self) -> io::Result<()> {
        self.index.read(SLICE)?;
        if let Listed::Chosen(chosen) = &mut self.listed {
            chosen.step(&mut self.index, SLICE);
        }
        if !self.has_moved
            && let Some(trigger) = self.index.trigger.or_else(|| self.nearest())
        {
            self.line = self.listed.line(trigger).0;
        }
        if let Some(mut search) = self.search.take() {
            let describe = self.words.describe;
            let says = |index: &mut Index<'_>, row| match index.entry(row) {
                Some(entry) => format!("{} {}", entry.body.topic(), describe(&entry.body)),
                None => String::new(),
            };
            match search.step(&self.listed, &mut self.index, says, SLICE) {
                Found::Line(line) => self.go_to_line(line),
                Found::Nothing => self.said = Some(format!("\"{}\" is nowhere", search.text)),
                Found::Searching => self.search = Some(search),
            }
        }
        Ok(())
    }

    /// Finds where the trigger was in time, for a dump that lacks its event.
    fn nearest(&self) -> Option<u32> {
        let unix_ns = self.known.trigger_unix_ns?;
        let rows = &self.index.rows;
        let row = rows.partition_point(|row| row.unix_ns < unix_ns);
        let row = row.min(rows.len().checked_sub(1)?);
        u32::try_from(row).ok().filter(|_| self.index.is_whole())
    }

    /// Returns the position of the event that is chosen.
    pub(super) fn row(&self) -> Option<u32> {
        self.listed.row(self.line, &self.index)
    }

    /// Returns the time of the event that is chosen.
    pub(super) fn time(&self) -> Option<u64> {
        let row = usize::try_from(self.row()?).ok()?;
        self.index.rows.get(row).map(|row| row.unix_ns)
    }

    pub(super) fn go_to_line(&mut self, line: usize) {
        self.has_moved = true;
        self.line = line.min(self.listed.len(&self.index).saturating_sub(1));
        if self.page == Page::Events {
            self.scroll = 0;
        }
    }

    fn stand_at(&mut self, row: u32) -> bool {
        let (line, is_listed) = self.listed.line(row);
        self.go_to_line(line);
        is_listed
    }

    /// Chooses an event, and remembers the one before.
    pub(super) fn jump(&mut self, row: u32) {
        if let Some(here) = self.row() {
            self.back.push(here);
            if self.back.len() > BACK_MAX {
                self.back.remove(0);
            }
        }
        self.show(row);
    }

    /// Chooses an event; takes the filter off if it hides it.
    pub(super) fn show(&mut self, row: u32) {
        if !self.stand_at(row) {
            self.listed = Listed::All;
            self.stand_at(row);
            self.said = Some("the filter hid that event: it is off now".to_owned());
        }
    }

    /// Finds the next failure, or the one before.
    pub(super) fn failure(&self, forward: bool) -> Option<u32> {
        let row = usize::try_from(self.row()?).ok()?;
        let is_failure = |row: &usize| {
            let row = self.index.rows.get(*row);
            row.is_some_and(|row| self.lane(row.topic) == Some(true))
        };
        let found = match forward {
            true => (row + 1..self.index.rows.len()).find(is_failure),
            false => (0..row).rev().find(is_failure),
        };
        found.and_then(|row| u32::try_from(row).ok())
    }

    /// Tells whether a topic is of failures, or of what comes and goes; `None` for the rest.
    pub(super) fn lane(&self, topic: u8) -> Option<bool> {
        self.lanes.get(usize::from(topic)).copied().flatten()
    }

    /// Returns the span of the whole dump: of the window asked for and of all events.
    pub(super) fn whole(&self) -> Span {
        let rows = &self.index.rows;
        let first = rows.first().map(|row| row.unix_ns);
        let last = rows.last().map(|row| row.unix_ns);
        let window = self.known.window;
        let from = first
            .into_iter()
            .chain(window.map(|(from, _)| from))
            .min()
            .unwrap_or(0);
        let to = last
            .into_iter()
            .chain(window.map(|(_, to)| to))
            .max()
            .unwrap_or(1);
        Span { from, to }
    }

    /// Returns the span of the timeline: the whole, or a part with the chosen event in it.
    pub(super) fn span(&mut self) -> Span {
        let whole = self.whole();
        let at = self.time().unwrap_or(whole.from);
        self.zoomed = self.zoomed.map(|zoomed| zoomed.follow(at, whole));
        self.zoomed.unwrap_or(whole)
    }

    pub(super) fn zoom(&mut self, into: Option<bool>) {
        let (span, whole) = (self.span(), self.whole());
        let at = self.time().unwrap_or(whole.from);
        self.zoomed = into
            .map(|into| span.zoom(at, into, whole))
            .filter(|span| *span != whole);
    }

    /// Returns a time as a reader counts: from the trigger, or by the clock.
    pub(super) fn when(&self, unix_ns: u64) -> String {
        match self.known.trigger_unix_ns {
            Some(trigger) => seconds(unix_ns, trigger),
            None => match jiff::Timestamp::from_nanosecond(unix_ns.into()) {
                Ok(time) => time.strftime("%H:%M:%S%.6f").to_string(),
                Err(_) => unix_ns.to_string(),
            },
        }
    }

    /// Returns an event in one line, escaped.
    pub(super) fn text(&mut self, row: u32) -> &str {
        if self.texts.len() >= TEXTS_KEPT {
            self.texts.clear();
        }
        let (index, describe) = (&mut self.index, self.words.describe);
        self.texts
            .entry(row)
            .or_insert_with(|| match index.entry(row) {
                Some(entry) => describe(&entry.body),
                None => "can no longer be read from the file".to_owned(),
            })
    }

    /// Returns the chosen event in lines.
    pub(super) fn detail(&mut self) -> &[Line] {
        let Some(row) = self.row() else { return &[] };
        let key = (row, self.resolved, self.index.rows.len());
        if self.detail.as_ref().is_none_or(|(known, _)| *known != key) {
            let unix_ns = self.time().unwrap_or(0);
            let clock = jiff::Timestamp::from_nanosecond(unix_ns.into());
            let clock = clock.map_or_else(|_| unix_ns.to_string(), |time| time.to_string());
            let when = match self.known.trigger_unix_ns {
                Some(trigger) if unix_ns < trigger => {
                    format!(
                        "{clock}, {} before the trigger",
                        duration(trigger - unix_ns)
                    )
                }
                Some(trigger) if unix_ns > trigger => {
                    format!("{clock}, {} after the trigger", duration(unix_ns - trigger))
                }
                Some(_) => format!("{clock}, the trigger"),
                None => clock,
            };
            let lines = detail::lines(row, &mut self.index, &mut self.words, self.resolved, &when);
            self.detail = Some((key, lines));
        }
        self.detail.as_ref().map_or(&[], |(_, lines)| lines)
    }

    /// Returns the events of the timeline's span by column.
    pub(super) fn counts(&mut self, span: Span, columns: usize) -> &Counts {
        let key = (self.index.rows.len(), span, columns);
        if self.counts.as_ref().is_none_or(|(known, _)| *known != key) {
            let lane = |topic| self.lane(topic);
            let counts = Counts::of(&self.index, span, columns, lane);
            self.counts = Some((key, counts));
        }
        &self
            .counts
            .get_or_insert_with(|| (key, Counts::default()))
            .1
    }

    /// Returns the dump as a whole in words: once it is read, always the same.
    pub(super) fn story(&mut self) -> String {
        if let Some(story) = &self.story {
            return story.clone();
        }
        let story = self.index.story();
        if self.index.is_whole() {
            self.story = Some(story.clone());
        }
        story
    }
}

/// Tells whether a topic is of failures, or of what comes and goes; `None` for samples and remarks.
fn lane(topic: &str) -> Option<bool> {
    use recorder_ebpf::abi::{EventKind, Lane};
    let kind = EventKind::ALL
        .into_iter()
        .find(|kind| kind.name() == topic)?;
    match kind.lane() {
        Lane::Failure => Some(true),
        Lane::Lifecycle => Some(false),
        Lane::Sample => None,
    }
}

/// Writes the distance of a time from the trigger: "-12.345678".
fn seconds(unix_ns: u64, trigger: u64) -> String {
    let sign = if unix_ns < trigger { '-' } else { '+' };
    let micros = unix_ns.abs_diff(trigger) / 1_000;
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
