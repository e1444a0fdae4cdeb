//! What is counted in an area of a region.
//!
//! Requests of all threads meet here, so nothing on their way waits for another: counters are added to one by one. The
//! time during which requests were under way is counted by whoever finds that the clock has moved on, as in the kernel; of
//! two who find that at once, one.

use std::array;

use crate::sync::{AtomicU64, Mutex, Ordering};

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

/// An area. Reads come before everything that changes data.
pub(super) struct Area {
    /// Requests that have not ended.
    under_way: [AtomicU64; 2],
    requests: [AtomicU64; 2],
    sectors: [AtomicU64; 2],
    took: [AtomicU64; 2],
    /// Up to when the time of those under way was counted.
    counted_to: AtomicU64,
    busy: Mutex<Busy>,
    bins: Box<[AtomicU64]>,
}

/// How long requests were under way.
#[derive(Default)]
struct Busy {
    kinds: [u64; 2],
    any: u64,
    waited: u64,
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
        let zeroes = || array::from_fn(|_| AtomicU64::new(0));
        Area {
            under_way: zeroes(),
            requests: zeroes(),
            sectors: zeroes(),
            took: zeroes(),
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
        self.under_way[usize::from(is_write)].fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended, with `sectors` of it in the area; or it was put off and does not count.
    #[inline]
    pub(super) fn leave(&self, is_write: bool, sectors: u64, now: u64, ended: Option<Ended>) {
        let kind = usize::from(is_write);
        self.pass_time(now);
        self.under_way[kind].fetch_sub(1, Ordering::Relaxed);
        let Some(ended) = ended else { return };
        self.requests[kind].fetch_add(1, Ordering::Relaxed);
        self.sectors[kind].fetch_add(sectors, Ordering::Relaxed);
        if ended.took > 0 {
            self.took[kind].fetch_add(ended.took, Ordering::Relaxed);
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
        read(&self.under_way)
    }

    /// What was counted up to now, and how many requests are under way.
    pub(super) fn counted(&self, now: u64) -> (Counters, u64) {
        let mut busy = self.busy.lock();
        self.pass_time_to(&mut busy, now);
        let counters = Counters {
            requests: read(&self.requests),
            sectors: read(&self.sectors),
            took: read(&self.took),
            busy: busy.kinds,
            busy_any: busy.any,
            waited: busy.waited,
            bins: self
                .bins
                .iter()
                .map(|bin| bin.load(Ordering::Relaxed))
                .collect(),
        };
        (
            counters,
            self.under_way().into_iter().fold(0, u64::wrapping_add),
        )
    }

    /// Takes what was told of it from its counters.
    pub(super) fn take(&self, told: &Counters) {
        let take = |counters: &[AtomicU64], told: &[u64]| {
            for (counter, told) in counters.iter().zip(told) {
                counter.fetch_sub(*told, Ordering::Relaxed);
            }
        };
        take(&self.requests, &told.requests);
        take(&self.sectors, &told.sectors);
        take(&self.took, &told.took);
        take(&self.bins, &told.bins);
        let mut busy = self.busy.lock();
        for (kind, told) in busy.kinds.iter_mut().zip(told.busy) {
            *kind = kind.wrapping_sub(told);
        }
        busy.any = busy.any.wrapping_sub(told.busy_any);
        busy.waited = busy.waited.wrapping_sub(told.waited);
    }
}

fn read<const KINDS: usize>(counters: &[AtomicU64; KINDS]) -> [u64; KINDS] {
    array::from_fn(|kind| {
        counters
            .get(kind)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    })
}

impl Counters {
    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Counters) {
        let add = |mine: &mut [u64], other: &[u64]| {
            for (mine, other) in mine.iter_mut().zip(other) {
                *mine = mine.wrapping_add(*other);
            }
        };
        self.bins.resize(other.bins.len(), 0);
        add(&mut self.requests, &other.requests);
        add(&mut self.sectors, &other.sectors);
        add(&mut self.took, &other.took);
        add(&mut self.busy, &other.busy);
        add(&mut self.bins, &other.bins);
        self.busy_any = self.busy_any.wrapping_add(other.busy_any);
        self.waited = self.waited.wrapping_add(other.waited);
    }
}
