//! The paths of a group that have not failed, in the order in which they are used.
//!
//! One thread changes it at a time, any number look. Who looks while it is changed may see a path twice, or one that has
//! just failed, but never a number that is no path.

use crate::sync::{AtomicUsize, Ordering};

/// Paths that are used in turn.
#[derive(Default)]
pub struct ValidPaths {
    /// The first `count` are valid.
    order: Vec<AtomicUsize>,
    count: AtomicUsize,
    /// Whose turn it is, modulo `count`.
    turn: AtomicUsize,
}

impl ValidPaths {
    /// Adds the next path, which comes last.
    pub fn add(&mut self) {
        let path = self.order.len();
        self.order.push(AtomicUsize::new(path));
        self.count.store(self.order.len(), Ordering::Relaxed);
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire).min(self.order.len())
    }

    /// The one whose turn it is; the next one is then due.
    #[inline]
    pub fn take_turn(&self) -> Option<usize> {
        let count = self.count();
        match count {
            0 => None,
            1 => self.at(0),
            _ => self.at(self.turn.fetch_add(1, Ordering::Relaxed) % count),
        }
    }

    /// All of them, from the one whose turn it is on; the next one is then due.
    pub fn all_in_turn(&self) -> impl Iterator<Item = usize> {
        let count = self.count();
        let first = match count {
            0 | 1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        (first..count)
            .chain(0..first)
            .filter_map(|index| self.at(index))
    }

    #[inline]
    fn at(&self, index: usize) -> Option<usize> {
        self.order
            .get(index)
            .map(|path| path.load(Ordering::Relaxed))
    }

    /// Takes out `path`; the turn stays with whom it is.
    pub fn remove(&self, path: usize) {
        let (mut paths, turn) = self.in_turn();
        let Some(index) = paths.iter().position(|&valid| valid == path) else {
            return;
        };
        paths.remove(index);
        let turn = if index < turn { turn - 1 } else { turn };
        self.publish(&paths, turn);
    }

    /// Puts `path` in, and it is its turn.
    pub fn insert_first(&self, path: usize) {
        let (mut paths, turn) = self.in_turn();
        paths.insert(turn, path);
        self.publish(&paths, turn);
    }

    /// Puts `path` in, after all others.
    pub fn insert_last(&self, path: usize) {
        let (mut paths, turn) = self.in_turn();
        paths.insert(turn, path);
        self.publish(&paths, turn + 1);
    }

    /// The valid paths, and whose turn it is.
    fn in_turn(&self) -> (Vec<usize>, usize) {
        let count = self.count();
        let paths = (0..count).filter_map(|index| self.at(index)).collect();
        let turn = self.turn.load(Ordering::Relaxed);
        (paths, turn.checked_rem(count).unwrap_or(0))
    }

    fn publish(&self, paths: &[usize], turn: usize) {
        for (slot, &path) in self.order.iter().zip(paths) {
            slot.store(path, Ordering::Relaxed);
        }
        self.turn.store(turn, Ordering::Relaxed);
        self.count
            .store(paths.len().min(self.order.len()), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::ValidPaths;

    fn turns(valid: &ValidPaths, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| valid.take_turn()).collect()
    }

    #[test]
    fn turns_go_on_where_they_were() {
        let mut valid = ValidPaths::default();
        assert_eq!(valid.take_turn(), None);
        (0..4).for_each(|_| valid.add());
        assert_eq!(turns(&valid, 6), [0, 1, 2, 3, 0, 1]);
        valid.remove(0);
        assert_eq!(turns(&valid, 4), [2, 3, 1, 2]);
        valid.remove(3);
        assert_eq!(turns(&valid, 3), [1, 2, 1]);
        valid.insert_last(3);
        assert_eq!(turns(&valid, 4), [2, 1, 3, 2]);
        valid.insert_first(0);
        assert_eq!(turns(&valid, 5), [0, 1, 3, 2, 0]);
        assert_eq!(valid.all_in_turn().collect::<Vec<_>>(), [1, 3, 2, 0]);
        (0..4).for_each(|path| valid.remove(path));
        assert_eq!((valid.count(), valid.take_turn()), (0, None));
        valid.remove(2);
        valid.insert_last(2);
        assert_eq!(turns(&valid, 2), [2, 2]);
    }
}
