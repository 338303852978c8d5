//! The screen: what happened, the timeline, the events, one event, and a line for what the keys do.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Text};

use crate::harmless::escape;
use crate::units::bytes;

use super::detail::Tone;
use super::hunt::Listed;
use super::keys::HELP;
use super::lanes::{self, NOT_SEEN, Span};
use super::state::{Focus, Page, View};

/// Columns of the timeline's names, and of its values.
const NAMES: u16 = 10;
const VALUES: u16 = 10;
/// Width from which the list and the event stand side by side.
const WIDE: u16 = 120;
/// Smallest screen that shows something.
const SMALLEST: (u16, u16) = (30, 8);

/// Styles, with colours or without.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Whether the terminal wants colours.
    pub colours: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn doubt(self) -> Style {
        self.colour(Color::Yellow)
    }

    fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Head => self.head(),
            Tone::Quiet => self.quiet(),
            Tone::Bad => self.bad(),
        }
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, view: &mut View<'_>, theme: Theme) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        put(frame, area, 0, "the terminal is too small", Style::new());
        return;
    }
    let timeline = match view.with_timeline && view.page == Page::Events {
        true => timeline_height(view, area.height),
        false => 0,
    };
    let [head, lanes, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(timeline),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    put(frame, head, 0, &view.known.title, theme.head());
    let about = match view.known.is_lossy {
        true => theme.doubt(),
        false => theme.quiet(),
    };
    put(frame, head, 1, &view.known.about, about);
    if timeline > 0 {
        draw_timeline(frame, lanes, view, theme);
    }
    match view.page {
        Page::Help => {
            let lines = HELP.iter().map(|line| (Tone::Plain, (*line).to_owned()));
            scrolled(frame, body, view, theme, lines.collect());
        }
        Page::Story => {
            let story = view.story();
            let lines = story.lines().map(|line| (Tone::Plain, line.to_owned()));
            scrolled(frame, body, view, theme, lines.collect());
        }
        Page::Events if area.width >= WIDE => {
            let [left, right] =
                Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(body);
            let [bar, right] =
                Layout::horizontal([Constraint::Length(2), Constraint::Fill(1)]).areas(right);
            draw_list(frame, left, view, theme);
            let list_fits = view.fits;
            let mark = match view.focus {
                Focus::List => "│",
                Focus::Detail => "┃",
            };
            for y in 0..bar.height {
                put(frame, bar, y, mark, theme.quiet());
            }
            let lines = view.detail().to_vec();
            scrolled(frame, right, view, theme, lines);
            if view.focus == Focus::List {
                view.fits = list_fits;
            }
        }
        Page::Events => match view.focus {
            Focus::List => draw_list(frame, body, view, theme),
            Focus::Detail => {
                let lines = view.detail().to_vec();
                scrolled(frame, body, view, theme, lines);
            }
        },
    }
    draw_foot(frame, foot, view, theme);
}

/// Writes a text on a line of an area, cut at its end.
fn put(frame: &mut Frame<'_>, area: Rect, line: u16, text: &str, style: Style) {
    if line < area.height {
        let width = usize::from(area.width);
        let (x, y) = (area.x, area.y + line);
        frame.buffer_mut().set_stringn(x, y, text, width, style);
    }
}

/// Returns the lines of the timeline: more of the host on higher screens.
fn timeline_height(view: &View<'_>, height: u16) -> u16 {
    let fixed = 4 + u16::from(!view.index.gaps.is_empty());
    let series = view.index.series.len();
    let room = usize::from(height / 3).saturating_sub(usize::from(fixed));
    match height {
        ..16 => 0,
        _ => fixed + u16::try_from(series.min(room)).unwrap_or(0),
    }
}

fn draw_timeline(frame: &mut Frame<'_>, area: Rect, view: &mut View<'_>, theme: Theme) {
    let [names, cells, values] = Layout::horizontal([
        Constraint::Length(NAMES),
        Constraint::Fill(1),
        Constraint::Length(VALUES),
    ])
    .areas(area);
    let columns = usize::from(cells.width);
    let span = view.span();
    let (at, trigger) = (view.time(), view.known.trigger_unix_ns);
    let lacks = |lane: &str| {
        let found = view.known.lacks_until.iter().find(|(name, _)| name == lane);
        let until = found.map_or(0, |(_, until)| *until);
        let from = Span { from: 0, to: until };
        match until {
            0 => 0..0,
            _ => span.columns(from, columns),
        }
    };
    let missing = ["failure", "lifecycle", "sample"].map(lacks);
    let [no_failures, no_lifecycle, no_samples] = missing;
    let counts = view.counts(span, columns);
    let mut rows: Vec<(&str, Vec<char>, Style, String)> = vec![
        (
            "failures",
            unseen(
                counts.failures.iter().copied().map(lanes::digit).collect(),
                no_failures,
            ),
            theme.bad(),
            String::new(),
        ),
        (
            "processes",
            unseen(lanes::bars(&counts.lifecycle), no_lifecycle),
            theme.colour(Color::Cyan),
            String::new(),
        ),
    ];
    if counts.lost.iter().any(|lost| *lost) || !view.index.gaps.is_empty() {
        let lost = view.counts(span, columns).lost.iter();
        let cells = lost.map(|lost| if *lost { '×' } else { ' ' }).collect();
        rows.push(("lost", cells, theme.doubt(), String::new()));
    }
    let room = usize::from(area.height).saturating_sub(rows.len() + 2);
    for series in view.index.series.iter().take(room) {
        let cells = unseen(lanes::line(series, span, columns), no_samples.clone());
        let value = at.and_then(|at| lanes::value_at(series, at));
        let value = value.map(|value| amount(value, series.measure.unit));
        rows.push((
            series.name,
            cells,
            theme.colour(Color::Green),
            value.unwrap_or_default(),
        ));
    }
    let mut line = 0;
    for (name, row, style, value) in rows {
        put(frame, names, line, name, theme.quiet());
        let text: String = row.into_iter().collect();
        put(frame, cells, line, &text, style);
        put(frame, values, line, &format!(" {value}"), theme.quiet());
        line += 1;
    }
    let mut axis = vec!['─'; columns];
    for (time, mark) in [(trigger, '▲'), (at, '◆')] {
        let column = time.and_then(|time| span.column(time, columns));
        if let Some(cell) = column.and_then(|column| axis.get_mut(column)) {
            *cell = if *cell == '▲' { '◈' } else { mark };
        }
    }
    let text: String = axis.iter().collect();
    put(frame, cells, line, &text, theme.quiet());
    for (column, mark) in (0..).zip(&axis) {
        if *mark != '─' {
            let style = if *mark == '◆' {
                theme.head()
            } else {
                theme.bad()
            };
            if let Some(cell) = frame.buffer_mut().cell_mut(Position {
                x: cells.x + column,
                y: cells.y + line,
            }) {
                cell.set_style(style);
            }
        }
    }
    let from = view.when(span.from);
    let to = view.when(span.to);
    let gap = columns.saturating_sub(from.len() + to.len());
    let ends = format!("{from}{:gap$}{to}", "");
    put(frame, cells, line + 1, &ends, theme.quiet());
    put(frame, names, line + 1, "seconds", theme.quiet());
}

/// Marks the columns that were not recorded.
fn unseen(mut cells: Vec<char>, columns: std::ops::Range<usize>) -> Vec<char> {
    for cell in cells.get_mut(columns).unwrap_or_default() {
        if *cell == ' ' {
            *cell = NOT_SEEN;
        }
    }
    cells
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes that a host has fit"
)]
fn amount(value: f64, unit: &str) -> String {
    match unit {
        "percent" => format!("{value:.0}%"),
        "bytes" => bytes(value.max(0.0) as u64),
        "bytes_per_second" => format!("{}/s", bytes(value.max(0.0) as u64)),
        _ => format!("{value:.1}"),
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, view: &mut View<'_>, theme: Theme) {
    let height = usize::from(area.height);
    view.fits = height;
    let lines = view.listed.len(&view.index);
    view.line = view.line.min(lines.saturating_sub(1));
    // The chosen line stays on the screen; before a person moves, it stands in its middle.
    if !view.has_moved {
        view.top = view.line.saturating_sub(height / 2);
    }
    view.top = view
        .top
        .clamp((view.line + 1).saturating_sub(height), view.line)
        .min(
            lines
                .saturating_sub(height)
                .max(view.line.saturating_sub(height)),
        );
    if lines == 0 {
        let text = match (view.is_busy(), &view.listed) {
            (true, _) => "reading …",
            (false, Listed::All) => "the dump has no events",
            (false, Listed::Chosen(_)) => "no event is like that: F takes the filter off",
        };
        put(frame, area, 0, text, theme.quiet());
    }
    for (y, line) in (0..area.height).zip(view.top..lines) {
        let Some(row) = view.listed.row(line, &view.index) else {
            break;
        };
        let Some(known) = usize::try_from(row)
            .ok()
            .and_then(|row| view.index.rows.get(row))
        else {
            break;
        };
        let known = *known;
        let is_trigger = view.index.trigger == Some(row);
        let lane = view.lane(known.topic);
        let (mark, style) = match lane {
            _ if is_trigger => ('►', theme.bad()),
            Some(true) => ('!', theme.bad()),
            Some(false) => (' ', Style::new()),
            None if known.topic() == "recorder.loss" => ('×', theme.doubt()),
            None => ('·', theme.quiet()),
        };
        let when = view.when(known.unix_ns);
        let cause = match known.cause {
            0 => String::new(),
            order => format!("  <- #{order}"),
        };
        let what = view.text(row);
        let text = format!("{mark} {when:>15} {:<18} {what}{cause}", known.topic());
        put(frame, area, y, &text, style);
        if line == view.line {
            let rect = Rect {
                y: area.y + y,
                height: 1,
                ..area
            };
            frame.buffer_mut().set_style(rect, theme.chosen());
        }
    }
}

/// Draws lines from where they are scrolled to, folded at the end of the area.
fn scrolled(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &mut View<'_>,
    theme: Theme,
    lines: Vec<super::detail::Line>,
) {
    let width = usize::from(area.width).max(1);
    let folded: Vec<(Tone, String)> = lines
        .into_iter()
        .flat_map(|(tone, text)| fold(&text, width).into_iter().map(move |line| (tone, line)))
        .collect();
    let height = usize::from(area.height);
    view.fits = height;
    let most = folded.len().saturating_sub(height);
    view.scroll = view.scroll.min(most);
    let shown = folded.iter().skip(view.scroll);
    for (y, (tone, text)) in (0..area.height).zip(shown) {
        put(frame, area, y, text, theme.tone(*tone));
    }
    if view.scroll < most {
        let more = format!(" {} more lines", most - view.scroll);
        let rect = Rect {
            x: area.x
                + area
                    .width
                    .saturating_sub(u16::try_from(more.len()).unwrap_or(0)),
            ..area
        };
        put(frame, rect, area.height - 1, &more, theme.chosen());
    }
}

/// Folds a text into lines no wider than said.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for character in text.chars() {
        let wide = Text::raw(character.encode_utf8(&mut [0; 4]) as &str).width();
        if used + wide > width {
            lines.push(String::new());
            used = 0;
        }
        used += wide;
        if let Some(line) = lines.last_mut() {
            line.push(character);
        }
    }
    lines
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, view: &View<'_>, theme: Theme) {
    if let Some(prompt) = &view.prompt {
        let what = match (prompt.is_filter, view.backwards) {
            (true, _) => "filter: ",
            (false, false) => "/",
            (false, true) => "?",
        };
        let text = format!("{what}{}", escape(&prompt.text));
        // Its end is what a person looks at.
        let line = Line::raw(&text);
        let skip = line.width().saturating_sub(usize::from(area.width) - 1);
        let text: String = text.chars().skip(skip).collect();
        put(frame, area, 0, &text, Style::new());
        let typed = u16::try_from(Line::raw(&text).width()).unwrap_or(area.width);
        frame.set_cursor_position((area.x + typed.min(area.width - 1), area.y));
        return;
    }
    let lines = view.listed.len(&view.index);
    let mut left = Vec::new();
    if view.is_busy() {
        left.push(match (view.index.is_whole(), &view.search) {
            (_, Some(search)) => format!("searching {} … (Esc ends it)", escape(&search.text)),
            (false, None) => format!("reading {}%", view.index.percent()),
            (true, None) => "filtering".to_owned(),
        });
    }
    match &view.listed {
        Listed::All => left.push(format!("{} of {lines}", (view.line + 1).min(lines))),
        Listed::Chosen(chosen) => left.push(format!(
            "{} of {lines} ({})",
            (view.line + 1).min(lines),
            escape(&chosen.text)
        )),
    }
    if view.index.is_cut {
        left.push(format!(
            "only the first {lines} events: show and export have all"
        ));
    }
    if !view.index.damages.is_empty() {
        left.push("damaged: o says where".to_owned());
    }
    if view.index.unknown > 0 {
        left.push(format!("{} of unknown types left out", view.index.unknown));
    }
    let (text, style) = match &view.said {
        Some(said) => (escape(said).into_owned(), theme.doubt()),
        None => (left.join("  "), theme.quiet()),
    };
    put(frame, area, 0, &text, style);
    let keys = "h keys  f filter  / search  c e causes  q end";
    let width = u16::try_from(Line::raw(&text).width() + 2).unwrap_or(u16::MAX);
    let free = area.width.saturating_sub(width);
    if usize::from(free) >= keys.len() {
        let rect = Rect {
            x: area.x + area.width - u16::try_from(keys.len()).unwrap_or(0),
            ..area
        };
        put(frame, rect, 0, keys, theme.quiet());
    } else if free >= 6 {
        let rect = Rect {
            x: area.x + area.width - 6,
            ..area
        };
        put(frame, rect, 0, "h keys", theme.quiet());
    }
}
