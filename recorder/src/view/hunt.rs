//! Looking through all events for some of them, a slice at a time.

use super::Choice;
use super::index::Index;

/// Which events are listed.
pub enum Listed {
    /// All of them.
    All,
    /// Those of a filter: what was typed, and what it has found so far.
    Chosen(Box<Chosen>),
}

/// A filter at work.
pub struct Chosen {
    /// What a person typed.
    pub text: String,
    /// Decides.
    choice: Choice,
    /// Positions of what it has found.
    pub rows: Vec<u32>,
    /// Events that it has looked at.
    looked_at: usize,
}

impl Chosen {
    /// Starts before the first event.
    pub fn new(text: String, choice: Choice) -> Self {
        Self {
            text,
            choice,
            rows: Vec::new(),
            looked_at: 0,
        }
    }

    /// Tells whether it has looked at all events that have been read.
    pub fn is_idle(&self, index: &Index<'_>) -> bool {
        self.looked_at == index.rows.len()
    }

    /// Looks at the next events, so many at most.
    pub fn step(&mut self, index: &mut Index<'_>, most: usize) {
        let end = index.rows.len().min(self.looked_at + most);
        for row in self.looked_at..end {
            let Ok(row) = u32::try_from(row) else { break };
            if index.entry(row).is_some_and(|entry| (self.choice)(&entry)) {
                self.rows.push(row);
            }
        }
        self.looked_at = end;
    }
}

impl Listed {
    /// Returns how many events are listed.
    pub fn len(&self, index: &Index<'_>) -> usize {
        match self {
            Self::All => index.rows.len(),
            Self::Chosen(chosen) => chosen.rows.len(),
        }
    }

    /// Returns the position of the event on a line of the list.
    pub fn row(&self, line: usize, index: &Index<'_>) -> Option<u32> {
        match self {
            Self::All => u32::try_from(line).ok().filter(|_| line < index.rows.len()),
            Self::Chosen(chosen) => chosen.rows.get(line).copied(),
        }
    }

    /// Returns the line of an event, or of the one before it if it is not listed, and whether it is.
    pub fn line(&self, row: u32) -> (usize, bool) {
        match self {
            Self::All => (usize::try_from(row).unwrap_or(usize::MAX), true),
            Self::Chosen(chosen) => match chosen.rows.binary_search(&row) {
                Ok(line) => (line, true),
                Err(line) => (line.saturating_sub(1), false),
            },
        }
    }
}

/// A search at work.
pub struct Search {
    /// What is searched for, in lower case.
    pub text: String,
    /// Whether it goes towards the end.
    pub forward: bool,
    /// The line it looks at next.
    at: usize,
    /// Lines that it has not looked at.
    left: usize,
}

/// How far a search came.
pub enum Found {
    /// The line with the text.
    Line(usize),
    /// Nothing on any line.
    Nothing,
    /// Not there yet.
    Searching,
}

impl Search {
    /// Starts beside a line; goes round the end of a list of so many lines.
    pub fn new(text: &str, forward: bool, line: usize, lines: usize) -> Self {
        let mut search = Self {
            text: text.to_lowercase(),
            forward,
            at: line,
            left: lines,
        };
        search.go(lines);
        search
    }

    fn go(&mut self, lines: usize) {
        self.at = match self.forward {
            true => (self.at + 1) % lines.max(1),
            false => self.at.checked_sub(1).unwrap_or(lines.saturating_sub(1)),
        };
    }

    /// Looks at the next lines, so many at most.
    pub fn step(
        &mut self,
        listed: &Listed,
        index: &mut Index<'_>,
        says: impl Fn(&mut Index<'_>, u32) -> String,
        most: usize,
    ) -> Found {
        let lines = listed.len(index);
        for _ in 0..most {
            if self.left == 0 {
                return Found::Nothing;
            }
            let row = listed.row(self.at, index);
            if row.is_some_and(|row| says(index, row).to_lowercase().contains(&self.text)) {
                return Found::Line(self.at);
            }
            self.left -= 1;
            self.go(lines);
        }
        Found::Searching
    }
}
