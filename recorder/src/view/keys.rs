//! What a key changes.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::detail::EFFECTS_MAX;
use super::hunt::Search;
use super::state::{Focus, Page, Prompt, View};

/// What the keys do, in lines.
pub const HELP: &[&str] = &[
    "up down k j         the event before, the next (in the event: scroll)",
    "PgUp PgDn Home End  far, and to the ends (g G)",
    "Enter, Tab          to the event and its fields, and back (Esc)",
    "i                   the event that fired the incident",
    "[ ]                 the failure before, the next",
    "c                   the cause of this event",
    "e                   an effect of it; again: the next effect",
    "b                   back to where a jump began",
    "",
    "f                   filter, with the options of `recorder show`:",
    "                    --type signal  --pid 812  --comm nginx  --unit sshd",
    "                    --around 5s  --since -10s  --until +1m",
    "p                   filter: this process",
    "F                   no filter",
    "/ ?                 search for a text, forwards and backwards",
    "n N                 the next one, the one before",
    "",
    "+ - 0               timeline: closer, further, all of it",
    "t                   timeline: hide or show",
    "s                   crash: names of functions, from the files of this host",
    "o                   overview: what happened, what is missing",
    "h F1                these keys",
    "q                   end",
];

impl View<'_> {
    /// Takes in a key.
    pub fn key(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            self.is_over = true;
            return;
        }
        if self.prompt.is_some() {
            self.type_key(key.code, control);
            return;
        }
        self.said = None;
        if self.page != Page::Events {
            self.page_key(key.code);
            return;
        }
        self.event_key(key.code);
    }

    fn page_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('q' | 'h' | 'o') | KeyCode::Esc | KeyCode::Enter | KeyCode::F(1) => {
                self.page = Page::Events;
                self.scroll = 0;
            }
            _ => self.scroll_key(code),
        }
    }

    fn open(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
    }

    fn event_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Char('h') | KeyCode::F(1) => self.open(Page::Help),
            KeyCode::Char('o') => self.open(Page::Story),
            KeyCode::Char('/') => self.ask(false, String::new(), true),
            KeyCode::Char('?') => self.ask(false, String::new(), false),
            KeyCode::Char('n') => self.search_again(true),
            KeyCode::Char('N') => self.search_again(false),
            KeyCode::Char('f') => {
                let text = match &self.listed {
                    super::hunt::Listed::All => "--".to_owned(),
                    super::hunt::Listed::Chosen(chosen) => chosen.text.clone(),
                };
                self.ask(true, text, true);
            }
            KeyCode::Char('F') => self.choose_all(),
            KeyCode::Char('p') => self.this_process(),
            KeyCode::Char('+' | '=') => self.zoom(Some(true)),
            KeyCode::Char('-') => self.zoom(Some(false)),
            KeyCode::Char('0') => self.zoom(None),
            KeyCode::Char('t') => self.with_timeline = !self.with_timeline,
            KeyCode::Char('s') => self.resolved = !self.resolved,
            KeyCode::Char('i' | 'c' | 'e' | 'b' | '[' | ']') | KeyCode::Backspace => {
                self.jump_key(code);
            }
            KeyCode::Esc if self.search.is_some() => self.search = None,
            KeyCode::Esc | KeyCode::Left if self.focus == Focus::Detail => {
                self.focus = Focus::List;
            }
            KeyCode::Enter | KeyCode::Right => self.focus = Focus::Detail,
            KeyCode::Tab => {
                self.focus = match self.focus {
                    Focus::List => Focus::Detail,
                    Focus::Detail => Focus::List,
                };
            }
            _ if self.focus == Focus::Detail => self.scroll_key(code),
            _ => self.list_key(code),
        }
    }

    fn list_key(&mut self, code: KeyCode) {
        let page = self.fits.saturating_sub(1).max(1);
        let line = match code {
            KeyCode::Up | KeyCode::Char('k') => self.line.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.line.saturating_add(1),
            KeyCode::PageUp => self.line.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.line.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        self.go_to_line(line);
    }

    fn scroll_key(&mut self, code: KeyCode) {
        let page = self.fits.saturating_sub(1).max(1);
        self.scroll = match code {
            KeyCode::Up | KeyCode::Char('k') => self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            // The screen knows where the end is.
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => self.scroll,
        };
    }

    fn jump_key(&mut self, code: KeyCode) {
        let Some(row) = self.row() else { return };
        let here = usize::try_from(row)
            .ok()
            .and_then(|row| self.index.rows.get(row));
        let Some(here) = here.copied() else { return };
        let (found, otherwise) = match code {
            KeyCode::Char('i') => (self.index.trigger, "the trigger is not among the events"),
            KeyCode::Char('[') => (self.failure(false), "no failure before this"),
            KeyCode::Char(']') => (self.failure(true), "no failure after this"),
            KeyCode::Char('c') => (
                Some(here.cause)
                    .filter(|cause| *cause > 0)
                    .and_then(|cause| self.index.row_of(cause)),
                "no cause of this event is in the dump",
            ),
            KeyCode::Char('e') => (
                self.next_effect(here.order),
                "nothing is known to follow from this event",
            ),
            _ => {
                match self.back.pop() {
                    Some(row) => self.show(row),
                    None => self.said = Some("this is where it began".to_owned()),
                }
                return;
            }
        };
        match found {
            Some(row) => self.jump(row),
            None => self.said = Some(otherwise.to_owned()),
        }
    }

    /// Returns an effect of an event: of the one that `e` came from, the next one.
    fn next_effect(&mut self, order: u32) -> Option<u32> {
        let (from, number) = self.effect;
        let came_from = usize::try_from(from)
            .ok()
            .and_then(|row| self.index.rows.get(row));
        let came_from = came_from.map(|row| row.order);
        let of_last = came_from
            .filter(|_| number > 0)
            .map(|order| self.index.effects(order, EFFECTS_MAX))
            .unwrap_or_default();
        let mine = self.index.effects(order, EFFECTS_MAX);
        if mine.is_empty() && of_last.contains(&self.row()?) && of_last.len() > 1 {
            let number = number % of_last.len();
            self.effect = (from, number + 1);
            return of_last.get(number).copied();
        }
        self.effect = (self.row()?, 1);
        mine.first().copied()
    }

    fn this_process(&mut self) {
        let entry = self.row().and_then(|row| self.index.entry(row));
        let pid = entry.and_then(|entry| entry.body.process()?.pid);
        match pid {
            Some(pid) => self.filter(format!("--pid {pid}")),
            None => self.said = Some("this event is about no process".to_owned()),
        }
    }

    fn filter(&mut self, text: String) {
        match (self.words.choose)(&text) {
            Ok(choice) => self.choose(text, choice),
            Err(error) => self.said = Some(error),
        }
    }

    fn ask(&mut self, is_filter: bool, text: String, forward: bool) {
        self.backwards = !forward;
        self.prompt = Some(Prompt { is_filter, text });
    }

    fn search_again(&mut self, forward: bool) {
        if self.searched.is_empty() {
            self.said = Some("search for a text with /".to_owned());
            return;
        }
        let lines = self.listed.len(&self.index);
        let forward = forward != self.backwards;
        self.search = Some(Search::new(&self.searched, forward, self.line, lines));
    }

    fn type_key(&mut self, code: KeyCode, control: bool) {
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        match code {
            KeyCode::Esc => self.prompt = None,
            KeyCode::Char('u') if control => prompt.text.clear(),
            KeyCode::Char(character) if !control => prompt.text.push(character),
            KeyCode::Backspace if prompt.text.is_empty() => self.prompt = None,
            KeyCode::Backspace => {
                prompt.text.pop();
            }
            KeyCode::Enter => {
                let Prompt { is_filter, text } = prompt.clone();
                self.prompt = None;
                let text = text.trim().to_owned();
                self.said = None;
                match is_filter {
                    true if text.is_empty() || text == "--" => self.choose_all(),
                    true => self.filter(text),
                    false => {
                        if !text.is_empty() {
                            self.searched = text;
                        }
                        self.search_again(true);
                    }
                }
            }
            _ => {}
        }
    }
}
