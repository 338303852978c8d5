//! A map that is bounded whatever happens: what lives, and for a while what has died.

use std::hash::Hash;

use ahash::HashMap;

/// Slots that there is room for from the start: with fewer, what grows leaves holes in memory. They take no page before they are used.
const SLOTS: usize = 1 << 11;

/// No slot.
const NONE: u32 = u32::MAX;

/// Maps keys to values that die at some time and are wanted a while longer.
///
/// # Shape
///
/// At most `live_max` live and `dead_max` dead ones: what is too much goes, the longest known live one, the first one to
/// have died. A key that comes again hides its old value, which is then dead. Slots are used anew; once there are as many
/// as there will be, nothing is allocated.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    slots: Vec<Slot<K, V>>,
    index: HashMap<K, u32>,
    free: u32,
    live: List,
    dead: List,
    live_max: u32,
    dead_max: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    entry: Option<Entry<K, V>>,
    before: u32,
    after: u32,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    is_dead: bool,
}

/// Slots in the order in which they came.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    len: u32,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
    len: 0,
};

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    pub(super) fn new(live_max: u32, dead_max: u32) -> Self {
        assert!(live_max > 0 && dead_max > 0, "there is room for something");
        Self {
            slots: Vec::with_capacity(SLOTS),
            index: HashMap::default(),
            free: NONE,
            live: EMPTY,
            dead: EMPTY,
            live_max,
            dead_max,
        }
    }

    /// Returns the value of a key, dead or alive.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let slot = self.slots.get(*self.index.get(key)? as usize)?;
        slot.entry.as_ref().map(|entry| &entry.value)
    }

    /// Returns the value of a key, dead or alive.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slots.get_mut(*self.index.get(key)? as usize)?;
        slot.entry.as_mut().map(|entry| &mut entry.value)
    }

    /// Adds a live value. One that had the key is dead from now on.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.kill(&key);
        if self.live.len == self.live_max {
            self.remove(self.live.first);
        }
        let at = self.take_slot();
        self.slots[at as usize].entry = Some(Entry {
            key,
            value,
            is_dead: false,
        });
        self.append(at, false);
        self.index.insert(key, at);
    }

    /// Says that the value of a key has died.
    pub(super) fn kill(&mut self, key: &K) {
        let Some(&at) = self.index.get(key) else {
            return;
        };
        if self.slots[at as usize].is_dead() {
            return;
        }
        if self.dead.len == self.dead_max {
            self.remove(self.dead.first);
        }
        self.unlink(at);
        if let Some(entry) = &mut self.slots[at as usize].entry {
            entry.is_dead = true;
        }
        self.append(at, true);
    }

    /// Calls `each` for what is in at most `count` slots from `from` on; returns where to go on, `None` at the end.
    pub(super) fn page(
        &self,
        from: usize,
        count: usize,
        mut each: impl FnMut(&K, &V),
    ) -> Option<usize> {
        let end = from.saturating_add(count).min(self.slots.len());
        for slot in self.slots.get(from..end).unwrap_or_default() {
            if let Some(entry) = &slot.entry {
                each(&entry.key, &entry.value);
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    /// Returns how many live and how many dead there are.
    pub(super) fn len(&self) -> (u32, u32) {
        (self.live.len, self.dead.len)
    }

    /// Returns the bytes that it holds, without what the values refer to.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // The map keeps one byte beside each entry, and room for an eighth more.
        self.slots.capacity() * size_of::<Slot<K, V>>()
            + self.index.capacity() * 8 / 7 * (size_of::<(K, u32)>() + 1)
    }

    fn take_slot(&mut self) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = self.slots[at as usize].after;
            return at;
        }
        let at = self.slots.len() as u32;
        self.slots.push(Slot {
            entry: None,
            before: NONE,
            after: NONE,
        });
        at
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let slot = &mut self.slots[at as usize];
        slot.after = self.free;
        self.free = at;
        if let Some(entry) = slot.entry.take()
            && self.index.get(&entry.key) == Some(&at)
        {
            self.index.remove(&entry.key);
        }
    }

    fn append(&mut self, at: u32, is_dead: bool) {
        let list = if is_dead {
            &mut self.dead
        } else {
            &mut self.live
        };
        let last = list.last;
        list.last = at;
        list.len += 1;
        if last == NONE {
            list.first = at;
        }
        let slot = &mut self.slots[at as usize];
        (slot.before, slot.after) = (last, NONE);
        if last != NONE {
            self.slots[last as usize].after = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        let (before, after) = (slot.before, slot.after);
        let list = if slot.is_dead() {
            &mut self.dead
        } else {
            &mut self.live
        };
        list.len -= 1;
        if before == NONE {
            list.first = after;
        }
        if after == NONE {
            list.last = before;
        }
        if before != NONE {
            self.slots[before as usize].after = after;
        }
        if after != NONE {
            self.slots[after as usize].before = before;
        }
    }
}

impl<K, V> Slot<K, V> {
    fn is_dead(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.is_dead)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn all(table: &Table<u32, u64>) -> Vec<(u32, u64)> {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = table.page(at, 3, |key, value| found.push((*key, *value)));
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn the_first_to_have_died_goes_first_and_a_key_that_comes_again_is_the_new_one() {
        let mut table = Table::new(2, 2);
        table.insert(1, 10);
        table.kill(&1);
        table.insert(1, 11);
        assert_eq!(table.get(&1), Some(&11));
        assert_eq!(all(&table), [(1, 10), (1, 11)]);
        table.insert(2, 20);
        table.kill(&1);
        table.kill(&2);
        assert_eq!(all(&table), [(1, 11), (2, 20)], "the oldest dead went");
        assert_eq!(table.get(&1), Some(&11), "the dead are found");
        table.kill(&1);
        assert_eq!(table.len(), (0, 2), "nothing dies twice");
    }

    #[test]
    fn the_longest_known_goes_when_there_are_too_many_alive() {
        let mut table = Table::new(2, 1);
        for key in 1..=3 {
            table.insert(key, u64::from(key));
        }
        assert_eq!(all(&table), [(2, 2), (3, 3)]);
        assert_eq!(table.get(&1), None);
        assert_eq!(table.len(), (2, 0));
    }

    /// How long; an interpreter takes its time.
    const OPERATIONS_MAX: usize = if cfg!(miri) { 50 } else { 400 };

    proptest! {
        #[test]
        fn behaves_as_two_queues(operations in prop::collection::vec((0_u32..8, 0_u8..3), 0..OPERATIONS_MAX)) {
            let mut table = Table::new(5, 4);
            let (mut live, mut dead) = (VecDeque::new(), VecDeque::new());
            let mut newest = [None; 8];
            for (time, (key, operation)) in operations.into_iter().enumerate() {
                let time = time as u64;
                let position = live.iter().position(|(other, _)| *other == key);
                if let Some(position) = position.filter(|_| operation < 2) {
                    dead.extend(live.remove(position));
                    if dead.len() > 4 {
                        dead.pop_front();
                    }
                }
                if operation == 0 {
                    if live.len() == 5 {
                        live.pop_front();
                    }
                    live.push_back((key, time));
                    newest[key as usize] = Some(time);
                    table.insert(key, time);
                } else if operation == 1 {
                    table.kill(&key);
                }
                let mut expected: Vec<_> = live.iter().chain(&dead).copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(all(&table), expected.clone());
                let newest = newest[key as usize];
                let is_kept = newest.is_some_and(|time| expected.contains(&(key, time)));
                prop_assert_eq!(table.get(&key).copied(), newest.filter(|_| is_kept));
                prop_assert!(table.slots.len() <= 9);
            }
        }
    }
}
