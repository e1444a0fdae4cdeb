//! The gate of a device: every request passes it, suspend closes it.
//!
//! First in the lock order. A request is inside from before it looks at the active table until it has its
//! answer; who closed the gate and drained it may change the table. Counting is [`InFlight`]'s, and costs a
//! request three atomic additions that no other worker's cache wants.

use std::time::Duration;

use crate::io::{Counters, InFlight, Inside, IoError, OpKind, Opening, Pass};
use crate::unit::Sectors;

/// The gate of one device. Starts open. Closing does not nest: the device's state machine decides who closes
/// and who opens.
#[derive(Default)]
pub struct Gate(InFlight);

/// A request that is inside the gate; leaves when dropped.
pub type Entered<'a> = Inside<'a>;

impl Gate {
    /// An open gate with nobody inside.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Lets a request in; waits while the gate is closed, unless `nowait`.
    ///
    /// # Errors
    /// [`IoError::WOULD_WAIT`] where the gate is closed and `nowait` is set.
    #[inline]
    pub fn enter(
        &self,
        kind: OpKind,
        sectors: Sectors,
        nowait: bool,
    ) -> Result<Entered<'_>, IoError> {
        loop {
            if let Some(entered) = self.0.try_enter(kind, sectors) {
                return Ok(entered);
            }
            if nowait {
                return Err(IoError::WOULD_WAIT);
            }
            self.0.wait_open();
        }
    }

    /// A request that came in here and was [handed over](Inside::hand_over), to leave from the calling thread.
    pub fn take_over(&self, pass: Pass) -> Entered<'_> {
        self.0.take_over(pass)
    }

    /// Closes the gate: nobody comes in until [`Self::open`]. Those inside stay; see [`Self::drain`].
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits until everybody inside has left a closed gate; true when they have. `keep_waiting` is asked about
    /// every 50 ms and ends the wait by saying no; the gate is still closed then.
    pub fn drain(&self, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        self.0.drain(keep_waiting)
    }

    /// True where nobody is inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True where nobody was inside at some moment since this was called. Whoever has come in after that moment sees
    /// what the caller wrote before.
    pub fn was_empty(&self) -> bool {
        self.0.was_empty()
    }

    /// Opens the gate and lets in everybody who waits.
    pub fn open(&self) {
        self.0.open();
    }

    /// True while the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until the gate is open.
    pub fn wait_open(&self) {
        self.0.wait_open();
    }

    /// For a request that was given back ([`IoError::REQUEUE`]) and has left uncounted: waits until the gate has been closed
    /// and opened again since `opening`, the one by which it came in ([`Inside::put_off`]). A gate that is still
    /// open from then is waited for as well: the target gives a request back before the gate is closed.
    pub fn wait_reopened(&self, opening: Opening) {
        self.0.wait_reopened(opening);
    }

    /// As [`Self::wait_reopened`]; `keep_waiting` is asked about every 50 ms and ends the wait, with false, by
    /// saying no.
    pub fn wait_reopened_while(
        &self,
        opening: Opening,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> bool {
        self.0.wait_reopened_while(opening, keep_waiting)
    }

    /// Measures how long requests take, for `time` from now on.
    pub fn look(&self, time: Duration) {
        self.0.look(time);
    }

    /// From now on each request is told whether somebody counts it ([`Inside::is_counted`]).
    pub fn count(&self, is_counted: bool) {
        self.0.count(is_counted);
    }

    /// What has passed the gate, and what is inside.
    pub fn counters(&self) -> Counters {
        self.0.counters()
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
