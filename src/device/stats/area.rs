//! What is counted in an area of a region.
//!
//! Requests of all threads meet here, so nothing on their way waits for another: each thread counts in a cell. The
//! time during which requests were under way is counted by whoever finds that the clock has moved on, as in the kernel; of
//! two who find that at once, one.

use std::array;

use crate::io::Cells;
use crate::sync::{AtomicU64, Mutex, Ordering, WORKERS};

/// What was counted in an area. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that ended: reads, then everything that changes data.
    pub requests: [u64; 2],
    /// Sectors of these requests in the area.
    pub sectors: [u64; 2],
    /// How long they took, one after the other.
    pub took: [u64; 2],
    /// How long any of a kind was under way.
    pub busy: [u64; 2],
    /// How long any at all was under way.
    pub busy_any: u64,
    /// How long requests were under way, one after the other.
    pub waited: u64,
    /// How many took less than each bound, but not less than the one before; and the rest.
    pub bins: Vec<u64>,
}

/// An area.
pub(super) struct Area {
    cells: Cells<Cell, { WORKERS + 1 }>,
    /// Up to when the time of those under way was counted.
    counted_to: AtomicU64,
    busy: Mutex<Busy>,
    bins: Box<[AtomicU64]>,
}

/// A cache line. Reads come before everything that changes data.
#[derive(Default)]
#[repr(align(64))]
struct Cell {
    /// Requests that have not ended.
    under_way: [AtomicU64; 2],
    requests: [AtomicU64; 2],
    sectors: [AtomicU64; 2],
    took: [AtomicU64; 2],
}

/// How long requests were under way.
#[derive(Default)]
struct Busy {
    kinds: [u64; 2],
    any: u64,
    waited: u64,
    /// What was told and does not count any more.
    told: Counters,
}

/// How a request ended.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    /// Nanoseconds that it took.
    pub took: u64,
    /// The bin of the histogram that it falls into.
    pub bin: usize,
}

impl Area {
    /// Nothing counted yet, with `bins` in its histogram.
    pub(super) fn new(bins: usize, now: u64) -> Area {
        Area {
            cells: Cells::new(Cell::default),
            counted_to: AtomicU64::new(now),
            busy: Mutex::default(),
            bins: (0..bins).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The memory that an area takes, bytes.
    pub(super) fn size(bins: usize) -> usize {
        size_of::<Area>() + bins * size_of::<AtomicU64>()
    }

    /// A request begins.
    #[inline]
    pub(super) fn enter(&self, is_write: bool, now: u64) {
        self.pass_time(now);
        let kind = usize::from(is_write);
        self.cells.mine().add(|cell| &cell.under_way[kind], 1);
    }

    /// It has ended, with `sectors` of it in the area; or it was put off and does not count.
    #[inline]
    pub(super) fn leave(&self, is_write: bool, sectors: u64, now: u64, ended: Option<Ended>) {
        let kind = usize::from(is_write);
        self.pass_time(now);
        let mine = self.cells.mine();
        mine.add(|cell| &cell.under_way[kind], 1u64.wrapping_neg());
        let Some(ended) = ended else { return };
        mine.add(|cell| &cell.requests[kind], 1);
        mine.add(|cell| &cell.sectors[kind], sectors);
        if ended.took > 0 {
            mine.add(|cell| &cell.took[kind], ended.took);
        }
        if let Some(bin) = self.bins.get(ended.bin) {
            bin.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the time that has passed.
    #[inline]
    fn pass_time(&self, now: u64) {
        if self.counted_to.load(Ordering::Relaxed) < now
            && let Some(mut busy) = self.busy.try_lock()
        {
            self.pass_time_to(&mut busy, now);
        }
    }

    fn pass_time_to(&self, busy: &mut Busy, now: u64) {
        let passed = now.saturating_sub(self.counted_to.fetch_max(now, Ordering::Relaxed));
        let under_way = self.under_way();
        for (kind, under_way) in busy.kinds.iter_mut().zip(under_way) {
            if under_way > 0 {
                *kind = kind.wrapping_add(passed);
            }
        }
        let all = under_way[0].wrapping_add(under_way[1]);
        if all > 0 {
            busy.any = busy.any.wrapping_add(passed);
            busy.waited = busy.waited.wrapping_add(all.wrapping_mul(passed));
        }
    }

    fn under_way(&self) -> [u64; 2] {
        self.sums(|cell| &cell.under_way)
    }

    fn sums(&self, counters: impl Fn(&Cell) -> &[AtomicU64; 2]) -> [u64; 2] {
        array::from_fn(|kind| self.cells.sum(|cell| &counters(cell)[kind]))
    }

    /// What was counted up to now, and how many requests are under way.
    pub(super) fn counted(&self, now: u64) -> (Counters, u64) {
        let mut busy = self.busy.lock();
        self.pass_time_to(&mut busy, now);
        let mut counters = Counters {
            requests: self.sums(|cell| &cell.requests),
            sectors: self.sums(|cell| &cell.sectors),
            took: self.sums(|cell| &cell.took),
            busy: busy.kinds,
            busy_any: busy.any,
            waited: busy.waited,
            bins: self
                .bins
                .iter()
                .map(|bin| bin.load(Ordering::Relaxed))
                .collect(),
        };
        counters.change(&busy.told, u64::wrapping_sub);
        let under_way = self.under_way().into_iter().fold(0, u64::wrapping_add);
        (counters, under_way)
    }

    /// Takes what was told of it from what it tells.
    pub(super) fn take(&self, told: &Counters) {
        self.busy.lock().told.change(told, u64::wrapping_add);
    }
}

impl Counters {
    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Counters) {
        self.change(other, u64::wrapping_add);
    }

    fn change(&mut self, by: &Counters, how: fn(u64, u64) -> u64) {
        let change = |mine: &mut [u64], by: &[u64]| {
            for (mine, by) in mine.iter_mut().zip(by) {
                *mine = how(*mine, *by);
            }
        };
        if self.bins.len() < by.bins.len() {
            self.bins.resize(by.bins.len(), 0);
        }
        change(&mut self.requests, &by.requests);
        change(&mut self.sectors, &by.sectors);
        change(&mut self.took, &by.took);
        change(&mut self.busy, &by.busy);
        change(&mut self.bins, &by.bins);
        self.busy_any = how(self.busy_any, by.busy_any);
        self.waited = how(self.waited, by.waited);
    }
}
