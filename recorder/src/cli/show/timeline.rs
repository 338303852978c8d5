//! The events of a dump, one line each, at their distance from the trigger.

use recorder_ebpf::abi::Lane;

use super::line::describe;
use super::survey::lane;
use crate::cli::text::{Palette, Style, offset, plural, time};
use crate::event::Body;
use crate::read::Entry;

/// Characters of the longest type, "fs.writeback_error".
const TYPE_WIDTH: usize = 18;

/// Writes lines one after the other and says what was left out between them.
pub struct Timeline {
    palette: Palette,
    trigger_unix_ns: Option<u64>,
    trigger_order: Option<u64>,
    last_order: u64,
}

impl Timeline {
    /// Starts before the first event. Without a trigger, times are those of the clock.
    pub fn new(palette: Palette, trigger_unix_ns: Option<u64>, trigger_order: Option<u64>) -> Self {
        Self {
            palette,
            trigger_unix_ns,
            trigger_order,
            last_order: 0,
        }
    }

    /// Writes the heads of the columns.
    pub fn head(&self) -> String {
        let when = match self.trigger_unix_ns {
            Some(_) => "SECONDS",
            None => "TIME",
        };
        let head = format!(
            "  {when:>when_width$}  {:>7}  {:<TYPE_WIDTH$}  WHAT",
            "#",
            "TYPE",
            when_width = self.when_width()
        );
        self.palette.paint(Style::Dim, &head)
    }

    /// Writes an event, after a line for what was left out before it.
    pub fn event(&mut self, entry: &Entry) -> String {
        let mut text = self.left_out(entry.order);
        self.last_order = entry.order;
        let is_trigger = self.trigger_order == Some(entry.order);
        let failed = lane(&entry.body) == Some(Lane::Failure);
        let mark = match lane(&entry.body) {
            _ if is_trigger => "►",
            Some(Lane::Failure) => "!",
            Some(Lane::Lifecycle) => " ",
            Some(Lane::Sample) | None => "·",
        };
        let when = match self.trigger_unix_ns {
            Some(trigger) => offset(i128::from(entry.unix_ns) - i128::from(trigger)),
            None => time(entry.unix_ns),
        };
        let place = format!(
            "{when:>width$}  {:>7}",
            entry.order,
            width = self.when_width()
        );
        let topic = format!("{:<TYPE_WIDTH$}", entry.body.topic());
        let what = match &entry.body {
            Body::Loss(_) => format!("-- {} --", describe(&entry.body)),
            _ => describe(&entry.body),
        };
        let style = match &entry.body {
            Body::Loss(_) | Body::Unknown(_) => Some(Style::Yellow),
            Body::Note(_) | Body::SampleSystem(_) | Body::SampleProcess(_) => Some(Style::Dim),
            _ if failed => Some(Style::Red),
            _ => None,
        };
        let paint = |text: &str| match (style, is_trigger) {
            (_, true) => self
                .palette
                .paint(Style::Bold, &self.palette.paint(Style::Red, text)),
            (Some(style), false) => self.palette.paint(style, text),
            (None, false) => text.to_owned(),
        };
        let topic = match style {
            None => self.palette.paint(Style::Cyan, &topic),
            Some(_) => paint(&topic),
        };
        text.push_str(&format!(
            "{} {}  {topic}  {}{}\n",
            paint(mark),
            self.palette.paint(Style::Dim, &place),
            paint(&what),
            self.cause(entry)
        ));
        text
    }

    /// Writes what was left out behind the last event shown; `last_order` is that of the last event there is.
    pub fn end(&mut self, last_order: u64) -> String {
        self.left_out(last_order + 1)
    }

    fn left_out(&self, next: u64) -> String {
        match next.saturating_sub(self.last_order + 1) {
            0 => String::new(),
            left_out => {
                let line = format!(
                    "  {:>width$}  {:>7}  {} not shown",
                    "",
                    "⋮",
                    plural(left_out, "event"),
                    width = self.when_width()
                );
                self.palette.paint(Style::Dim, &line) + "\n"
            }
        }
    }

    fn cause(&self, entry: &Entry) -> String {
        match entry.cause {
            Some(cause) => self.palette.paint(Style::Dim, &format!("  ← #{cause}")),
            None => String::new(),
        }
    }

    fn when_width(&self) -> usize {
        match self.trigger_unix_ns {
            Some(_) => "-1234.123456".len(),
            None => "2026-11-23 09:00:00.123 UTC".len(),
        }
    }
}
