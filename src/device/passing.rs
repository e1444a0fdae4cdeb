//! A planned request on its way through a device: inside the gate until its plan has ended.

use super::Device;
use super::stats::{Counted, Regions};
use crate::io::{IoResult, Pass, Watch};
use crate::sync::Arc;

/// Holds the gate, and with it the table and everything below, for a part of a plan. Ends on whatever thread the
/// plan ends.
pub(super) struct Passing {
    device: Arc<Device>,
    /// Taken when it ends.
    pass: Option<Pass>,
    counted: Option<Counted<Arc<Regions>>>,
}

impl Passing {
    /// Goes on for the request that came in by `device`'s gate as `pass`.
    pub(super) fn new(device: Arc<Device>, pass: Pass, counted: Counted<Arc<Regions>>) -> Passing {
        Passing {
            device,
            pass: Some(pass),
            counted: Some(counted),
        }
    }
}

impl Watch for Passing {
    fn ended(mut self: Box<Self>, result: IoResult) {
        drop(self.counted.take());
        if let Some(pass) = self.pass.take() {
            let inside = self.device.gate.take_over(pass);
            match result {
                Ok(()) => drop(inside),
                Err(_) => inside.fail(),
            }
        }
    }

    fn put_off(mut self: Box<Self>) {
        if let Some(counted) = self.counted.take() {
            counted.put_off();
        }
        if let Some(pass) = self.pass.take() {
            self.device.gate.take_over(pass).put_off();
        }
    }
}

impl Drop for Passing {
    /// Whatever becomes of the plan, nobody waits at the gate for it in vain.
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.device.gate.take_over(pass).fail();
        }
    }
}

#[cfg(test)]
mod tests;
