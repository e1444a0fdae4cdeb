//! Statistics of stretches of a device, as the kernel's dm-stats.c keeps them: regions that somebody asked for, cut into
//! areas of one length, each with its counters.
//!
//! A request is counted in the regions that there are when it comes in. Whether there are any at all, it learns from the
//! stopwatch of the gate, which it looks at anyway: with regions the watch always runs.

mod messages;
mod region;

pub use messages::StatsError;
pub use region::Region;

use super::gate::{Entered, Gate};
use crate::io::{Blocked, OpKind, Waypoint};
use crate::sync::{Arc, ArcSwapOption, AtomicU64, Mutex, Ordering};
use crate::unit::{Sector, Sectors};

/// The regions of a device.
#[derive(Default)]
pub struct Stats {
    /// In the order of their numbers; `None` where there is none.
    regions: ArcSwapOption<Vec<Arc<Region>>>,
    /// One change at a time. While there are regions, every request has to come through the gate.
    changing: Mutex<Option<Blocked>>,
}

/// How requests come to the device: its gate, and the shortcuts around it.
pub type WaysIn<'d> = (&'d Gate, &'d Arc<Waypoint>);

/// A request that is counted, until it is dropped.
pub struct Counted(Option<Inside>);

struct Inside {
    regions: Arc<Vec<Arc<Region>>>,
    request: Stretch,
    begun: u64,
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
    pub fn enter(&self, inside: &Entered<'_>, kind: OpKind, at: Sector, len: Sectors) -> Counted {
        match inside.begun() {
            0 => Counted(None),
            begun => self.enter_measured(begun, kind, at, len),
        }
    }

    #[cold]
    fn enter_measured(&self, begun: u64, kind: OpKind, at: Sector, len: Sectors) -> Counted {
        // As in the kernel, what has no length is not counted.
        let (false, Some(regions)) = (len.is_zero(), self.regions.load_full()) else {
            return Counted(None);
        };
        let request = Stretch {
            is_write: kind != OpKind::Read,
            at: at.0,
            end: at.0.saturating_add(len.0),
        };
        for region in regions.iter() {
            region.enter(request, begun);
        }
        Counted(Some(Inside {
            regions,
            request,
            begun,
        }))
    }

    /// The regions there are.
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.regions
            .load_full()
            .map_or_else(Vec::new, |regions| regions.to_vec())
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
        let mut regions = self.regions();
        let changed = change(&mut regions);
        let any = !regions.is_empty();
        if any {
            seeing.get_or_insert_with(|| waypoint.blocked());
        } else {
            *seeing = None;
        }
        self.regions.store(any.then(|| Arc::new(regions)));
        gate.look_always(any);
        changed
    }
}

impl Counted {
    /// The request goes back uncounted, as it will come again.
    pub fn put_off(mut self) {
        if let Some(inside) = self.0.take() {
            let now = Gate::now();
            for region in inside.regions.iter() {
                region.leave(inside.request, now, None);
            }
        }
    }
}

impl Drop for Counted {
    #[inline]
    fn drop(&mut self) {
        if let Some(inside) = self.0.take() {
            inside.leave();
        }
    }
}

impl Inside {
    #[cold]
    fn leave(self) {
        let now = Gate::now();
        let took = now.saturating_sub(self.begun);
        for region in self.regions.iter() {
            region.leave(self.request, now, Some(took));
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
