//! Counting requests in and out, closing the way in, and waiting until those inside have left.
//!
//! Each thread counts in a padded cell ([`Cells`]), so that two threads that serve one device do not pass a
//! cache line back and forth. The counters are the device's statistics too; what is in flight is
//! the difference between started and finished.
//!
//! Coming in and closing meet on two pairs. Between store and load stands the light barrier on the side of
//! requests, the heavy one on the side of closing, so that of any two that race at least one sees the other:
//! - coming in adds to `started`, then reads `state`; closing writes `state`, then (in `drain`) reads `started`:
//!   who comes in unseen by the drain sees that it is closed, and goes back;
//! - leaving adds to `finished`, then reads `state`; closing writes `state`, then reads `finished`: who leaves
//!   unseen by the drain sees that it is closed, and wakes it.
//!
//! A request may leave on another thread than it came in on. Both pairs hold all the same, as each stands on one
//! thread; and who is found to have finished in the one cell is found to have started in the other, because the
//! request was handed over in between.

use std::array;
use std::mem::ManuallyDrop;
use std::time::Duration;

use super::cells::{self, Cells};
use super::counters::KINDS;
use super::stopwatch::{Begun, Stopwatch};
use super::{Counters, OpKind, Tally};
use crate::sync::{
    AtomicU64, Condvar, Mutex, Ordering, WORKERS, heavy_barrier, light_barrier, prepare_barriers,
};
use crate::unit::Sectors;

/// How many cells there are for threads that are no workers. Sharing one costs them time but no exactness.
const SHARED: usize = if cfg!(schedules) { 2 } else { 4 };
/// All cells: the shared ones, then one for each worker.
const CELLS: usize = SHARED + WORKERS;

/// How often somebody who waits is asked whether to go on waiting.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Who is inside, and whether more may come in.
pub struct InFlight {
    cells: Cells<Cell, CELLS>,
    /// Requests that failed.
    errors: AtomicU64,
    stopwatch: Stopwatch<{ KINDS.len() }>,
    /// Guards changes of the cells' `state` and falling asleep on one of the conditions; a leaf in the lock order.
    changes: Mutex<()>,
    /// Somebody left while it was closed.
    left: Condvar,
    /// It was opened.
    opened: Condvar,
}

/// Two lines of 64 bytes, because processors fetch lines in pairs; a read or a write needs only the first.
#[repr(C, align(128))]
struct Cell {
    /// Even while open, odd while closed; grows by one at each change, in all cells, under `changes`.
    state: AtomicU64,
    counts: [Counts; KINDS.len()],
    /// Requests that left uncounted. They are not taken from `started`, which may be in another cell.
    put_off: [AtomicU64; KINDS.len()],
}

/// What is counted of one operation.
#[derive(Default)]
struct Counts {
    started: AtomicU64,
    finished: AtomicU64,
    sectors: AtomicU64,
}

/// One stretch of time during which it was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening(u64);

/// A request that is inside; leaves when dropped.
#[must_use = "the request leaves when this is dropped"]
pub struct Inside<'a> {
    in_flight: &'a InFlight,
    cell: MyCell<'a>,
    kind: OpKind,
    sectors: Sectors,
    opening: Opening,
    begun: Begun,
}

/// A request that is inside without being tied to a thread: it leaves where somebody hands this back to
/// [`InFlight::take_over`].
#[derive(Debug)]
#[must_use = "the request stays inside for good unless somebody takes it over"]
pub struct Pass {
    kind: OpKind,
    sectors: Sectors,
    opening: Opening,
    begun: Begun,
}

type MyCell<'a> = cells::MyCell<'a, Cell>;

impl Default for InFlight {
    fn default() -> InFlight {
        InFlight::new()
    }
}

impl InFlight {
    /// Open, with nobody inside.
    pub fn new() -> InFlight {
        InFlight::in_state(0)
    }

    /// Closed, with nobody inside.
    pub fn closed() -> InFlight {
        InFlight::in_state(1)
    }

    fn in_state(state: u64) -> InFlight {
        prepare_barriers();
        InFlight {
            cells: Cells::new(|| Cell::new(state)),
            errors: AtomicU64::new(0),
            stopwatch: Stopwatch::new(),
            changes: Mutex::new(()),
            left: Condvar::new(),
            opened: Condvar::new(),
        }
    }

    /// Comes in, unless it is closed.
    #[inline]
    pub fn try_enter(&self, kind: OpKind, sectors: Sectors) -> Option<Inside<'_>> {
        let cell = self.cells.mine();
        cell.add(|cell| &cell.counts[kind as usize].started, 1);
        light_barrier();
        let state = cell.cell().state.load(Ordering::SeqCst);
        if is_closed(state) {
            self.take_back(cell, kind);
            return None;
        }
        Some(Inside {
            in_flight: self,
            cell,
            kind,
            sectors,
            opening: Opening(state),
            begun: self.stopwatch.begin(),
        })
    }

    /// A request that came in here and was [handed over](Inside::hand_over), to leave from the calling thread. It
    /// is counted off in that thread's cell: only the sums over all cells mean something.
    pub fn take_over(&self, pass: Pass) -> Inside<'_> {
        Inside {
            in_flight: self,
            cell: self.cells.mine(),
            kind: pass.kind,
            sectors: pass.sectors,
            opening: pass.opening,
            begun: pass.begun,
        }
    }

    /// Lets nobody in any more; those inside stay until they leave. Closing what is closed changes nothing.
    pub fn close(&self) {
        self.close_where(|_| true);
    }

    /// As [`Self::close`], where it is open by `opening`.
    pub fn close_if(&self, opening: Opening) {
        self.close_where(|state| state == opening.0);
    }

    fn close_where(&self, is_meant: impl FnOnce(u64) -> bool) {
        let _changes = self.changes.lock();
        let state = self.state();
        if !is_closed(state) && is_meant(state) {
            self.set_state(state + 1);
            heavy_barrier();
        }
    }

    /// While it is closed, the opening that the next [`Self::open`] begins.
    pub fn next_opening(&self) -> Opening {
        Opening(self.state() + 1)
    }

    /// True from the end of `opening` until it is opened again.
    pub fn is_closed_after(&self, opening: Opening) -> bool {
        self.state() == opening.0 + 1
    }

    /// Lets requests in again. Opening what is open changes nothing.
    pub fn open(&self) {
        let _changes = self.changes.lock();
        let state = self.state();
        if is_closed(state) {
            self.set_state(state + 1);
            self.opened.notify_all();
        }
    }

    /// True from [`Self::close`] to [`Self::open`].
    pub fn is_closed(&self) -> bool {
        is_closed(self.state())
    }

    /// Waits until nobody is inside, after [`Self::close`]. What those inside wrote is then visible to the caller.
    /// `keep_waiting` is asked about every 50 ms; where it says no, the wait ends with false.
    pub fn drain(&self, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        self.wait_until_left(|| self.is_empty(), keep_waiting)
    }

    /// As [`Self::drain`], for the time after `opening` alone: ends as well where it was opened anew, by somebody who had
    /// found it empty.
    pub fn drain_of(&self, opening: Opening, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        let have_left = || !self.is_closed_after(opening) || self.is_empty();
        self.wait_until_left(have_left, keep_waiting)
    }

    fn wait_until_left(
        &self,
        have_left: impl Fn() -> bool,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> bool {
        loop {
            {
                let mut changes = self.changes.lock();
                if have_left() {
                    return true;
                }
                self.left.wait_for(&mut changes, ASK_EVERY);
            }
            if !keep_waiting() {
                return have_left();
            }
        }
    }

    /// Waits until it is open.
    pub fn wait_open(&self) {
        self.wait_for_state(|state| !is_closed(state));
    }

    /// Waits until it is open and has been closed since `opening`.
    pub fn wait_reopened(&self, opening: Opening) {
        self.wait_for_state(|state| is_open_after(state, opening));
    }

    /// As [`Self::wait_reopened`], but `keep_waiting` is asked about every 50 ms; where it says no, the wait ends
    /// with false.
    pub fn wait_reopened_while(
        &self,
        opening: Opening,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> bool {
        loop {
            {
                let mut changes = self.changes.lock();
                if is_open_after(self.state(), opening) {
                    return true;
                }
                self.opened.wait_for(&mut changes, ASK_EVERY);
            }
            let reopened = is_open_after(self.state(), opening);
            if !reopened && !keep_waiting() {
                return false;
            }
        }
    }

    /// Measures how long requests take, for `time` from now on.
    pub fn look(&self, time: Duration) {
        self.stopwatch.look(time);
    }

    /// From now on each request is told whether somebody counts it ([`Inside::is_counted`]).
    pub fn count(&self, is_counted: bool) {
        self.stopwatch.count(is_counted);
    }

    /// What has been counted; exact where nothing is in flight.
    pub fn counters(&self) -> Counters {
        // All who left before any of started, see `is_empty`.
        let put_off = self.put_off();
        let finished =
            KINDS.map(|kind| self.cells.sum(|cell| &cell.counts[kind as usize].finished));
        let started = KINDS.map(|kind| self.cells.sum(|cell| &cell.counts[kind as usize].started));
        let took = self.stopwatch.durations();
        Counters {
            kinds: KINDS.map(|kind| Tally {
                took: took[kind as usize],
                requests: finished[kind as usize],
                sectors: Sectors(self.cells.sum(|cell| &cell.counts[kind as usize].sectors)),
                in_flight: started[kind as usize]
                    .saturating_sub(finished[kind as usize])
                    .saturating_sub(put_off[kind as usize]),
            }),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// Whether nobody is inside. The sums are not taken at one moment, so all of `finished` and `put_off` is read before any
    /// of `started`: whoever is found to have left is then found to have started as well, and each request
    /// adds 0 or 1 to the difference. A difference of 0 means that nobody had started without having left
    /// when `started` was read; while it is closed, who comes later goes back. Read the other way round, one who
    /// comes in and leaves between the sums, because somebody opened it, would hide another who is still inside.
    pub fn is_empty(&self) -> bool {
        let finished =
            KINDS.map(|kind| self.cells.sum(|cell| &cell.counts[kind as usize].finished));
        let put_off = self.put_off();
        let started = KINDS.map(|kind| self.cells.sum(|cell| &cell.counts[kind as usize].started));
        let left = |kind: OpKind| finished[kind as usize].wrapping_add(put_off[kind as usize]);
        KINDS.map(left) == started
    }

    fn put_off(&self) -> [u64; KINDS.len()] {
        KINDS.map(|kind| self.cells.sum(|cell| &cell.put_off[kind as usize]))
    }

    /// As [`Self::is_empty`], open or closed: whoever comes in unseen by this sees what the caller wrote before. (Coming in
    /// adds to `started`, then reads what it wants to use; the caller writes that, then, here, reads `started`.)
    pub fn was_empty(&self) -> bool {
        heavy_barrier();
        self.is_empty()
    }

    /// As the calling thread's cell says.
    fn state(&self) -> u64 {
        self.cells.mine().cell().state.load(Ordering::SeqCst)
    }

    fn set_state(&self, state: u64) {
        let states = self.cells.iter().map(|cell| &cell.state);
        states.for_each(|one| one.store(state, Ordering::SeqCst));
    }

    #[cold]
    fn take_back(&self, cell: MyCell<'_>, kind: OpKind) {
        cell.add(
            |cell| &cell.counts[kind as usize].started,
            1u64.wrapping_neg(),
        );
        self.tell_drain();
    }

    /// A drain may have counted one who has left.
    fn tell_drain(&self) {
        light_barrier();
        if self.is_closed() {
            self.wake_drain();
        }
    }

    #[cold]
    fn wake_drain(&self) {
        let _changes = self.changes.lock();
        self.left.notify_all();
    }

    fn wait_for_state(&self, ready: impl Fn(u64) -> bool) {
        let mut changes = self.changes.lock();
        while !ready(self.state()) {
            self.opened.wait(&mut changes);
        }
    }
}

impl Inside<'_> {
    /// True where somebody counts requests.
    #[inline]
    pub fn is_counted(&self) -> bool {
        self.begun.is_counted()
    }

    /// Leaves as a request that failed.
    #[cold]
    pub fn fail(self) {
        self.in_flight.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves uncounted, because the request will come again; tells by which opening it came in.
    #[cold]
    pub fn put_off(self) -> Opening {
        let opening = self.opening;
        let inside = ManuallyDrop::new(self);
        let kind = inside.kind as usize;
        inside.cell.add(|cell| &cell.put_off[kind], 1);
        inside.in_flight.tell_drain();
        opening
    }

    /// Stays inside when this thread goes on to other work. What the thread did meanwhile happens before what
    /// follows a drain only if the way on which the pass reaches the thread that ends the request says so (any
    /// lock or channel does).
    pub fn hand_over(self) -> Pass {
        let inside = ManuallyDrop::new(self);
        Pass {
            kind: inside.kind,
            sectors: inside.sectors,
            opening: inside.opening,
            begun: inside.begun,
        }
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        let kind = self.kind as usize;
        self.in_flight.stopwatch.end(kind, self.begun);
        if !self.sectors.is_zero() {
            self.cell
                .add(|cell| &cell.counts[kind].sectors, self.sectors.0);
        }
        self.cell.add(|cell| &cell.counts[kind].finished, 1);
        light_barrier();
        if is_closed(self.cell.cell().state.load(Ordering::SeqCst)) {
            self.in_flight.wake_drain();
        }
    }
}

impl Cell {
    fn new(state: u64) -> Cell {
        Cell {
            state: AtomicU64::new(state),
            counts: array::from_fn(|_| Counts::default()),
            put_off: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[inline]
fn is_closed(state: u64) -> bool {
    state & 1 == 1
}

fn is_open_after(state: u64, opening: Opening) -> bool {
    !is_closed(state) && state != opening.0
}
