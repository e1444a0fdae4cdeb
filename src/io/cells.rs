//! Counters that threads do not pass back and forth between their caches.
//!
//! Each thread counts in one of a few cells. A worker has a cell of its own, in which it adds by a load and a store; other
//! threads share the rest and add atomically. Only sums over all cells mean something.

use std::array;
use std::marker::PhantomData;

use crate::sync::{AtomicU64, Ordering, WORKERS, thread_number, worker_number};

/// `COUNT` cells: one for each worker, and shared ones, of which there is at least one.
pub struct Cells<T, const COUNT: usize>([T; COUNT]);

/// The cell of the calling thread; not to be used by another.
pub struct MyCell<'a, T> {
    cell: &'a T,
    /// Nobody else adds to it.
    is_own: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl<T> Clone for MyCell<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MyCell<'_, T> {}

impl<'a, T> MyCell<'a, T> {
    /// The cell, to look at.
    #[inline]
    pub fn cell(self) -> &'a T {
        self.cell
    }

    /// Adds `n`, without regard for overflow.
    #[inline]
    pub fn add(self, counter: impl Fn(&T) -> &AtomicU64, n: u64) {
        let counter = counter(self.cell);
        if self.is_own {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
            counter.store(sum, Ordering::Release);
        } else {
            counter.fetch_add(n, Ordering::SeqCst);
        }
    }
}

impl<T, const COUNT: usize> Cells<T, COUNT> {
    /// How many are shared by threads that are no workers.
    const SHARED: usize = COUNT - WORKERS;

    /// Each cell as `new` makes it.
    pub fn new(new: impl Fn() -> T) -> Cells<T, COUNT> {
        const { assert!(COUNT > WORKERS) };
        Cells(array::from_fn(|_| new()))
    }

    /// That of the calling thread.
    #[inline]
    pub fn mine(&self) -> MyCell<'_, T> {
        let worker = worker_number();
        let is_own = worker < WORKERS;
        let index = match is_own {
            true => Self::SHARED + worker,
            false => thread_number() % Self::SHARED,
        };
        MyCell {
            cell: &self.0[index],
            is_own,
            _of_this_thread: PhantomData,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// What all have counted, without regard for overflow.
    pub fn sum(&self, counter: impl Fn(&T) -> &AtomicU64) -> u64 {
        let counters = self.iter().map(counter);
        counters
            .map(|counter| counter.load(Ordering::SeqCst))
            .fold(0, u64::wrapping_add)
    }
}

#[cfg(all(test, not(schedules)))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Cells;
    use crate::sync::{AtomicU64, WORKERS, become_worker};

    #[test]
    fn nothing_that_anybody_adds_is_lost() {
        let cells: Cells<AtomicU64, { WORKERS + 2 }> = Cells::new(AtomicU64::default);
        std::thread::scope(|scope| {
            for number in 0..WORKERS + 3 {
                let cells = &cells;
                scope.spawn(move || {
                    if number % 2 == 0 {
                        become_worker();
                    }
                    let mine = cells.mine();
                    (0..10_000).for_each(|_| mine.add(|counter| counter, 3));
                    mine.add(|counter| counter, 1u64.wrapping_neg());
                });
            }
        });
        let threads = WORKERS as u64 + 3;
        assert_eq!(cells.sum(|counter| counter), threads * 29_999);
    }
}
