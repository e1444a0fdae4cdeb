//! Shortcuts: from a device straight to the one that carries requests out, past all devices on the way that only show
//! stretches of others.
//!
//! A layer costs little by itself, but what it looks at (gate, table, row) is out of the processor's cache by the time
//! the next request comes. A shortcut has one counter and one lookup, however many devices it passes. It is made when a
//! request has gone the long way, as far as every device on the way shows stretches of one other device and nothing
//! wants to see the requests there ([`Waypoint::block`]).
//!
//! Each device that a shortcut passes knows of it. Whoever holds back requests, or changes a table, blocks the device's
//! waypoint: shortcuts that lead there are closed, those that pass are waited for, and requests go the long way, through
//! every gate, until another shortcut is made. What passes by a shortcut has passed every device on its way, as
//! often and as long, so that one set of counters tells for all.
//!
//! Lock order: `made` of a shortcut, then the waypoints' locks, then those of the counters.
#![allow(unsafe_code)]

mod stretches;
mod waypoint;

pub use stretches::{Stretches, index_of};
pub use waypoint::{Blocked, Closed, Waypoint};

use std::ptr;
use std::time::Duration;

use stretches::Route;

use super::{BlockDev, Counters, InFlight, IoError, IoResult, OpKind, Opening, Request};
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering};

/// The way past what lies below one device.
pub struct Shortcut {
    /// What `made` holds, or null.
    route: AtomicPtr<Route>,
    /// Who is on the way. Closed while there is none.
    in_flight: InFlight,
    made: Mutex<Made>,
}

/// What a shortcut was made of.
#[derive(Default)]
struct Made {
    route: Option<Arc<Route>>,
    waypoints: Vec<Arc<Waypoint>>,
}

/// A shortcut that is being made.
pub struct Trail<'s> {
    shortcut: &'s Arc<Shortcut>,
    /// When it will be open.
    opening: Opening,
    /// What it has counted before.
    since: Counters,
    /// From the device where it begins to where it has come.
    shown: Option<Stretches>,
    waypoints: Vec<Arc<Waypoint>>,
}

impl Default for Shortcut {
    fn default() -> Shortcut {
        Shortcut {
            route: AtomicPtr::new(ptr::null_mut()),
            in_flight: InFlight::closed(),
            made: Mutex::new(Made::default()),
        }
    }
}

impl Shortcut {
    /// Carries out `request`, where there is a way for it; `None` where it has to go the long way.
    #[inline]
    pub fn submit(&self, request: &mut Request<'_>) -> Option<IoResult> {
        let kind = request.op.kind();
        let moves_data = matches!(kind, OpKind::Read | OpKind::Write);
        if !moves_data || self.route.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let inside = self.in_flight.try_enter(kind, request.len)?;
        // SAFETY: null, or what `made` holds, which gives it up only after it was closed and nobody was found inside.
        // The reference ends before `inside` does, and who is inside was let in while it was open, and is found there.
        let route = unsafe { self.route.load(Ordering::Acquire).as_ref() };
        let way = route.and_then(|route| route.find(kind, request.at, request.len));
        let Some((device, at)) = way else {
            inside.put_off();
            return None;
        };
        let request = request.reborrow();
        let result = device.submit(Request { at, ..request });
        match result {
            Ok(()) => {}
            Err(error) if error.is_put_off() => {
                inside.put_off();
                // For the device itself to hold until it is resumed.
                if error == IoError::REQUEUE {
                    return None;
                }
            }
            Err(_) => inside.fail(),
        }
        Some(result)
    }

    /// True while there is a way.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.in_flight.is_closed()
    }

    /// Makes the way anew, from `device` on, unless there is one, somebody else makes it, or somebody is still on the old
    /// one.
    #[cold]
    pub fn make(self: &Arc<Shortcut>, device: &dyn BlockDev) {
        let Some(mut made) = self.made.try_lock() else {
            return;
        };
        if self.is_open() || !self.in_flight.is_empty() {
            return;
        }
        let old = self.give_up(&mut made);
        let mut trail = Trail {
            shortcut: self,
            opening: self.in_flight.next_opening(),
            since: self.in_flight.counters().ended(),
            shown: None,
            waypoints: Vec::new(),
        };
        let route = trail.follow(device).and_then(Route::new);
        made.waypoints = trail.waypoints;
        if let Some(route) = route.map(Arc::new) {
            let pointer = Arc::as_ptr(&route).cast_mut();
            self.route.store(pointer, Ordering::Release);
            made.route = Some(route);
            self.in_flight.open();
        } else {
            let _nothing = self.give_up(&mut made);
        }
        drop(made);
        drop(old);
    }

    /// Lets nobody in any more who would come by the way that was opened as `opening`.
    fn close(&self, opening: Opening) {
        // Who is making it has told the waypoints before, and opens it first.
        let _made = self.made.lock();
        self.in_flight.close_if(opening);
    }

    /// Waits until nobody is inside any more who came in by `opening`, which is over, and gives up what the way was made
    /// of. `keep_waiting` is asked about every 50 ms; where it says no, the wait ends with false.
    fn drain(&self, opening: Opening, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        loop {
            if !self.in_flight.drain_of(opening, keep_waiting) {
                return false;
            }
            let mut made = self.made.lock();
            // Made anew meanwhile, which nobody does before the old one is given up.
            if !self.in_flight.is_closed_after(opening) {
                return true;
            }
            // Somebody may just be finding out that it is closed.
            if self.in_flight.is_empty() {
                let old = self.give_up(&mut made);
                drop(made);
                drop(old);
                return true;
            }
        }
    }

    /// For the end of the device where it begins: gives everything up, unless somebody is still inside.
    pub fn end(&self) {
        let mut made = self.made.lock();
        self.in_flight.close();
        if self.in_flight.is_empty() {
            let old = self.give_up(&mut made);
            drop(made);
            drop(old);
        }
    }

    /// Nobody is inside, and it is closed. What is given back is to be dropped without a lock.
    fn give_up(&self, made: &mut Made) -> Option<Arc<Route>> {
        // Somebody who is just finding out that it is closed looks like a request in flight.
        let counted = self.in_flight.counters().ended();
        for waypoint in made.waypoints.drain(..) {
            waypoint.give_up(self, &counted);
        }
        self.route.store(ptr::null_mut(), Ordering::Release);
        made.route.take()
    }

    fn counters(&self) -> Counters {
        self.in_flight.counters()
    }

    fn look(&self, time: Duration) {
        self.in_flight.look(time);
    }
}

impl Trail<'_> {
    /// From `device` as far as it goes; `None` where that is no further than `device`.
    fn follow(&mut self, device: &dyn BlockDev) -> Option<Stretches> {
        let mut goes_on = device.trace(self);
        while goes_on {
            let next = self.shown.as_ref()?.only_device()?.clone();
            goes_on = next.trace(self);
        }
        self.shown.take()
    }

    /// Passes the device that `waypoint` belongs to, which shows `shown` and does nothing else; false where it cannot be
    /// passed, or shows nothing so.
    pub fn pass(
        &mut self,
        waypoint: &Arc<Waypoint>,
        shown: impl FnOnce() -> Option<Stretches>,
    ) -> bool {
        let shown = waypoint.trace(self, shown);
        self.waypoints.push(waypoint.clone());
        self.go_on(shown)
    }

    /// Passes what shows `shown` for good.
    pub fn pass_freely(&mut self, shown: Stretches) -> bool {
        let shown = self.through(shown);
        self.go_on(shown)
    }

    fn go_on(&mut self, shown: Option<Stretches>) -> bool {
        let goes_on = shown.is_some();
        if goes_on {
            self.shown = shown;
        }
        goes_on
    }

    fn through(&self, below: Stretches) -> Option<Stretches> {
        match &self.shown {
            None => Some(below),
            Some(so_far) => so_far.through(&below),
        }
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
