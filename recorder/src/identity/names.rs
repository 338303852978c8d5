//! Paths that many processes share, each kept once.

use std::collections::HashSet;
use std::sync::Arc;

/// Most paths that are kept.
const NAMES_MAX: usize = 8192;

/// Keeps each text once.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
}

impl Names {
    /// Returns the kept copy of `text`; `None` if there are as many as may be, and all of them in use.
    ///
    /// Allocates only for a text that is new.
    pub(super) fn keep(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known.get(text) {
            return Some(Arc::clone(known));
        }
        if self.known.len() >= NAMES_MAX {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            // What is almost full would be searched through for each new text.
            if self.known.len() > NAMES_MAX * 7 / 8 {
                return None;
            }
        }
        let name: Arc<str> = text.into();
        self.known.insert(Arc::clone(&name));
        Some(name)
    }

    /// Returns the bytes that it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let texts: usize = self.known.iter().map(|name| name.len() + 16).sum();
        self.known.capacity() * 8 / 7 * (size_of::<Arc<str>>() + 1) + texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_forgotten_when_room_is_needed() {
        let mut names = Names::default();
        let first = names.keep("/bin/sh").expect("there is room");
        assert!(Arc::ptr_eq(&first, &names.keep("/bin/sh").expect("known")));
        for number in 0..3 * NAMES_MAX {
            assert!(names.keep(&format!("/tmp/{number}")).is_some(), "{number}");
            assert!(names.known.len() <= NAMES_MAX);
        }
        assert!(Arc::ptr_eq(&first, &names.keep("/bin/sh").expect("in use")));
    }

    #[test]
    fn texts_in_use_are_never_forgotten_and_further_ones_are_refused() {
        let mut names = Names::default();
        let held: Vec<_> = (0..2 * NAMES_MAX)
            .map(|number| names.keep(&format!("/tmp/{number}")))
            .collect();
        assert!(held.iter().take(NAMES_MAX).all(Option::is_some));
        assert!(held.iter().skip(NAMES_MAX).all(Option::is_none));
        drop(held);
        assert!(names.keep("/bin/true").is_some());
    }
}
