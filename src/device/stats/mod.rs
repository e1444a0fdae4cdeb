//! Statistics of stretches of a device, as the kernel's dm-stats.c keeps them: regions that somebody asked for, cut into
//! areas of one length, each with its counters.
//!
//! A request is counted in the regions that there are when it comes in. Whether there are any at all, it learns from the
//! stopwatch of the gate, which it looks at anyway. As in the kernel, a region goes by a coarse clock, whose reading costs
//! next to nothing, unless it was asked to be precise.

mod area;
mod messages;
mod region;

pub use messages::StatsError;
pub use region::Region;

use std::ops::Deref;

use super::gate::{Entered, Gate};
use super::live::Live;
use crate::io::{Blocked, OpKind, Waypoint, coarse_nanoseconds_now, nanoseconds_now};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::unit::{Sector, Sectors};

/// The regions of a device.
#[derive(Default)]
pub struct Stats {
    /// `None` where there is none.
    regions: Live<Regions>,
    /// One change at a time. While there are regions, every request has to come through the gate.
    changing: Mutex<Option<Blocked>>,
}

/// How requests come to the device: its gate, and the shortcuts around it.
pub type WaysIn<'d> = (&'d Gate, &'d Arc<Waypoint>);

/// A request that is counted, until it is dropped; `R` leads to the regions.
pub struct Counted<R: Deref<Target = Regions>>(Option<Inside<R>>);

struct Inside<R: Deref<Target = Regions>> {
    regions: R,
    request: Stretch,
    begun: Moment,
}

/// What requests are counted in.
pub struct Regions {
    /// In the order of their numbers.
    list: Vec<Arc<Region>>,
    /// One of them goes by the precise clock.
    precise: bool,
}

/// What the clocks show, nanoseconds; the precise one only where somebody goes by it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    coarse: u64,
    precise: u64,
}

impl Moment {
    /// This moment, with the `precise` clock or without.
    #[inline]
    fn now(precise: bool) -> Moment {
        Moment {
            coarse: coarse_nanoseconds_now(),
            precise: if precise { nanoseconds_now() } else { 0 },
        }
    }

    /// As one clock shows it.
    #[inline]
    fn of(self, precise: bool) -> u64 {
        if precise { self.precise } else { self.coarse }
    }
}

/// What a request does where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    is_write: bool,
    at: u64,
    end: u64,
}

/// Bytes that the counters of all devices take at present.
static TAKEN: Taken = Taken(std::sync::OnceLock::new());

/// A sum that starts when it is first asked for, as the explorer's atomics cannot be static.
struct Taken(std::sync::OnceLock<AtomicU64>);

impl Taken {
    fn sum(&self) -> &AtomicU64 {
        self.0.get_or_init(|| AtomicU64::new(0))
    }
}

impl Stats {
    /// Counts a request that is inside the gate, if there are regions.
    #[inline]
    pub fn enter<'a>(
        &'a self,
        inside: &'a Entered<'_>,
        kind: OpKind,
        at: Sector,
        len: Sectors,
    ) -> Counted<&'a Regions> {
        match inside.is_counted() {
            false => Counted(None),
            true => Counted::enter(self.regions.for_request(inside), kind, at, len),
        }
    }

    /// As [`Self::enter`], for a request that may leave from another thread.
    #[inline]
    pub fn enter_planned(
        &self,
        inside: &Entered<'_>,
        kind: OpKind,
        at: Sector,
        len: Sectors,
    ) -> Counted<Arc<Regions>> {
        match inside.is_counted() {
            false => Counted(None),
            true => Counted::enter(self.regions.load_full(), kind, at, len),
        }
    }

    /// The regions there are.
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.regions
            .load_full()
            .map_or_else(Vec::new, |regions| regions.list.clone())
    }

    fn find(&self, id: u32) -> Option<Arc<Region>> {
        self.regions().into_iter().find(|region| region.id() == id)
    }

    /// Changes the list of regions.
    fn change<T>(
        &self,
        (gate, waypoint): WaysIn<'_>,
        change: impl FnOnce(&mut Vec<Arc<Region>>) -> T,
    ) -> T {
        let mut seeing = self.changing.lock();
        let mut list = self.regions();
        let changed = change(&mut list);
        let any = !list.is_empty();
        if any {
            seeing.get_or_insert_with(|| waypoint.blocked());
        } else {
            *seeing = None;
        }
        let precise = list.iter().any(|region| region.is_precise());
        let regions = any.then(|| Arc::new(Regions { list, precise }));
        gate.count(any);
        self.regions.exchange(regions, gate);
        changed
    }
}

impl<R: Deref<Target = Regions>> Counted<R> {
    #[cold]
    fn enter(regions: Option<R>, kind: OpKind, at: Sector, len: Sectors) -> Counted<R> {
        // As in the kernel, what has no length is not counted.
        let (false, Some(regions)) = (len.is_zero(), regions) else {
            return Counted(None);
        };
        let request = Stretch {
            is_write: kind != OpKind::Read,
            at: at.0,
            end: at.0.saturating_add(len.0),
        };
        let begun = Moment::now(regions.precise);
        for region in &regions.list {
            region.enter(request, begun);
        }
        Counted(Some(Inside {
            regions,
            request,
            begun,
        }))
    }

    /// The request goes back uncounted, as it will come again.
    pub fn put_off(mut self) {
        if let Some(inside) = self.0.take() {
            inside.leave(false);
        }
    }
}

impl<R: Deref<Target = Regions>> Drop for Counted<R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(inside) = self.0.take() {
            inside.leave(true);
        }
    }
}

impl<R: Deref<Target = Regions>> Inside<R> {
    #[cold]
    fn leave(self, has_ended: bool) {
        let now = Moment::now(self.regions.precise);
        let begun = has_ended.then_some(self.begun);
        for region in &self.regions.list {
            region.leave(self.request, now, begun);
        }
    }
}

/// Takes `bytes` of the quarter of all memory that counters may have.
fn take_memory(bytes: u64) -> bool {
    let most = rustix::system::sysinfo();
    let most = (most.totalram as u64).saturating_mul(u64::from(most.mem_unit.max(1))) / 4;
    let taken = TAKEN.sum();
    let more = |taken: u64| taken.checked_add(bytes).filter(|&sum| sum <= most);
    taken
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

fn give_memory_back(bytes: u64) {
    TAKEN.sum().fetch_sub(bytes, Ordering::Relaxed);
}

#[cfg(all(test, not(schedules)))]
mod tests;
