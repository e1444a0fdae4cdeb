//! A device that shortcuts pass.

use std::time::Duration;

use super::{Shortcut, Stretches, Trail};
use crate::io::{Counters, Opening};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// What a device knows of the shortcuts that lead past it or end at it. Its lock is a leaf but for the shortcuts' own
/// counters.
#[derive(Default)]
pub struct Waypoint {
    traffic: Mutex<Traffic>,
    /// Whether anybody wants every request, to look at without the lock.
    is_blocked: AtomicBool,
}

#[derive(Default)]
struct Traffic {
    /// How many want every request to come to the device itself.
    blocks: u32,
    shortcuts: Vec<Leading>,
    /// What has passed by shortcuts that are no more.
    earlier: Counters,
}

/// A shortcut as it was when it was made.
#[derive(Clone)]
struct Leading {
    shortcut: Arc<Shortcut>,
    opening: Opening,
    /// What it had counted before, where it passes the device; nothing where it ends there.
    since: Option<Counters>,
}

/// Has every request come to a device itself, until it is dropped.
#[must_use = "requests pass again when this is dropped"]
pub struct Blocked(Arc<Waypoint>);

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.unblock();
    }
}

/// Shortcuts past a device that are closed, in which there may be requests still.
#[must_use = "requests may still be passing"]
pub struct Closed(Vec<Leading>);

impl Waypoint {
    /// Lets no request pass the device any more: all that come from now on come to it. To be taken back by
    /// [`Waypoint::unblock`], as often.
    pub fn block(&self) -> Closed {
        let leading = {
            let mut traffic = self.traffic.lock();
            traffic.blocks += 1;
            self.is_blocked.store(true, Ordering::Relaxed);
            traffic.shortcuts.clone()
        };
        Closed::close(leading)
    }

    /// As [`Waypoint::block`], for as long as somebody has what is given back. Requests that are passing are not waited
    /// for.
    pub fn blocked(self: &Arc<Waypoint>) -> Blocked {
        let _passing = self.block();
        Blocked(self.clone())
    }

    /// Takes one [`Waypoint::block`] back. Shortcuts that end at the device are closed: what is made anew can pass.
    pub fn unblock(&self) {
        let leading = {
            let mut traffic = self.traffic.lock();
            traffic.blocks = traffic.blocks.saturating_sub(1);
            self.is_blocked.store(traffic.blocks > 0, Ordering::Relaxed);
            traffic.shortcuts.clone()
        };
        let _ = Closed::close(leading);
    }

    /// True while every request comes to the device itself: no shortcut past it can be made. As it was a moment ago.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// What has passed the device without coming to it.
    pub fn counters(&self) -> Counters {
        let traffic = self.traffic.lock();
        let passing = traffic.shortcuts.iter();
        passing
            .filter_map(|leading| Some(leading.shortcut.counters().since(&leading.since?)))
            .fold(traffic.earlier, |sum, one| sum.plus(&one))
    }

    /// Measures how long requests take that pass, for `time` from now on.
    pub fn look(&self, time: Duration) {
        let traffic = self.traffic.lock();
        let passing = traffic.shortcuts.iter();
        let passing = passing.filter(|leading| leading.since.is_some());
        passing.for_each(|leading| leading.shortcut.look(time));
    }

    /// Has `trail` pass the device, which shows `shown`, or end at it.
    pub(super) fn trace(
        &self,
        trail: &Trail<'_>,
        shown: impl FnOnce() -> Option<Stretches>,
    ) -> Option<Stretches> {
        let mut traffic = self.traffic.lock();
        let shown = (traffic.blocks == 0).then(shown).flatten();
        let shown = shown.and_then(|shown| trail.through(shown));
        traffic.shortcuts.push(Leading {
            shortcut: trail.shortcut.clone(),
            opening: trail.opening,
            since: shown.is_some().then_some(trail.since),
        });
        shown
    }

    /// `shortcut`, in which nobody is, leads here no longer; `counted` is what it has counted by now.
    pub(super) fn give_up(&self, shortcut: &Shortcut, counted: &Counters) {
        let mut traffic = self.traffic.lock();
        let is_it = |leading: &Leading| std::ptr::eq(&*leading.shortcut, shortcut);
        if let Some(index) = traffic.shortcuts.iter().position(is_it) {
            let leading = traffic.shortcuts.swap_remove(index);
            if let Some(since) = &leading.since {
                traffic.earlier = traffic.earlier.plus(&counted.since(since));
            }
        }
    }
}

impl Closed {
    fn close(leading: Vec<Leading>) -> Closed {
        for one in &leading {
            one.shortcut.close(one.opening);
        }
        Closed(leading)
    }

    /// Waits until nobody is on the way past the device. `keep_waiting` is asked about every 50 ms; where it says no, the
    /// wait ends with false.
    pub fn drain(self, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        // Those that end at the device may hold requests that wait for it.
        let mut passing = self.0.into_iter().filter(|leading| leading.since.is_some());
        passing.all(|leading| leading.shortcut.drain(leading.opening, keep_waiting))
    }
}
