//! A lock over ranges: who holds one keeps out everybody whose range overlaps.
//!
//! Those who overlap come one after the other in the order in which they asked, so that a large range is not
//! starved by small ones. Third in the lock order, after the gate and the table slot; it may be held while a
//! request is submitted. A thread holds one range of a lock at a time.

use std::ops::Range;

use crate::sync::{Arc, Condvar, Mutex};

/// A lock over ranges of `P` (sectors, bytes, blocks).
pub struct RangeLock<P> {
    /// A leaf in the lock order.
    queue: Mutex<Queue<P>>,
}

/// Those who hold a range or wait for one, in the order in which they asked.
struct Queue<P> {
    claims: Vec<Claim<P>>,
    next_ticket: u64,
}

struct Claim<P> {
    ticket: u64,
    range: Range<P>,
    /// How many earlier claims overlap; held where there are none.
    before: usize,
    /// Where the claimant sleeps.
    granted: Option<Arc<Condvar>>,
}

/// A range that is held; released when dropped.
#[must_use = "the range is released when this is dropped"]
pub struct RangeGuard<'a, P: Copy + Ord> {
    lock: &'a RangeLock<P>,
    ticket: u64,
}

impl<P: Copy + Ord> Default for RangeLock<P> {
    fn default() -> RangeLock<P> {
        RangeLock::new()
    }
}

impl<P: Copy + Ord> RangeLock<P> {
    /// A lock of which nothing is held.
    pub fn new() -> RangeLock<P> {
        RangeLock {
            queue: Mutex::new(Queue::default()),
        }
    }

    /// Waits until nobody who asked earlier for a range that overlaps holds it. An empty range overlaps nothing.
    pub fn lock(&self, range: Range<P>) -> RangeGuard<'_, P> {
        let mut queue = self.queue.lock();
        let before = queue.overlapping(&range);
        let granted = (before > 0).then(|| Arc::new(Condvar::new()));
        let ticket = queue.push(range, before, granted.clone());
        if let Some(granted) = granted {
            while queue.waits(ticket) {
                granted.wait(&mut queue);
            }
        }
        RangeGuard { lock: self, ticket }
    }

    /// The range, if nobody holds or waits for one that overlaps.
    pub fn try_lock(&self, range: Range<P>) -> Option<RangeGuard<'_, P>> {
        let mut queue = self.queue.lock();
        if queue.overlapping(&range) > 0 {
            return None;
        }
        let ticket = queue.push(range, 0, None);
        Some(RangeGuard { lock: self, ticket })
    }

    /// Calls `act` while nobody holds a range and nobody can get one; not at all where somebody does.
    pub fn if_idle(&self, act: impl FnOnce()) {
        let queue = self.queue.lock();
        if queue.claims.is_empty() {
            act();
        }
    }
}

impl<P> Default for Queue<P> {
    fn default() -> Queue<P> {
        Queue {
            claims: Vec::new(),
            next_ticket: 0,
        }
    }
}

impl<P: Copy + Ord> Queue<P> {
    fn overlapping(&self, range: &Range<P>) -> usize {
        self.claims
            .iter()
            .filter(|claim| overlap(&claim.range, range))
            .count()
    }

    fn push(&mut self, range: Range<P>, before: usize, granted: Option<Arc<Condvar>>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.claims.push(Claim {
            ticket,
            range,
            before,
            granted,
        });
        ticket
    }

    /// Tickets grow along the queue.
    fn position(&self, ticket: u64) -> Option<usize> {
        self.claims
            .binary_search_by_key(&ticket, |claim| claim.ticket)
            .ok()
    }

    fn waits(&self, ticket: u64) -> bool {
        self.position(ticket)
            .is_some_and(|at| self.claims[at].before > 0)
    }

    fn remove(&mut self, ticket: u64) {
        let Some(at) = self.position(ticket) else {
            return;
        };
        let gone = self.claims.remove(at);
        for later in &mut self.claims[at..] {
            if overlap(&gone.range, &later.range) {
                later.before -= 1;
                if later.before == 0
                    && let Some(granted) = &later.granted
                {
                    granted.notify_one();
                }
            }
        }
    }
}

impl<P: Copy + Ord> Drop for RangeGuard<'_, P> {
    fn drop(&mut self) {
        self.lock.queue.lock().remove(self.ticket);
    }
}

fn overlap<P: Ord>(a: &Range<P>, b: &Range<P>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
