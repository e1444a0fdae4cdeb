//! Things that each have a time, the earliest first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What is to come, in the order of its times; of two at the same time the one that was entered first.
pub(super) struct Agenda<K, T> {
    heap: BinaryHeap<Entry<K, T>>,
    next_number: u64,
}

struct Entry<K, T> {
    order: (K, u64),
    what: T,
}

impl<K: Ord + Copy, T> Agenda<K, T> {
    /// How much there is.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// The earliest time.
    pub(super) fn first(&self) -> Option<K> {
        self.heap.peek().map(|entry| entry.order.0)
    }

    /// Enters `what` for `time`.
    pub(super) fn enter(&mut self, time: K, what: T) {
        let order = (time, self.next_number);
        self.next_number += 1;
        self.heap.push(Entry { order, what });
    }

    /// Takes the earliest thing, if its time `is_due`.
    pub(super) fn take_if(&mut self, is_due: impl FnOnce(K) -> bool) -> Option<T> {
        self.first().filter(|time| is_due(*time))?;
        self.heap.pop().map(|entry| entry.what)
    }
}

impl<K: Ord, T> Default for Agenda<K, T> {
    fn default() -> Agenda<K, T> {
        Agenda {
            heap: BinaryHeap::new(),
            next_number: 0,
        }
    }
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Entry<K, T>) -> bool {
        self.order == other.order
    }
}

impl<K: Ord, T> Eq for Entry<K, T> {}

impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Entry<K, T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Entry<K, T> {
    /// The heap gives its greatest entry first: that is the earliest here.
    fn cmp(&self, other: &Entry<K, T>) -> Ordering {
        other.order.cmp(&self.order)
    }
}

#[cfg(test)]
mod tests {
    use super::Agenda;

    #[test]
    fn the_earliest_comes_first_and_of_two_the_first_that_was_entered() {
        let mut agenda = Agenda::default();
        for (time, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.enter(time, what);
        }
        assert_eq!(agenda.take_if(|time| time > 1), None);
        let mut taken = String::new();
        while let Some(what) = agenda.take_if(|time| time <= 5) {
            taken.push(what);
        }
        assert_eq!(
            (taken.as_str(), agenda.len(), agenda.first()),
            ("abcd", 0, None)
        );
    }
}
