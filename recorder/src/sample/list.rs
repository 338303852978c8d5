//! Lists that keep their elements' memory from one sample to the next.

/// Fills a list from its start again, over the elements that it has.
pub(super) struct Refill<'a, T> {
    list: &'a mut Vec<T>,
    used: usize,
    most: usize,
    left_out: u32,
}

impl<'a, T: Default> Refill<'a, T> {
    /// Starts over with a list of `most` elements.
    pub(super) fn new(list: &'a mut Vec<T>, most: usize) -> Self {
        Self {
            list,
            used: 0,
            most,
            left_out: 0,
        }
    }

    /// Returns the next element, with what was in it; `None`, and counted, if the list is full.
    pub(super) fn next(&mut self) -> Option<&mut T> {
        if self.used == self.most {
            self.left_out += 1;
            return None;
        }
        if self.used == self.list.len() {
            self.list.push(T::default());
        }
        self.used += 1;
        self.list.get_mut(self.used - 1)
    }

    /// Drops what is left of the old list; returns how many elements it had no room for.
    pub(super) fn finish(self) -> u32 {
        self.list.truncate(self.used);
        self.left_out
    }
}
